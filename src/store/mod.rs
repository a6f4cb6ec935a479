//! The backing: node ids for what lies in it, and opening by node id, beneath the root only.

pub mod dirs;
pub mod known;
pub mod leaving;
mod numbers;
pub mod opens;
mod orphans;
pub mod usage;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};

use self::dirs::{Dir, Dirs};
use self::known::Known;
use self::leaving::Leaving;
use self::usage::Usage;
use crate::sys::handle;

/// The directory in the backing's root that the mount never shows: the lock, and files unlinked while open.
pub const PRIVATE_DIR: &str = ".listindexfs";

/// Files on their way to their place, below [`PRIVATE_DIR`].
pub const TMP_DIR: &str = ".listindexfs/tmp";

/// A FUSE node id: 1 for the root, else the backing's file handle in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u64);

/// FUSE's id for the root of the mount.
pub const ROOT: Node = Node(1);

/// A file's status with its node id in place of the backing's inode number.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// The node id, which is also the inode number that users see.
    pub node: Node,
    /// What the backing says, corrected where the mount shows something else.
    pub stat: Stat,
}

/// The backing directory, opened once; everything else is reached through it.
#[derive(Debug)]
pub struct Store {
    root: OwnedFd,
    layout: handle::Layout,
    root_id: u64,
    /// `/proc/self/fd`: a path is read there without walking `/proc` each time.
    proc_fds: OwnedFd,
    /// Where the root was when it was last asked.
    root_path: RwLock<Vec<u8>>,
    known: Known,
    dirs: Dirs,
    usage: Usage,
    leaving: Leaving,
}

impl Store {
    /// Opens the backing and makes its private directory.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system's handles do not fit node ids, else as `open(2)` and `mkdir(2)`.
    pub fn open(backing: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(
            backing,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let layout = handle::layout_of(root.as_fd())?;
        let root_id = handle::id_of(layout, &root)?;
        let proc_fds = rustix::fs::open(
            "/proc/self/fd",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let root_path = RwLock::new(read_link(&proc_fds, root.as_fd())?);
        let store = Store {
            root,
            layout,
            root_id,
            proc_fds,
            root_path,
            known: Known::default(),
            dirs: Dirs::default(),
            usage: Usage::default(),
            leaving: Leaving::default(),
        };
        orphans::prepare(&store)?;
        Ok(store)
    }

    /// The node id of `name` in `dir`.
    ///
    /// # Errors
    /// `ENOENT` where there is none, else as `name_to_handle_at(2)`.
    pub fn node_at(&self, dir: impl AsFd, name: &CStr) -> io::Result<Node> {
        Ok(self.node(handle::id_at(self.layout, dir.as_fd(), name)?))
    }

    /// The node id of an open file.
    ///
    /// # Errors
    /// As `name_to_handle_at(2)`.
    pub fn node_of(&self, fd: impl AsFd) -> io::Result<Node> {
        Ok(self.node(handle::id_of(self.layout, fd)?))
    }

    /// Status of `name` in `dir`; a symbolic link is not followed.
    ///
    /// # Errors
    /// `ENOENT` where there is none, else as `fstatat(2)`.
    pub fn attr_at(&self, dir: impl AsFd, name: &CStr) -> io::Result<Attr> {
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Attr {
            node: self.node_at(dir, name)?,
            stat,
        })
    }

    /// Status of an open file whose node id is known.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn attr_of(&self, node: Node, fd: impl AsFd) -> io::Result<Attr> {
        Ok(Attr {
            node,
            stat: rustix::fs::fstat(fd)?,
        })
    }

    /// Status of a node.
    ///
    /// # Errors
    /// As [`Store::open_node`].
    pub fn attr(&self, node: Node) -> io::Result<Attr> {
        match self.dirs.known(node) {
            Some(dir) => self.attr_of(node, &dir),
            None => self.attr_of(node, self.open_node(node, OFlags::PATH)?),
        }
    }

