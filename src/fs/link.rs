//! UNLINK, RMDIR, RENAME, LINK. Locks and renames never fail for a reason of ours.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, OFlags, RenameFlags};
use rustix::io::Errno;

use super::error::{FsError, Result};
use super::place::{Place, is_private};
use super::{Call, Core, Found, c_name, stale};
use crate::index::lasthost::LASTHOST;
use crate::journal::Entry;
use crate::store::dirs::Dir;
use crate::store::{Node, PRIVATE_DIR};

/// A name in an open directory.
type Name<'a> = (&'a Dir, &'a CStr);

fn is_absent(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::ENOENT)
}

impl Core {
    /// Removes a name. The record may go too: then the user is as good as evicted.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub fn unlink(&self, call: &Call, parent: Node, name: &OsStr) -> Result<()> {
        if is_private(parent, name) {
            return Err(FsError::Absent.into());
        }
        let dir = self.store.dir(parent).map_err(stale)?;
        let _operation = self.change(call, &dir, &[name])?;
        match self.store.unlink(&self.opens, &dir, &c_name(name)?) {
            Err(e) if call.resent && is_absent(&e) => Ok(()), // by the worker before
            done => Ok(done?),
        }
    }

    /// Removes a directory; a record alone does not keep a user's directory.
    ///
    /// # Errors
    /// As `rmdir(2)`.
    pub fn rmdir(&self, call: &Call, parent: Node, name: &OsStr) -> Result<()> {
        if is_private(parent, name) {
            return Err(FsError::Absent.into());
        }
        let dir = self.store.dir(parent).map_err(stale)?;
        let c_name = c_name(name)?;
        match self.store.rmdir(&dir, &c_name) {
            Err(e) if e.raw_os_error() == Some(libc::ENOTEMPTY) => {
                let child = self
                    .store
                    .open_list(self.store.node_at(&dir, &c_name)?)
                    .map_err(stale)?;
                self.drop_lone_record(&child)?;
                Ok(self.store.rmdir(&dir, &c_name)?)
            }
            Err(e) if call.resent && is_absent(&e) => Ok(()), // by the worker before
            done => Ok(done?),
        }
    }

    fn drop_lone_record(&self, dir: &OwnedFd) -> Result<()> {
        let Place::UserDir(user) = self.place_of(dir)? else {
            return Ok(());
        };
        // Never waits: the kernel keeps the whole bucket locked meanwhile.
        let Ok(_operation) = self.gate.user(&user).enter() else {
            return Ok(());
        };
        let entries = rustix::fs::Dir::read_from(dir)?.collect::<rustix::io::Result<Vec<_>>>()?;
        let mut names = entries.iter().map(|entry| entry.file_name().to_bytes());
        if names.all(|name| matches!(name, b"." | b"..") || name == LASTHOST.as_bytes()) {
            rustix::fs::unlinkat(dir, LASTHOST, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Renames.
    ///
    /// # Errors
    /// As `renameat2(2)`; EXDEV for managed names between two directories, EPERM for users' directories, for what would become one, and for the name of a domain's.
    pub fn rename(
        &self,
        call: &Call,
        from: (Node, &OsStr),
        to: (Node, &OsStr),
        flags: RenameFlags,
    ) -> Result<()> {
        let (old, new) = (
            self.dir_to_change(from.0, from.1)?,
            self.dir_to_change(to.0, to.1)?,
        );
        let (old_name, new_name) = (c_name(from.1)?, c_name(to.1)?);
        if from.0 != to.0 && (self.is_managed(from.1) || self.is_managed(to.1)) {
            return Err(FsError::CrossDirectory.into());
        }
        let ends = ((&*old, old_name.as_c_str()), (&*new, new_name.as_c_str()));
        if call.resent && self.was_renamed(call, ends, flags)? {
            return Ok(());
        }
        self.spare_levels(&new, to.1)?;
        let _operation = self.change(call, &new, &[from.1, to.1])?;
        let moved = self.node_to_move((&old, from.1), &new)?;
        let begins = || {
            self.gate.journal().append(&Entry::Renames {
                unique: call.unique,
                node: moved.0,
            })
        };
        match flags {
            flags if flags.is_empty() => {
                let from = (old_name.as_c_str(), moved);
                Ok(self
                    .store
                    .replace(&self.opens, (&old, &new), from, &new_name, begins)?)
            }
            // These leave no file without a name.
            RenameFlags::NOREPLACE => {
                let _names = self.store.known().change(moved);
                Ok(rustix::fs::renameat_with(
                    &old, &old_name, &new, &new_name, flags,
                )?)
            }
            RenameFlags::EXCHANGE => {
                let other = self.node_to_move((&new, to.1), &old)?;
                let _names = [moved, other].map(|node| self.store.known().change(node));
                begins()?;
                Ok(rustix::fs::renameat_with(
                    &old, &old_name, &new, &new_name, flags,
                )?)
            }
            _ => Err(FsError::Backing(io::ErrorKind::InvalidInput.into()).into()),
        }
    }

    /// Whether an earlier worker has done a rename. One that is done in two steps is brought to its end.
    fn was_renamed(
        &self,
        call: &Call,
        (from, to): (Name<'_>, Name<'_>),
        flags: RenameFlags,
    ) -> Result<bool> {
        let at = |(dir, name): Name<'_>| match self.store.node_at(dir, name) {
            Ok(node) => Ok(Some(node)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        };
        let (old, new) = (at(from)?, at(to)?);
        let Some(begun) = self.left.renamed(call.unique).map(Node) else {
            return Ok(old.is_none() && new.is_some());
        };
        if new != Some(begun) {
            return Ok(false);
        }
        if let (true, Some(replaced)) = (flags.is_empty(), old) {
            self.store.orphan(&self.opens, from.0, from.1, replaced)?;
        }
        Ok(true)
    }

    /// What a name means that is to be moved. A user's directory elsewhere would be another user's, or nobody's; and one that
    /// becomes a level has its maker's mode, so that he could shut out all others of a domain.
    fn node_to_move(&self, (dir, name): (&Dir, &OsStr), to: &Dir) -> Result<Node> {
        let attr = self.store.attr_at(dir, &c_name(name)?)?;
        let is_dir = FileType::from_raw_mode(attr.stat.st_mode) == FileType::Directory;
        for end in [dir, to].into_iter().filter(|_| is_dir) {
            if matches!(self.place_in(end)?, Place::Level(_)) {
                return Err(FsError::Reserved.into());
            }
        }
        Ok(attr.node)
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// As `link(2)`; EXDEV for managed names between two directories, EPERM for the name of a domain's directory.
    pub fn link(&self, call: &Call, node: Node, parent: Node, name: &OsStr) -> Result<Found> {
        let dir = self.dir_to_change(parent, name)?;
        let c_name = c_name(name)?;
        self.spare_levels(&dir, name)?;
        let file = self.store.open_node(node, OFlags::PATH).map_err(stale)?;
        let path = self.store.path_of(&file)?.ok_or(FsError::Stale)?;
        let (old_name, old_dir) = path.split_last().ok_or(FsError::Reserved)?;
        if old_dir
            .first()
            .is_some_and(|first| first == PRIVATE_DIR.as_bytes())
        {
            return Err(FsError::Absent.into()); // it has lost its last name
        }
        let old_name: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(old_name);
        let same_dir = self.store.path_of(&*dir)?.is_some_and(|dir| dir == old_dir);
        if !same_dir && (self.is_managed(old_name) || self.is_managed(name)) {
            return Err(FsError::CrossDirectory.into());
        }
        let _operation = self.change(call, &dir, &[old_name, name])?;
        let _names = self.store.known().change(node);
        let link = || match rustix::fs::linkat(&file, "", &dir, &c_name, AtFlags::EMPTY_PATH) {
            Err(Errno::EXIST) if call.resent && self.store.node_at(&dir, &c_name)? == node => {
                Ok(())
            }
            linked => Ok(linked?),
        };
        self.gate.with_room(link)?; // a name takes an inode of the backing's limit
        Ok(self.found(name, self.store.attr_at(&dir, &c_name)?))
    }
}
