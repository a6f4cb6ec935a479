//! What must hold before anything is mounted. Each refusal says what to do.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::{lock, mountinfo};
use crate::exit::Failure;
use crate::options::BackingFs;

/// statx and openat2 as we use them, and what FUSE we negotiate.
pub const OLDEST_KERNEL: (u32, u32) = (5, 10);
pub const TMPFS_MAGIC: u64 = 0x0102_1994;
const DEV_FUSE: &str = "/dev/fuse";

/// We are root, and the kernel is not too old.
pub fn host() -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::usage(
            "only root can mount this: run it as root or from fstab",
        ));
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    match version(&release) {
        Some(found) if found < OLDEST_KERNEL => {
            let (major, minor) = OLDEST_KERNEL;
            Err(Failure::system(format!(
                "Linux {release} is too old: {major}.{minor} or later is needed"
            )))
        }
        _ => Ok(()),
    }
}

/// The first two numbers of a kernel's release.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Opens the FUSE device.
pub fn dev_fuse() -> Result<OwnedFd, Failure> {
    match File::options().read(true).write(true).open(DEV_FUSE) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(Failure::system(format!(
            "cannot open {DEV_FUSE}: {error}: load the kernel module (modprobe fuse), or let this container have the device"
        ))),
    }
}

/// Opens the backing, made if it is missing: a directory of root's that nobody else can enter,
/// on tmpfs.
pub fn backing(path: &Path, wanted: BackingFs) -> Result<OwnedFd, Failure> {
    let name = path.display();
    let made = match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(Errno::NOENT) => {
            return Err(Failure::mount(format!(
                "BACKING {name}: the directory it is to be made in does not exist: make that, or mount its tmpfs"
            )));
        }
        Err(error) => {
            return Err(Failure::mount(format!(
                "BACKING {name}: cannot make it: {error}"
            )));
        }
    };
    let opened = open_backing(path, wanted);
    if made && opened.is_err() {
        // Leaves nothing behind; if that fails, it is an empty directory.
        let _ = std::fs::remove_dir(path);
    }
    opened
}

/// The same of one that must be there.
pub fn open_backing(path: &Path, wanted: BackingFs) -> Result<OwnedFd, Failure> {
    let name = path.display();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
        Failure::mount(match error {
            Errno::NOTDIR | Errno::LOOP => {
                format!("BACKING {name} is not a directory: name one, and no symbolic link")
            }
            error => format!("BACKING {name}: cannot open it: {error}"),
        })
    })?;
    on_tmpfs(&directory, path, wanted)?;
    roots_alone(&directory, path)?;
    Ok(directory)
}

fn on_tmpfs(directory: &OwnedFd, path: &Path, wanted: BackingFs) -> Result<(), Failure> {
    let name = path.display();
    let found = rustix::fs::fstatfs(directory)
        .map_err(|error| Failure::mount(format!("BACKING {name}: statfs: {error}")))?;
    match wanted {
        BackingFs::Any => Ok(()),
        BackingFs::Tmpfs if u64::try_from(found.f_type) == Ok(TMPFS_MAGIC) => Ok(()),
        BackingFs::Tmpfs => Err(Failure::mount(format!(
            "BACKING {name} is not on tmpfs: mount one there, or say backing_fs=any"
        ))),
    }
}

/// What is in the backing is believed. So a directory that others could write to is refused, for
/// who knows what they left there; one that others could only read is closed to them.
fn roots_alone(directory: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let name = path.display();
    let cannot = |error: Errno| Failure::mount(format!("BACKING {name}: {error}"));
    let stat = rustix::fs::fstat(directory).map_err(cannot)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if stat.st_uid != 0 {
        return Err(Failure::mount(format!(
            "BACKING {name} belongs to user {}, not to root: remove it, it is made anew",
            stat.st_uid
        )));
    }
    if mode.intersects(Mode::WGRP | Mode::WOTH) {
        return Err(Failure::mount(format!(
            "BACKING {name} can be written to by others than root: remove it, it is made anew"
        )));
    }
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        log::info!("BACKING {name} could be read by others than root: set to 0700");
        rustix::fs::fchmod(directory, Mode::RWXU).map_err(cannot)?;
    }
    Ok(())
}

