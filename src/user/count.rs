//! Counting what lies in a user's directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::gate::Gate;
use super::local;
use super::passing::changed;
use super::state::UserState;
use crate::index::dir::{is_managed, is_passing};
use crate::index::lasthost::LASTHOST;
use crate::store::Node;
use crate::store::usage::{Bytes, Stamp};

/// tmpfs keeps files in pages, bytes.
const PAGE: u64 = 4096;
/// What an inode takes without any page, about, bytes.
const INODE: u64 = 1024;
/// A file with holes may be longer than any backing, and lengths are added up.
const LARGEST: u64 = 1 << 40;
/// Directories of others' making in a user's directory are counted so deep.
const DEEPEST: usize = 8;

/// What was found in a user's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How much.
    pub bytes: Bytes,
    /// When the user was last here, as far as files tell: his record was touched; where there is none, as a worker that dies
    /// while it drops them leaves it, the last of the others was written; where there is nothing, the directory changed.
    pub last: Stamp,
    /// Since when there are names that are there for moments only, the oldest of them: locks, and files on their way to their
    /// place.
    pub passing: Option<Stamp>,
}

/// What a file of this size takes, bytes.
pub fn room_for(size: u64) -> u64 {
    (size.min(LARGEST).div_ceil(PAGE) * PAGE).max(INODE)
}

/// What it takes more when it grows from `old` to `new`, bytes. An empty file may be so new that it has not been counted.
pub fn growth(old: u64, new: u64) -> u64 {
    match old {
        0 if new > 0 => room_for(new),
        _ => room_for(new).saturating_sub(room_for(old)),
    }
}

impl Gate {
    /// Counts what the user has here, now that it has changed. Gives it in bytes.
    ///
    /// # Errors
    /// When his directory cannot be looked through.
    pub fn recount(&self, state: &Arc<UserState>) -> io::Result<u64> {
        let usage = self.store.usage();
        // Before: what is written meanwhile is to be counted again.
        let growth = state.take_growth();
        let counted = self.count(state);
        usage.grown(growth);
        Ok(counted?.bytes.all())
    }

    fn count(&self, state: &UserState) -> io::Result<Counted> {
        let Some(dir) = local::dir_of(self, &state.user)? else {
            return Ok(Counted::default());
        };
        let (node, counted) = self.count_in(&dir)?;
        state.lies_in(node);
        Ok(counted)
    }

    /// The user has closed his list index.
    pub(super) fn left(&self, state: &UserState) {
        // He may have opened it in an earlier worker.
        if state.dir() == Node(0) {
            if let Err(e) = self.find_dir(state) {
                log::debug!("{}: his directory is not found: {e}", state.user);
            }
        }
        self.store.usage().left(state.dir(), Stamp::now());
    }

    fn find_dir(&self, state: &UserState) -> io::Result<()> {
        if let Some(dir) = local::dir_of(self, &state.user)? {
            state.lies_in(self.store.node_of(&dir)?);
        }
        Ok(())
    }

    /// Counts what lies in a user's directory, and keeps that in mind. Gives its node too.
    ///
    /// # Errors
    /// When it cannot be looked through.
    pub fn count_in(&self, dir: &OwnedFd) -> io::Result<(Node, Counted)> {
        let counted = look_through(&self.config.prefixes, dir)?;
        let (node, usage) = (self.store.node_of(dir)?, self.store.usage());
        usage.counted(node, counted.last, counted.bytes);
        if let Some(since) = counted.passing {
            self.found_passing(node, since);
        }
        Ok((node, counted))
    }
}

/// Counts what lies in a user's directory, where these are the prefixes.
///
/// # Errors
/// When it cannot be looked through.
pub fn look_through(prefixes: &[OsString], dir: &OwnedFd) -> io::Result<Counted> {
    let (mut counted, mut record, mut written) = (Counted::default(), None, None);
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Some(stat) = local::look(dir, name)? else {
            continue; // meanwhile
        };
        if is_directory(&stat) {
            counted.bytes.plain += INODE + plain_below(dir, name, DEEPEST)?;
            continue;
        }
        let name = OsStr::from_bytes(name.to_bytes());
        let managed = is_managed(prefixes, name);
        let modified = Some(Stamp::of(stat.st_mtime, stat.st_mtime_nsec as i64));
        match name == LASTHOST {
            true => record = modified,
            false if managed => written = written.max(modified),
            false => {}
        }
        if managed && is_passing(name) {
            let since = counted.passing.unwrap_or(Stamp(u64::MAX));
            counted.passing = Some(since.min(changed(&stat)));
        }
        match managed || name == LASTHOST {
            true => counted.bytes.managed += size_of(&stat),
            false => counted.bytes.plain += size_of(&stat),
        }
    }
    let last = match record.or(written) {
        Some(last) => last,
        None => Stamp::at(File::from(dir.try_clone()?).metadata()?.modified()?),
    };
    // Anybody gives his files what times he likes: he would never go.
    counted.last = last.min(Stamp::now());
    Ok(counted)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn size_of(stat: &Stat) -> u64 {
    room_for(u64::try_from(stat.st_size).unwrap_or(0))
}

/// What lies in a directory within a user's directory, and below it.
fn plain_below(above: impl AsFd, name: &std::ffi::CStr, levels: usize) -> io::Result<u64> {
    if levels == 0 {
        return Ok(0);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(above, name, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(0), // meanwhile
        Err(e) => return Err(e.into()),
    };
    let mut bytes = 0;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match local::look(&dir, name)? {
            Some(stat) if is_directory(&stat) => {
                bytes += INODE + plain_below(&dir, name, levels - 1)?
            }
            Some(stat) => bytes += size_of(&stat),
            None => {} // meanwhile
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_tells_when_he_was_here_and_else_what_is_left_of_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let last = || {
            let opened = File::open(dir.path()).expect("open").into();
            look_through(&["L".into()], &opened).expect("counted").last
        };
        let made = |name: &str, at: u64| {
            let file = File::create(dir.path().join(name)).expect("a file");
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
            file.set_modified(at).expect("utimensat");
        };
        made("plain", 9);
        assert!(last() > Stamp(1_000_000), "that of the directory");
        made("L", 2);
        made("L.log", 3);
        assert_eq!(last(), Stamp(3000));
        made("L.log", 1 << 40);
        assert!(last() <= Stamp::now(), "not later than now");
        made(LASTHOST, 1);
        assert_eq!(last(), Stamp(1000));
    }

    #[test]
    fn a_directory_that_is_a_file_by_now_ends_no_count() {
        let dir = tempfile::tempdir().expect("a directory");
        File::create(dir.path().join("was")).expect("a file");
        let opened: OwnedFd = File::open(dir.path()).expect("open").into();
        assert_eq!(plain_below(&opened, c"was", DEEPEST).expect("counted"), 0);
    }

    #[test]
    fn a_file_takes_whole_pages_and_an_inode_at_least() {
        assert_eq!(room_for(0), 1024);
        assert_eq!(room_for(1), 4096);
        assert_eq!(room_for(4097), 8192);
        assert_eq!((growth(0, 4096), growth(0, 0)), (4096, 0));
        assert_eq!(growth(1, 4096), 0);
        assert_eq!(growth(9000, 10), 0);
    }

    #[test]
    fn files_with_holes_are_added_up_without_overflow() {
        let mut lengths = std::iter::repeat_n(i64::MAX as u64, 100_000);
        let sum = lengths.try_fold(0u64, |sum, length| sum.checked_add(room_for(length)));
        assert!(sum.is_some_and(|sum| sum > 1 << 50));
    }
}
