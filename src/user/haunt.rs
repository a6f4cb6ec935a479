//! How users come to have ghosts and get rid of them: who is one is marked before he is answered, and
//! stays one until other hosts have been told.

use std::sync::Arc;
use std::time::Instant;

use super::fence::{self, Fenced};
use super::gate::Gate;
use super::ghosts::{self, BackOff, Ghost, Why};
use super::local;
use super::process::{Caller, Process};
use super::state::{Holder, Inner, UserState};
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::stats::Cell;
use crate::template::User;

type Fence = fn(&Gate, &Arc<UserState>, &Creds) -> Result<Fenced, Trouble>;

impl Gate {
    /// A ghost that opens another user's L has closed the list index of the one before.
    pub(super) fn moved_on(&self, process: Process, now: &User) {
        if process.pid == 0 || !self.housekeeper().haunted() {
            return;
        }
        let is_ghost = |ghost: &Ghost| ghost.process == process && ghost.why != Why::MovedOn;
        let left = self
            .users
            .matching(|inner| inner.ghosts.iter().any(is_ghost));
        for state in left.iter().filter(|state| state.user != *now) {
            let mut inner = state.lock();
            let ghosts = inner.ghosts.iter_mut().filter(|g| g.process == process);
            ghosts.for_each(|g| g.why = Why::MovedOn);
            state.note_ghosts(&inner);
            self.housekeeper().wake();
        }
    }

    /// Marks ghosts. Where there are ghosts there is no record, and no verdict is good any more.
    pub(super) fn haunt(&self, state: &UserState, inner: &mut Inner, new: Vec<Ghost>) {
        let before = inner.ghosts.len();
        ghosts::add(&mut inner.ghosts, new);
        let more = (inner.ghosts.len() - before) as u64;
        self.stats.add(Cell::Ghosts, more);
        self.stats.add(Cell::GhostsMarked, more);
        state.note_ghosts(inner);
        inner.void();
        // Those who come to be while the mount ends are told of, too, though they live.
        inner.queue.lay |= self.has_ended();
        // Under the lock, as is the writing of a record, which looks for ghosts first.
        if let Err(e) = local::mark_haunted(self, &state.user) {
            log::error!("{}: cannot remove the record: {e}", state.user);
        }
        self.housekeeper().haunt();
    }

    /// Sets the fences that are due by now.
    pub(super) fn fence_due(&self, state: &Arc<UserState>) {
        let writers = std::mem::take(&mut state.lock().queue.writers);
        self.fence(state, &writers);
    }

    /// After the last close of processes that wrote. Until it is set they count as ghosts.
    fn fence(&self, state: &Arc<UserState>, writers: &[Holder]) {
        for same in writers.chunk_by(|a, b| a.creds == b.creds) {
            let Holder { process, creds, .. } = &same[0];
            let unfenced = match fence::after_writer(self, state, creds) {
                Ok(Fenced::Yes) => false,
                Ok(Fenced::StockLog) => true,
                Err(e) => {
                    self.stats.count(Cell::FenceFailed);
                    self.report(&state.user, &e);
                    true
                }
            };
            if unfenced {
                let ghost = Ghost {
                    process: *process,
                    creds: Arc::clone(creds),
                    why: Why::MovedOn,
                };
                self.haunt(state, &mut state.lock(), vec![ghost]);
            }
            same.iter().for_each(|writer| state.note_fenced(writer));
        }
    }

    /// A process could not have its list index `how` it wanted (written, opened), for ENOSPC …: Dovecot keeps it in memory from
    /// then on, so that it is a ghost as if it had been refused.
    pub fn spoiled(&self, state: &UserState, caller: Caller, how: &str, e: &std::io::Error) {
        // The kernel writes mapped pages back with nobody's rights; and there may be no descriptor to ask who it is.
        let known = state.lock().known(caller.pid);
        let (process, creds) = known.unwrap_or_else(|| {
            let (process, creds) = self.who(caller);
            (process, Arc::new(creds))
        });
        let ghost = Ghost {
            process,
            creds,
            why: Why::Refused,
        };
        let line = format!(
            "{}: list index not {how}: {e}; it is made anew once its sessions have ended",
            state.user
        );
        self.limit.warn(state.user.as_bytes(), "not written", &line);
        self.haunt(state, &mut state.lock(), vec![ghost]);
    }

    /// Lays ghosts whose time is over: one stays until its fence is set, with its own rights or with those
    /// of who asks now. Tells whether the user has any left. Once the mount has ended those that live are told of too.
    pub(super) fn lay_ghosts(&self, state: &Arc<UserState>, asking: Option<&Creds>) -> bool {
        let ended = state.ended_ghosts(&*self.processes);
        let (told, fence): (_, Fence) = match self.has_ended() {
            true => (state.lock().ghosts.clone(), fence::at_the_end),
            false => (ended.clone(), fence::after_ghost),
        };
        let mut tried: Vec<&Creds> = Vec::new();
        let rights = told.iter().map(|ghost| &*ghost.creds);
        for creds in rights.chain(asking.filter(|_| !told.is_empty())) {
            if tried.contains(&creds) {
                continue;
            }
            tried.push(creds);
            match fence(self, state, creds) {
                // Set once, it holds for all that has ended.
                Ok(Fenced::Yes) => return self.forget_ghosts(state, &ended),
                // Who claims the user just now may not have heard of it: word of them stays.
                Ok(Fenced::StockLog) => return self.forget_ghosts(state, &[]),
                Err(e) => {
                    self.stats.count(Cell::FenceFailed);
                    self.report(&state.user, &e);
                }
            }
        }
        let mut inner = state.lock();
        if !told.is_empty() {
            inner.lay_again.failed(Instant::now());
        }
        !inner.ghosts.is_empty()
    }

    fn forget_ghosts(&self, state: &UserState, laid: &[Ghost]) -> bool {
        let mut inner = state.lock();
        let before = inner.ghosts.len();
        let left = inner.forget_ghosts(laid);
        let less = (before - inner.ghosts.len()) as u64;
        self.stats.sub(Cell::Ghosts, less);
        state.note_ghosts(&inner);
        inner.lay_again = BackOff::default();
        if !left {
            if let Err(e) = local::remove_record(self, &state.user) {
                log::error!("{}: cannot remove word of ghosts: {e}", state.user);
            }
        }
        left
    }

    /// Has ghosts laid whose time is over, of all users, or not of those for whom that has failed a moment ago; tells
    /// whether there are any ghosts.
    pub fn look_at_ghosts(self: &Arc<Self>, of_all: bool) -> bool {
        let haunted = self.users.matching(|inner| !inner.ghosts.is_empty());
        for state in &haunted {
            if !state.ended_ghosts(&*self.processes).is_empty() {
                let mut inner = state.lock();
                if of_all || inner.lay_again.is_over(Instant::now()) {
                    inner.queue.lay = true;
                    self.kick(state, &mut inner);
                }
            }
        }
        !haunted.is_empty()
    }
}
