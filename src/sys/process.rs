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
