//! What users, operators and stock backends do, and how daemons die.

use super::check::Protocol;
use super::rules::{Promise, Rule};
use super::state::{
    At, Broken, By, Dotlock, Fate, Fence, Ghost, Host, LastHost, Life, Place, Run, STOCK, Session,
    State,
};

impl Protocol {
    pub fn login(&self, s: &mut State, host: usize) {
        let n = self.free_slot(s).expect("room for a session");
        let joins = !self.on(Rule::NoLateJoin) && s.hosts[host].run.need_is_known();
        s.sessions[n] = Session {
            host: host as u8,
            at: if joins { Life::Aboard } else { Life::Waiting },
            need: if joins { s.promised() } else { 0 },
            ..Session::default()
        };
    }

    pub fn free_slot(&self, s: &State) -> Option<usize> {
        (0..self.rules.sessions).find(|n| s.sessions[*n].at == Life::Free)
    }

    /// Where sessions do not linger they end before the user goes elsewhere.
    pub fn may_go_to(&self, s: &State, host: Option<usize>) -> bool {
        let live = |x: &&Session| !matches!(x.at, Life::Free | Life::Gone);
        self.rules.linger || (s.sessions.iter().filter(live)).all(|x| Some(x.host.into()) == host)
    }

    /// OPEN of L, or CREATE where there is none.
    pub fn open(&self, s: &mut State, n: usize) {
        let Session { host, need, .. } = s.sessions[n];
        let all = s.all();
        let host = &mut s.hosts[usize::from(host)];
        let session = &mut s.sessions[n];
        match host.local {
            Some(given) if need & !given != 0 => s.broken = Some(Broken::Stale),
            Some(_) => {}
            None if self.rules.builds => {
                session.wrote = true;
                (session.at, session.built, session.need) = (Life::Building, all, 0);
                return;
            }
            None => {
                host.local = Some(all);
                session.wrote = true;
            }
        }
        (session.at, session.linked, session.need) = (Life::Open, true, 0);
    }

    /// RENAME of L.newlock to L.
    pub fn rename(&self, s: &mut State, n: usize) {
        let Session { host, built, .. } = s.sessions[n];
        s.hosts[usize::from(host)].local = Some(built);
        s.of_mut(host.into()).for_each(|x| x.linked = false);
        let session = &mut s.sessions[n];
        (session.at, session.linked, session.built) = (Life::Open, true, 0);
    }

    pub fn write(&self, s: &mut State, n: usize) {
        if usize::from(s.sessions[n].host) == STOCK {
            return self.stock_write(s, n);
        }
        let change = self.change(s, n);
        let session = &mut s.sessions[n];
        if session.at == Life::Open {
            session.wrote = true;
            if session.linked {
                let local = &mut s.hosts[usize::from(session.host)].local;
                *local = local.map(|list| list | change);
            }
        }
    }

    /// A WRITE fails: the session goes on in memory.
    pub fn spoiled(&self, s: &mut State, n: usize) {
        self.change(s, n);
        s.sessions[n].linked = false;
        if self.on(Rule::SpoiledIsGhost) {
            s.sessions[n].ghost = Ghost::Yes;
            self.haunt(s, s.sessions[n].host.into());
        }
    }

    fn change(&self, s: &mut State, n: usize) -> u16 {
        let fate = if self.is_held_by(s, n) {
            Fate::Promised
        } else {
            Fate::Session(n as u8)
        };
        s.change(fate)
    }

