//! Who has which file open: counts by node, so that an unlinked file lives until its last RELEASE.
//!
//! This is the only table: it holds open files, not known ones. `O` is what the opener belongs to.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::Node;

/// One open file.
#[derive(Debug)]
pub struct Open<O> {
    count: u32,
    /// Unlinked, and kept in the private directory until its last RELEASE.
    pub orphan: bool,
    /// Whose file it is.
    pub owner: Option<O>,
}

/// The open files of the mount.
#[derive(Debug)]
pub struct Opens<O> {
    files: DashMap<Node, Open<O>>,
}

impl<O> Default for Opens<O> {
    fn default() -> Self {
        Opens {
            files: DashMap::new(),
        }
    }
}

impl<O: Clone> Opens<O> {
    /// Counts one more OPEN or CREATE of `node`.
    pub fn add(&self, node: Node, owner: Option<O>) {
        let mut file = self.files.entry(node).or_insert(Open {
            count: 0,
            orphan: false,
            owner: None,
        });
        file.count += 1;
        // A file that has become a list index since it was first opened.
        if file.owner.is_none() {
            file.owner = owner;
        }
    }

    /// Takes over a file that was opened through an earlier worker.
    pub fn restore(&self, node: Node, count: u32, orphan: bool, owner: Option<O>) {
        self.files.insert(
            node,
            Open {
                count,
                orphan,
                owner,
            },
        );
    }

    /// Counts one RELEASE. `last` runs under the node's lock when none is left and the file is an orphan.
    pub fn remove(&self, node: Node, last: impl FnOnce()) -> Option<O> {
        let Entry::Occupied(mut file) = self.files.entry(node) else {
            return None;
        };
        let owner = file.get().owner.clone();
        file.get_mut().count -= 1;
        if file.get().count == 0 {
            if file.get().orphan {
                last();
            }
            file.remove();
        }
        owner
    }

    /// Runs `f` under the node's lock, with the open file if there is one: no OPEN or RELEASE comes between.
    pub fn with<R>(&self, node: Node, f: impl FnOnce(Option<&mut Open<O>>) -> R) -> R {
        match self.files.entry(node) {
            Entry::Occupied(mut file) => f(Some(file.get_mut())),
            Entry::Vacant(_shard_stays_locked) => f(None),
        }
    }

    /// Whose open file `node` is.
    pub fn owner(&self, node: Node) -> Option<O> {
        self.files.get(&node)?.owner.clone()
    }

    /// How many files are open.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Whether `node` is open and has been unlinked.
    pub fn is_orphan(&self, node: Node) -> bool {
        self.files.get(&node).is_some_and(|file| file.orphan)
    }
}
