//! One listindexfs per backing: an exclusive flock on `BACKING/.listindexfs/lock`.
//!
//! The lock ends with the last process that has it open, however that ends. The file says who holds
//! it, for people.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdirat, openat};
use rustix::io::Errno;

use super::mountinfo;
use crate::exit::Failure;

/// Our directory within the backing; the mount does not show it.
const DIRECTORY: &str = ".listindexfs";
/// After `umount` its daemon needs a moment to end, or ten seconds where NFS is slow, and `umount X; mount X` is to work.
const ENDING: Duration = Duration::from_secs(12);
/// In the lock file.
const CLEANS: &[u8] = b"cleans";
const POLL: Duration = Duration::from_millis(20);

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// The same lock for those who serve the backing: it is held until the last of them has closed it.
    pub fn keep(self) -> OwnedFd {
        self.0.into()
    }

    /// Takes the lock of `backing`, an open directory, for a mount on `mountpoint`.
    pub fn take(backing: &OwnedFd, path: &Path, mountpoint: &Path) -> Result<Self, Failure> {
        Self::take_for(backing, path, &Use::Mount(mountpoint.to_owned()))
    }

    /// The same to clean it, where it is not mounted.
    pub fn take_to_clean(backing: &OwnedFd, path: &Path) -> Result<Self, Failure> {
        Self::take_for(backing, path, &Use::Clean)
    }

    fn take_for(backing: &OwnedFd, path: &Path, purpose: &Use) -> Result<Self, Failure> {
        let mut file = open(backing).map_err(|error| {
            let file = path.join(DIRECTORY).join("lock");
            Failure::system(format!("cannot open {}: {error}", file.display()))
        })?;
        let until = Instant::now() + ENDING;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    let holder = Holder::read(&mut file);
                    if holder.is_mounted() || Instant::now() > until {
                        return Err(holder.in_use(path));
                    }
                    sleep(POLL);
                }
                Err(error) => {
                    return Err(Failure::system(format!(
                        "cannot lock {}: {error}",
                        path.display()
                    )));
                }
            }
        }
        Holder::write(&mut file, purpose)
            .map_err(|error| Failure::system(format!("cannot write the lock file: {error}")))?;
        Ok(Self(file))
    }
}

/// Whether anybody serves `backing`. What cannot be found out counts as yes.
pub fn is_held(backing: &Path) -> bool {
    let file = File::open(backing.join(DIRECTORY).join("lock"));
    let lock = file.map(|file| flock(&file, FlockOperation::NonBlockingLockShared));
    match lock {
        Ok(taken) => taken.is_err(), // let go of as the file is closed
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The supervisor that the lock file of `backing` names.
pub fn supervisor_of(backing: &Path) -> Option<u32> {
    let mut file = File::open(backing.join(DIRECTORY).join("lock")).ok()?;
    Holder::read(&mut file).pid
}

/// Whether the lock file of `backing` names somebody who cleans it. Says something only while the lock is held.
pub fn is_for_cleaning(backing: &Path) -> bool {
    let file = File::open(backing.join(DIRECTORY).join("lock"));
    file.is_ok_and(|mut file| Holder::read(&mut file).purpose == Some(Use::Clean))
}

fn open(backing: &OwnedFd) -> Result<File, Errno> {
    match mkdirat(backing, DIRECTORY, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let ours = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = openat(
        backing,
        DIRECTORY,
        ours | OFlags::DIRECTORY | OFlags::RDONLY,
        Mode::empty(),
    )?;
    let flags = ours | OFlags::RDWR | OFlags::CREATE;
    openat(&directory, "lock", flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// What the lock file says of its holder: `pid N`, then `mountpoint PATH` or `cleans`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holder {
    pid: Option<u32>,
    purpose: Option<Use>,
}

/// What the lock is held for.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// A mount on this path.
    Mount(PathBuf),
    /// `listindexctl clean`.
    Clean,
}

impl Holder {
    fn write(file: &mut File, purpose: &Use) -> std::io::Result<()> {
        let mut text = format!("pid {}\n", std::process::id()).into_bytes();
        match purpose {
            Use::Mount(mountpoint) => {
                text.extend_from_slice(b"mountpoint ");
                text.extend_from_slice(mountpoint.as_os_str().as_bytes());
            }
            Use::Clean => text.extend_from_slice(CLEANS),
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&text)
    }

    fn read(file: &mut File) -> Self {
        let mut text = Vec::new();
        match file.rewind().and_then(|()| file.read_to_end(&mut text)) {
            Ok(_) => Self::parse(&text),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: &[u8]) -> Self {
        let parse = || {
            let mut lines = text.splitn(2, |byte| *byte == b'\n');
            let pid = lines.next()?.strip_prefix(b"pid ")?;
            let purpose = match lines.next()? {
                CLEANS => Use::Clean,
                other => Use::Mount(OsStr::from_bytes(other.strip_prefix(b"mountpoint ")?).into()),
            };
            Some(Self {
                pid: std::str::from_utf8(pid).ok()?.parse().ok(),
                purpose: Some(purpose),
            })
        };
        parse().unwrap_or_default()
    }

    fn is_mounted(&self) -> bool {
        matches!(&self.purpose, Some(Use::Mount(path)) if mountinfo::ours_at(path).is_some())
    }

    fn in_use(&self, backing: &Path) -> Failure {
        let backing = backing.display();
        let pid = match self.pid {
            Some(pid) => format!("process {pid}"),
            None => "another process".to_owned(),
        };
        Failure::mount(match &self.purpose {
            Some(Use::Clean) => {
                format!("{backing} is being cleaned by listindexctl, {pid}: wait for its end")
            }
            Some(Use::Mount(path)) if self.is_mounted() => {
                let path = path.display();
                format!(
                    "{backing} is in use by listindexfs, {pid}, mounted on {path}: run umount {path}, or give each mount its own BACKING"
                )
            }
            _ => format!(
                "{backing} is in use by listindexfs, {pid}, whose mount is not to be seen here: files of it are still open, or it is in another mount namespace: end the programs that use it, or that process"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_says_who_holds_it() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"pid 123456789\nmountpoint /a/longer/one\n")
            .expect("older text");
        for purpose in [Use::Mount("/m\nn".into()), Use::Clean] {
            Holder::write(&mut file, &purpose).expect("write");
            let holder = Holder::read(&mut file);
            assert_eq!(holder.pid, Some(std::process::id()));
            assert_eq!(holder.purpose, Some(purpose));
        }
    }

    #[test]
    fn who_comes_while_it_is_cleaned_is_told_to_wait() {
        let holder = Holder::parse(b"pid 7\ncleans");
        let said = holder.in_use(Path::new("/b"));
        assert_eq!(
            said.to_string(),
            "/b is being cleaned by listindexctl, process 7: wait for its end"
        );
    }

    #[test]
    fn a_lock_file_of_no_sense_says_nothing() {
        for text in ["", "pid", "\n", "pid 1", "1\nmountpoint /m"] {
            assert_eq!(Holder::parse(text.as_bytes()), Holder::default(), "{text}");
        }
    }
}
