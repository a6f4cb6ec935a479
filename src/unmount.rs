//! An unmount that waits for the mount's users, and for those that do not go only so long.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// How often it is looked whether the users have gone.
const POLL: Duration = Duration::from_millis(50);

/// Who used the mount when it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// Nobody.
    None,
    /// Somebody, whose files stay open for as long as it is served.
    Some,
}

/// Unmounts what is uppermost at `point` as soon as nobody uses it; after `within`, or once `hurry` says so, it is detached.
///
/// # Errors
/// As `umount2(2)`, but for `EBUSY`.
pub fn in_order(
    point: &Path,
    within: Duration,
    mut hurry: impl FnMut() -> bool,
) -> Result<Users, Errno> {
    let until = Instant::now() + within;
    loop {
        let patient = Instant::now() < until && !hurry();
        let (flags, users) = match patient {
            true => (UnmountFlags::empty(), Users::None),
            false => (UnmountFlags::DETACH, Users::Some),
        };
        match unmount(point, flags | UnmountFlags::NOFOLLOW) {
            Ok(()) => return Ok(users),
            Err(Errno::BUSY) => sleep(POLL),
            Err(error) => return Err(error),
        }
    }
}
