//! The decision: a pure function of what was seen. Hold it against the table in `docs/design.md`, row by row.

use crate::stats::Cell;

/// What the gate saw of INDEX/.lasthost, against our name, our instance and our record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// It is the one our record names, and the record is of this instance.
    Recorded,
    /// It bears our name and instance, but there is no record (evicted, refused, drained).
    Ours,
    /// There is none, or it is another's, or it was ours before this mount.
    Foreign,
}

/// What the gate saw of INDEX/L, over all prefixes. Without `migrate` it is not looked for: `Absent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StockLog {
    /// There is none.
    Absent,
    /// Every one that exists is what the record says we pulled: only its deletion is missing.
    Pulled,
    /// A stock backend has made or changed one.
    New,
}

/// What the gate saw, in the order in which it looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Unreadable, timed out, or on the wrong file system.
    Trouble,
    /// No INDEX, on the right file system.
    NoIndex,
    /// INDEX is there.
    Index {
        /// INDEX/L.
        log: StockLog,
        /// INDEX/.lasthost.
        claim: Claim,
    },
}

/// What to do. Any but `Keep` and `Finish` voids all verdicts of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Remove the record; the opener becomes a ghost.
    Refuse,
    /// Ghosts live: remove the record, claim unless .lasthost is ours already, then refuse.
    Drain {
        /// The other host must learn that the user is changed here.
        claim: bool,
    },
    /// Purge, and serve a user without INDEX unclaimed.
    Unclaimed,
    /// Lock, compare, re-check the claim, delete on NFS; keep.
    Finish,
    /// Purge, claim, pull.
    Pull,
    /// Nothing to do: the usual case.
    Keep,
    /// Purge and record the claim that is ours; no write to NFS.
    Adopt,
    /// Purge, claim; then look for INDEX/L again.
    Claim,
}

/// The table, first row that fits.
pub fn decide(seen: Seen, ghosts: bool) -> Decision {
    match (seen, ghosts) {
        (Seen::Trouble, _) => Decision::Refuse,
        (Seen::NoIndex, true) => Decision::Drain { claim: false },
        (Seen::Index { claim, .. }, true) => Decision::Drain {
            claim: claim == Claim::Foreign,
        },
        (Seen::NoIndex, false) => Decision::Unclaimed,
        (
            Seen::Index {
                log: StockLog::Pulled,
                claim: Claim::Recorded,
            },
            _,
        ) => Decision::Finish,
        (
            Seen::Index {
                log: StockLog::Pulled | StockLog::New,
                ..
            },
            _,
        ) => Decision::Pull,
        (
            Seen::Index {
                claim: Claim::Recorded,
                ..
            },
            _,
        ) => Decision::Keep,
        (
            Seen::Index {
                claim: Claim::Ours, ..
            },
            _,
        ) => Decision::Adopt,
        (
            Seen::Index {
                claim: Claim::Foreign,
                ..
            },
            _,
        ) => Decision::Claim,
    }
}

impl Decision {
    /// Whether verdicts given earlier stay good: everything else may take files away under them.
    pub fn keeps_verdicts(self) -> bool {
        matches!(self, Decision::Keep | Decision::Finish)
    }

    /// Where it is counted.
    pub fn cell(self) -> Cell {
        match self {
            Decision::Refuse => Cell::Refuse,
            Decision::Drain { .. } => Cell::Drain,
            Decision::Unclaimed => Cell::Unclaimed,
            Decision::Finish => Cell::Finish,
            Decision::Pull => Cell::Pull,
            Decision::Keep => Cell::Keep,
            Decision::Adopt => Cell::Adopt,
            Decision::Claim => Cell::Claim,
        }
    }

    /// The word for logs.
    pub fn word(self) -> &'static str {
        match self {
            Decision::Refuse => "refuse",
            Decision::Drain { .. } => "drain",
            Decision::Unclaimed => "unclaimed",
            Decision::Finish => "finish",
            Decision::Pull => "pull",
            Decision::Keep => "keep",
            Decision::Adopt => "adopt",
            Decision::Claim => "claim",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn index(log: StockLog, claim: Claim) -> Seen {
        Seen::Index { log, claim }
    }

    // Row 1: unreadable, timed out, wrong file system.
    #[rstest]
    #[case(Seen::Trouble, false, Decision::Refuse)]
    #[case(Seen::Trouble, true, Decision::Refuse)]
    // Row 2: the user has ghosts, whatever else there is.
    #[case(Seen::NoIndex, true, Decision::Drain { claim: false })]
    #[case(index(StockLog::Absent, Claim::Recorded), true, Decision::Drain { claim: false })]
    #[case(index(StockLog::Absent, Claim::Ours), true, Decision::Drain { claim: false })]
    #[case(index(StockLog::Absent, Claim::Foreign), true, Decision::Drain { claim: true })]
    #[case(index(StockLog::Pulled, Claim::Recorded), true, Decision::Drain { claim: false })]
    #[case(index(StockLog::New, Claim::Foreign), true, Decision::Drain { claim: true })]
    // Row 3: INDEX absent.
    #[case(Seen::NoIndex, false, Decision::Unclaimed)]
    // Row 4: INDEX/L is what we pulled and the claim stands.
    #[case(index(StockLog::Pulled, Claim::Recorded), false, Decision::Finish)]
    // Row 5: INDEX/L exists.
    #[case(index(StockLog::Pulled, Claim::Ours), false, Decision::Pull)]
    #[case(index(StockLog::Pulled, Claim::Foreign), false, Decision::Pull)]
    #[case(index(StockLog::New, Claim::Recorded), false, Decision::Pull)]
    #[case(index(StockLog::New, Claim::Ours), false, Decision::Pull)]
    #[case(index(StockLog::New, Claim::Foreign), false, Decision::Pull)]
    // Row 6: .lasthost is the record's.
    #[case(index(StockLog::Absent, Claim::Recorded), false, Decision::Keep)]
    // Row 7: .lasthost is ours, no record.
    #[case(index(StockLog::Absent, Claim::Ours), false, Decision::Adopt)]
    // Row 8: everything else.
    #[case(index(StockLog::Absent, Claim::Foreign), false, Decision::Claim)]
    fn every_row_of_the_table(#[case] seen: Seen, #[case] ghosts: bool, #[case] then: Decision) {
        assert_eq!(decide(seen, ghosts), then);
    }

    #[test]
    fn only_keep_and_finish_leave_verdicts_alone() {
        use Decision::*;
        for d in [
            Refuse,
            Drain { claim: true },
            Drain { claim: false },
            Unclaimed,
            Pull,
            Adopt,
            Claim,
        ] {
            assert!(!d.keeps_verdicts(), "{d:?}");
        }
        assert!(Keep.keeps_verdicts() && Finish.keeps_verdicts());
    }
}
