//! What Dovecot would find if nothing were mounted: the directory below the mount.
//!
//! It is seen without the mount in a copy of the mount that it lies on, which nobody else sees.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::report::{About, Report};
use crate::daemon::mount::{is_bare, is_ours};
use crate::mountinfo;

const ABOUT: About = About::Bare;

/// Looks below what is mounted on `point`; `table` is that of the mounts.
pub fn look_at(point: &Path, table: &[u8], report: &mut Report) {
    let name = point.display();
    match mountinfo::parse(table).rfind(|mount| mount.point == point && !is_ours(mount)) {
        Some(mount) if is_bare(&mount) => {
            return report.ok(
                ABOUT,
                format!("{name} is harmless while nothing is mounted"),
            );
        }
        Some(mount) => {
            let fs = mount.fs;
            return report.warning(ABOUT, format!("{name} has {fs} below the mount: unmount both, and run listindexctl prepare {name} instead"));
        }
        None => {}
    }
    match covered(point) {
        Ok((found, entries)) => judge(point, &found, entries, report),
        Err(Errno::NOENT) => report.error(
            ABOUT,
            format!("{name} does not exist: for a line in fstab mkdir -m 755 {name}, for the unit listindexctl prepare {name}"),
        ),
        Err(error) => report.warning(
            ABOUT,
            format!("{name} cannot be looked at: {error}: see what it lies on"),
        ),
    }
}

fn judge(point: &Path, found: &Stat, entries: usize, report: &mut Report) {
    let name = point.display();
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return report.error(
            ABOUT,
            format!("{name} is not a directory: name an empty one"),
        );
    }
    if found.st_uid != 0 || found.st_mode & 0o022 != 0 {
        report.error(
            ABOUT,
            format!(
                "{name} can be written to by others than root: while nothing is mounted Dovecot makes list indexes there \
                 that go stale: unmount, chown root, chmod 755"
            ),
        );
    }
    if entries > 0 {
        report.error(
            ABOUT,
            format!(
                "{name} is not empty below the mount: Dovecot has run without it; restart Dovecot, and remove what is there \
                 before the next mount, which is refused else"
            ),
        );
    }
    report.warning(
        ABOUT,
        format!(
            "while nothing is mounted on {name} Dovecot fails there: LIST shows INBOX only, imap, lmtp and lda abort: use the \
             unit listindexfs@.service, or run listindexctl prepare {name} before mounting"
        ),
    );
}

/// The directory itself, and how many names are in it.
fn covered(point: &Path) -> Result<(Stat, usize), Errno> {
    let (above, last) = match (point.parent(), point.file_name()) {
        (Some(above), Some(last)) => (above, last),
        _ => return Err(Errno::INVAL),
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let above = open_tree(CWD, above, flags)?;
    let directory = open(&above, last)?;
    let found = rustix::fs::fstat(&directory)?;
    let mut entries = 0;
    for entry in Dir::read_from(&directory)? {
        let name = entry?.file_name().to_bytes().to_owned();
        entries += usize::from(name != b"." && name != b"..");
    }
    Ok((found, entries))
}

fn open(above: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(above, name, flags, Mode::empty())
}
