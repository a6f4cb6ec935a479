//! Dropping what lies here of users who are idle, as a run of their gate.

use std::io;
use std::sync::Arc;

use super::gate::{Gate, RunGuard};
use super::local;
use super::record::Kept;
use crate::template::User;

impl Gate {
    /// Drops an idle user's local files. `false` when he is not idle: a run is under way, or files are open; or when word
    /// of ghosts has to stay.
    ///
    /// # Errors
    /// When the backing cannot be changed.
    pub fn evict(self: &Arc<Self>, user: &User) -> io::Result<bool> {
        self.drop_local(user, |kept| kept != Kept::Haunted)
    }

    /// The same of what an earlier mount has left. `false` also when there is nothing.
    ///
    /// # Errors
    /// As [`Gate::evict`].
    pub fn drop_leftovers(self: &Arc<Self>, user: &User) -> io::Result<bool> {
        Ok(local::is_left(self, user)? && self.drop_local(user, |kept| kept == Kept::Nothing)?)
    }

    fn drop_local(
        self: &Arc<Self>,
        user: &User,
        may_go: impl FnOnce(Kept) -> bool,
    ) -> io::Result<bool> {
        let state = self.user(user);
        {
            let mut inner = state.lock();
            if inner.queue.running || inner.has_holders() || !inner.ghosts.is_empty() {
                return Ok(false);
            }
            inner.queue.running = true;
        }
        let _guard = RunGuard {
            gate: self,
            state: &state,
        };
        state.void(); // before files are looked for: an opener with a verdict must ask again
        let Ok(_taken) = state.take() else {
            return Ok(false);
        };
        {
            let _ghosts_are_marked_under_it = state.lock();
            if !may_go(local::read(self, user)?) {
                return Ok(false);
            }
            local::remove_record(self, user)?;
        }
        local::purge(self, user)?;
        Ok(true)
    }
}
