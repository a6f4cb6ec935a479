//! Ghosts and fences, step by step: `user/haunt.rs`, `user/fence.rs`.

use listindexfs::user::decide::Claim;

use super::check::Protocol;
use super::rules::Rule;
use super::state::{At, By, Fence, For, Ghost, LastHost, Life, Place, Record, Run, State};

impl Protocol {
    /// `Gate::haunt`: with a ghost there is no record but word of it, and no verdict.
    pub fn haunt(&self, s: &mut State, host: usize) {
        if self.on(Rule::GhostsDropRecord) {
            s.hosts[host].place = Place::Haunted;
        }
        self.void(s, host);
    }

    pub fn void(&self, s: &mut State, host: usize) {
        if self.on(Rule::VoidVerdicts) {
            for session in s.of_mut(host).filter(|x| x.at == Life::Verdict) {
                (session.at, session.need) = (Life::Waiting, 0);
            }
        }
    }

    /// `claim_seen`, at this moment.
    pub fn claim_seen(&self, s: &State, host: usize, record: Option<Record>) -> Claim {
        match (record, s.lasthost.by) {
            (_, By::None) => Claim::Foreign,
            (Some(record), _) if record.current => Claim::Recorded,
            (Some(_), _) => Claim::Foreign,
            (None, By::Host(by)) if usize::from(by) == host => Claim::Ours,
            (None, _) => Claim::Foreign,
        }
    }

    pub fn record_of(&self, s: &State, host: usize) -> Option<Record> {
        match s.hosts[host].place {
            Place::Record(record) => Some(record),
            Place::Haunted | Place::Nothing => None,
        }
    }

    /// `Gate::fence`: the processes that have ended by now.
    pub fn fence_due(&self, s: &mut State, host: usize, whose: For) {
        let due = s.of_mut(host).filter(|x| x.fence == Fence::Due);
        due.for_each(|session| session.fence = Fence::Begun);
        s.hosts[host].run.at = At::AfterWriter(whose);
    }

    pub fn after_writer(&self, s: &mut State, host: usize, whose: For) {
        if s.no_index {
            return self.fenced(s, host, whose, true);
        }
        let migrate = self.rules.migrate[host] && self.on(Rule::WriterBesideLog);
        if migrate && s.log.is_some() {
            return self.fenced(s, host, whose, false);
        }
        let record = self.record_of(s, host);
        s.hosts[host].run = Run {
            at: At::AfterWriterClaim(whose),
            record,
            ..Run::default()
        };
    }

    pub fn after_writer_claim(&self, s: &mut State, host: usize, whose: For) {
        let seen = self.claim_seen(s, host, s.hosts[host].run.record);
        if seen == Claim::Recorded {
            return self.fenced(s, host, whose, true);
        }
        s.hosts[host].run = Run {
            at: At::FenceLock(whose),
            ..Run::default()
        };
    }

    /// `lay_ghosts`: those whose time is over by now.
    pub fn begin_to_lay(&self, s: &mut State, host: usize, whose: For) {
        let ended = |x: &&mut super::state::Session| x.at == Life::Gone && x.ghost == Ghost::Yes;
        s.of_mut(host)
            .filter(ended)
            .for_each(|x| x.ghost = Ghost::Laying);
        if self.on(Rule::FenceAfterGhosts) {
            s.hosts[host].run.at = At::FenceLock(whose);
        } else {
            self.fenced(s, host, whose, true);
        }
    }

    pub fn has_ended_ghosts(&self, s: &State, host: usize) -> bool {
        s.of(host)
            .any(|x| x.at == Life::Gone && x.ghost == Ghost::Yes)
    }

    /// `after_ghost`, and `set` from its beginning: `lock_if_any`.
    pub fn fence_lock(&self, s: &mut State, host: usize, whose: For) {
        if s.no_index {
            return self.fenced(
                s,
                host,
                whose,
                !matches!(whose, For::Writers | For::WritersFirst),
            );
        }
        self.break_dotlock(s);
        let run = &mut s.hosts[host].run;
        run.source = s.log.is_some() && self.on(Rule::FenceDropsLog);
        run.log_same = run.source;
        run.at = At::FenceLook(whose);
        if run.source {
            self.lock_log(s, host);
        }
    }

    /// What has been given back meanwhile lacks what was changed here.
    pub fn fence_log_again(&self, s: &mut State, host: usize, whose: For) {
        let again = s.log.is_some() && self.on(Rule::FenceLooksAgain);
        s.hosts[host].run.at = match again {
            true => At::FenceLock(whose),
            false => At::FenceClaimAgain(whose),
        };
    }

