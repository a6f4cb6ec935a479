//! The mount point: made harmless while nothing is mounted there, and left in order.
//!
//! Dovecot survives a list index that cannot be written, but not a directory that cannot be made. So what it finds where
//! listindexfs should be is a tmpfs in which anybody can make directories and nothing can be written, as it is full.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount as umount,
};

use super::bounded::Asked;
use super::mounts::{self, Served};
use crate::daemon::mount::{BARE, is_bare, is_ours};
use crate::exit::{Exit, Failure};
use crate::mountinfo;
use crate::unmount::{self, Users};

/// What fills the tmpfs.
const FILLING: &str = ".full";

/// Makes `point` if it is missing, and puts the full tmpfs there, a new one where there is one already that nobody uses.
/// A listindexfs that stands there is left alone.
pub fn prepare(point: &Path) -> Result<Exit, Failure> {
    let name = point.display();
    let cannot = |error: Errno| Failure::system(format!("cannot prepare {name}: {error}"));
    match mountinfo::uppermost(&mounts::table()?, point.as_os_str()) {
        Some(mount) if is_ours(&mount) => return Ok(Exit::Success),
        Some(mount) if is_bare(&mount) => match umount(point, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::BUSY) => return Ok(Exit::Success),
            Err(error) => return Err(cannot(error)),
        },
        Some(mount) => {
            let fs = mount.fs;
            return Err(Failure::mount(format!(
                "{name} has {fs} mounted on it, which is none of ours: unmount that first"
            )));
        }
        None => make(point)?,
    }
    mount_full(point).map_err(cannot)?;
    Ok(Exit::Success)
}

fn make(point: &Path) -> Result<(), Failure> {
    let mut directory = std::fs::DirBuilder::new();
    let made = directory.recursive(true).mode(0o755).create(point);
    made.map_err(|error| Failure::mount(format!("cannot make {}: {error}", point.display())))
}

/// One page, and that is taken before anybody sees it. The mode's setgid bit has Dovecot make directories that all may enter.
fn mount_full(point: &Path) -> Result<(), Errno> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("source", BARE), ("size", "1"), ("mode", "3777")] {
        fsconfig_set_string(&tmpfs, key, value)?;
    }
    fsconfig_create(&tmpfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut filling = File::from(rustix::fs::openat(&mount, FILLING, flags, Mode::RUSR)?);
    while filling.write_all(&[0; 4096]).is_ok() {}
    drop(filling);
    move_mount(
        &mount,
        "",
        CWD,
        point,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// Unmounts as soon as nobody uses the mount, without its users if they take longer. A dead one goes at once.
pub fn unmount(mount: &Served, within: Duration) -> Result<Exit, Failure> {
    let (point, name) = (&mount.point, mount.point.display());
    match unmount::in_order(point, within, || mounts::ask(mount) == Asked::Dead) {
        Ok(Users::None) => Ok(Exit::Success),
        Ok(Users::Some) => {
            let line = format!(
                "{name}: somebody uses it still: it is unmounted with files open; restart Dovecot after the next mount"
            );
            crate::cli::complain("listindexctl", line);
            Ok(Exit::Success)
        }
        // Somebody else was faster.
        Err(Errno::INVAL) if mounts::find(Some(point)).is_err() => Ok(Exit::Success),
        Err(error) => Err(Failure::mount(format!("cannot unmount {name}: {error}"))),
    }
}
