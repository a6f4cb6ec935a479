//! Giving back, step by step: `user/giving.rs`.

use listindexfs::user::decide::Claim;
use listindexfs::user::steps::Step;

use super::check::Protocol;
use super::rules::Rule;
use super::state::{At, Dotlock, Run, State};

impl Protocol {
    /// `while_idle`, and what is read here.
    pub fn give_back(&self, s: &mut State, host: usize) {
        self.void(s, host);
        let record = self.record_of(s, host);
        s.hosts[host].run = Run {
            at: At::BackLookClaim,
            taken: true,
            record,
            ..Run::default()
        };
    }

    pub fn back_look_claim(&self, s: &mut State, host: usize) {
        let record = s.hosts[host].run.record;
        match self.claim_seen(s, host, record) {
            Claim::Recorded => s.hosts[host].run.at = At::BackLookLog,
            _ => self.back_drop(s, host),
        }
    }

    pub fn back_look_log(&self, s: &mut State, host: usize) {
        match s.log {
            None => s.hosts[host].run.at = At::BackLock,
            Some(_) if self.rules.migrate[host] => self.back_drop(s, host),
            Some(_) => s.hosts[host].run.at = At::BackDropLog,
        }
    }

    /// `pull::lock_if_any` and `pull::delete`, where nobody has looked for what stock backends leave.
    pub fn back_drop_log(&self, s: &mut State, host: usize) {
        if s.hosts[host]
            .run
            .record
            .is_some_and(|record| record.current)
        {
            s.put_log(None);
            return self.back_drop(s, host);
        }
        s.hosts[host].run = Run::default(); // overtaken: what is here stays
    }

    /// `drop_files`.
    fn back_drop(&self, s: &mut State, host: usize) {
        self.remove_record(s, host);
        s.hosts[host].run.at = At::EvictPurge;
    }

    pub fn back_lock(&self, s: &mut State, host: usize) {
        if s.dotlock.is_some() && s.log.is_some() {
            return self.back_drop(s, host);
        }
        s.dotlock = Some(Dotlock::By(host as u8));
        self.reached.step(Step::BackLocked);
        s.hosts[host].run.at = At::BackUnrecord;
    }

    pub fn back_unrecord(&self, s: &mut State, host: usize) {
        if s.has_ghosts(host) && self.on(Rule::GivenWithoutGhosts) {
            s.dotlock = None;
            s.hosts[host].run = Run::default();
            return;
        }
        if self.on(Rule::GivenWithoutRecord) {
            self.remove_record(s, host);
        }
        s.hosts[host].run.at = At::BackPut;
    }

    pub fn back_put(&self, s: &mut State, host: usize) {
        if s.log.is_some() && self.on(Rule::GivenReplacesNone) {
            s.hosts[host].run.at = At::BackUnlock;
            return;
        }
        let local = s.hosts[host].local;
        s.put_log(local);
        s.marked = true;
        self.reached.step(Step::BackPut);
        s.hosts[host].run.at = At::BackRecheck;
    }

    /// From here on the log is one like any other; if this host dies before it has said so, it is dropped all the same.
    pub fn back_recheck(&self, s: &mut State, host: usize) {
        let ours = s.hosts[host]
            .run
            .record
            .is_some_and(|record| record.current);
        let good = (ours || !self.on(Rule::GivenLooksAfter))
            && !(s.has_ghosts(host) && self.on(Rule::GivenWithoutGhosts));
        s.hosts[host].run.at = match good {
            true => {
                s.marked = false;
                At::BackUnlock
            }
            false if self.on(Rule::TakenBackIsFenced) => At::BackUndoPut,
            false => At::BackUndo,
        };
    }

    /// A stock backend may have changed it.
    pub fn back_undo_put(&self, s: &mut State, host: usize) {
        if s.log.is_some() {
            s.put_lasthost(self.nobody(s));
        }
        s.hosts[host].run.at = At::BackUndo;
    }

    pub fn back_undo(&self, s: &mut State, host: usize) {
        s.put_log(None);
        s.hosts[host].run.at = At::BackUnlock;
    }

    pub fn back_unlock(&self, s: &mut State, host: usize) {
        s.dotlock = None;
        self.reached.step(Step::BackUnlocked);
        self.back_drop(s, host);
    }

    /// Where it is not known what lies in INDEX the dotlock stays.
    pub fn fail_back(&self, s: &mut State, host: usize) {
        match s.hosts[host].run.at {
            At::BackPut => s.hosts[host].run.at = At::BackUnlock,
            At::BackRecheck => s.hosts[host].run.at = At::BackUndoPut,
            _ => {
                s.dotlock = Some(Dotlock::Left);
                self.back_drop(s, host);
            }
        }
    }

    /// Who locks INDEX/L breaks a dotlock that was left, and drops what it names.
    pub fn break_dotlock(&self, s: &mut State) {
        if s.dotlock != Some(Dotlock::Left) || s.log.is_none() {
            return;
        }
        s.dotlock = None;
        if s.marked && self.on(Rule::GivenIsMarked) {
            s.put_log(None);
        }
        s.marked = false;
    }
}