    /// The promise covers changes made where the user is held: by its .lasthost, or by nobody. A host without `migrate`
    /// that serves has dropped the list index of a stock backend that was in INDEX; one with `migrate` has not.
    fn is_held_by(&self, s: &State, n: usize) -> bool {
        let session = s.sessions[n];
        let served = session.at == Life::Open;
        let ours = s.lasthost.by == By::Host(session.host);
        let is_ghost = session.ghost != Ghost::No;
        let drops = served && !is_ghost && !self.rules.migrate[usize::from(session.host)];
        let limits = s.log.is_some() && !s.marked && !drops;
        match self.rules.promise {
            Promise::Kept if limits => ours && s.lasthost.stale && !is_being_claimed(s),
            Promise::DuringClaims if limits => ours && s.lasthost.stale,
            Promise::Refused if limits => ours && (s.lasthost.stale || !served),
            _ => session.holds || ours || served && matches!(s.lasthost.by, By::None | By::Nobody),
        }
    }

    pub fn logout(&self, s: &mut State, n: usize) {
        let session = &mut s.sessions[n];
        let host = usize::from(session.host);
        if host == STOCK {
            return s.end(n, Fate::Lost);
        }
        if s.hosts[host].down {
            let fate = left_by(session);
            return s.end(n, fate);
        }
        let due = session.holds_files() && session.wrote && self.on(Rule::FenceAfterWriters);
        *session = Session {
            host: session.host,
            at: Life::Gone,
            fence: if due { Fence::Due } else { Fence::No },
            ghost: match session.ghost {
                Ghost::Unmarked => Ghost::No,
                ghost => ghost,
            },
            ..Session::default()
        };
        s.let_go(n);
    }

    /// `Gate::refuse_late`: the run goes on without him.
    pub fn refuse_late(&self, s: &mut State, n: usize) {
        self.refuse(s, n);
    }

    pub fn refuse(&self, s: &mut State, n: usize) {
        let session = &mut s.sessions[n];
        (session.at, session.need) = (Life::Memory, 0);
        session.ghost = Ghost::Unmarked;
        if self.on(Rule::MarkFirst) {
            self.mark(s, n);
        }
    }

    pub fn mark(&self, s: &mut State, n: usize) {
        s.sessions[n].ghost = Ghost::Yes;
        self.haunt(s, s.sessions[n].host.into());
    }

    /// The worker dies; the next knows what is in the journal.
    pub fn crash(&self, s: &mut State, host: usize) {
        self.drop_run(s, host);
        for session in s.of_mut(host) {
            if matches!(session.at, Life::Aboard | Life::Verdict) {
                (session.at, session.need) = (Life::Waiting, 0);
            }
            if session.ghost == Ghost::Laying {
                session.ghost = Ghost::Yes;
            }
            if session.fence == Fence::Begun {
                session.fence = Fence::Due;
            }
            if !self.on(Rule::GhostsSurvive) {
                session.ghost = Ghost::No;
            }
            if !self.on(Rule::FencesSurvive) {
                session.fence = Fence::No;
            }
        }
        (0..self.rules.sessions).for_each(|n| s.let_go(n));
    }

    fn drop_run(&self, s: &mut State, host: usize) {
        s.hosts[host].run = Run::default();
        if s.lock == Some(host as u8) {
            s.lock = None;
        }
        if s.dotlock == Some(Dotlock::By(host as u8)) {
            s.dotlock = Some(Dotlock::Left);
        }
    }

    /// Supervisor and worker die. Who has something open goes on in memory.
    pub fn die(&self, s: &mut State, host: usize) {
        self.drop_run(s, host);
        (s.hosts[host].down, s.hosts[host].ending) = (true, false);
        s.refate(Fate::Last(host as u8), Fate::Word(host as u8));
        for n in 0..self.rules.sessions {
            let session = &mut s.sessions[n];
            if usize::from(session.host) != host || session.at == Life::Free {
                continue;
            }
            if session.at == Life::Gone {
                let fate = left_by(session);
                s.end(n, fate);
                continue;
            }
            *session = Session {
                host: session.host,
                at: Life::Memory,
                ghost: match session.ghost {
                    Ghost::No => Ghost::No,
                    _ => Ghost::Yes,
                },
                ..Session::default()
            };
        }
    }

