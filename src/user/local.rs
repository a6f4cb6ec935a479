//! The user's files in the backing: the record, and the purge of what is managed.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::fchown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use rustix::path::Arg;

use super::gate::Gate;
use super::record::{HAUNTED, Kept, Record};
use super::records::{Remembered, identity};
use super::state::UserState;
use crate::index::dir::is_managed;
use crate::index::lasthost::{Instance, LASTHOST, MAX_LEN, USUAL_LEN};
use crate::store::usage::Stamp;
use crate::store::{Node, TMP_DIR};
use crate::template::User;

/// How old the time of a user's last access in his record may be.
const TOUCH: Duration = Duration::from_secs(60);
const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: UTIME_NOW,
};

static NEXT_TMP: AtomicU64 = AtomicU64::new(0);

/// The user's directory; `None` when there is none.
pub(super) fn dir_of(gate: &Gate, user: &User) -> io::Result<Option<OwnedFd>> {
    match gate.store.open_path(OsStr::from_bytes(user.dir())) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What we last accepted of the user, or word of his ghosts, as he is here now: that is noted.
pub fn read_as_used(gate: &Gate, state: &UserState) -> io::Result<Kept> {
    let (leaving, now) = (gate.store.leaving(), Stamp::now());
    if let Some(known) = gate.records.get(&state.user) {
        let still = || known.still(&gate.store);
        if let Some((dir, stat)) = leaving.look(still, |_| known.dir)? {
            is_here(gate, state, known.dir, now);
            touch(&*dir, &stat, now)?;
            return Ok(Kept::Record(known.record.clone()));
        }
    }
    let Some(dir) = dir_of(gate, &state.user)? else {
        return Ok(Kept::Nothing);
    };
    let node = leaving.look(|| gate.store.node_of(&dir), |node| *node)?;
    is_here(gate, state, node, now);
    let Some(file) = open_in(&dir)? else {
        return Ok(Kept::Nothing);
    };
    let stat = rustix::fs::fstat(&file)?;
    let kept = parse(file, gate.instance)?;
    if let Kept::Record(record) = &kept {
        let read = Remembered {
            dir: node,
            identity: identity(&stat),
            record: record.clone(),
        };
        gate.records.keep(&state.user, read);
        touch(&dir, &stat, now)?;
    }
    Ok(kept)
}

/// The user is in his directory now.
fn is_here(gate: &Gate, state: &UserState, dir: Node, now: Stamp) {
    state.lies_in(dir);
    gate.store.usage().used(dir, now);
}

/// The record's time is all that a later worker has of the user's last access. It is not written at every login.
fn touch(dir: impl AsFd, record: &Stat, now: Stamp) -> io::Result<()> {
    let last = Stamp::of(record.st_mtime, record.st_mtime_nsec as i64);
    if last < now.before(TOUCH) {
        let now = Timestamps {
            last_access: NOW,
            last_modification: NOW,
        };
        match rustix::fs::utimensat(dir, LASTHOST, &now, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => {} // he has just removed it
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// What we last accepted of the user, or word of his ghosts.
pub fn read(gate: &Gate, user: &User) -> io::Result<Kept> {
    if let Some(known) = gate.records.get(user) {
        if known.still(&gate.store)?.is_some() {
            return Ok(Kept::Record(known.record.clone()));
        }
    }
    match dir_of(gate, user)? {
        Some(dir) => read_in(&dir, gate.instance),
        None => Ok(Kept::Nothing),
    }
}

/// The same in an open directory, for this mount.
pub fn read_in(dir: &OwnedFd, ours: Instance) -> io::Result<Kept> {
    let file = open_in(dir)?;
    file.map_or(Ok(Kept::Nothing), |file| parse(file, ours))
}

fn open_in(dir: &OwnedFd) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, LASTHOST, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn parse(mut file: File, ours: Instance) -> io::Result<Kept> {
    let mut text = [0; USUAL_LEN];
    let len = file.read(&mut text)?;
    if len < text.len() {
        return Ok(Kept::parse(&text[..len], ours)); // all of it
    }
    let mut text = text.to_vec();
    file.take((MAX_LEN - len) as u64).read_to_end(&mut text)?;
    Ok(Kept::parse(&text, ours))
}

/// A name in a directory, if it is there.
pub(super) fn look(dir: impl AsFd, name: impl Arg) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether there are files of the user of which this mount has accepted nothing.
pub fn is_left(gate: &Gate, user: &User) -> io::Result<bool> {
    if read(gate, user)? != Kept::Nothing {
        return Ok(false);
    }
    let Some(dir) = dir_of(gate, user)? else {
        return Ok(false);
    };
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if is_managed(&gate.config.prefixes, &name) || name == LASTHOST {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the record in one step.
pub fn write_record(gate: &Gate, user: &User, record: &Record) -> io::Result<()> {
    match dir_of(gate, user)? {
        Some(dir) => put(gate, &dir, &record.to_text()),
        None => Err(Errno::NOENT.into()),
    }
}

/// The user has ghosts: there is no record, but word of them. Without room for it the record goes all the same.
pub fn mark_haunted(gate: &Gate, user: &User) -> io::Result<()> {
    let Some(dir) = dir_of(gate, user)? else {
        return Ok(());
    };
    put(gate, &dir, HAUNTED).or_else(|e| {
        log::warn!("{user}: ghosts are not noted in the backing: {e}");
        remove_record(gate, user)
    })
}

fn put(gate: &Gate, dir: &OwnedFd, text: &str) -> io::Result<()> {
    let mut tmp = Tmp::new(gate)?;
    tmp.file.write_all(text.as_bytes())?;
    rustix::fs::fchmod(&tmp.file, Mode::from_raw_mode(0o644))?;
    tmp.install(gate, dir, OsStr::new(LASTHOST))
}

/// Removes the record.
pub fn remove_record(gate: &Gate, user: &User) -> io::Result<()> {
    let Some(dir) = dir_of(gate, user)? else {
        return Ok(());
    };
    match rustix::fs::unlinkat(&dir, LASTHOST, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Deletes the user's managed files, locks and left-overs among them. Nobody has them open.
pub fn purge(gate: &Gate, user: &User) -> io::Result<()> {
    let Some(dir) = dir_of(gate, user)? else {
        return Ok(());
    };
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_managed(&gate.config.prefixes, OsStr::from_bytes(name.to_bytes())) {
            remove(gate, &dir, name)?;
        }
    }
    gate.store.usage().emptied(gate.store.node_of(&dir)?);
    Ok(())
}

/// Removes the user's directory; `false` when something lies in it.
pub fn remove_directory(gate: &Gate, user: &User) -> io::Result<bool> {
    let path = user.dir();
    let (level, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    let level = gate.store.open_path(OsStr::from_bytes(level))?;
    let name = CString::new(name)?;
    let node = gate.store.node_at(&level, &name)?;
    match gate.store.rmdir(&level, &name) {
        Ok(()) => {
            gate.kernel.gone(node);
            Ok(true)
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOTEMPTY) => Ok(false),
        Err(e) => Err(e),
    }
}

pub(super) fn remove(gate: &Gate, dir: &OwnedFd, name: &CStr) -> io::Result<()> {
    let attr = gate.store.attr_at(dir, name)?;
    // A directory that happens to have such a name is not Dovecot's.
    if FileType::from_raw_mode(attr.stat.st_mode) != FileType::Directory {
        let _names = gate.store.known().change(attr.node);
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        gate.kernel.gone(attr.node);
    }
    Ok(())
}

/// Puts a copy of a file of INDEX into the user's directory, with its owner, group and mode.
pub fn install(
    gate: &Gate,
    user: &User,
    tmp: Tmp,
    owner: (u32, u32, u32),
    name: &OsStr,
) -> io::Result<()> {
    let dir = dir_of(gate, user)?.ok_or(Errno::NOENT)?;
    let (uid, gid, mode) = owner;
    fchown(&tmp.file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&tmp.file, Mode::from_raw_mode(mode & 0o666))?;
    tmp.install(gate, &dir, name)
}

/// A file in the private directory on its way to its place; removed unless it gets there.
#[derive(Debug)]
pub struct Tmp {
    /// Open for writing.
    pub file: File,
    name: Vec<u8>,
    root: OwnedFd,
}

impl Tmp {
    /// Makes one.
    pub fn new(gate: &Gate) -> io::Result<Self> {
        let name = format!("{TMP_DIR}/{}", NEXT_TMP.fetch_add(1, Ordering::Relaxed)).into_bytes();
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = gate.store.root().try_clone_to_owned()?;
        let file = rustix::fs::openat(
            &root,
            OsStr::from_bytes(&name),
            flags,
            Mode::RUSR | Mode::WUSR,
        )?;
        Ok(Tmp {
            file: file.into(),
            name,
            root,
        })
    }

    fn install(mut self, gate: &Gate, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        rustix::fs::renameat(gate.store.root(), OsStr::from_bytes(&self.name), dir, name)?;
        self.name.clear();
        Ok(())
    }
}

impl Drop for Tmp {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let name = std::ffi::OsString::from_vec(std::mem::take(&mut self.name));
            if let Err(e) = rustix::fs::unlinkat(&self.root, &name, AtFlags::empty()) {
                log::warn!(
                    "cannot remove {} in the backing: {e}",
                    name.to_string_lossy()
                );
            }
        }
    }
}
