//! READ, WRITE, FALLOCATE, STATFS: a file is opened by handle each time, so that no descriptor is kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{OFlags, StatVfs};
use rustix::io::Errno;

use super::error::Result;
use super::open::WRITTEN;
use super::{Call, Core, Handle, stale};
use crate::store::Node;
use crate::user::process::Caller;
use crate::user::state::UserState;

/// An unlinked file may be written as long as this, bytes: Dovecot's logs are rotated before.
const MOST_OF_ORPHAN: u64 = 1 << 20;

impl Core {
    /// Reads up to `size` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// As `pread(2)`, ESTALE when the file is gone.
    pub fn read(
        &self,
        call: &Call,
        node: Node,
        handle: Handle,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>> {
        self.read_some(node, offset, size).inspect_err(|stop| {
            let pid = handle.0 as u32;
            let caller = Caller { pid, ..call.caller };
            self.not_had("read", caller, stop, || self.opens.owner(node));
        })
    }

    fn read_some(&self, node: Node, offset: u64, size: u32) -> Result<Vec<u8>> {
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

    /// Writes `data`, or what of it there is room for; returns how many bytes.
    ///
    /// # Errors
    /// As `pwrite(2)`, ESTALE when the file is gone.
    pub fn write(
        &self,
        call: &Call,
        node: Node,
        handle: Handle,
        offset: u64,
        data: &[u8],
    ) -> Result<usize> {
        let write = || {
            let file = self.store.open_file(node, OFlags::WRONLY)?;
            self.grows(node, &file, offset.saturating_add(data.len() as u64))?;
            self.gate.with_room(|| write_some(&file, offset, data))
        };
        self.change_open(call, node, handle, write)
    }

    /// Changes an open file. Who has changed a list index is fenced at its end; who could not is a ghost.
    pub(super) fn change_open<T>(
        &self,
        call: &Call,
        node: Node,
        handle: Handle,
        change: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let Some(state) = self.opens.owner(node) else {
            return Ok(change()?);
        };
        // The kernel writes mapped pages back on its own account: the handle tells whose they are.
        let pid = handle.0 as u32;
        state.wrote(pid);
        let caller = Caller { pid, ..call.caller };
        Ok(change().inspect_err(|e| self.gate.spoiled(&state, caller, WRITTEN, e))?)
    }

    /// A file is about to grow to `size`: its user's growth counts, whatever file it is.
    ///
    /// # Errors
    /// EDQUOT when it is more than one user may have.
    pub(super) fn grows(&self, node: Node, file: &File, size: u64) -> io::Result<()> {
        let old = file.metadata()?.len();
        if size <= old {
            return Ok(());
        }
        if self.opens.is_orphan(node) {
            // In nobody's directory any more, so it is not counted.
            let bounded = self.config.bounds.max_user_bytes.is_some();
            return match bounded && size > MOST_OF_ORPHAN {
                true => Err(Errno::DQUOT.into()),
                false => Ok(()),
            };
        }
        let state = match self.opens.owner(node) {
            Some(state) => Some(state),
            None => self.user_of(file)?,
        };
        state.map_or(Ok(()), |state| self.gate.grows(&state, old, size))
    }

    /// In whose directory a file is, or was when it was opened.
    fn user_of(&self, file: &File) -> io::Result<Option<Arc<UserState>>> {
        let mut path = self.store.path_of(file)?.unwrap_or_default();
        path.pop(); // a file in the very place of a user's directory is nobody's
        let components = path.iter().map(Vec::as_slice);
        let dir: Vec<&[u8]> = components.take(self.config.layout.depth()).collect();
        let user = self.config.layout.user_of(&dir);
        Ok(user.map(|user| self.gate.user(&user)))
    }

    /// The backing's own figures.
    ///
    /// # Errors
    /// As `fstatvfs(2)`.
    pub fn statfs(&self) -> Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(self.store.root())?)
    }
}

/// Writes what there is room for; the next call meets the error.
fn write_some(file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < data.len() {
        match file.write_at(&data[done..], offset + done as u64) {
            Ok(n) => done += n,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
