//! Whether an idle user has gone to another host. Nobody asks for it, so it is done with the rights of his files' owner, writes
//! nothing to NFS, and drops what lies here only where INDEX is seen and its .lasthost is not the record's any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::gate::Gate;
use super::local;
use super::record::{Kept, Record};
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::index::dir::{IndexDir, IndexPath};
use crate::template::User;

/// A name on the way to INDEX costs so many RPCs where the NFS client remembers nothing, or what it remembers is too old and has
/// changed: LOOKUP, or GETATTR of what it names, and ACCESS.
const RPCS_A_NAME: usize = 2;
/// A GETATTR of the mount's root where that is too old, and those that are always asked for: of INDEX and .lasthost.
const RPCS_BESIDES: usize = 3;

/// An idle user with a record that is to be compared with INDEX/.lasthost.
#[derive(Debug)]
pub struct Suspect {
    user: User,
    record: Record,
    /// The owner of his list index, without any groups: more is not known where nobody asks.
    creds: Creds,
    at: Arc<IndexPath>,
    mount: PathBuf,
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The user is this host's still.
    Ours,
    /// He is another's, and what lay here of him is gone.
    Dropped,
    /// He is another's, but has come back meanwhile.
    Busy,
    /// There is no INDEX: that tells nothing.
    NoIndex,
}

impl Suspect {
    /// The mount point of the NFS that holds INDEX.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The most RPCs that the comparison costs.
    pub fn cost(&self) -> u32 {
        let path = self.at.path();
        let below = path.strip_prefix(&self.mount).unwrap_or(&path);
        let names = below.components().count() + 1; // .lasthost
        u32::try_from(RPCS_A_NAME * names + RPCS_BESIDES).unwrap_or(u32::MAX)
    }
}

impl Gate {
    /// What is to be compared of a user; `None` when he is in use, has ghosts or no record, when his list index is root's or
    /// missing, or when the server that holds INDEX is silent.
    ///
    /// # Errors
    /// When the backing cannot be read, or his name gives no INDEX.
    pub fn suspect(&self, user: &User) -> io::Result<Option<Suspect>> {
        let known = self.users.known(user);
        if known.is_some_and(|state| state.lock().is_in_use()) {
            return Ok(None);
        }
        let (Kept::Record(record), Some(creds)) = (local::read(self, user)?, owner(self, user)?)
        else {
            return Ok(None);
        };
        let at = self.find_index(user).map_err(io::Error::other)?;
        let mount = self.mounts.point_above(&at.path())?;
        let suspect = Suspect {
            user: user.clone(),
            record,
            creds,
            at,
            mount,
        };
        Ok((!self.pools.is_silent(&suspect.mount)).then_some(suspect))
    }

    /// Compares on a thread for NFS work, and drops `done` then.
    pub fn compare_in_pool(self: &Arc<Self>, suspect: Suspect, done: impl Send + 'static) {
        let gate = Arc::clone(self);
        self.pools.of(suspect.mount.clone()).run(move || {
            let _done = done;
            match gate.compare(&suspect) {
                Ok(compared) => log::debug!("{}: compared: {compared:?}", suspect.user),
                // Whoever logs in is told, and the operator then.
                Err(e) => log::debug!("{}: not compared: {e}", suspect.user),
            }
        });
    }

    /// Compares the record with INDEX/.lasthost. Where another host has claimed the user what lies here is dropped, unless the
    /// record has changed meanwhile or he is in use. Waits for NFS.
    ///
    /// # Errors
    /// When INDEX cannot be seen, as [`IndexDir::open`], or the backing not be changed.
    pub fn compare(self: &Arc<Self>, suspect: &Suspect) -> Result<Compared, Trouble> {
        let seen = {
            let creds = &suspect.creds;
            let _as = (creds.act()).map_err(Trouble::backing("take the owner's rights"))?;
            let index = IndexDir::open(&suspect.at, creds, &self.mounts, &self.config.index_fs)?;
            let Some(index) = index else {
                return Ok(Compared::NoIndex);
            };
            index.lasthost()?
        };
        if seen == Some(suspect.record.lasthost) {
            return Ok(Compared::Ours);
        }
        let dropped = self.evict_moved(&suspect.user, &suspect.record);
        match dropped.map_err(Trouble::backing("drop what another host has"))? {
            true => Ok(Compared::Dropped),
            false => Ok(Compared::Busy),
        }
    }
}

/// The owner of the user's list index. Root's files are no mail process's, and with root's rights nothing is done on NFS.
pub(super) fn owner(gate: &Gate, user: &User) -> io::Result<Option<Creds>> {
    let Some(dir) = local::dir_of(gate, user)? else {
        return Ok(None);
    };
    for (_, log) in gate.config.logs() {
        let Some(stat) = local::look(&dir, &log)? else {
            continue;
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && stat.st_uid != 0 {
            return Ok(Some(Creds {
                uid: stat.st_uid,
                gid: stat.st_gid,
                groups: Vec::new(),
            }));
        }
    }
    Ok(None)
}
