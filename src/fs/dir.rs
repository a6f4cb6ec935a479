//! Listing directories, which never asks the gate and touches nothing.
//!
//! Entries are in the order of a hash of their names, which is also their offset: a listing goes on at
//! the right place though names come and go, and in another worker.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use dashmap::DashMap;
use rustix::fs::FileType;

use super::error::Result;
use super::place::is_private;
use super::{Core, Handle, stale};
use crate::store::Node;

/// Offsets up to here are those of `.` and `..`.
const FIRST_OFFSET: u64 = 3;

/// More than fit into the kernel's largest READDIR.
const MAX_ENTRIES: usize = 4096;
/// So many listings are kept; others are made anew for each READDIR. Anybody may open directories.
const MAX_LISTINGS: usize = 64;

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

/// Listings under way. One that is not found here is made anew.
#[derive(Debug, Default)]
pub struct Listings {
    open: DashMap<u64, Arc<Vec<Entry>>>,
}

impl Core {
    /// The entries after `offset`. `handle` is unlike that of any other listing, an earlier worker's too.
    ///
    /// # Errors
    /// As `readdir(3)`, ESTALE when the directory is gone.
    pub fn readdir(&self, node: Node, handle: Handle, offset: u64) -> Result<Vec<Entry>> {
        let known = self
            .listings
            .open
            .get(&handle.0)
            .map(|list| Arc::clone(&list));
        let entries = match known {
            Some(entries) if offset > 0 => entries,
            _ => {
                let entries = Arc::new(self.list(node)?);
                if self.listings.open.len() < MAX_LISTINGS {
                    self.listings.open.insert(handle.0, Arc::clone(&entries));
                }
                entries
            }
        };
        let from = entries.partition_point(|entry| entry.offset <= offset);
        let to = entries.len().min(from + MAX_ENTRIES);
        Ok(entries[from..to].to_vec())
    }

    /// Ends a listing.
    pub fn releasedir(&self, handle: Handle) {
        self.listings.open.remove(&handle.0);
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
