//! The steps from the claim to the deletion on NFS: `user/flight.rs`, `user/pull.rs`.

use listindexfs::user::steps::Step;

use super::check::Protocol;
use super::rules::Rule;
use super::state::{At, Broken, By, LastHost, Place, Record, Run, State, Then};

impl Protocol {
    pub fn stale_logs(&self, s: &mut State, host: usize) {
        let run = &mut s.hosts[host].run;
        run.stale = s.lasthost.stale && s.log.is_some() && self.on(Rule::WarnOfLogs);
        run.at = At::Claim;
    }

    pub fn claim(&self, s: &mut State, host: usize) {
        s.put_lasthost(self.ours(s, host));
        self.reached.step(Step::Claimed);
        let run = &mut s.hosts[host].run;
        run.same = self.on(Rule::IdentityFirst);
        run.at = match self.off {
            Some(Rule::IdentityFirst) => At::ClaimIdentity,
            Some(Rule::ClaimBeforeCopy) => At::WriteRecord,
            Some(Rule::PurgeBeforeClaim | Rule::RecordLast) => At::Purge,
            _ => At::Lock,
        };
        if run.at == At::Purge {
            run.then = Then::Claimed;
        }
        if self.off == Some(Rule::RecordLast) {
            self.put_record(s, host);
        }
    }

    /// With a mutant: a claim that looks like an older one.
    pub fn claim_alike(&self, s: &mut State, host: usize) {
        self.claim(s, host);
        for host in &mut s.hosts {
            if let Place::Record(record) = &mut host.place {
                record.current = true;
            }
        }
    }

    pub fn claim_identity(&self, s: &mut State, host: usize) {
        let run = &mut s.hosts[host].run;
        run.same = true;
        run.at = At::Lock;
    }

    /// What a claim of this host says.
    pub fn ours(&self, s: &State, host: usize) -> LastHost {
        LastHost {
            by: By::Host(host as u8),
            stale: s.hosts[host].run.stale,
        }
    }

    /// `lock_if_any`.
    pub fn lock(&self, s: &mut State, host: usize) {
        self.break_dotlock(s);
        let run = &mut s.hosts[host].run;
        run.source = s.log.is_some() && (self.rules.migrate[host] || self.on(Rule::LookAfterClaim));
        run.log_same = run.source;
        run.at = match run.source && self.rules.migrate[host] {
            true => At::Fetch,
            false => self.after_fetch(run, false),
        };
        if run.source {
            self.reached.step(Step::Locked);
            self.lock_log(s, host);
        }
    }

    pub fn lock_log(&self, s: &mut State, host: usize) {
        if self.on(Rule::LockLog) {
            s.lock = Some(host as u8);
        }
    }

    pub fn unlock(&self, s: &mut State, host: usize) {
        if s.lock == Some(host as u8) {
            s.lock = None;
        }
    }

    pub fn fetch(&self, s: &mut State, host: usize) {
        let run = &mut s.hosts[host].run;
        run.at = self.after_fetch(run, true);
        if !run.stale {
            run.pulled = true;
            s.hosts[host].local = s.log;
            self.reached.step(Step::Installed);
        }
    }

    fn after_fetch(&self, run: &Run, migrate: bool) -> At {
        if run.source && !migrate && self.on(Rule::DropBeforeRecord) {
            return At::Recheck;
        }
        match self.off {
            Some(Rule::ClaimBeforeCopy) if run.then == Then::Claim => At::StaleLogs,
            Some(Rule::RecordBeforeDelete) if run.source => At::Recheck,
            _ => At::WriteRecord,
        }
    }

    pub fn write_record(&self, s: &mut State, host: usize) {
        let rule = self.on(Rule::NoRecordWithGhosts) && self.on(Rule::GhostsRefuse);
        if s.has_ghosts(host) && rule {
            return self.fail_settle(s, host);
        }
        self.put_record(s, host);
        let run = &mut s.hosts[host].run;
        match run.source {
            true => run.at = At::Recheck,
            false => self.land(s, host, true),
        }
    }

    pub fn put_record(&self, s: &mut State, host: usize) {
        let run = &mut s.hosts[host].run;
        run.recorded = true;
        let record = Record {
            current: run.same,
            pulled: run.pulled && run.log_same,
        };
        s.hosts[host].place = Place::Record(record);
        self.reached.step(Step::Recorded);
    }

    /// The first half of `pull::delete`.
    pub fn may_delete(&self, s: &State, host: usize) -> bool {
        let run = &s.hosts[host].run;
        (run.same || !self.on(Rule::RecheckClaim))
            && (run.log_same || !run.source || !self.on(Rule::CompareLog))
    }

    pub fn recheck(&self, s: &mut State, host: usize) {
        if !self.may_delete(s, host) {
            return self.overtaken(s, host);
        }
        self.reached.step(Step::Rechecked);
        s.hosts[host].run.at = At::Delete;
    }

    pub fn delete(&self, s: &mut State, host: usize) {
        let run = s.hosts[host].run;
        if let (Some(log), true) = (s.log, run.pulled) {
            let whole = s.hosts[host].local.is_some_and(|local| log & !local == 0);
            if !whole || !run.recorded {
                s.broken = Some(Broken::Lost);
            }
        }
        s.put_log(None);
        self.reached.step(Step::Deleted);
        let run = &mut s.hosts[host].run;
        match run.recorded {
            true => self.land(s, host, true),
            false => (run.source, run.at) = (false, At::WriteRecord),
        }
    }

    pub fn finish_lock(&self, s: &mut State, host: usize) {
        self.break_dotlock(s);
        let run = &mut s.hosts[host].run;
        run.source = s.log.is_some();
        run.log_same = run.record.is_some_and(|record| record.pulled);
        (run.pulled, run.recorded) = (true, true);
        run.at = At::FinishRecheck;
        if run.source {
            self.lock_log(s, host);
        }
    }

    pub fn finish_recheck(&self, s: &mut State, host: usize) {
        match (self.may_delete(s, host), s.hosts[host].run.source) {
            (false, _) => self.overtaken(s, host),
            (true, true) => s.hosts[host].run.at = At::FinishDelete,
            (true, false) => self.land(s, host, true),
        }
    }

    pub fn distrust(&self, s: &mut State, host: usize) {
        match s.log {
            None => self.land(s, host, false),
            Some(_) => {
                let run = &mut s.hosts[host].run;
                (run.stale, run.at) = (true, At::DistrustClaim);
            }
        }
    }

    pub fn distrust_claim(&self, s: &mut State, host: usize) {
        s.put_lasthost(self.ours(s, host));
        self.land(s, host, false);
    }

    /// An error of `settle` or `finish` that is not [`Trouble::Overtaken`].
    pub fn fail_settle(&self, s: &mut State, host: usize) {
        self.unlock(s, host);
        s.hosts[host].run = Run {
            at: At::Distrust,
            taken: s.hosts[host].run.taken,
            ..Run::default()
        };
    }
}
