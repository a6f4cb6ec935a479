//! One run of the gate, step by step: `user/gate.rs`, `user/flight.rs`, `user/pull.rs`.

use listindexfs::user::decide::{Claim, Decision, Seen, StockLog, decide};
use listindexfs::user::steps::Step;

use super::check::Protocol;
use super::rules::Rule;
use super::state::{At, By, Fate, Fence, For, Ghost, Life, Place, Run, State, Then};

impl Protocol {
    /// `run_next`: one thing from the user's queue.
    pub fn run_next(&self, s: &mut State, host: usize) {
        if self.has_fences_due(s, host) {
            self.fence_due(s, host, For::Writers);
        } else if s.of(host).any(|x| x.at == Life::Waiting) {
            let waiting = s.of_mut(host).filter(|x| x.at == Life::Waiting);
            waiting.for_each(|x| x.at = Life::Aboard);
            s.hosts[host].run.at = At::Attempt;
        } else if s.hosts[host].ending {
            self.tell_last(s, host);
        } else {
            self.begin_to_lay(s, host, For::Ghosts);
        }
    }

    fn has_fences_due(&self, s: &State, host: usize) -> bool {
        s.of(host).any(|x| x.fence == Fence::Due)
    }

    /// Whether anything waits in the user's queue.
    pub fn is_due(&self, s: &State, host: usize) -> bool {
        let waits = |x: &super::state::Session| x.fence == Fence::Due || x.at == Life::Waiting;
        s.hosts[host].ending || s.of(host).any(waits) || self.has_ended_ghosts(s, host)
    }

    pub fn attempt(&self, s: &mut State, host: usize) {
        if self.has_fences_due(s, host) && self.on(Rule::WritersFirst) {
            return self.fence_due(s, host, For::WritersFirst);
        }
        if self.has_ended_ghosts(s, host) {
            return self.begin_to_lay(s, host, For::GhostsFirst);
        }
        s.hosts[host].run.haunted = s.has_ghosts(host);
        self.record(s, host);
    }

    /// `Flight::record`, then the look at INDEX.
    pub fn record(&self, s: &mut State, host: usize) {
        let haunted = s.hosts[host].run.haunted;
        if s.hosts[host].place == Place::Haunted && !haunted {
            s.hosts[host].run.at = At::FenceLock(For::Word);
            return;
        }
        let record = self.record_of(s, host);
        let run = &mut s.hosts[host].run;
        (run.record, run.at) = (record, At::LookIndex);
        // Nobody else changes the record's place, unless somebody is refused meanwhile.
        if !self.rules.refuse {
            self.look_index(s, host);
        }
    }

    pub fn look_index(&self, s: &mut State, host: usize) {
        if !s.hosts[host].run.haunted {
            s.refate(Fate::Word(host as u8), Fate::Promised);
        }
        let need = s.promised();
        let run = &mut s.hosts[host].run;
        run.need = need;
        if s.no_index {
            return self.carry_out(s, host, Seen::NoIndex);
        }
        let first = self.on(Rule::LogBeforeLastHost);
        run.at = match self.rules.migrate[host] {
            true if first => At::LookLog,
            _ => At::LookClaim,
        };
        run.log = (!self.rules.migrate[host]).then_some(StockLog::Absent);
    }

    pub fn look_log(&self, s: &mut State, host: usize) {
        let run = &mut s.hosts[host].run;
        let pulled = run.record.is_some_and(|record| record.pulled);
        run.log = Some(match s.log {
            None => StockLog::Absent,
            Some(_) if pulled => StockLog::Pulled,
            Some(_) => StockLog::New,
        });
        run.at = At::LookClaim;
        if let Some(claim) = run.claim {
            self.seen(s, host, claim);
        }
    }

    pub fn look_claim(&self, s: &mut State, host: usize) {
        let claim = self.claim_seen(s, host, s.hosts[host].run.record);
        s.hosts[host].run.same = s.lasthost.by != By::None;
        match s.hosts[host].run.log {
            Some(_) => self.seen(s, host, claim),
            None => {
                let run = &mut s.hosts[host].run;
                (run.claim, run.at) = (Some(claim), At::LookLog);
            }
        }
    }

    /// With a mutant: the attribute cache still has the .lasthost that the record names.
    pub fn look_claim_cached(&self, s: &mut State, host: usize) {
        s.hosts[host].run.same = false;
        self.seen(s, host, Claim::Recorded);
    }

    fn seen(&self, s: &mut State, host: usize, claim: Claim) {
        let log = s.hosts[host].run.log.expect("was looked at");
        self.carry_out(s, host, Seen::Index { log, claim });
    }

    pub fn carry_out(&self, s: &mut State, host: usize, seen: Seen) {
        let haunted = s.hosts[host].run.haunted && self.on(Rule::GhostsRefuse);
        let decision = decide(seen, haunted);
        self.reached.decision(decision);
        if !decision.keeps_verdicts() {
            self.void(s, host);
        }
        match decision {
            Decision::Keep if self.on(Rule::NoLateJoin) => self.land(s, host, true),
            Decision::Keep => s.hosts[host].run.at = At::Land,
            Decision::Refuse => self.land(s, host, false),
            Decision::Drain { claim } => self.begin_to_drain(s, host, claim),
            Decision::Finish => s.hosts[host].run.at = At::FinishLock,
            Decision::Unclaimed => self.with_directory(s, host, seen, Then::Unclaimed),
            Decision::Adopt => self.with_directory(s, host, seen, Then::Adopt),
            Decision::Claim | Decision::Pull => self.with_directory(s, host, seen, Then::Claim),
        }
    }

