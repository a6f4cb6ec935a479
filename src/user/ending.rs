//! The end of a mount: other hosts are told what there is to tell before the worker goes.
//!
//! Nobody has a file open then, also where the kernel has not said so: it drops the RELEASE with which a mount ends. Ghosts that
//! live, and who still waits to be served, are fenced as if they had ended, so that what they have changed by now is known; word of
//! them stays for the next mount.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::state::{Inner, UserState};
use crate::stats::Cell;

/// How often it is looked whether all is done.
const POLL: Duration = Duration::from_millis(10);

impl Gate {
    /// The mount has ended: sets the fences that are due and those of all ghosts, each user's on a thread of his NFS. Tells whether
    /// all are set; waits `limit` at most.
    pub fn end(self: &Arc<Self>, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        self.ended.store(true, Ordering::Release);
        for state in self.users.matching(Inner::is_in_use) {
            let mut inner = state.lock();
            self.close_all(&state, &mut inner);
            inner.queue.lay = true;
            let asking = inner.queue.take_asking();
            self.refuse(&state, inner, asking, Cell::RefusedTimedOut);
        }
        loop {
            let busy = self.users.matching(Inner::is_busy);
            if busy.is_empty() {
                return self.users.matching(Inner::has_failed_to_lay).is_empty();
            }
            if Instant::now() >= until {
                return false;
            }
            // Nobody else begins a run for who becomes a ghost only now.
            busy.iter()
                .for_each(|state| self.kick(state, &mut state.lock()));
            sleep(POLL);
        }
    }

    /// Whether the mount has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Who lives on goes on without its files.
    fn close_all(&self, state: &UserState, inner: &mut Inner) {
        let mut live = Vec::new();
        for (_, holder) in std::mem::take(&mut inner.holders) {
            match self.processes.alive(holder.process) {
                true => live.push(holder.as_ghost()),
                false if holder.wrote => inner.queue.writers.push(holder),
                false => {}
            }
        }
        if !live.is_empty() {
            self.haunt(state, inner, live);
        }
    }
}
