//! Names that are there for moments only: locks, and files on their way to their place. One that a process leaves which dies
//! holds up others for minutes. Where there are any is known from counting, so nothing is searched.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::gate::Gate;
use super::local;
use super::state::UserState;
use crate::index::dir::{is_managed, is_passing};
use crate::index::lock::{MAX_DOTLOCK, is_dead};
use crate::store::Node;
use crate::store::usage::Stamp;
use crate::template::User;

/// Dovecot itself gives up on a lock that nobody has touched for three minutes; who is about to, comes first.
const OLD: Duration = Duration::from_secs(600);
/// Where L is missing Dovecot has `L.newlock` open from its making to its renaming. Others may be slower.
const OLD_NEWLOCK: Duration = Duration::from_secs(5);
/// One that may not go yet is looked at again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// So many directories are remembered; others are found when they are counted again.
const MOST: usize = 4096;
const NEWLOCK: &[u8] = b".newlock";

/// User directories in which such names lie, and when to look at them.
#[derive(Debug, Default)]
pub(super) struct Passing(Mutex<BTreeSet<(Stamp, Node)>>);

impl Passing {
    /// Has a directory looked at then.
    fn look_at(&self, dir: Node, when: Stamp) {
        let mut all = self.0.lock();
        all.insert((when, dir));
        if all.len() > MOST {
            all.pop_last();
        }
    }

    /// Those that are due.
    fn due(&self, now: Stamp) -> BTreeSet<Node> {
        let mut all = self.0.lock();
        let later = all.split_off(&(now.after(Duration::from_millis(1)), Node(0)));
        let due = std::mem::replace(&mut *all, later);
        due.into_iter().map(|(_, dir)| dir).collect()
    }
}

impl Gate {
    /// In a user's directory lie such names, the oldest since then.
    pub(super) fn found_passing(&self, dir: Node, since: Stamp) {
        let soon = Stamp::now().after(AGAIN);
        self.passing.look_at(dir, since.after(OLD).max(soon));
    }

    /// Removes what has been left, in those directories that are due. Gives how many files went.
    pub fn drop_passing(self: &Arc<Self>, now: Stamp) -> u64 {
        let mut gone = 0;
        for dir in self.passing.due(now) {
            match self.drop_passing_in(dir, now) {
                Ok(Some(files)) => gone += files,
                Ok(None) => self.passing.look_at(dir, now.after(AGAIN)),
                Err(e) => log::warn!("cannot remove locks that were left: {e}"),
            }
        }
        gone
    }

    /// `None` when the user is not idle.
    fn drop_passing_in(self: &Arc<Self>, dir: Node, now: Stamp) -> io::Result<Option<u64>> {
        let Some(user) = self.user_in(dir)? else {
            return Ok(Some(0));
        };
        let state = self.user(&user);
        let gone = self.alone(&state, |_| self.drop_left_in(&user, now))?;
        if gone.is_some() {
            self.recount(&state)?; // and has it looked at again if there are others
        }
        Ok(gone)
    }

    fn drop_left_in(&self, user: &User, now: Stamp) -> io::Result<u64> {
        let Some(dir) = local::dir_of(self, user)? else {
            return Ok(0);
        };
        let mut gone = 0;
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let text = OsStr::from_bytes(name.to_bytes());
            if !is_managed(&self.config.prefixes, text) || !is_passing(text) {
                continue;
            }
            let Some(stat) = local::look(&dir, name)? else {
                continue;
            };
            if self.is_left(&dir, name, &stat, now)? {
                local::remove(self, &dir, name)?;
                log::info!(
                    "{user}: removed {}, left by a process that died",
                    text.to_string_lossy()
                );
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Whether a name that nobody has open has been left.
    fn is_left(&self, dir: &OwnedFd, name: &CStr, stat: &Stat, now: Stamp) -> io::Result<bool> {
        let since = changed(stat);
        let bytes = name.to_bytes();
        if let Some(log) = bytes.strip_suffix(NEWLOCK) {
            let is_log = self.config.logs().any(|(_, l)| l.as_bytes() == log);
            if is_log && since <= now.before(OLD_NEWLOCK) {
                let found = rustix::fs::statat(dir, log, AtFlags::SYMLINK_NOFOLLOW);
                return Ok(found.is_err_and(|e| e == Errno::NOENT) || since <= now.before(OLD));
            }
        }
        let old = since <= now.before(OLD);
        // Its owner may be at work without having it open.
        Ok(old && (!bytes.ends_with(b".lock") || has_no_owner(dir, name)?))
    }

    /// Somebody who may have the list index finds none: a `L.newlock` that a process has left would hold him up for three
    /// minutes.
    ///
    /// # Errors
    /// When the backing cannot be read or changed.
    pub fn drop_left_newlock(
        self: &Arc<Self>,
        state: &Arc<UserState>,
        dir: impl AsFd,
        log: &OsStr,
    ) -> io::Result<()> {
        let mut name = OsString::from(log);
        name.push(OsStr::from_bytes(NEWLOCK));
        let Some(stat) = local::look(&dir, &name)? else {
            return Ok(());
        };
        let (now, node) = (Stamp::now(), self.store.node_of(&dir)?);
        let old = changed(&stat).after(OLD_NEWLOCK);
        let dropped = match old <= now {
            true => self.alone(state, |_| self.drop_left_in(&state.user, now))?,
            false => None,
        };
        if dropped.is_none() {
            self.passing.look_at(node, old.max(now));
        }
        Ok(())
    }
}

/// When a file was last changed: its inode too, as anybody can set its modification time.
pub(super) fn changed(stat: &Stat) -> Stamp {
    let written = Stamp::of(stat.st_mtime, stat.st_mtime_nsec as i64);
    written.max(Stamp::of(stat.st_ctime, stat.st_ctime_nsec as i64))
}

/// Whether a dotlock's owner is known to be dead, or has never been named.
fn has_no_owner(dir: &OwnedFd, name: &CStr) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let mut text = Vec::new();
    file.take(MAX_DOTLOCK).read_to_end(&mut text)?;
    Ok(text.is_empty() || std::str::from_utf8(&text).is_ok_and(is_dead))
}
