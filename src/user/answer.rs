//! What who waits at the gate is told, and what refusing him entails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::gate::Gate;
use super::ghosts::{Ghost, Why};
use super::process::{Caller, Process};
use super::state::{Inner, Pass, UserState};
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::stats::Cell;
use crate::template::User;

/// What the gate tells who asked.
#[derive(Debug)]
pub enum Answer {
    /// Go on with this.
    Serve(Pass),
    /// Answer EIO: Dovecot keeps its list index in memory and answers rightly.
    Refuse,
}

/// Somebody who waits at the gate.
pub struct Waiter {
    pub(super) process: Process,
    pub(super) creds: Arc<Creds>,
    pub(super) since: Instant,
    pub(super) until: Instant,
    pub(super) done: Box<dyn FnOnce(Answer) + Send>,
}

impl Waiter {
    fn as_ghost(&self) -> Ghost {
        Ghost {
            process: self.process,
            creds: Arc::clone(&self.creds),
            why: Why::Refused,
        }
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiter {{ {:?} }}", self.process)
    }
}

impl Gate {
    /// Answers those aboard.
    pub(super) fn land(&self, state: &Arc<UserState>, outcome: Result<(), Trouble>) {
        let mut inner = state.lock();
        // Somebody who timed out meanwhile is a ghost: then nobody may be served.
        let serve = outcome.is_ok() && inner.ghosts.is_empty();
        let aboard = std::mem::take(&mut inner.queue.aboard);
        if serve {
            for waiter in &aboard {
                inner.give_verdict(waiter.process, Arc::clone(&waiter.creds));
            }
            let pass = Pass {
                state: Arc::clone(state),
                epoch: inner.epoch(),
            };
            drop(inner);
            self.waited(Cell::Served, &aboard);
            aboard
                .into_iter()
                .for_each(|waiter| (waiter.done)(Answer::Serve(pass.clone())));
        } else {
            let reason = outcome.map_or_else(|trouble| trouble.cell(), |()| Cell::RefusedDraining);
            self.refuse(state, inner, aboard, reason);
        }
    }

    /// Counts those who are answered.
    fn waited(&self, answer: Cell, answered: &[Waiter]) {
        self.stats.add(answer, answered.len() as u64);
        let now = Instant::now();
        for waiter in answered {
            let waited = now.saturating_duration_since(waiter.since);
            self.stats.took(Cell::GateWait, waited);
        }
    }

    /// Refused openers are ghosts, marked before they are answered: what they change nobody will see.
    pub(super) fn refuse(
        &self,
        state: &UserState,
        mut inner: MutexGuard<'_, Inner>,
        refused: Vec<Waiter>,
        reason: Cell,
    ) {
        self.waited(Cell::Refused, &refused);
        self.stats.add(reason, refused.len() as u64);
        // No mail process runs as root: what looks at the files as root (grep, a backup) changes no mail.
        let mail = refused.iter().filter(|waiter| waiter.creds.uid != 0);
        let new: Vec<_> = mail.map(Waiter::as_ghost).collect();
        if !new.is_empty() {
            self.haunt(state, &mut inner, new);
        }
        drop(inner);
        refused
            .into_iter()
            .for_each(|waiter| (waiter.done)(Answer::Refuse));
    }

    /// Refuses a caller without a check: he is a ghost, as whoever is refused.
    pub fn refuse_at_once(&self, user: &User, caller: Caller) {
        let why = "workers have died of this request";
        self.history.refused(user, Duration::ZERO, &why);
        let (process, creds) = self.who(caller);
        let now = Instant::now();
        let waiter = Waiter {
            process,
            creds: Arc::new(creds),
            since: now,
            until: now,
            done: Box::new(|_| ()), // who calls answers
        };
        let state = self.user(user);
        self.refuse(&state, state.lock(), vec![waiter], Cell::RefusedDeadly);
    }

    /// Refuses those whose time is over. The run they waited for stays under way until its thread returns.
    pub(super) fn refuse_late(&self, state: &Arc<UserState>, now: Instant) {
        let mut inner = state.lock();
        let mut late = take_late(&mut inner.queue.waiting, now);
        late.extend(take_late(&mut inner.queue.aboard, now));
        if late.is_empty() {
            return;
        }
        self.server_is_silent(state);
        let waited = self.config.check_timeout;
        (self.history).refused(&state.user, waited, &Trouble::TimedOut(waited));
        self.refuse(state, inner, late, Cell::RefusedTimedOut);
    }
}

fn take_late(waiters: &mut Vec<Waiter>, now: Instant) -> Vec<Waiter> {
    let (late, on_time) = std::mem::take(waiters)
        .into_iter()
        .partition(|w| w.until <= now);
    *waiters = on_time;
    late
}
