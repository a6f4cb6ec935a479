//! Descriptors that change hands between processes and libraries.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that the parent process left open for this one, and keeps it from our own children.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number that may be no descriptor fails with EBADF and does nothing.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nothing else in this program knows of it: the parent names each one once, and the
    // caller takes each name once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts the file of `with` behind the descriptor `place`, whose own file is closed.
///
/// # Errors
/// As `dup3(2)`.
pub fn replace(place: BorrowedFd<'_>, with: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open, and `place` stays its owner's: only the file behind it is another.
    let rc = unsafe { libc::dup3(with.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) };
    match rc {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