/// The mount point without symbolic links: an empty directory with no listindexfs on it. One of the same backing
/// that is dead, all its processes gone, is cleared away.
pub fn mountpoint(path: &Path, backing: &Path) -> Result<PathBuf, Failure> {
    let name = path.display();
    clear_dead(path, backing)?;
    let real = std::fs::canonicalize(path).map_err(|error| unreachable_mountpoint(path, &error))?;
    clear_dead(&real, backing)?;
    let cannot = |error: io::Error| Failure::mount(format!("MOUNTPOINT {name}: {error}"));
    let metadata = std::fs::metadata(&real).map_err(cannot)?;
    if !metadata.is_dir() {
        return Err(Failure::mount(format!(
            "MOUNTPOINT {name} is not a directory: name an empty one"
        )));
    }
    if is_bare(&real) {
        return Ok(real); // what Dovecot has left there is empty directories
    }
    if std::fs::read_dir(&real).map_err(cannot)?.next().is_some() {
        return Err(Failure::mount(format!(
            "MOUNTPOINT {name} is not empty: name an empty directory, or remove what is in it (Dovecot may have written there while nothing was mounted)"
        )));
    }
    if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        log::warn!(
            "MOUNTPOINT {name} can be written to by others than root: when nothing is mounted, Dovecot writes there; chown root and chmod 755 it while unmounted"
        );
    }
    Ok(real)
}

/// Whether `listindexctl prepare` has been there.
fn is_bare(point: &Path) -> bool {
    let table = std::fs::read(crate::mountinfo::PATH).unwrap_or_default();
    crate::mountinfo::uppermost(&table, point.as_os_str())
        .is_some_and(|mount| super::mount::is_bare(&mount))
}

/// The mount itself is not looked at, for a hanging one would hold us up: whoever serves a backing holds its lock.
fn clear_dead(path: &Path, backing: &Path) -> Result<(), Failure> {
    while let Some(ours) = mountinfo::ours_at(path) {
        if ours.backing != backing || lock::is_held(backing) {
            return Err(standing(path));
        }
        let name = path.display();
        log::warn!("{name}: all that served it is dead: mounting anew; restart Dovecot");
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(path, flags)
            .map_err(|error| Failure::mount(format!("cannot unmount the dead {name}: {error}")))?;
    }
    Ok(())
}

fn standing(path: &Path) -> Failure {
    let path = path.display();
    Failure::mount(format!(
        "MOUNTPOINT {path} has a listindexfs mounted already: run umount {path} first"
    ))
}

fn unreachable_mountpoint(path: &Path, error: &io::Error) -> Failure {
    let name = path.display();
    Failure::mount(match Errno::from_io_error(error) {
        Some(Errno::NOENT) => {
            format!("MOUNTPOINT {name} does not exist: make it, or add x-mount.mkdir in fstab")
        }
        Some(Errno::NOTCONN) => {
            format!(
                "MOUNTPOINT {name} is a FUSE mount whose daemon is gone: run umount {name} first"
            )
        }
        _ => format!("MOUNTPOINT {name}: {error}"),
    })
}

/// The mount point, as [`mountpoint`] gave it, and the backing do not lie within each other.
pub fn apart(mountpoint: &Path, backing: &Path) -> Result<(), Failure> {
    let name = backing.display();
    let backing = std::fs::canonicalize(backing)
        .map_err(|error| Failure::mount(format!("BACKING {name}: {error}")))?;
    match mountpoint.starts_with(&backing) || backing.starts_with(mountpoint) {
        true => Err(Failure::mount(format!(
            "MOUNTPOINT {} and BACKING {name} lie within each other: keep them apart",
            mountpoint.display()
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
