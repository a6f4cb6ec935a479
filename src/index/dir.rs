//! One user's INDEX for the length of one gate run: looked at afresh, never kept open.
//!
//! Freshness on NFS rests on the order: `statx(INDEX, FORCE_SYNC)` and then
//! `statx(INDEX/.lasthost, FORCE_SYNC)`, 2 GETATTR when nothing changed, right in every case measured.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::Trouble;
use super::creds::Creds;
use super::guard::MountTable;
use super::lasthost::{Identity, LASTHOST, LastHost, MAX_LEN, USUAL_LEN};
use super::walk::{check_fs, walk};
use crate::options::IndexFs;

pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
/// As often as Dovecot retries a path that answers ESTALE.
pub(super) const ESTALE_TRIES: usize = 10;

/// Where a user's INDEX lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPath {
    /// The components without a variable: the administrator's, symbolic links in it are followed. Or the user's home directory:
    /// they are followed with his rights, and never with root's.
    pub base: PathBuf,
    /// The rest, below `base`: no symbolic link is followed in it. Empty where INDEX is `base` itself.
    pub rest: PathBuf,
    /// What `base` is.
    pub base_is: Base,
}

/// What the base of an INDEX is, which tells what it means that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The same for all users: it must be there.
    Fixed,
    /// This user's home directory, or the root: a new user may have none yet. What is missing counts as missing only where a
    /// directory above it, other than the root of its mount, is there.
    Users,
}

impl IndexPath {
    /// The whole path, for log lines.
    pub fn path(&self) -> PathBuf {
        match self.rest.as_os_str().is_empty() {
            true => self.base.clone(),
            false => self.base.join(&self.rest),
        }
    }

    /// The rest as the kernel takes it.
    pub(super) fn rest(&self) -> &Path {
        match self.rest.as_os_str().is_empty() {
            true => Path::new("."),
            false => &self.rest,
        }
    }
}

/// INDEX, open, with the caller's rights.
#[derive(Debug)]
pub struct IndexDir {
    pub(super) dir: OwnedFd,
    at: PathBuf,
    creds: Creds,
}

/// A file of INDEX, open, and what it was when it was opened.
#[derive(Debug)]
pub struct IndexFile {
    /// The open file.
    pub file: File,
    /// Its identity.
    pub identity: Identity,
    /// Owner, group and permission bits, to be kept when it is pulled.
    pub owner: (u32, u32, u32),
}

impl IndexDir {
    /// Opens INDEX and asks the server about it. `None`: it does not exist, on a file system that is the right one.
    ///
    /// # Errors
    /// [`Trouble`] for everything else.
    pub fn open(
        at: &IndexPath,
        creds: &Creds,
        mounts: &MountTable,
        fs: &IndexFs,
    ) -> Result<Option<Self>, Trouble> {
        let path = at.path();
        for _ in 0..ESTALE_TRIES {
            let _as = (creds.act()).map_err(|e| io_at("take the rights for", &path)(e))?;
            let Some(dir) = walk(at, creds.uid == 0, mounts, fs)? else {
                return Ok(None);
            };
            match rustix::fs::statx(
                &dir,
                "",
                AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC,
                fields(),
            ) {
                Ok(stat) => {
                    check_fs(&path, stat.stx_mnt_id, mounts, fs)?;
                    return Ok(Some(IndexDir {
                        dir,
                        at: path,
                        creds: creds.clone(),
                    }));
                }
                // By path, ESTALE makes the kernel walk anew and drop what it had cached on the way.
                Err(Errno::STALE) => {
                    let _ = rustix::fs::statx(
                        rustix::fs::CWD,
                        &path,
                        AtFlags::STATX_FORCE_SYNC,
                        fields(),
                    );
                }
                Err(e) => return Err(io_at("stat", &path)(e.into())),
            }
        }
        Err(io_at("stat", &path)(Errno::STALE.into()))
    }

    /// What INDEX/`name` is now, from the client's cache: free while INDEX is unchanged.
    ///
    /// # Errors
    /// [`Trouble::Symlink`], [`Trouble::WrongKind`] or [`Trouble::Io`].
    pub fn look(&self, name: &OsStr) -> Result<Option<Identity>, Trouble> {
        self.identity(name, AtFlags::empty())
    }

    /// What INDEX/.lasthost is now, asked of the server.
    ///
    /// # Errors
    /// As [`IndexDir::look`].
    pub fn lasthost(&self) -> Result<Option<Identity>, Trouble> {
        self.identity(OsStr::new(LASTHOST), AtFlags::STATX_FORCE_SYNC)
    }

    /// Asks the server about INDEX again: else, after a while, what the client remembers of its names would be believed.
    ///
    /// # Errors
    /// [`Trouble::Io`].
    pub fn ask(&self) -> Result<(), Trouble> {
        let _as = self.act()?;
        let sync = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        rustix::fs::statx(&self.dir, "", sync, fields())
            .map(drop)
            .map_err(|e| self.io("stat", OsStr::new(""))(e.into()))
    }

