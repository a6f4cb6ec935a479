//! Files unlinked while open: they move to the private directory until their last RELEASE, since a
//! node opened by handle for each READ and WRITE would vanish with its last name.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::opens::Opens;
use super::{Node, PRIVATE_DIR, Store, TMP_DIR};

const ORPHANS: &str = ".listindexfs/orphans";

/// Makes the private directories and empties them of an earlier mount's orphans and unfinished files.
///
/// # Errors
/// As `mkdir(2)` and `unlink(2)`.
pub fn prepare(store: &Store) -> io::Result<()> {
    for dir in [PRIVATE_DIR, ORPHANS, TMP_DIR] {
        match rustix::fs::mkdirat(&store.root, dir, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    [ORPHANS, TMP_DIR]
        .into_iter()
        .try_for_each(|dir| empty(&store.open_path(dir)?))
}

fn empty(dir: &OwnedFd) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            rustix::fs::unlinkat(dir, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

impl Store {
    /// Unlinks `name`; an open file that would lose its last name becomes an orphan.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub fn unlink<O: Clone>(
        &self,
        opens: &Opens<O>,
        dir: impl AsFd,
        name: &CStr,
    ) -> io::Result<()> {
        let attr = self.attr_at(&dir, name)?;
        if FileType::from_raw_mode(attr.stat.st_mode) == FileType::Directory {
            return Err(Errno::ISDIR.into());
        }
        opens.with(attr.node, |open| match open {
            Some(open) if self.links(&dir, name)? == 1 => {
                rustix::fs::renameat(&dir, name, &self.root, orphan_path(attr.node))?;
                open.orphan = true;
                Ok(())
            }
            _ => Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?),
        })
    }

    /// Before `name` is renamed over: keeps the file it names now, if open, as an orphan.
    /// Returns its node for [`Store::unkeep`], should the rename fail.
    ///
    /// # Errors
    /// As `link(2)`.
    pub fn keep<O: Clone>(
        &self,
        opens: &Opens<O>,
        dir: impl AsFd,
        name: &CStr,
    ) -> io::Result<Option<Node>> {
        let node = match self.node_at(&dir, name) {
            Ok(node) => node,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(e) => return Err(e),
        };
        opens.with(node, |open| match open {
            Some(open) if self.links(&dir, name)? == 1 => {
                rustix::fs::linkat(&dir, name, &self.root, orphan_path(node), AtFlags::empty())?;
                open.orphan = true;
                Ok(Some(node))
            }
            _ => Ok(None),
        })
    }

    /// Undoes [`Store::keep`].
    pub fn unkeep<O: Clone>(&self, opens: &Opens<O>, node: Node) {
        opens.with(node, |open| {
            self.drop_orphan(node);
            if let Some(open) = open {
                open.orphan = false;
            }
        });
    }

    /// After the last RELEASE: the orphan goes.
    pub fn drop_orphan(&self, node: Node) {
        if let Err(e) = rustix::fs::unlinkat(&self.root, orphan_path(node), AtFlags::empty()) {
            log::warn!("cannot remove {} in the backing: {e}", orphan_path(node));
        }
    }

    fn links(&self, dir: impl AsFd, name: &CStr) -> io::Result<u64> {
        Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_nlink as u64)
    }

    /// Opens a regular file for READ, WRITE or truncation; never waits, never follows a link.
    ///
    /// # Errors
    /// As [`Store::open_node`].
    pub fn open_file(&self, node: Node, flags: OFlags) -> io::Result<std::fs::File> {
        Ok(self
            .open_node(node, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK)?
            .into())
    }
}

fn orphan_path(node: Node) -> String {
    format!("{ORPHANS}/{:016x}", node.0)
}
