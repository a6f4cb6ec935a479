//! Becoming a process of one's own: fork, and letting go of what the caller left open.

use std::io;

/// Which of the two processes this is after [`fork`].
#[derive(Debug)]
pub enum Forked {
    /// The caller's process.
    Parent,
    /// The new one.
    Child,
}

/// Forks. Refused once there is a second thread: of that one the child would inherit held locks
/// but no owner that ever lets them go.
pub fn fork() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("fork with more than one thread"));
    }
    // SAFETY: fork is sound for a process of one thread, which was just seen; this thread itself
    // is here and starts no other.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// Closes every descriptor above standard error: what a caller leaves open by accident (a lock
/// file, a pipe that somebody reads to its end) must not live as long as a daemon does.
///
/// To be called first thing, before this program has opened anything.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing of this program holds a descriptor yet, so that none is closed under its
    // owner: main calls this before anything is opened, and the runtime keeps only 0, 1 and 2.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives the calling thread a table of descriptors of its own, with nothing in it, not even the standard ones: they may be
/// the caller's, who waits for their end.
///
/// What the rest of the process has open is then closed when the rest of it ends, even where this thread cannot end. Whoever
/// calls this uses no descriptor in this thread that was opened before, and logs nothing, as that may go through one.
pub fn forget_descriptors() -> io::Result<()> {
    let unshare = libc::CLOSE_RANGE_UNSHARE;
    // SAFETY: the flag has the kernel close them in a copy of the table that only this thread has; those of all other
    // threads stay as they are, and this one owns none, as the caller promises.
    match unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, unshare) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