    /// Opens a node.
    ///
    /// # Errors
    /// `ESTALE` when the file is gone, else as `open(2)`.
    pub fn open_node(&self, node: Node, flags: OFlags) -> io::Result<OwnedFd> {
        let id = if node == ROOT { self.root_id } else { node.0 };
        handle::open(self.layout, self.root.as_fd(), id, flags)
    }

    /// A directory node to look names up in it.
    ///
    /// # Errors
    /// As [`Store::open_node`].
    pub fn dir(&self, node: Node) -> io::Result<Arc<Dir>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        self.dirs.get(node, || self.open_node(node, flags))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As `rmdir(2)`.
    pub fn rmdir(&self, dir: impl AsFd, name: &CStr) -> io::Result<()> {
        let node = self.node_at(&dir, name)?;
        self.dirs.forget(node);
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
        self.dirs.forget(node); // opened since
        self.usage.forget(node);
        Ok(())
    }

    /// Opens a directory node to list it, which a descriptor for looking up does not serve.
    ///
    /// # Errors
    /// As [`Store::open_node`].
    pub fn open_list(&self, node: Node) -> io::Result<OwnedFd> {
        self.open_node(node, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the directory at `path`, relative to the root, through no symbolic link.
    ///
    /// # Errors
    /// As `openat2(2)`: `ENOENT` where there is none, `ELOOP` for a symbolic link.
    pub fn open_path(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let beneath =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(
            &self.root,
            path.as_ref(),
            flags,
            Mode::empty(),
            beneath,
        )?)
    }

    /// Where files are, as far as it is remembered.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// How much lies here of whom.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The directories that are to be removed unless somebody looks at them.
    pub fn leaving(&self) -> &Leaving {
        &self.leaving
    }

    /// The root itself, for `statvfs` and for what is made in it.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The components of an open file's path below the root, or `None` when it has none any more.
    ///
    /// # Errors
    /// As `readlink(2)` on `/proc`.
    pub fn path_of(&self, fd: impl AsFd) -> io::Result<Option<Vec<Vec<u8>>>> {
        let path = read_link(&self.proc_fds, fd.as_fd())?;
        if let Some(components) = below(&path, &self.root_path.read()) {
            return Ok(Some(components));
        }
        // Not below the root: unlinked, or somebody has moved the backing directory.
        let root = read_link(&self.proc_fds, self.root.as_fd())?;
        let components = below(&path, &root);
        *self.root_path.write() = root;
        Ok(components)
    }

    fn node(&self, id: u64) -> Node {
        if id == self.root_id { ROOT } else { Node(id) }
    }
}

/// Where an open file is, of the whole name space.
fn read_link(proc_fds: &OwnedFd, fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let link = rustix::path::DecInt::from_fd(fd);
    Ok(rustix::fs::readlinkat(proc_fds, link, Vec::with_capacity(256))?.into_bytes())
}

/// The components of `path` below `root`; `None` for what is not there or has been unlinked.
fn below(path: &[u8], root: &[u8]) -> Option<Vec<Vec<u8>>> {
    match path.strip_prefix(root)? {
        [] => Some(Vec::new()),
        [b'/', rest @ ..] if !rest.ends_with(b" (deleted)") => {
            Some(rest.split(|b| *b == b'/').map(<[u8]>::to_vec).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unlinked_or_elsewhere_has_no_path() {
        let path = |path: &str| below(path.as_bytes(), b"/run/b").map(|p| p.join(&b'|'));
        assert_eq!(path("/run/b").as_deref(), Some(&b""[..]));
        assert_eq!(path("/run/b/d0/u").as_deref(), Some(&b"d0|u"[..]));
        assert_eq!(path("/run/b/d0/u/x (deleted)"), None);
        assert_eq!(path("/run/bb/d0"), None);
        assert_eq!(path("/run"), None);
    }
}
