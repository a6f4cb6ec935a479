//! Giving back: an idle user's list index goes from here to INDEX, for stock Dovecot to use as it is.
//!
//! Two things make it safe. The log is linked to its name, so that a stock backend's is never replaced; and its dotlock names
//! it until .lasthost has been seen to be ours *after* that: who claims earlier makes us take it back, and who claims later
//! sees it. Whoever breaks the dotlock of one that died drops the log.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use log::Level;

use super::fence::put_nobody;
use super::gate::Gate;
use super::look::{logs_in, sources_seen};
use super::moved::owner;
use super::parcel::{Sending, Sent};
use super::pull::MAX_PULL;
use super::record::{Kept, Record};
use super::state::UserState;
use super::steps::Step;
use super::told::Reason;
use super::{local, pull};
use crate::index::Trouble;
use crate::index::dir::IndexDir;
use crate::stats::Cell;
use crate::template::User;

/// What became of a user whose list index was to be given back.
#[derive(Debug)]
pub enum Given {
    /// It is in INDEX, and no longer here: so many bytes.
    Back(u64),
    /// It has gone, so many bytes, and INDEX has none of ours: another host has the user, a stock backend has made one, or what
    /// lay here was of no record.
    Dropped(u64),
    /// The same, as it could not be put there.
    Lost(Trouble),
    /// It could not be put there, and is here still.
    Kept(Trouble),
    /// He is here: a run is under way, files are open, or he has ghosts.
    Busy,
    /// He has no list index here.
    Nothing,
}

impl Gate {
    /// Moves an idle user's list index to INDEX, with the rights of its owner. Waits for NFS.
    pub fn give_back(self: &Arc<Self>, user: &User) -> Given {
        let given = self.while_idle(user, |state| Ok(self.give_back_alone(state)));
        let given = match given {
            Ok(Some(given)) => given.unwrap_or_else(Given::Kept),
            Ok(None) => Given::Busy,
            Err(e) => Given::Kept(Trouble::backing("use his directory")(e)),
        };
        self.gave_back(user, &given);
        given
    }

    /// Counts and tells what became of him.
    fn gave_back(&self, user: &User, given: &Given) {
        match given {
            Given::Back(_) => {
                self.stats.count(Cell::EvictedGivenBack);
                let line = "list index given back to INDEX";
                self.happened(Level::Info, "given back", user, line);
            }
            Given::Dropped(_) => self.evicted(user, Reason::NotGivenBack),
            Given::Lost(e) => {
                self.stats.count(Cell::EvictedGivenBack);
                let line = format!("list index dropped, as it cannot be given back: {e}");
                self.happened(Level::Warn, "lost", user, &line);
            }
            Given::Kept(e) => {
                let line = format!("list index stays, as it cannot be given back: {e}");
                self.happened(Level::Warn, "kept", user, &line);
            }
            Given::Busy | Given::Nothing => {}
        }
    }

    /// What would become of him, by what lies here alone.
    ///
    /// # Errors
    /// When the backing cannot be read.
    pub fn would_give_back(&self, user: &User) -> io::Result<bool> {
        let ours = matches!(local::read(self, user)?, Kept::Record(_));
        Ok(ours && owner(self, user)?.is_some())
    }

    /// As a run, with his directory taken. An error keeps what is here.
    fn give_back_alone(self: &Arc<Self>, state: &UserState) -> Result<Given, Trouble> {
        let (user, backing) = (&state.user, Trouble::backing);
        let Some(dir) = local::dir_of(self, user).map_err(backing("open his directory"))? else {
            return Ok(Given::Nothing);
        };
        let counted = self.count_in(&dir).map_err(backing("count"))?.1;
        let bytes = counted.bytes.managed;
        let kept = local::read(self, user).map_err(backing("read the record"))?;
        let creds = owner(self, user).map_err(backing("find the log's owner"))?;
        let index = match (&kept, &creds) {
            _ if bytes == 0 => return Ok(Given::Nothing),
            (Kept::Haunted, _) => return Ok(Given::Busy),
            (_, None) => None, // no log, or root's, with whose rights nothing is done
            (_, Some(creds)) => {
                let (at, fs) = (self.index_path(state)?, &self.config.index_fs);
                IndexDir::open(&at, creds, &self.mounts, fs)?
            }
        };
        let given = match (&index, &kept) {
            (Some(index), Kept::Record(record)) => {
                self.to_index(state, &dir, index, record, bytes)?
            }
            // Perhaps of a worker that died while it gave it back.
            (Some(index), _) => {
                self.drop_left(state, index)?;
                Given::Dropped(bytes)
            }
            (None, _) => Given::Dropped(bytes),
        };
        // Somebody may have been refused meanwhile: then word of it stays.
        let dropped = self.drop_files(state, |kept| kept != Kept::Haunted);
        let dropped = dropped.map_err(backing("drop what lies here"));
        (self.on_step)(Step::BackPurged);
        match (dropped, given) {
            (Ok(false), Given::Back(_) | Given::Dropped(_)) => Ok(Given::Busy),
            (Ok(_), given) => Ok(given),
            (Err(e), _) => Err(e),
        }
    }

    /// Drops what a worker has left in INDEX that died over it. A stock backend may have changed it since.
    fn drop_left(&self, state: &UserState, index: &IndexDir) -> Result<(), Trouble> {
        let mut unfinished = false;
        for (_, log) in self.config.logs() {
            index.drop_left_dotlock(&log)?;
            unfinished |= index.is_unfinished(&log)?;
        }
        if unfinished {
            put_nobody(self, state, index)?;
            pull::lock_if_any(self, index)?; // who locks it drops it
        }
        Ok(())
    }

    fn to_index(
        &self,
        state: &UserState,
        dir: &OwnedFd,
        index: &IndexDir,
        record: &Record,
        bytes: u64,
    ) -> Result<Given, Trouble> {
        if index.lasthost()? != Some(record.lasthost) {
            return Ok(Given::Dropped(bytes));
        }
        if !logs_in(self, index)?.is_empty() {
            // With `migrate` whatever was changed here since would have fetched it. Without, nobody looked.
            if !self.config.migrate {
                let sources = pull::lock_if_any(self, index)?;
                let there = sources_seen(&sources);
                pull::delete(self, index, &sources, record.lasthost, &there)?;
            }
            return Ok(Given::Dropped(bytes));
        }
        if bytes > MAX_PULL {
            let (path, size, limit) = (OsStr::from_bytes(state.user.dir()).into(), bytes, MAX_PULL);
            return Err(Trouble::TooBig { path, size, limit });
        }
        Ok(match Sending::new(self, state, index, record).send(dir)? {
            Sent::Put => Given::Back(bytes),
            Sent::NotPut => Given::Dropped(bytes),
            Sent::Haunted => Given::Busy,
            Sent::Lost(e) => Given::Lost(e),
        })
    }
}
