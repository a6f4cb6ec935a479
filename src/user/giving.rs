//! Giving back: an idle user's list index goes from here to INDEX, for stock Dovecot to use as it is.
//!
//! Two things make it safe. The log is linked to its name, so that a stock backend's is never replaced; and its dotlock names
//! it until .lasthost has been seen to be ours *after* that: who claims earlier makes us take it back, and who claims later
//! sees it. Whoever breaks the dotlock of one that died drops the log.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use log::Level;
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};

use super::fence::put_nobody;
use super::gate::Gate;
use super::look::{logs_in, sources_seen};
use super::moved::owner;
use super::pull::{MAX_FILES, MAX_PULL};
use super::record::{Kept, Record};
use super::state::UserState;
use super::steps::Step;
use super::told::Reason;
use super::{claim, local, pull};
use crate::index::Trouble;
use crate::index::dir::IndexDir;
use crate::index::lock::{PutLock, is_beside};
use crate::stats::Cell;
use crate::template::User;

/// On NFSv3 a time stamp tells other clients that INDEX has changed. After this long the server's clock has ticked, so that
/// the next change is told from the one that put the log there.
const TICK: Duration = Duration::from_millis(20);

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

/// Whether a list index may be put in its place.
enum Ready<'a> {
    Locked(Vec<PutLock<'a>>),
    /// Somebody was refused meanwhile.
    Haunted,
    /// There is one by now.
    Taken,
}

/// A list index in INDEX on its way to its place.
struct Parcel {
    log: OsString,
    /// Of the log.
    ino: u64,
    /// The names it goes by until then, and those it is to have: the log's first.
    files: Vec<(OsString, OsString)>,
    put: Put,
}

