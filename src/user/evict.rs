//! Dropping what lies here of users who are idle, as a run of their gate.

use std::io;
use std::sync::Arc;

use super::gate::{Gate, RunGuard};
use super::local;
use super::record::{Kept, Record};
use super::state::UserState;
use super::told::Reason;
use crate::stats::Cell;
use crate::store::Node;
use crate::template::User;

impl Gate {
    /// Drops an idle user's local files. `false` when he is not idle: a run is under way, or files are open; or when word
    /// of ghosts has to stay.
    ///
    /// # Errors
    /// When the backing cannot be changed.
    pub fn evict(self: &Arc<Self>, user: &User, why: Reason) -> io::Result<bool> {
        let gone = self.drop_local(user, |kept| kept != Kept::Haunted)?;
        if gone {
            self.evicted(user, why);
        }
        Ok(gone)
    }

    /// The same of one whom another host has had since this record.
    ///
    /// # Errors
    /// As [`Gate::evict`].
    pub(super) fn evict_moved(self: &Arc<Self>, user: &User, record: &Record) -> io::Result<bool> {
        let gone = self.drop_local(
            user,
            |kept| matches!(kept, Kept::Record(now) if now == *record),
        )?;
        if gone {
            self.evicted(user, Reason::Moved);
        }
        Ok(gone)
    }

    /// The same of what an earlier mount has left. `false` also when there is nothing.
    ///
    /// # Errors
    /// As [`Gate::evict`].
    pub fn drop_leftovers(self: &Arc<Self>, user: &User) -> io::Result<bool> {
        let gone =
            local::is_left(self, user)? && self.drop_local(user, |kept| kept == Kept::Nothing)?;
        self.stats.add(Cell::EvictedLeftover, gone.into());
        Ok(gone)
    }

    /// An idle user's directory in which nothing lies is to go: [`crate::store::leaving`].
    pub fn leave_directory(&self, dir: Node) {
        if self.store.leaving().begin(dir) {
            self.kernel.gone(dir); // who looks asks us
        }
    }

    /// Removes it, unless somebody has looked at it. `false` when it stays.
    ///
    /// # Errors
    /// When the backing cannot be changed.
    pub fn drop_directory(self: &Arc<Self>, user: &User, dir: Node) -> io::Result<bool> {
        let remove = || local::remove_directory(self, user);
        let dropped = self.while_idle(user, |_| {
            self.store.leaving().end(dir, remove).unwrap_or(Ok(false))
        })?;
        Ok(dropped.unwrap_or(false))
    }

    fn drop_local(
        self: &Arc<Self>,
        user: &User,
        may_go: impl FnOnce(Kept) -> bool,
    ) -> io::Result<bool> {
        let dropped = self.while_idle(user, |state| self.drop_files(state, may_go))?;
        Ok(dropped.unwrap_or(false))
    }

    /// In a run, with the user's directory taken: record first, as ever.
    pub(super) fn drop_files(
        &self,
        state: &UserState,
        may_go: impl FnOnce(Kept) -> bool,
    ) -> io::Result<bool> {
        {
            let _ghosts_are_marked_under_it = state.lock();
            if !may_go(local::read(self, &state.user)?) {
                return Ok(false);
            }
            local::remove_record(self, &state.user)?;
        }
        local::purge(self, &state.user)?;
        self.doubt_index(&state.user);
        Ok(true)
    }

    /// Does `change` as a run of the user's gate, with his directory taken and no verdict good any more; `None` when he is not
    /// idle. Never waits.
    pub(super) fn while_idle<T>(
        self: &Arc<Self>,
        user: &User,
        change: impl FnOnce(&UserState) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        self.alone(&self.user(user), |state| {
            state.void(); // an opener with a verdict must ask again: he waits for the directory until then
            change(state)
        })
    }

    /// The same for changes that no verdict speaks of.
    pub(super) fn alone<T>(
        self: &Arc<Self>,
        state: &Arc<UserState>,
        change: impl FnOnce(&UserState) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        {
            let mut inner = state.lock();
            if inner.is_in_use() {
                return Ok(None);
            }
            inner.queue.running = true;
        }
        let _guard = RunGuard { gate: self, state };
        match state.take_if_idle() {
            Some(_taken) => change(state).map(Some),
            None => Ok(None),
        }
    }
}
