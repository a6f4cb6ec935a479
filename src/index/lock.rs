//! The lock on INDEX/L that stock Dovecot takes, so that nobody writes while we copy and delete.
//!
//! The configured method first, then a dotlock in every case: backends may be configured differently.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

use super::Trouble;
use super::dir::{IndexDir, IndexFile};
use crate::options::LockMethod;
use crate::sys::lock::{try_fcntl, try_flock};

/// The longest dotlock that is read, bytes: a pid and a host's name.
pub const MAX_DOTLOCK: u64 = 1024;
/// How long we wait between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// A dotlock older than this was left by a process that died: Dovecot itself gives up on it after 5 minutes.
const STALE_DOTLOCK: Duration = Duration::from_secs(600);
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
            if Instant::now() >= until {
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
        let text = format!("{}:{}", std::process::id(), nodename());
        match self.make(&name, text.as_bytes(), None) {
            Ok(_made) => Ok(Some(Dotlock { dir: self, name })),
            Err(Trouble::Io { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
                self.drop_stale_dotlock(&name, empty)?;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Removes the dotlock of INDEX/`log` that a worker has left which died in a run like this one, of this mount: it is
    /// known by its process, or by having been given none yet.
    ///
    /// # Errors
    /// As [`IndexDir::open_file`].
    pub fn drop_left_dotlock(&self, log: &OsStr) -> Result<(), Trouble> {
        let (name, mut empty) = (dotlock_of(log), Empty::default());
        self.drop_stale_dotlock(&name, &mut empty)?;
        if empty.is_some() {
            // It may as well be a stock backend's, which is about to sign it.
            std::thread::sleep(EMPTY_DOTLOCK);
            self.drop_stale_dotlock(&name, &mut empty)?;
        }
        Ok(())
    }

    /// Removes a dotlock whose owner is known to be dead, that nobody has touched for long, or that stays empty.
    fn drop_stale_dotlock(&self, name: &OsStr, empty: &mut Empty) -> Result<(), Trouble> {
        let Some(mut held) = self.open_file(name, OFlags::RDONLY)? else {
            return Ok(());
        };
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(held.identity.mtime.max(0) as u64);
        let old = since.elapsed().is_ok_and(|age| age > STALE_DOTLOCK);
        let mut text = String::new();
        let owner = Read::by_ref(&mut held.file)
            .take(MAX_DOTLOCK)
            .read_to_string(&mut text);
        let ino = held.identity.ino;
        *empty = empty
            .filter(|(of, _)| *of == ino)
            .or(Some((ino, Instant::now())))
            .filter(|_| text.is_empty());
        let nobodys = empty.is_some_and(|(_, since)| since.elapsed() >= EMPTY_DOTLOCK);
        if old || nobodys || owner.is_ok_and(|_| is_dead(&text)) {
            log::warn!(
                "removing {}: its owner ({text:?}) is dead, has not touched it for {STALE_DOTLOCK:?}, or has not \
                 said in it who he is",
                self.path_of(name).display()
            );
            self.remove(name)?;
        }
        Ok(())
    }
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
        assert!(!is_dead("") && !is_dead("garbage") && !is_dead(":") && !is_dead("-5:x"));
    }
}