/// Whether a log was put in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    No,
    /// The answer never came.
    Perhaps,
    Yes,
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
        let mut parcels = Vec::new();
        let packed = self.pack(&state.user, dir, index, &mut parcels);
        let locked = packed.and_then(|()| {
            (self.on_step)(Step::BackCopied);
            self.lock_to_put(state, index, &parcels)
        });
        let locks = match locked {
            Ok(Ready::Locked(locks)) => locks,
            other => {
                clear_away(index, &parcels);
                return other.map(|ready| match ready {
                    Ready::Taken => Given::Dropped(bytes),
                    _ => Given::Busy,
                });
            }
        };
        (self.on_step)(Step::BackUnrecorded);
        let put = self.put(state, index, record, &mut parcels);
        let good = matches!(put, Ok(true));
        let undone = match good {
            true => Ok(()),
            false => self.take_back(state, index, &parcels),
        };
        if !good {
            clear_away(index, &parcels);
        }
        // Where it is not known that what we put has gone again, the dotlock stays: then nobody believes it.
        let unlocked = undone.and_then(|()| locks.into_iter().try_for_each(|lock| lock.let_go()));
        (self.on_step)(Step::BackUnlocked);
        Ok(match (put, unlocked) {
            (Err(e), _) | (_, Err(e)) => Given::Lost(e),
            (Ok(true), Ok(())) => Given::Back(bytes),
            (Ok(false), Ok(())) => Given::Dropped(bytes),
        })
    }

    /// A stock backend may have changed what was put there: who has the user by now learns of that, and purges.
    fn take_back(
        &self,
        state: &UserState,
        index: &IndexDir,
        parcels: &[Parcel],
    ) -> Result<(), Trouble> {
        let put = parcels.iter().any(|parcel| parcel.put != Put::No);
        if put && !logs_in(self, index)?.is_empty() {
            put_nobody(self, state, index)?;
        }
        parcels
            .iter()
            .try_for_each(|parcel| parcel.take_back(index))
    }

    /// Copies what lies here to INDEX, under other names.
    fn pack(
        &self,
        user: &User,
        dir: &OwnedFd,
        index: &IndexDir,
        parcels: &mut Vec<Parcel>,
    ) -> Result<(), Trouble> {
        for (_, log) in self.config.logs() {
            let names = names_in(dir, &log).map_err(Trouble::backing("list his directory"))?;
            if names.len() > MAX_FILES + 1 {
                let path = Path::new(OsStr::from_bytes(user.dir())).join(log);
                let (count, limit) = (names.len() - 1, MAX_FILES); // beside the log
                return Err(Trouble::TooMany { path, count, limit });
            }
            for name in names {
                let beside = self.beside(&name);
                let made = self.copy_out(dir, index, &name, &beside)?;
                if name == log {
                    let (log, ino, put) = (log.clone(), made, Put::No);
                    let files = vec![(beside, name)];
                    parcels.push(Parcel {
                        log,
                        ino,
                        files,
                        put,
                    });
                } else if let Some(parcel) = parcels.last_mut() {
                    parcel.files.push((beside, name));
                }
            }
        }
        Ok(())
    }

    /// One name per host, so that what a dying host leaves is found the next time.
    fn beside(&self, name: &OsStr) -> OsString {
        let mut beside = name.to_owned();
        beside.push(format!(".{}.tmp", claim::digest(&self.config.host)));
        beside
    }

    fn copy_out(
        &self,
        dir: &OwnedFd,
        index: &IndexDir,
        name: &OsStr,
        beside: &OsStr,
    ) -> Result<u64, Trouble> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from);
        let backing = |e: rustix::io::Errno| Trouble::backing("open his list index")(e.into());
        let made = match index.make_copy(beside, &mut open().map_err(backing)?) {
            Err(Trouble::Io { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
                index.remove(beside)?;
                index.make_copy(beside, &mut open().map_err(backing)?)
            }
            made => made,
        };
        made.map(|made| made.identity.ino)
    }

    /// Locks the logs' names, and forgets the record: from here on what lies here is not believed.
    fn lock_to_put<'a>(
        &self,
        state: &UserState,
        index: &'a IndexDir,
        parcels: &[Parcel],
    ) -> Result<Ready<'a>, Trouble> {
        let mut locks = Vec::new();
        let mut lock = || {
            for parcel in parcels {
                match index.lock_to_put(&parcel.log, parcel.ino, self.patience())? {
                    Some(lock) => locks.push(lock),
                    None => return Ok(Some(Ready::Taken)),
                }
            }
            (self.on_step)(Step::BackLocked);
            let inner = state.lock(); // under which ghosts are marked
            if !inner.ghosts.is_empty() {
                return Ok(Some(Ready::Haunted));
            }
            let removed = local::remove_record(self, &state.user);
            removed.map_err(Trouble::backing("remove the record"))?;
            Ok(None)
        };
        let not = lock();
        if matches!(not, Ok(None)) {
            return Ok(Ready::Locked(locks));
        }
        locks.into_iter().try_for_each(|lock| lock.let_go())?;
        not.map(|not| not.unwrap_or(Ready::Haunted))
    }

    /// Puts everything in its place, logs first: stock Dovecot would believe an index without its log. `false`: it is not good.
    fn put(
        &self,
        state: &UserState,
        index: &IndexDir,
        record: &Record,
        parcels: &mut [Parcel],
    ) -> Result<bool, Trouble> {
        for parcel in parcels.iter_mut() {
            let Some((beside, log)) = parcel.files.first() else {
                continue;
            };
            parcel.put = Put::Perhaps;
            if !index.link(beside, log)? {
                parcel.put = Put::No;
                return Ok(false); // a stock backend has made one
            }
            parcel.put = Put::Yes;
        }
        (self.on_step)(Step::BackPutLog);
        for (beside, name) in parcels
            .iter()
            .flat_map(|parcel| parcel.files.iter().skip(1))
        {
            index.link(beside, name)?; // or a stock backend has its own by now
        }
        (self.on_step)(Step::BackPut);
        sleep(TICK);
        for (beside, _) in parcels.iter().flat_map(|parcel| &parcel.files) {
            index.remove(beside)?;
        }
        index.ask()?;
        let ours = index.lasthost()? == Some(record.lasthost);
        // Who was refused meanwhile has changed what is not in it.
        let good = ours && state.lock().ghosts.is_empty();
        (self.on_step)(Step::BackRechecked);
        Ok(good)
    }
}

impl Parcel {
    fn take_back(&self, index: &IndexDir) -> Result<(), Trouble> {
        match self.put {
            Put::No => Ok(()),
            Put::Perhaps => index.drop_unfinished(&self.log, self.ino),
            // Whatever it has become since: it was made of ours.
            Put::Yes => index.remove_list(&self.log),
        }
    }
}

/// The files of a list index here that are there for longer than a moment, the log first; nothing where there is no log.
fn names_in(dir: &OwnedFd, log: &OsStr) -> io::Result<Vec<OsString>> {
    let (mut names, mut has_log) = (vec![log.to_owned()], false);
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if name != log && !is_beside(log, name) || !local::look(dir, name)?.is_some_and(is_file) {
            continue;
        }
        match name == log {
            true => has_log = true,
            false => names.push(name.to_owned()),
        }
    }
    names.truncate(if has_log { names.len() } else { 0 });
    Ok(names)
}

fn clear_away(index: &IndexDir, parcels: &[Parcel]) {
    let files = parcels.iter().flat_map(|parcel| &parcel.files);
    files.for_each(|(beside, _)| index.remove_quietly(beside));
}
