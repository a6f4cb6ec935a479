//! Locks that belong to one open file (`F_OFD_SETLK`, `flock(2)`), tried without waiting.
//!
//! Classic `fcntl` locks belong to the process: closing any descriptor of the file would drop them.
//! Open-file-description locks exclude, and are excluded by, the classic ones Dovecot takes.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::FlockOperation;

/// Tries to write-lock the whole file; `false` when somebody else holds a lock.
///
/// # Errors
/// As `fcntl(2)`: `ENOLCK` where the NFS mount has no locking, and so on.
pub fn try_fcntl(file: impl AsFd) -> io::Result<bool> {
    // SAFETY: `flock` is plain old data for which all-zero is valid: the whole file, pid 0 as OFD locks demand.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    // SAFETY: `lock` outlives the call and the descriptor is open.
    let rc = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if rc == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        e if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        e => Err(e),
    }
}

/// Tries to `flock(2)` the file exclusively; `false` when somebody else holds a lock.
///
/// # Errors
/// As `flock(2)`.
pub fn try_flock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
