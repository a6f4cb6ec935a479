//! The lock on INDEX/L that stock Dovecot takes, so that nobody writes while we copy and delete.
//!
//! The configured method first, then a dotlock in every case: backends may be configured differently. A log that we put
//! there is believed by none of us before its dotlock is gone, which names it: who breaks that drops the log first.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

use super::Trouble;
use super::dir::{IndexDir, IndexFile, is_passing};
use super::lasthost::Identity;
use crate::options::LockMethod;
use crate::sys::lock::{try_fcntl, try_flock};

/// The longest dotlock that is read, bytes: a pid and a host's name.
pub const MAX_DOTLOCK: u64 = 1024;
/// How long we wait between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// A dotlock older than this was left by a process that died: Dovecot itself gives up on it after 5 minutes.
const STALE_DOTLOCK: Duration = Duration::from_secs(600);
/// In the dotlock of a log that is being put there, before its inode number. Behind a NUL, where Dovecot stops reading.
const PUTS: &str = "\0puts ";
/// Who makes a dotlock names himself in it at once: one that stays empty for so long was left by a process that died between.
const EMPTY_DOTLOCK: Duration = Duration::from_secs(2);

/// INDEX/L, open and locked until dropped.
#[derive(Debug)]
pub struct LockedLog<'a> {
    /// The log.
    pub log: IndexFile,
    _dotlock: Dotlock<'a>,
}

#[derive(Debug)]
struct Dotlock<'a> {
    dir: &'a IndexDir,
    name: OsString,
}

/// The name of INDEX/L, locked until it is let go of: the dotlock stays when this is dropped, for whoever breaks it to know
/// that what it names is not to be believed.
#[must_use]
#[derive(Debug)]
pub struct PutLock<'a> {
    dir: &'a IndexDir,
    name: OsString,
}

impl PutLock<'_> {
    /// What lies there is good, or gone.
    ///
    /// # Errors
    /// [`Trouble::Io`]; then it is not believed.
    pub fn let_go(self) -> Result<(), Trouble> {
        self.dir.remove(&self.name)
    }
}

impl Drop for Dotlock<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.dir.remove(&self.name) {
            log::warn!("{e}; stock Dovecot overrides the left dotlock after some minutes");
        }
    }
}

/// A dotlock that was found empty: its inode number, and when that was first seen. Our clock, as the server's may be another.
type Empty = Option<(u64, Instant)>;

