//! A walk through the whole backing, once in each worker: what lies there is counted, and what an earlier mount has left is
//! removed. Nobody would be given that: a user's gate purges it when he comes. It would lie there for those who never do.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Keeper;
use super::pace::Pace;
use crate::store::{PRIVATE_DIR, Store};

/// A walk under way.
pub(super) struct Walk<'a> {
    pub keeper: &'a Keeper,
    /// What an earlier mount has left is gone already.
    pub swept: bool,
    pub pace: Pace,
}

impl Walk<'_> {
    /// Walks. Of how many users something was left from an earlier mount.
    ///
    /// # Errors
    /// When a directory cannot be read: the first of such errors, at the end.
    pub fn run(&mut self) -> io::Result<u64> {
        let Keeper { config, store, .. } = self.keeper;
        let (mut swept, mut first) = (0, None);
        user_dirs(store, config.layout.depth(), &mut |dir| {
            match self.user(dir) {
                Ok(dropped) => swept += u64::from(dropped),
                // The others are counted all the same.
                Err(error) => first = first.take().or(Some(error)),
            }
            Ok(())
        })?;
        first.map_or(Ok(swept), Err)
    }

    fn user(&mut self, dir: &Path) -> io::Result<bool> {
        self.pace.rest();
        let dropped = !self.swept && self.drop_leftovers(dir)?;
        if let Some(open) = open(&self.keeper.store, dir)? {
            self.keeper.gate.count_in(&open)?;
        }
        Ok(dropped)
    }

    fn drop_leftovers(&self, dir: &Path) -> io::Result<bool> {
        let components: Vec<&[u8]> = dir.iter().map(OsStr::as_bytes).collect();
        match self.keeper.config.layout.user_of(&components) {
            Some(user) => self.keeper.gate.drop_leftovers(&user),
            None => Ok(false), // nobody's
        }
    }
}

/// Calls `visit` with each directory that is `depth` levels deep in the backing, as users' directories are. The private one
/// is none.
///
/// # Errors
/// When a directory cannot be read, and those of `visit`.
pub fn user_dirs(
    store: &Store,
    depth: usize,
    visit: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    below(store, Path::new(""), depth, visit)
}

fn below(
    store: &Store,
    dir: &Path,
    levels: usize,
    visit: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    if levels == 0 {
        return visit(dir);
    }
    for name in directories(store, dir)? {
        let at_root = dir.as_os_str().is_empty();
        if !at_root || name != PRIVATE_DIR {
            below(store, &dir.join(name), levels - 1, visit)?;
        }
    }
    Ok(())
}

fn directories(store: &Store, dir: &Path) -> io::Result<Vec<OsString>> {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    let Some(opened) = open(store, dir)? else {
        return Ok(Vec::new()); // meanwhile
    };
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn open(store: &Store, dir: &Path) -> io::Result<Option<OwnedFd>> {
    match store.open_path(dir) {
        Ok(opened) => Ok(Some(opened)),
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None), // gone, or something else by now
            _ => Err(e),
        },
    }
}