    fn identity(&self, name: &OsStr, sync: AtFlags) -> Result<Option<Identity>, Trouble> {
        let _as = self.act()?;
        let mut last = Errno::STALE;
        for _ in 0..ESTALE_TRIES {
            match rustix::fs::statx(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW | sync, fields()) {
                Ok(stat) => {
                    self.check_regular(name, u32::from(stat.stx_mode))?;
                    return Ok(Some(identity(&stat)));
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(e @ Errno::STALE) => last = e,
                Err(e) => return Err(self.io("stat", name)(e.into())),
            }
        }
        Err(self.io("stat", name)(last.into()))
    }

    /// Reads INDEX/.lasthost through a directory descriptor opened afresh, as freshness demands.
    /// The text is `None` where it is longer than any of ours.
    ///
    /// # Errors
    /// As [`IndexDir::look`].
    pub fn read_lasthost(&self) -> Result<Option<(Identity, Option<LastHost>)>, Trouble> {
        let name = OsStr::new(LASTHOST);
        let Some(mut opened) = self.open_file(name, OFlags::RDONLY)? else {
            return Ok(None);
        };
        let mut text = Vec::with_capacity(USUAL_LEN);
        let read = Read::by_ref(&mut opened.file)
            .take(MAX_LEN as u64 + 1)
            .read_to_end(&mut text);
        read.map_err(self.io("read", name))?;
        let ours = (text.len() <= MAX_LEN)
            .then(|| LastHost::parse(&text))
            .flatten();
        Ok(Some((opened.identity, ours)))
    }

    /// Opens a regular file of INDEX; never waits for a FIFO, never follows a link.
    ///
    /// # Errors
    /// As [`IndexDir::look`].
    pub fn open_file(&self, name: &OsStr, flags: OFlags) -> Result<Option<IndexFile>, Trouble> {
        let _as = self.act()?;
        for _ in 0..ESTALE_TRIES {
            let fresh = rustix::fs::openat(
                &self.dir,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let fresh = fresh.map_err(|e| self.io("open", OsStr::new("."))(e.into()))?;
            let flags =
                flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            match rustix::fs::openat2(&fresh, name, flags, Mode::empty(), BENEATH) {
                Ok(fd) => return self.opened(name, fd).map(Some),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::STALE | Errno::AGAIN) => {}
                Err(Errno::LOOP) => {
                    return Err(Trouble::Symlink {
                        path: self.at.join(name),
                    });
                }
                // A FIFO without a reader, a socket: what it is tells better than the errno.
                Err(e) => {
                    self.check_kind(name)?;
                    return Err(self.io("open", name)(e.into()));
                }
            }
        }
        Err(self.io("open", name)(Errno::STALE.into()))
    }

    fn opened(&self, name: &OsStr, fd: OwnedFd) -> Result<IndexFile, Trouble> {
        let stat = rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, fields())
            .map_err(|e| self.io("stat", name)(e.into()))?;
        self.check_regular(name, u32::from(stat.stx_mode))?;
        let owner = (stat.stx_uid, stat.stx_gid, u32::from(stat.stx_mode) & 0o777);
        Ok(IndexFile {
            file: fd.into(),
            identity: identity(&stat),
            owner,
        })
    }

    fn check_kind(&self, name: &OsStr) -> Result<(), Trouble> {
        let stat = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or(Ok(()), |stat| self.check_regular(name, stat.st_mode))
    }

    fn check_regular(&self, name: &OsStr, mode: u32) -> Result<(), Trouble> {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Ok(()),
            FileType::Symlink => Err(Trouble::Symlink {
                path: self.at.join(name),
            }),
            _ => Err(Trouble::WrongKind {
                path: self.at.join(name),
                expected: "regular file",
            }),
        }
    }

    /// The names in INDEX for which `wanted` holds.
    ///
    /// # Errors
    /// [`Trouble::Io`].
    pub fn names(&self, wanted: impl Fn(&OsStr) -> bool) -> Result<Vec<OsString>, Trouble> {
        let _as = self.act()?;
        let list = || -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(&self.dir, ".", flags, Mode::empty())?;
            for entry in rustix::fs::Dir::new(dir)? {
                let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
                if wanted(&name) {
                    names.push(name);
                }
            }
            Ok(names)
        };
        list().map_err(self.io("list", OsStr::new("")))
    }

    /// The path of `name`, for messages.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.at.join(name)
    }

    pub(super) fn act(&self) -> Result<crate::sys::cred::ActAs, Trouble> {
        self.creds
            .act()
            .map_err(|e| io_at("take the rights for", &self.at)(e))
    }

    pub(super) fn io(
        &self,
        what: &'static str,
        name: &OsStr,
    ) -> impl Fn(io::Error) -> Trouble + use<> {
        io_at(what, &self.at.join(name))
    }
}

pub(super) fn fields() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::MNT_ID
}

pub(super) fn identity(stat: &Statx) -> Identity {
    Identity {
        ino: stat.stx_ino,
        mtime: stat.stx_mtime.tv_sec,
        nsec: stat.stx_mtime.tv_nsec,
        size: stat.stx_size,
    }
}

pub(super) fn io_at(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Trouble + use<> {
    let path = path.to_owned();
    move |source| Trouble::Io {
        what,
        path: path.clone(),
        source,
    }
}

/// Whether a name of INDEX or of a user directory is managed: it begins with a prefix.
pub fn is_managed(prefixes: &[OsString], name: &OsStr) -> bool {
    prefixes
        .iter()
        .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

/// Whether a managed name lives for a moment only and is never pulled.
pub fn is_passing(name: &OsStr) -> bool {
    [&b".newlock"[..], b".lock", b".tmp"]
        .iter()
        .any(|end| name.as_bytes().ends_with(end))
}
