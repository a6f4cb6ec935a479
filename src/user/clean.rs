//! Cleaning: one user's local list index goes if he has not been here for long, and it is told what became of him.
//!
//! When he was last here is looked at again as a run of his gate, where nobody can come meanwhile.

use std::io;
use std::sync::Arc;

use super::gate::Gate;
use super::local;
use super::process::Process;
use super::record::Kept;
use super::state::Inner;
use super::told::Reason;
use crate::store::usage::Stamp;
use crate::template::User;

/// What became of a user who was to be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// His list index and record have gone, or would go: so many bytes.
    Dropped(u64),
    /// He has files open or ghosts.
    Busy,
    /// A run of his gate is under way, which may take milliseconds or as long as NFS does.
    Running,
    /// He was here since: then.
    Recent(Stamp),
    /// He has no list index here.
    Nothing,
    /// He has no directory here.
    Absent,
}

/// The processes for whose sake somebody may not go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keepers {
    /// Those that have files of his open.
    pub open: Vec<Process>,
    /// Those that were refused, or whose files had to go.
    pub lingering: Vec<Process>,
}

impl Keepers {
    /// Whether there are none.
    pub fn is_nobody(&self) -> bool {
        self.open.is_empty() && self.lingering.is_empty()
    }
}

impl Gate {
    /// For whose sake a user may not go.
    pub fn who_keeps(&self, user: &User) -> Keepers {
        let Some(state) = self.users.known(user) else {
            return Keepers::default();
        };
        let inner = state.lock();
        let mut open: Vec<_> = inner.holders.values().map(|of| of.process).collect();
        let mut lingering: Vec<_> = inner.ghosts.iter().map(|of| of.process).collect();
        open.sort_unstable_by_key(|of| of.pid);
        lingering.sort_unstable_by_key(|of| (of.pid, of.birth));
        lingering.dedup();
        Keepers { open, lingering }
    }

    /// Whether there is word of ghosts that other hosts are to be told of, those of an earlier mount among them.
    ///
    /// # Errors
    /// When his directory cannot be read.
    pub fn is_haunted(&self, user: &User) -> io::Result<bool> {
        Ok(local::read(self, user)? == Kept::Haunted)
    }

    /// Drops an idle user's local files if he was not here after `before`; or tells only what would become of him.
    /// Never waits.
    ///
    /// # Errors
    /// When the backing cannot be read or changed.
    pub fn clean(
        self: &Arc<Self>,
        user: &User,
        before: Stamp,
        why: Reason,
        dry_run: bool,
    ) -> io::Result<Cleaned> {
        // Before his gate is troubled, so that nobody who stays has to ask it again.
        let verdict = self.verdict_on(user, before)?;
        if !matches!(verdict, Cleaned::Dropped(_)) {
            return Ok(verdict);
        }
        if let Some(keeps) = self.what_keeps(user)? {
            return Ok(keeps);
        }
        if dry_run {
            return Ok(verdict);
        }
        let cleaned = self.while_idle(user, |state| match self.verdict_on(user, before)? {
            Cleaned::Dropped(bytes) => {
                let dropped = self.drop_files(state, |kept| kept != Kept::Haunted)?;
                Ok(if dropped {
                    self.evicted(user, why);
                    Cleaned::Dropped(bytes)
                } else {
                    Cleaned::Busy
                })
            }
            stays => Ok(stays),
        })?;
        Ok(cleaned.unwrap_or(Cleaned::Running))
    }

    /// By what lies here alone: [`Cleaned::Dropped`] if he may go.
    fn verdict_on(&self, user: &User, before: Stamp) -> io::Result<Cleaned> {
        let Some(dir) = local::dir_of(self, user)? else {
            return Ok(Cleaned::Absent);
        };
        let (node, counted) = self.count_in(&dir)?;
        let known = self.store.usage().get(node);
        let last = known.map_or(counted.last, |known| known.last);
        Ok(match counted.bytes.managed {
            _ if last > before => Cleaned::Recent(last),
            0 => Cleaned::Nothing,
            bytes => Cleaned::Dropped(bytes),
        })
    }

    /// What keeps him here now, if anything does.
    fn what_keeps(&self, user: &User) -> io::Result<Option<Cleaned>> {
        let by_gate = |inner: &Inner| match inner.queue.running {
            _ if inner.has_holders() || !inner.ghosts.is_empty() => Some(Cleaned::Busy),
            true => Some(Cleaned::Running),
            false => None,
        };
        let state = self.user(user);
        if let Some(cleaned) = by_gate(&state.lock()) {
            return Ok(Some(cleaned));
        }
        Ok(self.is_haunted(user)?.then_some(Cleaned::Busy))
    }
}