    /// `with_directory` and the first step of `clear`.
    fn with_directory(&self, s: &mut State, host: usize, seen: Seen, then: Then) {
        if s.has_holders(host) && self.on(Rule::HoldersBecomeGhosts) {
            let holders = s.of_mut(host).filter(|x| x.holds_files());
            holders.for_each(|x| x.ghost = Ghost::Yes);
            self.haunt(s, host);
            let foreign = matches!(
                seen,
                Seen::Index {
                    claim: Claim::Foreign,
                    ..
                }
            );
            return match seen {
                Seen::NoIndex => self.land(s, host, false),
                _ => self.begin_to_drain(s, host, foreign),
            };
        }
        if self.has_fences_due(s, host) && self.on(Rule::WritersFirst) {
            return self.overtaken(s, host);
        }
        let run = s.hosts[host].run;
        s.hosts[host].run = Run {
            at: At::Purge,
            need: run.need,
            taken: true,
            same: run.same,
            then,
            ..Run::default()
        };
        let skipped = match then {
            Then::Adopt => !self.on(Rule::AdoptPurges),
            Then::Unclaimed => !self.on(Rule::UnclaimedPurges),
            _ => false,
        };
        if skipped {
            return self.purged(s, host);
        }
        self.remove_record(s, host);
        self.reached.step(Step::RecordRemoved);
        let late = !self.on(Rule::PurgeBeforeClaim) || !self.on(Rule::RecordLast);
        if then == Then::Claim && late {
            s.hosts[host].run.at = At::StaleLogs;
        }
    }

    pub fn purge(&self, s: &mut State, host: usize) {
        s.hosts[host].local = None;
        s.of_mut(host).for_each(|x| x.linked = false);
        self.reached.step(Step::Purged);
        self.purged(s, host);
    }

    fn purged(&self, s: &mut State, host: usize) {
        match s.hosts[host].run.then {
            Then::Claim if self.on(Rule::ClaimBeforeCopy) => s.hosts[host].run.at = At::StaleLogs,
            Then::Claim | Then::Claimed | Then::Adopt => s.hosts[host].run.at = At::Lock,
            Then::Unclaimed | Then::Nothing => self.land(s, host, true),
        }
    }

    /// `Flight::drain`: with no log in INDEX there is nothing to warn of.
    fn begin_to_drain(&self, s: &mut State, host: usize, claim: bool) {
        s.hosts[host].run = Run {
            at: At::Drain,
            then: if claim { Then::Claim } else { Then::Nothing },
            ..Run::default()
        };
        if s.log.is_none() {
            self.drain(s, host);
        }
    }

    pub fn drain(&self, s: &mut State, host: usize) {
        let claim = s.hosts[host].run.then == Then::Claim;
        let warns = s.log.is_some() && !s.lasthost.stale;
        if (claim && self.on(Rule::DrainClaims)) || warns {
            s.hosts[host].run.at = At::DrainClaim;
            s.hosts[host].run.stale = s.log.is_some();
        } else {
            self.drained(s, host);
        }
    }

    pub fn drain_claim(&self, s: &mut State, host: usize) {
        s.put_lasthost(self.ours(s, host));
        self.drained(s, host);
    }

    fn drained(&self, s: &mut State, host: usize) {
        self.land(s, host, false);
        let told = s.lasthost.by == By::Host(host as u8);
        if !told {
            let ghosts = s.of_mut(host).filter(|x| x.ghost == Ghost::Yes);
            ghosts.for_each(|x| x.holds = !self.on(Rule::DrainClaims));
        }
    }

    /// Starts over.
    pub fn overtaken(&self, s: &mut State, host: usize) {
        self.unlock(s, host);
        self.void(s, host);
        self.remove_record(s, host);
        s.hosts[host].run = Run {
            at: At::Attempt,
            ..Run::default()
        };
    }

    /// With ghosts there is no record but word of them, which stays.
    pub fn remove_record(&self, s: &mut State, host: usize) {
        if !s.has_ghosts(host) {
            s.hosts[host].place = Place::Nothing;
        }
    }

    /// `Gate::land`: answers those aboard.
    pub fn land(&self, s: &mut State, host: usize, ok: bool) {
        self.unlock(s, host);
        let need = s.hosts[host].run.need;
        s.hosts[host].run = Run::default();
        let ghosts =
            s.has_ghosts(host) && self.on(Rule::NoVerdictWithGhosts) && self.on(Rule::GhostsRefuse);
        for n in 0..self.rules.sessions {
            let session = &mut s.sessions[n];
            if session.at != Life::Aboard || usize::from(session.host) != host {
                continue;
            }
            if ok && !ghosts {
                session.at = Life::Verdict;
                session.need |= need;
            } else {
                self.refuse(s, n);
            }
        }
    }

    /// `Gate::evict`, from its beginning.
    pub fn evict(&self, s: &mut State, host: usize) {
        if self.on(Rule::EvictLooksLate) {
            self.void(s, host);
        }
        s.hosts[host].run.at = At::EvictTake;
    }

    pub fn evict_take(&self, s: &mut State, host: usize) {
        if s.has_holders(host) && self.on(Rule::EvictLooksLate) {
            s.hosts[host].run = Run::default();
            return;
        }
        self.void(s, host);
        if s.hosts[host].place == Place::Haunted && self.on(Rule::EvictSparesWord) {
            s.hosts[host].run = Run::default();
            return;
        }
        s.hosts[host].place = Place::Nothing;
        s.hosts[host].run.taken = true;
        s.hosts[host].run.at = At::EvictPurge;
    }

    pub fn evict_purge(&self, s: &mut State, host: usize) {
        s.hosts[host].local = None;
        s.of_mut(host).for_each(|x| x.linked = false);
        s.hosts[host].run = Run::default();
    }
}
