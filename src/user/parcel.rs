//! A list index on its way from here to INDEX: copied beside its place, locked, put there, and taken back where that was not good.
//!
//! From the lock on what lies here is not believed, and until .lasthost has been asked again nobody believes what lies there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};

use super::fence::put_nobody;
use super::gate::Gate;
use super::look::logs_in;
use super::pull::MAX_FILES;
use super::record::Record;
use super::state::UserState;
use super::steps::Step;
use super::{claim, local};
use crate::index::Trouble;
use crate::index::dir::IndexDir;
use crate::index::lock::{PutLock, is_beside};

/// On NFSv3 a time stamp tells other clients that INDEX has changed. After this long the server's clock has ticked, so that
/// the next change is told from the one that put the log there.
const TICK: Duration = Duration::from_millis(20);

/// What became of it, where nothing here was believed less for it, or it cannot be helped.
pub enum Sent {
    /// It is in its place.
    Put,
    /// It is not: a stock backend has made one, or another host has the user, or somebody was refused meanwhile.
    NotPut,
    /// Somebody was refused before it was put there.
    Haunted,
    /// It is not, or that is not known, and what lies here is not believed any more.
    Lost(Trouble),
}

/// Whether it may be put in its place.
enum Ready<'a> {
    Locked(Vec<PutLock<'a>>),
    /// Somebody was refused meanwhile.
    Haunted,
    /// There is one by now.
    Taken,
}

/// All of it, of one user.
pub struct Sending<'a> {
    gate: &'a Gate,
    state: &'a UserState,
    index: &'a IndexDir,
    record: &'a Record,
    parcels: Vec<Parcel>,
}

/// One log, and what goes with it.
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

impl<'a> Sending<'a> {
    /// Of a user whose `record` names the .lasthost that is in INDEX.
    pub fn new(
        gate: &'a Gate,
        state: &'a UserState,
        index: &'a IndexDir,
        record: &'a Record,
    ) -> Self {
        let parcels = Vec::new();
        Sending {
            gate,
            state,
            index,
            record,
            parcels,
        }
    }

    /// Sends what lies in `dir`.
    ///
    /// # Errors
    /// [`Trouble`] before anything was put there: what lies here is as it was.
    pub fn send(mut self, dir: &OwnedFd) -> Result<Sent, Trouble> {
        let step = &self.gate.on_step;
        let locked = self.pack(dir).and_then(|()| {
            step(Step::BackCopied);
            self.lock()
        });
        let locks = match locked {
            Ok(Ready::Locked(locks)) => locks,
            other => {
                self.clear_away();
                return other.map(|ready| match ready {
                    Ready::Taken => Sent::NotPut,
                    Ready::Haunted | Ready::Locked(_) => Sent::Haunted,
                });
            }
        };
        step(Step::BackUnrecorded);
        let put = self.put();
        let undone = match put {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => {
                let undone = self.take_back();
                self.clear_away();
                undone
            }
        };
        // Where it is not known that what we put has gone again, the dotlock stays: then nobody believes it.
        let unlocked = undone.and_then(|()| locks.into_iter().try_for_each(|lock| lock.let_go()));
        step(Step::BackUnlocked);
        Ok(match (put, unlocked) {
            (Err(e), _) | (_, Err(e)) => Sent::Lost(e),
            (Ok(true), Ok(())) => Sent::Put,
            (Ok(false), Ok(())) => Sent::NotPut,
        })
    }

    /// Copies what lies here to INDEX, under other names.
    fn pack(&mut self, dir: &OwnedFd) -> Result<(), Trouble> {
        for (_, log) in self.gate.config.logs() {
            let names = names_in(dir, &log).map_err(Trouble::backing("list his directory"))?;
            if names.len() > MAX_FILES + 1 {
                let path = Path::new(OsStr::from_bytes(self.state.user.dir())).join(log);
                let (count, limit) = (names.len() - 1, MAX_FILES); // beside the log
                return Err(Trouble::TooMany { path, count, limit });
            }
            for name in names {
                let beside = self.beside(&name);
                let ino = self.copy_out(dir, &name, &beside)?;
                if name == log {
                    self.parcels.push(Parcel {
                        log: log.clone(),
                        ino,
                        files: vec![(beside, name)],
                        put: Put::No,
                    });
                } else if let Some(parcel) = self.parcels.last_mut() {
                    parcel.files.push((beside, name));
                }
            }
        }
        Ok(())
    }

    /// One name per host, so that what a dying host leaves is found the next time.
    fn beside(&self, name: &OsStr) -> OsString {
        let mut beside = name.to_owned();
        beside.push(format!(".{}.tmp", claim::digest(&self.gate.config.host)));
        beside
    }

    fn copy_out(&self, dir: &OwnedFd, name: &OsStr, beside: &OsStr) -> Result<u64, Trouble> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from);
        let backing = |e: rustix::io::Errno| Trouble::backing("open his list index")(e.into());
        let made = match self.index.make_copy(beside, &mut open().map_err(backing)?) {
            Err(Trouble::Io { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
                self.index.remove(beside)?;
                self.index.make_copy(beside, &mut open().map_err(backing)?)
            }
            made => made,
        };
        made.map(|made| made.identity.ino)
    }

    /// Locks the logs' names, and forgets the record: from here on what lies here is not believed.
    fn lock(&self) -> Result<Ready<'a>, Trouble> {
        let mut locks = Vec::new();
        let mut lock = || {
            for Parcel { log, ino, .. } in &self.parcels {
                match self.index.lock_to_put(log, *ino, self.gate.patience())? {
                    Some(lock) => locks.push(lock),
                    None => return Ok(Some(Ready::Taken)),
                }
            }
            (self.gate.on_step)(Step::BackLocked);
            let inner = self.state.lock(); // under which ghosts are marked
            if !inner.ghosts.is_empty() {
                return Ok(Some(Ready::Haunted));
            }
            let removed = local::remove_record(self.gate, &self.state.user);
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
    fn put(&mut self) -> Result<bool, Trouble> {
        let (index, step) = (self.index, &self.gate.on_step);
        for parcel in &mut self.parcels {
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
        step(Step::BackPutLog);
        let others = self
            .parcels
            .iter()
            .flat_map(|parcel| parcel.files.iter().skip(1));
        for (beside, name) in others {
            index.link(beside, name)?; // or a stock backend has its own by now
        }
        step(Step::BackPut);
        sleep(TICK);
        for (beside, _) in self.files() {
            index.remove(beside)?;
        }
        index.ask()?;
        let ours = index.lasthost()? == Some(self.record.lasthost);
        // Who was refused meanwhile has changed what is not in it.
        let good = ours && self.state.lock().ghosts.is_empty();
        step(Step::BackRechecked);
        Ok(good)
    }

    /// A stock backend may have changed what was put there: who has the user by now learns of that, and purges.
    fn take_back(&self) -> Result<(), Trouble> {
        let put = self.parcels.iter().any(|parcel| parcel.put != Put::No);
        if put && !logs_in(self.gate, self.index)?.is_empty() {
            put_nobody(self.gate, self.state, self.index)?;
        }
        for Parcel { log, ino, put, .. } in &self.parcels {
            match put {
                Put::No => {}
                Put::Perhaps => self.index.drop_unfinished(log, *ino)?,
                // Whatever it has become since: it was made of ours.
                Put::Yes => self.index.remove_list(log)?,
            }
        }
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = &(OsString, OsString)> {
        self.parcels.iter().flat_map(|parcel| &parcel.files)
    }

    fn clear_away(&self) {
        self.files()
            .for_each(|(beside, _)| self.index.remove_quietly(beside));
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
