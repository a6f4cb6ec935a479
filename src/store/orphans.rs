//! Files unlinked while open: they move to the private directory until their last RELEASE, since a
//! node opened by handle for each READ and WRITE would vanish with its last name.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::opens::Opens;
use super::{Node, PRIVATE_DIR, Store, TMP_DIR};

const ORPHANS: &str = ".listindexfs/orphans";

/// Makes the private directories and removes unfinished files of an earlier worker.
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
    empty(&store.open_path(TMP_DIR)?, |_| false)
}

fn empty(dir: &OwnedFd, keep: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !keep(name) {
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
        opens.with(attr.node, |open| {
            let _names = self.known.change(attr.node);
            match open {
                Some(open) if self.links(&dir, name)? == 1 => {
                    rustix::fs::renameat(&dir, name, &self.root, orphan_path(attr.node))?;
                    open.orphan = true;
                    Ok(())
                }
                _ => Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?),
            }
        })
    }

    /// Renames `from`, which is `moved`, over `to`, both names in `dirs`; a file that `to` names and somebody has open
    /// becomes an orphan. No OPEN of it comes between. That takes two steps: `begins` is told before the first.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub fn replace<O: Clone>(
        &self,
        opens: &Opens<O>,
        dirs: (impl AsFd, impl AsFd),
        (from, moved): (&CStr, Node),
        to: &CStr,
        begins: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let _names = self.known.change(moved);
        let rename = || Ok(rustix::fs::renameat(&dirs.0, from, &dirs.1, to)?);
        let node = match self.node_at(&dirs.1, to) {
            Ok(node) => node,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return rename(),
            Err(e) => return Err(e),
        };
        opens.with(node, |open| {
            let _names = self.known.change(node);
            match open {
                Some(open) if self.links(&dirs.1, to)? == 1 && moved != node => {
                    begins()?;
                    // Exchanged first and moved away then: a second link would need an inode more.
                    rustix::fs::renameat_with(&dirs.0, from, &dirs.1, to, RenameFlags::EXCHANGE)?;
                    rustix::fs::renameat(&dirs.0, from, &self.root, orphan_path(node))?;
                    open.orphan = true;
                    Ok(())
                }
                _ => rename(),
            }
        })
    }

    /// The second step of [`Store::replace`], for a worker that died between: `name` is `node`, which was replaced.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub fn orphan<O: Clone>(
        &self,
        opens: &Opens<O>,
        dir: impl AsFd,
        name: &CStr,
        node: Node,
    ) -> io::Result<()> {
        opens.with(node, |open| {
            let _names = self.known.change(node);
            match open {
                Some(open) => {
                    rustix::fs::renameat(dir, name, &self.root, orphan_path(node))?;
                    open.orphan = true;
                    Ok(())
                }
                None => Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?),
            }
        })
    }

    /// The files that have been unlinked while open.
    ///
    /// # Errors
    /// As `readdir(3)`.
    pub fn orphans(&self) -> io::Result<HashSet<Node>> {
        let dir = self.open_path(ORPHANS)?;
        let mut orphans = HashSet::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            orphans.extend(orphan_named(entry?.file_name().to_bytes()));
        }
        Ok(orphans)
    }

    /// Removes the orphans that nobody has open any more.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub fn keep_orphans(&self, open: impl Fn(Node) -> bool) -> io::Result<()> {
        empty(&self.open_path(ORPHANS)?, |name| {
            orphan_named(name).is_some_and(&open)
        })
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

/// The node whose orphan bears this name.
fn orphan_named(name: &[u8]) -> Option<Node> {
    let id = std::str::from_utf8(name).ok()?;
    Some(Node(u64::from_str_radix(id, 16).ok()?))
}

fn orphan_path(node: Node) -> String {
    format!("{ORPHANS}/{:016x}", node.0)
}
