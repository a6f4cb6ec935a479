//! Where files are, remembered so that an OPEN need not ask the backing again.
//!
//! Every change of names goes through the store, which forgets a file both before and after it changes one: what was
//! remembered never outlives the name, and what was looked up while the name changed is not remembered.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::Node;
use crate::template::User;

/// So many files are remembered; then all are forgotten. Three hundred bytes each.
const MOST: usize = 1 << 16;

/// A file's only name.
#[derive(Debug)]
pub struct Named {
    /// Whose directory it lies in.
    pub user: User,
    /// Its name there.
    pub name: OsString,
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct Known {
    files: DashMap<Node, Arc<Named>>,
    changes: AtomicU64,
}

/// A moment before a file was looked up.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// A change of a file's names: it is forgotten now, and again when this is dropped.
#[must_use]
pub struct Change<'a>(&'a Known, Node);

impl Known {
    /// To be taken before a file is looked up that is to be remembered.
    pub fn mark(&self) -> Mark {
        Mark(self.changes.load(Ordering::SeqCst))
    }

    /// Where a file is.
    pub fn get(&self, node: Node) -> Option<Arc<Named>> {
        self.files.get(&node).map(|named| Arc::clone(&named))
    }

    /// Whether a file is still where it was.
    pub fn is_still(&self, node: Node, named: &Arc<Named>) -> bool {
        self.files
            .get(&node)
            .is_some_and(|now| Arc::ptr_eq(&now, named))
    }

    /// Remembers where a file is, unless a name has changed since `mark`.
    pub fn keep(&self, mark: Mark, node: Node, named: Named) {
        if self.files.len() >= MOST {
            self.files.clear();
        }
        // Who forgets it waits for the entry, and counts before: one of the two sees the other.
        let entry = self.files.entry(node);
        if self.changes.load(Ordering::SeqCst) == mark.0 {
            entry.insert(Arc::new(named));
        }
    }

    /// A name of this file is about to change.
    pub fn change(&self, node: Node) -> Change<'_> {
        self.forget(node);
        Change(self, node)
    }

    fn forget(&self, node: Node) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.files.remove(&node);
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Layout;

    const NODE: Node = Node(7);

    fn named() -> Named {
        Named {
            user: Layout::parse("%u").unwrap().user_named(b"u").unwrap(),
            name: "L".into(),
        }
    }

    #[test]
    fn what_changes_is_forgotten() {
        let known = Known::default();
        known.keep(known.mark(), NODE, named());
        let was = known.get(NODE).expect("remembered");
        assert!(known.is_still(NODE, &was));
        let change = known.change(NODE);
        assert!(!known.is_still(NODE, &was));
        drop(change);
        known.keep(known.mark(), NODE, named());
        assert!(!known.is_still(NODE, &was), "it was looked up anew");
    }

    #[test]
    fn what_was_looked_up_while_a_name_changed_is_not_remembered() {
        let known = Known::default();
        let before = known.mark();
        let change = known.change(NODE);
        let meanwhile = known.mark();
        known.keep(before, NODE, named());
        assert!(known.get(NODE).is_none());
        known.keep(meanwhile, NODE, named());
        drop(change);
        assert!(known.get(NODE).is_none());
        known.keep(meanwhile, NODE, named());
        assert!(known.get(NODE).is_none());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let known = Known::default();
        for node in 0..=MOST as u64 {
            known.keep(known.mark(), Node(node), named());
        }
        assert!(known.files.len() <= MOST && known.get(Node(MOST as u64)).is_some());
    }
}
