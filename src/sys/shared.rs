//! Shared memory that outlives its writer: what one process has stored there the next one finds.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// A file of memory (`memfd_create(2)`), mapped as a whole.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is changed through `&mut` or atomically only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps `len` bytes of `file` from `offset`, a multiple of the page size, and makes it long enough. Its pages are there
    /// from then on: no write fails for want of memory, and no read(2) into them because its process is being killed. One of
    /// `/dev/fuse` that fails so has taken a request, which the kernel then answers with EIO.
    ///
    /// # Errors
    /// As `fallocate(2)` and `mmap(2)`.
    pub fn map(file: &File, offset: usize, len: usize) -> io::Result<Self> {
        rustix::fs::fallocate(file, FallocateFlags::empty(), offset as u64, len as u64)?;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing in this process refers to it.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                file.as_fd(),
                offset as u64,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Shared { start, len })
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// All of it. Who calls has it alone: other processes look at it when this one has ended.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, readable and writable for as long as `self` lives, and borrowed as `self` is. Nobody else writes there
        // while this process lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Copies `bytes` to the offset `at`.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(bytes.len() <= self.len && at <= self.len - bytes.len());
        // SAFETY: within the mapping, as was just checked, and not overlapping with `bytes`: no reference into the mapping is
        // ever given out. Other processes only write here when this one has ended.
        unsafe {
            let to = self.start.as_ptr().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// All of it as numbers that several processes may change at once.
    pub fn cells(&self) -> &[AtomicU64] {
        // SAFETY: mapped for as long as `self` lives, beginning at a page, so aligned; AtomicU64 has the layout of a u64, and every
        // value is one. No other reference into it can be alive: those that change it plainly borrow `self` mutably.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len / 8) }
    }

    /// Stores a number at the offset `at`, a multiple of 8, in one step: after all that was written before.
    ///
    /// # Panics
    /// When it does not fit there.
    pub fn store(&mut self, at: usize, number: u64) {
        assert!(at % 8 == 0 && at + 8 <= self.len);
        // SAFETY: within the mapping, which begins at a page, so aligned; AtomicU64 has the layout of a u64.
        let place = unsafe { &*self.start.as_ptr().add(at).cast::<AtomicU64>() };
        place.store(number.to_le(), Ordering::Release);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody has a reference into it.
        if let Err(e) = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) } {
            log::error!("munmap: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_stored_is_in_the_file() {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(fd);
        let mut shared = Shared::map(&file, 0, 4096).unwrap();
        shared.write(16, b"one");
        shared.store(8, 3);
        drop(shared);
        let mut bytes = [0; 19];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[16..], bytes[8]), (&b"one"[..], 3));
    }

    #[test]
    fn two_mappings_of_one_file_share_their_cells_whatever_their_lengths() {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(fd);
        let short = Shared::map(&file, 0, 4096).unwrap();
        let long = Shared::map(&file, 0, 3 * 4096).unwrap();
        long.cells()[511].fetch_add(3, Ordering::Relaxed);
        assert_eq!(short.cells()[511].load(Ordering::Relaxed), 3);
        assert_eq!((short.cells().len(), long.cells().len()), (512, 1536));
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn nothing_is_written_beyond_its_end() {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        Shared::map(&File::from(fd), 0, 4096)
            .unwrap()
            .write(4094, b"one");
    }
}
