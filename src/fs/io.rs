//! READ, WRITE, FALLOCATE, STATFS: a file is opened by handle each time, so that no descriptor is kept.

use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, OFlags, StatVfs};

use super::error::Result;
use super::{Core, stale};
use crate::store::Node;

impl Core {
    /// Reads up to `size` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// As `pread(2)`, ESTALE when the file is gone.
    pub fn read(&self, node: Node, offset: u64, size: u32) -> Result<Vec<u8>> {
        let file = self.store.open_file(node, OFlags::RDONLY).map_err(stale)?;
        let mut bytes = vec![0; size as usize];
        let mut have = 0;
        while have < bytes.len() {
            match file.read_at(&mut bytes[have..], offset + have as u64)? {
                0 => break,
                n => have += n,
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// As `pwrite(2)`, ESTALE when the file is gone.
    pub fn write(&self, node: Node, offset: u64, data: &[u8]) -> Result<()> {
        let file = self.store.open_file(node, OFlags::WRONLY).map_err(stale)?;
        self.mark_written(node);
        Ok(file.write_all_at(data, offset)?)
    }

    /// Reserves or punches room.
    ///
    /// # Errors
    /// As `fallocate(2)`.
    pub fn fallocate(
        &self,
        node: Node,
        flags: FallocateFlags,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let file = self.store.open_file(node, OFlags::WRONLY).map_err(stale)?;
        self.mark_written(node);
        Ok(rustix::fs::fallocate(&file, flags, offset, len)?)
    }

    /// The backing's own figures.
    ///
    /// # Errors
    /// As `fstatvfs(2)`.
    pub fn statfs(&self) -> Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(self.store.root())?)
    }

    /// After the last close of a user who wrote, a fence may be due.
    pub(super) fn mark_written(&self, node: Node) {
        if let Some(state) = self.opens.owner(node) {
            state.wrote();
        }
    }
}
