//! The end of a mount, in order: `user/ending.rs`. Who lives on goes on in memory.

use super::check::Protocol;
use super::rules::Rule;
use super::session::is_being_claimed;
use super::state::{At, Fate, For, Ghost, Life, Session, State};

impl Protocol {
    /// Whether the mount may end: nobody waits for an answer.
    pub fn may_unmount(&self, s: &State, host: usize) -> bool {
        let asks = |x: &Session| matches!(x.at, Life::Waiting | Life::Aboard | Life::Verdict);
        self.rules.unmount && !s.hosts[host].ending && !s.of(host).any(asks)
    }

    /// `Gate::end`, `close_all`. What those have changed who live on will be known when all is told.
    pub fn unmount(&self, s: &mut State, host: usize) {
        s.hosts[host].ending = true;
        let mut haunts = false;
        for n in 0..self.rules.sessions {
            let session = &mut s.sessions[n];
            let lives = !matches!(session.at, Life::Free | Life::Gone);
            if !lives || usize::from(session.host) != host {
                continue;
            }
            if session.holds_files() && self.on(Rule::EndCloses) {
                session.ghost = Ghost::Yes;
                haunts = true;
            }
            (session.at, session.linked, session.wrote) = (Life::Memory, false, false);
            session.built = 0;
            s.refate(Fate::Session(n as u8), Fate::Last(host as u8));
        }
        if haunts {
            self.haunt(s, host);
        }
    }

    /// `lay_ghosts`, of all, when no fence is due any more.
    pub fn tell_last(&self, s: &mut State, host: usize) {
        if !s.has_ghosts(host) {
            return self.told_last(s, host, true);
        }
        let ended = s.of_mut(host).filter(|x| x.at == Life::Gone);
        ended
            .filter(|x| x.ghost == Ghost::Yes)
            .for_each(|x| x.ghost = Ghost::Laying);
        match self.on(Rule::EndFences) {
            true => s.hosts[host].run.at = At::FenceLock(For::Last),
            false => self.fenced(s, host, For::Last, true),
        }
    }

    /// `fence::at_the_end`: where the log could not be dropped .lasthost warns of it, unless another host claims just then.
    pub fn fail_last(&self, s: &mut State, host: usize) {
        self.unlock(s, host);
        match self.on(Rule::EndWarns) {
            true => s.hosts[host].run.at = At::LastPut,
            false => self.fenced(s, host, For::Last, true),
        }
    }

    pub fn last_put(&self, s: &mut State, host: usize) {
        s.put_lasthost(self.nobody(s));
        let heard = !is_being_claimed(s);
        self.fenced(s, host, For::Last, heard);
    }

    /// The worker goes.
    pub fn told_last(&self, s: &mut State, host: usize, told: bool) {
        if told {
            s.refate(Fate::Last(host as u8), Fate::Promised);
        }
        self.die(s, host);
    }
}