impl IndexDir {
    /// Opens and locks INDEX/`log`; `None` when there is none.
    ///
    /// # Errors
    /// [`Trouble::Locked`] when others held it for all of `patience`, else as [`IndexDir::open_file`].
    pub fn lock_log(
        &self,
        log: &OsStr,
        method: LockMethod,
        patience: Duration,
    ) -> Result<Option<LockedLog<'_>>, Trouble> {
        let flags = OFlags::RDWR;
        let until = Instant::now() + patience;
        let mut empty = Empty::default();
        loop {
            // Judged before it is tried: whatever holds us up, it is tried once more than was waited.
            let last = Instant::now() >= until;
            let Some(opened) = self.open_file(log, flags)? else {
                return Ok(None);
            };
            let locked = self.try_lock(&opened.file, log, method, &mut empty)?;
            if let Some(dotlock) = locked {
                // The name may have come to mean another file while we waited: what is locked must be what is there.
                match self.open_file(log, flags)? {
                    None => return Ok(None),
                    // Written to while we waited, so its identity is taken now.
                    Some(now) if now.identity.ino == opened.identity.ino => {
                        let log = IndexFile {
                            file: opened.file,
                            ..now
                        };
                        return Ok(Some(LockedLog {
                            log,
                            _dotlock: dotlock,
                        }));
                    }
                    Some(_replaced) => {}
                }
            }
            if last {
                return Err(Trouble::Locked {
                    path: self.path_of(log),
                    waited: patience,
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn try_lock(
        &self,
        file: &File,
        log: &OsStr,
        method: LockMethod,
        empty: &mut Empty,
    ) -> Result<Option<Dotlock<'_>>, Trouble> {
        let locked = match method {
            LockMethod::Fcntl => try_fcntl(file.as_fd()),
            LockMethod::Flock => try_flock(file.as_fd()),
            LockMethod::Dotlock => Ok(true),
        };
        let locked = locked.map_err(|source| Trouble::Io {
            what: "lock",
            path: self.path_of(log),
            source,
        })?;
        if locked {
            self.try_dotlock(log, empty)
        } else {
            Ok(None)
        }
    }

    fn try_dotlock(&self, log: &OsStr, empty: &mut Empty) -> Result<Option<Dotlock<'_>>, Trouble> {
        let name = dotlock_of(log);
        let made = self.make_dotlock(log, &owner())?;
        if !made {
            self.drop_stale_dotlock(log, empty)?;
        }
        Ok(made.then(|| Dotlock { dir: self, name })) // a dotlock that is dropped is removed
    }

    /// `false`: there is one.
    fn make_dotlock(&self, log: &OsStr, text: &str) -> Result<bool, Trouble> {
        match self.make(&dotlock_of(log), text.as_bytes(), None) {
            Ok(_made) => Ok(true),
            Err(Trouble::Io { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Locks the name INDEX/`log`, where there is none, for a file of this inode number that is to be put there. `None`: there
    /// is one, which has a dotlock.
    ///
    /// # Errors
    /// As [`IndexDir::lock_log`].
    pub fn lock_to_put(
        &self,
        log: &OsStr,
        ino: u64,
        patience: Duration,
    ) -> Result<Option<PutLock<'_>>, Trouble> {
        let until = Instant::now() + patience;
        let (text, mut empty) = (format!("{}{PUTS}{ino}", owner()), Empty::default());
        loop {
            let last = Instant::now() >= until;
            if self.make_dotlock(log, &text)? {
                let name = dotlock_of(log);
                return Ok(Some(PutLock { dir: self, name }));
            }
            if self.look(log)?.is_some() {
                return Ok(None);
            }
            self.drop_stale_dotlock(log, &mut empty)?;
            if last {
                return Err(Trouble::Locked {
                    path: self.path_of(log),
                    waited: patience,
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Removes the dotlock of INDEX/`log` that a worker has left which died in a run like this one, of this mount: it is
    /// known by its process, or by having been given none yet. One that names what lies there stays, for who locks that once
    /// he has claimed.
    ///
    /// # Errors
    /// As [`IndexDir::open_file`].
    pub fn drop_left_dotlock(&self, log: &OsStr) -> Result<(), Trouble> {
        let Some((_, text)) = self.read_dotlock(log)? else {
            return Ok(());
        };
        if self.is_put(log, &text)? {
            return Ok(());
        }
        let mut empty = Empty::default();
        self.drop_stale_dotlock(log, &mut empty)?;
        if empty.is_some() {
            // It may as well be a stock backend's, which is about to sign it.
            std::thread::sleep(EMPTY_DOTLOCK);
            self.drop_stale_dotlock(log, &mut empty)?;
        }
        Ok(())
    }

    /// Removes a dotlock whose owner is known to be dead, that nobody has touched for long, or that stays empty.
    fn drop_stale_dotlock(&self, log: &OsStr, empty: &mut Empty) -> Result<(), Trouble> {
        let name = &*dotlock_of(log);
        let Some((held, text)) = self.read_dotlock(log)? else {
            return Ok(());
        };
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(held.mtime.max(0) as u64);
        let old = since.elapsed().is_ok_and(|age| age > STALE_DOTLOCK);
        let ino = held.ino;
        *empty = empty
            .filter(|(of, _)| *of == ino)
            .or(Some((ino, Instant::now())))
            .filter(|_| text.is_empty());
        let nobodys = empty.is_some_and(|(_, since)| since.elapsed() >= EMPTY_DOTLOCK);
        if old || nobodys || is_dead(&text) {
            log::warn!(
                "removing {}: its owner ({text:?}) is dead, has not touched it for {STALE_DOTLOCK:?}, or has not \
                 said in it who he is",
                self.path_of(name).display()
            );
            if let Some(ino) = puts(&text) {
                self.drop_unfinished(log, ino)?;
            }
            self.remove(name)?;
        }
        Ok(())
    }

    /// Whether INDEX/`log` is being put there, or was by one that has died.
    ///
    /// # Errors
    /// As [`IndexDir::open_file`].
    pub fn is_unfinished(&self, log: &OsStr) -> Result<bool, Trouble> {
        match self.read_dotlock(log)? {
            Some((_, text)) => self.is_put(log, &text),
            None => Ok(false),
        }
    }

    /// Whether this dotlock's text names what lies there.
    fn is_put(&self, log: &OsStr, text: &str) -> Result<bool, Trouble> {
        let named = puts(text);
        Ok(named.is_some() && named == self.look(log)?.map(|now| now.ino))
    }

    /// What a dotlock is and says; what is no text is nobody's whom we could know.
    fn read_dotlock(&self, log: &OsStr) -> Result<Option<(Identity, String)>, Trouble> {
        let Some(mut held) = self.open_file(&dotlock_of(log), OFlags::RDONLY)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = Read::by_ref(&mut held.file)
            .take(MAX_DOTLOCK)
            .read_to_end(&mut bytes);
        let text = match (read, String::from_utf8(bytes)) {
            (Ok(_), Ok(text)) => text,
            _ => "?".to_owned(),
        };
        Ok(Some((held.identity, text)))
    }

    /// Removes the list index of a log of this inode number, which was put there by who could not say any more whether it
    /// is good.
    ///
    /// # Errors
    /// As [`IndexDir::look`].
    pub fn drop_unfinished(&self, log: &OsStr, ino: u64) -> Result<(), Trouble> {
        match self.look(log)? {
            Some(now) if now.ino == ino => self.remove_list(log),
            _ => Ok(()),
        }
    }

    /// Removes the files of a list index, its log last.
    ///
    /// # Errors
    /// [`Trouble::Io`].
    pub fn remove_list(&self, log: &OsStr) -> Result<(), Trouble> {
        let others = self.names_beside(log)?;
        others.iter().try_for_each(|name| self.remove(name))?;
        self.remove(log)
    }

    /// The other files of the list index whose log this is, but for those that are there for a moment.
    ///
    /// # Errors
    /// [`Trouble::Io`].
    pub fn names_beside(&self, log: &OsStr) -> Result<Vec<OsString>, Trouble> {
        self.names(|name| is_beside(log, name))
    }
}

/// Whether a file belongs to the list index of this log, is not the log, and is not there for a moment only.
pub fn is_beside(log: &OsStr, name: &OsStr) -> bool {
    let prefix = log.as_bytes().strip_suffix(b".log");
    let managed = prefix.is_some_and(|prefix| name.as_bytes().starts_with(prefix));
    managed && name != log && !is_passing(name)
}

/// What a dotlock says of its owner, as Dovecot writes it.
fn owner() -> String {
    format!("{}:{}", std::process::id(), nodename())
}

/// The inode number of the log that the owner of a dotlock is putting there.
fn puts(owner: &str) -> Option<u64> {
    owner.split_once(PUTS)?.1.parse().ok()
}

fn dotlock_of(log: &OsStr) -> OsString {
    let mut name = log.to_owned();
    name.push(".lock");
    name
}

fn nodename() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Whether a dotlock's `pid:host`, as Dovecot and we write it, names a process of this host that is no more.
pub fn is_dead(owner: &str) -> bool {
    let owner = owner.split('\0').next().unwrap_or_default();
    let Some((pid, host)) = owner.trim_end().split_once(':') else {
        return false;
    };
    let pid: Option<i32> = pid.parse().ok().filter(|pid| *pid > 0);
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    host == nodename() && pid.is_some_and(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_this_host_can_be_known_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(is_dead(&format!("{pid}:{}", nodename())));
        assert!(!is_dead(&format!("{pid}:another-{}", nodename())));
        assert!(!is_dead(&format!("{}:{}", std::process::id(), nodename())));
        assert!(is_dead(&format!("{pid}:{}{PUTS}7", nodename())));
        assert_eq!((puts(&format!("1:a{PUTS}7")), puts("1:a")), (Some(7), None));
        assert!(!is_dead("") && !is_dead("garbage") && !is_dead(":") && !is_dead("-5:x"));
    }
}
