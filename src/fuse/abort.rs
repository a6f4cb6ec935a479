//! Breaks a connection off: who waits for an answer is told that none will come, and nothing is asked any more.
//!
//! `umount2(2)` does that to a mount that stands; one that has been detached it does not reach. FUSE's control file system does. It
//! is mounted for this alone and where nobody sees it, since not every host has it in `/sys`.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::is_unmounted;

/// The file system's name.
const CONTROL: &str = "fusectl";

/// Takes the mount of `dev_fuse` away from those who still use it, and says so. `device` is its number, `major:minor`. Tells whether
/// nobody uses it any more.
pub fn take_from_users(dev_fuse: &OwnedFd, device: &str, place: impl Display) -> bool {
    let broken_off = break_off(dev_fuse, device);
    match &broken_off {
        Ok(()) => log::warn!("{place} still has files open: ending without their users"),
        Err(error) => log::error!("cannot break off the mount on {place}: {error}"),
    }
    broken_off.is_ok()
}

/// Breaks the connection off, unless its mount has ended by itself.
fn break_off(dev_fuse: &OwnedFd, device: &str) -> io::Result<()> {
    let number = number(device).ok_or(io::ErrorKind::InvalidInput)?;
    let control = fsopen(CONTROL, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(control.as_fd())?;
    let closed = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let control = fsmount(control.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, closed)?;
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let abort = openat(&control, format!("{number}/abort"), flags, Mode::empty());
    // As soon as a mount has ended its number may be another's. A file that was open before that is still the old one's.
    if is_unmounted(dev_fuse) {
        return Ok(());
    }
    rustix::io::write(abort?, b"1")?;
    Ok(())
}

/// The kernel's own form of a device number, by which FUSE names its connections.
fn number(device: &str) -> Option<u64> {
    let (major, minor) = device.split_once(':')?;
    Some(major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_its_devices_number() {
        assert_eq!(number("0:51"), Some(51));
        assert_eq!(number("8:1"), Some((8 << 20) + 1));
        assert_eq!(number("51"), None);
    }
}