    /// And somebody may have fetched it.
    pub fn fence_claim_again(&self, s: &mut State, host: usize, whose: For) {
        let set = s.hosts[host].run.same || s.lasthost.by == By::None;
        if !set && self.on(Rule::FenceLooksAtClaimAgain) {
            s.hosts[host].run.at = At::FenceLock(whose);
            return;
        }
        self.fenced(s, host, whose, true);
    }

    /// `look` under the lock.
    pub fn fence_look(&self, s: &mut State, host: usize, whose: For) {
        let seen = self.claim_seen(s, host, self.record_of(s, host));
        let run = &mut s.hosts[host].run;
        match seen {
            Claim::Recorded | Claim::Ours => {
                run.same = true;
                run.at = At::FenceRecheck(whose);
            }
            Claim::Foreign if s.lasthost.by == By::None && !run.source => {
                run.at = At::FenceLogAgain(whose);
            }
            Claim::Foreign => run.at = At::FencePut(whose),
        }
    }

    pub fn fence_put(&self, s: &mut State, host: usize, whose: For) {
        s.put_lasthost(self.nobody(s));
        let run = &mut s.hosts[host].run;
        run.same = true;
        run.at = match run.source {
            true => At::FenceRecheck(whose),
            false => At::FenceLogAgain(whose),
        };
    }

    /// What a fence puts: the logs in INDEX are named.
    pub fn nobody(&self, s: &State) -> LastHost {
        LastHost {
            by: By::Nobody,
            stale: s.log.is_some(),
        }
    }

    pub fn fence_recheck(&self, s: &mut State, host: usize, whose: For) {
        let source = s.hosts[host].run.source;
        match self.may_delete(s, host) {
            true if source => s.hosts[host].run.at = At::FenceDelete(whose),
            false if source && whose == For::Last => self.fail_last(s, host),
            may => self.fenced(s, host, whose, may || !source),
        }
    }

    pub fn fence_delete(&self, s: &mut State, host: usize, whose: For) {
        s.put_log(None);
        self.fenced(s, host, whose, true);
    }

    /// A fence is set, or not.
    pub fn fenced(&self, s: &mut State, host: usize, whose: For, set: bool) {
        self.unlock(s, host);
        let haunted = s.hosts[host].run.haunted;
        s.hosts[host].run = Run::default();
        match whose {
            For::Writers => self.forget_writers(s, host, set),
            For::WritersFirst => {
                self.forget_writers(s, host, set);
                s.hosts[host].run.at = At::Attempt;
            }
            For::Ghosts => self.forget_ghosts(s, host, set),
            For::Last => {
                self.forget_ghosts(s, host, set);
                self.told_last(s, host, set);
            }
            For::GhostsFirst => {
                self.forget_ghosts(s, host, set);
                s.hosts[host].run.haunted = s.has_ghosts(host);
                s.hosts[host].run.at = At::Record;
            }
            For::Word if set => {
                self.remove_record(s, host);
                s.hosts[host].run.haunted = haunted;
                s.hosts[host].run.at = At::Record;
            }
            For::Word => {
                self.void(s, host);
                self.land(s, host, false);
            }
        }
    }

    fn forget_writers(&self, s: &mut State, host: usize, set: bool) {
        let mut haunts = false;
        for session in s.of_mut(host).filter(|x| x.fence == Fence::Begun) {
            session.fence = Fence::No;
            if !set {
                session.ghost = Ghost::Yes;
                haunts = true;
            }
        }
        if haunts {
            self.haunt(s, host);
        }
        (0..self.rules.sessions).for_each(|n| s.let_go(n));
    }

    fn forget_ghosts(&self, s: &mut State, host: usize, set: bool) {
        let laid = |ghost| match set {
            true if self.on(Rule::LayWhoHadEnded) => ghost == Ghost::Laying,
            set => set,
        };
        for session in s.of_mut(host) {
            if session.at == Life::Gone && laid(session.ghost) {
                session.ghost = Ghost::No;
            } else if session.ghost == Ghost::Laying {
                session.ghost = Ghost::Yes;
            }
        }
        (0..self.rules.sessions).for_each(|n| s.let_go(n));
        if set && !s.has_ghosts(host) && self.on(Rule::GhostsDropRecord) {
            s.hosts[host].place = Place::Nothing;
        }
    }
}
