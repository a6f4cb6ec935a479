//! What a descriptor has to tell at this moment.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Which of the `wanted` events have come, and those of which `poll(2)` tells always. Waits for none.
///
/// # Errors
/// As `poll(2)`.
pub fn now(fd: impl AsFd, wanted: PollFlags) -> rustix::io::Result<PollFlags> {
    let mut fds = [PollFd::new(&fd, wanted)];
    poll(&mut fds, Some(&Timespec::default()))?;
    Ok(fds[0].revents())
}
