//! Where in the layout a directory lies, told from its path in the backing.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Core;
use super::error::{FsError, Result};
use crate::index::dir::is_managed;
use crate::index::lasthost::LASTHOST;
use crate::store::dirs::Dir;
use crate::store::{Node, PRIVATE_DIR, ROOT};
pub(super) use crate::template::DirPlace as Place;

/// What a name in a user's directory means to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// L: the gate stands here.
    Log,
    /// `L.newlock`, of which L is made: the gate's backstop.
    NewLock,
    /// Any other managed name: follows L.
    Managed,
    /// What a dotlock is made of with `dotlock_use_excl=no`, then linked and renamed to `L.newlock` and L:
    /// who has it open counts, but it is neither pulled nor purged.
    Temp,
    /// The record, which users may see and remove but not make.
    Record,
    /// A plain file.
    Plain,
}

impl Core {
    /// The place of an open directory.
    pub(super) fn place_of(&self, dir: impl AsFd) -> Result<Place> {
        let path = self.store.path_of(dir)?.ok_or(FsError::Stale)?;
        Ok(self.place(&path))
    }

    /// The same of a directory that is kept open. Levels and user directories are never renamed: their place is kept too.
    pub(super) fn place_in(&self, dir: &Dir) -> Result<Place> {
        if let Some(place) = dir.place() {
            return Ok(place.clone());
        }
        let place = self.place_of(dir)?;
        if matches!(place, Place::Level(_) | Place::UserDir(_)) {
            dir.keep_place(place.clone());
        }
        Ok(place)
    }

    /// The place of the directory at a path.
    pub(super) fn place(&self, path: &[Vec<u8>]) -> Place {
        self.config.layout.place_of(path)
    }

    /// What a name means, wherever it lies.
    pub(super) fn role(&self, name: &OsStr) -> Role {
        if name.as_bytes() == LASTHOST.as_bytes() {
            return Role::Record;
        }
        let rest = self
            .config
            .prefixes
            .iter()
            .find_map(|p| name.as_bytes().strip_prefix(p.as_bytes()));
        match rest {
            Some(b".log") => Role::Log,
            Some(b".log.newlock") => Role::NewLock,
            Some(_) => Role::Managed,
            None if name.as_bytes().starts_with(b".temp.") => Role::Temp,
            None => Role::Plain,
        }
    }

    /// Whether a name is managed.
    pub(super) fn is_managed(&self, name: &OsStr) -> bool {
        is_managed(&self.config.prefixes, name)
    }

    /// Whether who has a file of this name open counts as a holder of the list index.
    pub(super) fn is_counted(&self, name: &OsStr) -> bool {
        !matches!(self.role(name), Role::Plain | Role::Record)
    }

    /// One line about a list index that is no user's: LISTINDEX= and layout= disagree.
    pub(super) fn misfit(&self, dir: impl AsFd) -> FsError {
        let path = self.store.path_of(dir).ok().flatten().unwrap_or_default();
        let path = OsString::from_vec(path.join(&b'/'));
        let line = format!(
            "{}: no user has this directory with layout={}: Dovecot's LISTINDEX= and layout= disagree",
            path.to_string_lossy(),
            self.config.layout.as_str(),
        );
        self.misfits.warn(path.as_bytes(), "misfit", &line);
        FsError::Misfit
    }
}

/// The private directory, which the mount does not show.
pub fn is_private(parent: Node, name: &OsStr) -> bool {
    parent == ROOT && name.as_bytes() == PRIVATE_DIR.as_bytes()
}