    /// They are started again, and with them Dovecot.
    pub fn mount(&self, s: &mut State, host: usize) {
        for n in 0..self.rules.sessions {
            let session = s.sessions[n];
            if usize::from(session.host) == host && session.at != Life::Free {
                s.end(n, left_by(&session));
            }
        }
        s.hosts[host].down = false;
        if self.on(Rule::NewInstance) {
            if matches!(s.hosts[host].place, Place::Record(_)) {
                s.hosts[host].place = Place::Nothing;
            }
            let late = s.hosts[host].late.as_mut();
            for lasthost in late.into_iter().chain([&mut s.lasthost]) {
                if lasthost.by == By::Host(host as u8) {
                    lasthost.by = By::Ended;
                }
            }
        }
        if !self.on(Rule::WordSurvives) && s.hosts[host].place == Place::Haunted {
            s.hosts[host].place = Place::Nothing;
        }
    }

    /// A stock backend opens, changes and closes the list index in INDEX.
    pub fn stock_session(&self, s: &mut State) {
        s.no_index = false;
        let change = s.change(Fate::Promised);
        match s.log {
            Some(log) => {
                s.log_changed();
                s.log = Some(log | change);
            }
            None => s.put_log(Some(s.all())),
        }
    }

    /// A stock backend opens the list index in INDEX, or makes it, and stays.
    pub fn stock_login(&self, s: &mut State) {
        let n = self.free_slot(s).expect("room for a session");
        s.no_index = false;
        if s.log.is_none() {
            s.put_log(Some(s.all()));
        }
        s.sessions[n] = Session {
            host: STOCK as u8,
            at: Life::Open,
            linked: true,
            ..Session::default()
        };
    }

    /// Where its list index was moved away, it writes into the copy that went: nobody hears of that.
    fn stock_write(&self, s: &mut State, n: usize) {
        if s.sessions[n].linked {
            self.stock_session(s);
        } else {
            s.change(Fate::Lost);
        }
    }

    pub fn delete_user(&self, s: &mut State) {
        s.no_index = true;
        s.put_lasthost(LastHost::default());
        s.put_log(None);
        (s.lock, s.dotlock) = (None, None);
        for host in &mut s.hosts {
            host.index_gone = host.run.at != At::Idle;
            host.late = None;
        }
        s.change(Fate::Promised);
    }
}

/// Whether a claim is under way that will not repeat what .lasthost says of INDEX/L.
pub fn is_being_claimed(s: &State) -> bool {
    let puts = |at| matches!(at, At::Claim | At::DrainClaim | At::DistrustClaim);
    let claims = |h: &Host| puts(h.run.at) && !h.run.stale;
    let late = |h: &Host| h.late.is_some_and(|late| !late.stale);
    s.hosts.iter().any(|h| claims(h) || late(h))
}

/// What becomes of the changes that a session made before its daemon died, and that are not promised yet.
fn left_by(session: &Session) -> Fate {
    match session.ghost {
        Ghost::No => Fate::Lost,
        _ => Fate::Word(session.host),
    }
}

impl Run {
    /// Whether it is a check that has begun to look.
    fn need_is_known(&self) -> bool {
        !matches!(
            self.at,
            At::Idle
                | At::AfterWriter(_)
                | At::AfterWriterClaim(_)
                | At::FenceLock(_)
                | At::FenceLook(_)
                | At::FencePut(_)
                | At::FenceRecheck(_)
                | At::FenceDelete(_)
                | At::Attempt
                | At::Record
                | At::FenceLogAgain(_)
                | At::FenceClaimAgain(_)
                | At::BackLookClaim
                | At::BackLookLog
                | At::BackDropLog
                | At::BackLock
                | At::BackUnrecord
                | At::BackPut
                | At::BackRecheck
                | At::BackUndoPut
                | At::BackUndo
                | At::BackUnlock
                | At::LastPut
                | At::EvictTake
                | At::EvictPurge
        )
    }
}
