//! Listing directories, which never asks the gate and touches nothing.
//!
//! Entries are in the order of a hash of their names, which is also their offset: a listing goes on at
//! the right place though names come and go, and in another worker.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FileType;

use super::error::Result;
use super::place::is_private;
use super::{Core, Handle, stale};
use crate::store::Node;

/// Offsets up to here are those of `.` and `..`.
const FIRST_OFFSET: u64 = 3;

/// So many listings are kept, and so many entries of all together, of some eighty bytes each: anybody may open directories.
/// The rest of a listing that had to make room for others is made anew.
const MAX_LISTINGS: usize = 64;
const MAX_KEPT: usize = 1 << 20;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the listing goes on after it.
    pub offset: u64,
    /// Its inode number: the node id is only known by a lookup.
    pub ino: u64,
    /// Its kind.
    pub kind: FileType,
    /// Its name.
    pub name: OsString,
}

/// The rest of a listing.
#[derive(Debug)]
pub struct Rest {
    listing: Arc<Vec<Entry>>,
    from: usize,
}

impl Rest {
    /// Its entries, more perhaps than are asked for at a time.
    pub fn entries(&self) -> &[Entry] {
        &self.listing[self.from..]
    }
}

/// Listings under way, those that were opened first before the others. One that is not found here is made anew.
#[derive(Debug, Default)]
pub struct Listings(Mutex<BTreeMap<u64, Arc<Vec<Entry>>>>);

impl Listings {
    fn get(&self, handle: Handle) -> Option<Arc<Vec<Entry>>> {
        self.0.lock().get(&handle.0).map(Arc::clone)
    }

    fn keep(&self, handle: Handle, entries: &Arc<Vec<Entry>>) {
        let mut open = self.0.lock();
        open.remove(&handle.0);
        let mut kept: usize = open.values().map(|entries| entries.len()).sum();
        while open.len() >= MAX_LISTINGS || kept + entries.len() > MAX_KEPT {
            let Some((_, gone)) = open.pop_first() else {
                break; // one alone may be larger
            };
            kept -= gone.len();
        }
        open.insert(handle.0, Arc::clone(entries));
    }
}

impl Core {
    /// The entries after `offset`. `handle` is unlike that of any other listing, an earlier worker's too.
    ///
    /// # Errors
    /// As `readdir(3)`, ESTALE when the directory is gone.
    pub fn readdir(&self, node: Node, handle: Handle, offset: u64) -> Result<Rest> {
        let listing = match self.listings.get(handle) {
            Some(listing) if offset > 0 => listing,
            _ => {
                let listing = Arc::new(self.list(node)?);
                self.listings.keep(handle, &listing);
                listing
            }
        };
        let from = listing.partition_point(|entry| entry.offset <= offset);
        Ok(Rest { listing, from })
    }

    /// Ends a listing.
    pub fn releasedir(&self, handle: Handle) {
        self.listings.0.lock().remove(&handle.0);
    }

    fn list(&self, node: Node) -> Result<Vec<Entry>> {
        let dir = self.store.open_list(node).map_err(stale)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if !is_private(node, &name) {
                entries.push(Entry {
                    offset: offset_of(&name),
                    ino: entry.ino(),
                    kind: entry.file_type(),
                    name,
                });
            }
        }
        entries.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        Ok(entries)
    }
}

fn offset_of(name: &OsString) -> u64 {
    match name.as_encoded_bytes() {
        b"." => 1,
        b".." => 2,
        bytes => {
            let mut hasher = DefaultHasher::new(); // the same keys in every process
            hasher.write(bytes);
            // The kernel's offsets are signed.
            (hasher.finish() >> 1).max(FIRST_OFFSET)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(entries: usize) -> Arc<Vec<Entry>> {
        let entry = Entry {
            offset: FIRST_OFFSET,
            ino: 1,
            kind: FileType::Directory,
            name: OsString::new(),
        };
        Arc::new(vec![entry; entries])
    }

    fn kept(listings: &Listings) -> Vec<u64> {
        listings.0.lock().keys().copied().collect()
    }

    #[test]
    fn who_opens_directories_and_never_closes_them_costs_so_much_and_holds_up_nobody() {
        let listings = Listings::default();
        let (small, large) = (listing(1), listing(MAX_KEPT / 2));
        for handle in 0..2 * MAX_LISTINGS as u64 {
            listings.keep(Handle(handle), &small);
        }
        let last = 2 * MAX_LISTINGS as u64;
        assert_eq!(kept(&listings).len(), MAX_LISTINGS);
        listings.keep(Handle(last), &large);
        assert_eq!(
            kept(&listings).len(),
            MAX_LISTINGS,
            "there is room for both"
        );
        listings.keep(Handle(last + 1), &large);
        assert_eq!(kept(&listings), [last, last + 1]);
        listings.keep(Handle(last), &large);
        assert_eq!(kept(&listings), [last, last + 1], "made anew");
        listings.keep(Handle(last + 2), &listing(MAX_KEPT + 1));
        assert_eq!(kept(&listings), [last + 2]);
    }
}
