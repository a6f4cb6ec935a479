//! GETATTR and SETATTR.

use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;

use rustix::fs::{FileType, Mode, OFlags, Timestamps};

use super::error::{FsError, Result};
use super::lookup::LEVEL_MODE;
use super::open::handle_of;
use super::place::Place;
use super::{Call, Core, stale};
use crate::store::{Attr, Node, ROOT};

/// What SETATTR changes.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size, bytes.
    pub size: Option<u64>,
    /// Access and modification time, with `UTIME_OMIT` and `UTIME_NOW`.
    pub times: Option<Timestamps>,
}

impl Core {
    /// A node's attributes.
    ///
    /// # Errors
    /// ESTALE when it is gone.
    pub fn getattr(&self, node: Node) -> Result<Attr> {
        let look = || self.store.attr(node).map_err(stale);
        let attr = self.store.leaving().look(look, |attr| attr.node)?;
        Ok(self.shown(attr))
    }

    /// Attributes as the mount shows them.
    pub(super) fn shown(&self, mut attr: Attr) -> Attr {
        if attr.node == ROOT {
            // The backing itself is root's alone; in the mount everybody may have his directory.
            attr.stat.st_mode = (attr.stat.st_mode & !0o7777) | LEVEL_MODE.bits();
        } else if self.opens.is_orphan(attr.node) {
            attr.stat.st_nlink -= 1; // the name that keeps it is ours
        }
        attr
    }

    /// Changes attributes. On levels it succeeds and changes nothing: a failing `fchown` there is an outage.
    ///
    /// # Errors
    /// As `chmod(2)`, `chown(2)`, `truncate(2)`, `utimensat(2)`.
    pub fn setattr(&self, call: &Call, node: Node, change: &Change) -> Result<Attr> {
        let file = self.store.open_node(node, OFlags::PATH).map_err(stale)?;
        if self.is_level(node, &file)? {
            return Ok(self.shown(self.store.attr_of(node, &file)?));
        }
        let write = if change.size.is_some() {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
        let file = self.store.open_file(node, write).map_err(stale)?;
        if change.uid.is_some() || change.gid.is_some() {
            fchown(&file, change.uid, change.gid)?;
        }
        if let Some(mode) = change.mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        }
        if let Some(size) = change.size {
            self.change_open(call, node, handle_of(call), || {
                self.grows(node, &file, size)?;
                self.gate.with_room(|| file.set_len(size))
            })?;
        }
        if let Some(times) = &change.times {
            rustix::fs::futimens(&file, times)?;
        }
        Ok(self.shown(self.store.attr_of(node, &file)?))
    }

    fn is_level(&self, node: Node, file: &OwnedFd) -> Result<bool> {
        if node == ROOT {
            return Ok(true);
        }
        let stat = rustix::fs::fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(false);
        }
        // Only what was made as a level is one: a stray directory in its place is its maker's.
        let path = self.store.path_of(file)?.ok_or(FsError::Stale)?;
        let is_open = Mode::from_raw_mode(stat.st_mode) == LEVEL_MODE;
        Ok(is_open && matches!(self.place(&path), Place::Level(_)))
    }
}
