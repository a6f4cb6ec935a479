//! Directories in which names are looked up and made, kept open: opening one by its handle each time costs as much as
//! what is done in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;

use super::Node;
use crate::template::DirPlace;

/// So many are kept open; then all are let go. Few enough for the lowest limit of open files that a host may have.
const MOST: usize = 256;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where in the layout it lies, where that never changes.
    place: OnceLock<DirPlace>,
}

impl Dir {
    /// Its place, if it is known.
    pub fn place(&self) -> Option<&DirPlace> {
        self.place.get()
    }

    /// Its place is this as long as it exists.
    pub fn keep_place(&self, place: DirPlace) {
        // Said twice it is the same place.
        let _ = self.place.set(place);
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The directories that are kept open.
#[derive(Debug, Default)]
pub struct Dirs(DashMap<Node, Arc<Dir>>);

impl Dirs {
    /// The directory, opened by `open` unless it is.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn get(
        &self,
        node: Node,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<Arc<Dir>> {
        if let Some(dir) = self.known(node) {
            return Ok(dir);
        }
        let dir = Arc::new(Dir {
            fd: open()?,
            place: OnceLock::new(),
        });
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(node, Arc::clone(&dir));
        Ok(dir)
    }

    /// The directory, if it is open.
    pub fn known(&self, node: Node) -> Option<Arc<Dir>> {
        self.0.get(&node).map(|dir| Arc::clone(&dir))
    }

    /// The directory is about to be removed.
    pub fn forget(&self, node: Node) {
        self.0.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> io::Result<OwnedFd> {
        Ok(std::fs::File::open("/")?.into())
    }

    #[test]
    fn one_that_is_open_is_not_opened_again() {
        let dirs = Dirs::default();
        let first = dirs.get(Node(1), open).unwrap();
        let second = dirs.get(Node(1), || panic!("opened again")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        dirs.forget(Node(1));
        assert!(!Arc::ptr_eq(&first, &dirs.get(Node(1), open).unwrap()));
    }

    #[test]
    fn only_so_many_are_kept_open() {
        let dirs = Dirs::default();
        for node in 0..=MOST as u64 {
            dirs.get(Node(node), open).unwrap();
        }
        assert_eq!(dirs.0.len(), 1);
    }
}
