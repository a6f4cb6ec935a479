//! A user's directory: operations run in it, several at a time, or a run of the gate has it for itself.

use std::sync::Arc;

use super::ghosts::Ghost;
use super::process::Process;
use super::state::{Holder, Inner, Pass, UserState};
use crate::index::creds::Creds;
use crate::journal::Who;

/// What a request has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It needs a verdict.
    Gate,
    /// A gate run has the directory.
    Directory,
}

/// An operation in the user's directory; while it lives no gate run takes the directory.
#[must_use]
#[derive(Debug)]
pub struct Operation(Arc<UserState>);

/// The user's directory, for a gate run alone.
#[must_use]
#[derive(Debug)]
pub struct Taken(Arc<UserState>);

impl UserState {
    /// Lets an operation begin that needs no verdict.
    ///
    /// # Errors
    /// [`Wait::Directory`].
    pub fn enter(self: &Arc<Self>) -> Result<Operation, Wait> {
        self.begin(&mut self.lock())
    }

    /// Lets an operation of `pid` begin if it has a fresh verdict, its own or `pass`.
    ///
    /// # Errors
    /// [`Wait`].
    pub fn admit(self: &Arc<Self>, pid: u32, pass: Option<&Pass>) -> Result<Operation, Wait> {
        let mut inner = self.lock();
        let passed = pass.is_some_and(|p| Arc::ptr_eq(&p.state, self) && p.epoch == inner.epoch());
        if !passed && !inner.has_verdict(pid) {
            return Err(Wait::Gate);
        }
        self.begin(&mut inner)
    }

    fn begin(self: &Arc<Self>, inner: &mut Inner) -> Result<Operation, Wait> {
        if inner.taken {
            return Err(Wait::Directory);
        }
        inner.operations += 1;
        Ok(Operation(Arc::clone(self)))
    }

    /// Runs `resume` when the directory is free again, at once if it is free now.
    pub fn park(&self, resume: Box<dyn FnOnce() + Send>) {
        let mut inner = self.lock();
        if inner.taken {
            inner.queue.parked.push(resume);
        } else {
            drop(inner);
            resume();
        }
    }

    /// Takes the directory when no operation runs and nobody holds a file open.
    ///
    /// # Errors
    /// Those who hold files open, as the ghosts they are if the files have to go all the same.
    pub(super) fn take(self: &Arc<Self>) -> Result<Taken, Vec<Ghost>> {
        let mut inner = self.lock();
        while inner.operations > 0 {
            self.calm.wait(&mut inner);
        }
        if inner.holders.is_empty() {
            inner.taken = true;
            return Ok(Taken(Arc::clone(self)));
        }
        Err(inner.holders.values().map(Holder::as_ghost).collect())
    }

    /// The same, but only if no operation runs and nobody holds a file open right now.
    pub(super) fn take_if_idle(self: &Arc<Self>) -> Option<Taken> {
        let mut inner = self.lock();
        let idle = inner.operations == 0 && inner.holders.is_empty();
        inner.taken |= idle;
        idle.then(|| Taken(Arc::clone(self)))
    }
}

impl Operation {
    /// Whose directory it runs in.
    pub fn state(&self) -> &Arc<UserState> {
        &self.0
    }

    /// The process now holds a managed file open. `who` is asked for when its verdict does not tell.
    /// Returns the user and the process, for the next worker.
    pub fn hold(&self, pid: u32, who: impl FnOnce() -> (Process, Creds)) -> (Vec<u8>, Who) {
        let user = self.0.user.as_bytes().to_vec();
        let mut inner = self.0.lock();
        if let Some(holder) = inner.holders.get_mut(&pid) {
            holder.handles += 1;
            return (user, Who::new(holder.process, &holder.creds));
        }
        let (process, creds) = inner.known(pid).unwrap_or_else(|| {
            let (process, creds) = who();
            (process, Arc::new(creds))
        });
        let holder = Holder {
            handles: 1,
            process,
            creds,
            wrote: false,
        };
        let known = Who::new(process, &holder.creds);
        inner.holders.insert(pid, holder);
        (user, known)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.operations -= 1;
        if inner.operations == 0 {
            self.0.calm.notify_all();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let parked = {
            let mut inner = self.0.lock();
            inner.taken = false;
            std::mem::take(&mut inner.queue.parked)
        };
        for resume in parked {
            resume();
        }
    }
}
