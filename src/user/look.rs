//! What a run of the gate sees of a user's INDEX, in the order that freshness and the model demand.

use std::ffi::OsString;

use super::decide::{Claim, Decision, Seen, StockLog};
use super::gate::Gate;
use super::history::Saw;
use super::pull;
use super::record::Record;
use super::state::UserState;
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::index::dir::IndexDir;
use crate::index::lasthost::{Identity, LastHost};

/// What a run found.
pub(super) struct View {
    pub(super) dir: Option<IndexDir>,
    pub(super) seen: Seen,
    /// The .lasthost that `seen` speaks of.
    pub(super) lasthost: Option<Identity>,
    /// What that says, where it was read.
    pub(super) owner: Option<LastHost>,
    pub(super) record: Option<Record>,
}

impl View {
    /// Looks in the order that freshness and the model demand: INDEX, INDEX/L, INDEX/.lasthost.
    pub(super) fn look(
        gate: &Gate,
        state: &UserState,
        creds: &Creds,
        record: impl FnOnce() -> Result<Option<Record>, Trouble>,
    ) -> Result<Self, Trouble> {
        let at = gate.index_path(state)?;
        let record = record()?;
        let _as = (creds.act()).map_err(Trouble::backing("take the caller's rights"))?;
        let open = || IndexDir::open(&at, creds, &gate.mounts, &gate.config.index_fs);
        let opened = open().inspect_err(|_| gate.doubt_index(&state.user))?;
        let Some(dir) = opened else {
            gate.doubt_index(&state.user);
            return Ok(View {
                dir: None,
                seen: Seen::NoIndex,
                lasthost: None,
                owner: None,
                record,
            });
        };
        let log = if gate.config.migrate {
            stock_log(gate, &dir, record.as_ref())?
        } else {
            StockLog::Absent
        };
        let (claim, lasthost, owner) = claim_read(gate, &dir, record.as_ref())?;
        Ok(View {
            dir: Some(dir),
            seen: Seen::Index { log, claim },
            lasthost,
            owner,
            record,
        })
    }

    /// Whether the user is not this mount's.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(
            self.seen,
            Seen::Index {
                claim: Claim::Foreign,
                ..
            }
        )
    }

    pub(super) fn saw(&self, decision: Decision) -> Saw {
        Saw {
            seen: self.seen,
            lasthost: self.lasthost.is_some(),
            record: self.record.is_some(),
            decision,
        }
    }
}

/// What was locked, as it was then.
pub(super) fn sources_seen(sources: &[pull::Source<'_>]) -> Vec<(OsString, Identity)> {
    sources
        .iter()
        .map(|source| (source.log.clone(), source.identity))
        .collect()
}

/// The stock logs in INDEX, by inode number.
pub(super) fn logs_in(gate: &Gate, dir: &IndexDir) -> Result<Vec<u64>, Trouble> {
    let logs = gate.config.logs().map(|(_, log)| dir.look(&log));
    let inos = logs.filter_map(|log| log.map(|log| log.map(|l| l.ino)).transpose());
    inos.collect()
}

fn stock_log(gate: &Gate, dir: &IndexDir, record: Option<&Record>) -> Result<StockLog, Trouble> {
    let mut seen = StockLog::Absent;
    for (_, log) in gate.config.logs() {
        let pulled = record.and_then(|record| record.pulled_as(&log));
        seen = match dir.look(&log)? {
            None => seen,
            now if now == pulled && seen != StockLog::New => StockLog::Pulled,
            Some(_) => StockLog::New,
        };
    }
    Ok(seen)
}

/// What INDEX/.lasthost is against our record, and its identity.
pub(super) fn claim_seen(
    gate: &Gate,
    dir: &IndexDir,
    record: Option<&Record>,
) -> Result<(Claim, Option<Identity>), Trouble> {
    claim_read(gate, dir, record).map(|(claim, identity, _)| (claim, identity))
}

/// The same, and what it says where it was read: only when the record does not tell.
fn claim_read(
    gate: &Gate,
    dir: &IndexDir,
    record: Option<&Record>,
) -> Result<(Claim, Option<Identity>, Option<LastHost>), Trouble> {
    let Some(now) = dir.lasthost()? else {
        return Ok((Claim::Foreign, None, None));
    };
    if let Some(record) = record {
        let claim = if record.lasthost == now {
            Claim::Recorded
        } else {
            Claim::Foreign
        };
        return Ok((claim, Some(now), None));
    }
    match dir.read_lasthost()? {
        Some((identity, Some(lasthost))) if lasthost.is_by(&gate.own_claim()) => {
            Ok((Claim::Ours, Some(identity), Some(lasthost)))
        }
        Some((identity, owner)) => Ok((Claim::Foreign, Some(identity), owner)),
        None => Ok((Claim::Foreign, None, None)),
    }
}
