//! File handles (`name_to_handle_at(2)`, `open_by_handle_at(2)`) as 64-bit node ids.
//!
//! tmpfs and the ext family name an inode by 32 bits of number and 32 bits of generation: both fit
//! into a FUSE node id, so that no inode table is needed and ids outlive the process.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;

/// `FILEID_INO32_GEN` of the kernel's `exportfs.h`, the type that tmpfs and ext4 use.
const FILEID_INO32_GEN: i32 = 1;

/// How a file system lays out its handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// tmpfs: generation, low and high half of the inode number.
    Shmem,
    /// ext2, ext3, ext4 and others: inode number, generation.
    Ino32Gen,
}

/// The kernel's `struct file_handle` with room for the handles we accept.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    bytes: u32,
    kind: i32,
    words: [u32; 4],
}

/// Tells which handle layout the file system of `dir` has.
///
/// # Errors
/// `EOPNOTSUPP` where handles are of another kind or do not fit into 64 bits.
pub fn layout_of(dir: BorrowedFd<'_>) -> io::Result<Layout> {
    let raw = raw_handle(dir, c"", libc::AT_EMPTY_PATH)?;
    match (raw.kind, raw.bytes) {
        (FILEID_INO32_GEN, 12) => Ok(Layout::Shmem),
        (FILEID_INO32_GEN, 8) => Ok(Layout::Ino32Gen),
        _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    }
}

/// The node id of `name` in `dir`; a symbolic link is not followed.
///
/// # Errors
/// As `name_to_handle_at(2)`; `EOVERFLOW` for an inode number above 32 bits.
pub fn id_at(layout: Layout, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<u64> {
    pack(layout, raw_handle(dir, name, 0)?)
}

/// The node id of an open file.
///
/// # Errors
/// As [`id_at`].
pub fn id_of(layout: Layout, fd: impl AsFd) -> io::Result<u64> {
    pack(layout, raw_handle(fd.as_fd(), c"", libc::AT_EMPTY_PATH)?)
}

/// Opens the file that `id` names on the file system of `on`. Needs `CAP_DAC_READ_SEARCH`.
///
/// # Errors
/// `ESTALE` when the file is gone, else as `open_by_handle_at(2)`.
pub fn open(layout: Layout, on: BorrowedFd<'_>, id: u64, flags: OFlags) -> io::Result<OwnedFd> {
    let mut raw = unpack(layout, id);
    let flags = (flags | OFlags::CLOEXEC).bits() as i32;
    // SAFETY: `raw` is a complete handle of `raw.bytes` bytes that outlives the call; `on` is open.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            on.as_raw_fd(),
            &raw mut raw,
            flags,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn raw_handle(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> io::Result<Raw> {
    let mut raw = Raw {
        bytes: 16,
        kind: 0,
        words: [0; 4],
    };
    let mut mount_id = 0i32;
    // SAFETY: `raw` has room for the 16 bytes it announces, `name` is NUL-terminated, all outlive the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            flags,
        )
    };
    if rc == 0 {
        Ok(raw)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn pack(layout: Layout, raw: Raw) -> io::Result<u64> {
    let (generation, ino) = match (layout, raw.bytes) {
        (Layout::Shmem, 12) if raw.words[2] == 0 => (raw.words[0], raw.words[1]),
        (Layout::Ino32Gen, 8) => (raw.words[1], raw.words[0]),
        _ => return Err(io::Error::from_raw_os_error(libc::EOVERFLOW)),
    };
    Ok(u64::from(generation) << 32 | u64::from(ino))
}

fn unpack(layout: Layout, id: u64) -> Raw {
    let (generation, ino) = ((id >> 32) as u32, id as u32);
    match layout {
        Layout::Shmem => Raw {
            bytes: 12,
            kind: FILEID_INO32_GEN,
            words: [generation, ino, 0, 0],
        },
        Layout::Ino32Gen => Raw {
            bytes: 8,
            kind: FILEID_INO32_GEN,
            words: [ino, generation, 0, 0],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_round_trip_in_both_layouts() {
        for layout in [Layout::Shmem, Layout::Ino32Gen] {
            let id = 0xdead_beef_0000_0007;
            assert_eq!(pack(layout, unpack(layout, id)).unwrap(), id);
        }
    }

    #[test]
    fn an_inode_number_above_32_bits_is_refused() {
        let raw = Raw {
            bytes: 12,
            kind: FILEID_INO32_GEN,
            words: [1, 2, 3, 0],
        };
        assert_eq!(
            pack(Layout::Shmem, raw).unwrap_err().raw_os_error(),
            Some(libc::EOVERFLOW)
        );
    }
}
