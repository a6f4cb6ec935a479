//! Records as they were read last: a check that finds the file unchanged need not read it again.

use std::io;
use std::sync::Arc;

use dashmap::DashMap;
use rustix::fs::Stat;

use super::local;
use super::record::Record;
use crate::index::lasthost::{Identity, LASTHOST};
use crate::store::dirs::Dir;
use crate::store::{Node, Store};
use crate::template::User;

/// So many are remembered; then all are forgotten. Three hundred bytes each.
const MOST: usize = 1 << 14;

/// A record that has been read.
#[derive(Debug)]
pub(super) struct Remembered {
    /// The user's directory.
    pub(super) dir: Node,
    /// What the file was then.
    pub(super) identity: Identity,
    /// What it said.
    pub(super) record: Record,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Records(DashMap<User, Arc<Remembered>>);

impl Records {
    /// What was read last of a user.
    pub(super) fn get(&self, user: &User) -> Option<Arc<Remembered>> {
        self.0.get(user).map(|read| Arc::clone(&read))
    }

    /// Remembers what has been read.
    pub(super) fn keep(&self, user: &User, read: Remembered) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(user.clone(), Arc::new(read));
    }
}

impl Remembered {
    /// The user's directory and the file's status, if it is the one that was read.
    ///
    /// # Errors
    /// As `fstatat(2)`.
    pub(super) fn still(&self, store: &Store) -> io::Result<Option<(Arc<Dir>, Stat)>> {
        let dir = match store.dir(self.dir) {
            Ok(dir) => dir,
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => return Ok(None),
            Err(e) => return Err(e),
        };
        let stat = local::look(&*dir, LASTHOST)?;
        let same = stat.filter(|stat| identity(stat) == self.identity);
        Ok(same.map(|stat| (dir, stat)))
    }
}

/// By what a file is told from one that has replaced it.
pub(super) fn identity(stat: &Stat) -> Identity {
    Identity {
        ino: stat.st_ino,
        mtime: stat.st_mtime,
        nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
    }
}
