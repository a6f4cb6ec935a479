//! The backing: a tmpfs of its own, root's alone, with room.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::StatFs;

use super::Report;
use crate::mountinfo;

const ABOUT: &str = "backing";
/// What a file on tmpfs takes at least, bytes.
const PAGE: u64 = 4096;
/// Less than one part in so many left is little.
const LITTLE: u64 = 10;

/// Looks at the directory that `path` names; `table` is that of the mounts.
pub fn look_at(path: &Path, table: &[u8], report: &mut Report) {
    let name = path.display();
    match std::fs::metadata(path) {
        Err(error) => return report.error(ABOUT, format!("{name}: {error}")),
        Ok(found) if found.uid() != 0 || found.mode() & 0o077 != 0 => report.error(
            ABOUT,
            format!("{name} is open to others than root: unmount, chown root, chmod 700, mount"),
        ),
        Ok(_) => {}
    }
    match mountinfo::uppermost(table, path.as_os_str()) {
        Some(mount) if mount.fs == "tmpfs" => report.ok(ABOUT, format!("{name} is a tmpfs")),
        _ => report.warning(
            ABOUT,
            format!("{name} is not a tmpfs of its own: others may fill what it lies on"),
        ),
    }
    match rustix::fs::statfs(path) {
        Ok(found) => room(&name, &found, report),
        Err(error) => report.error(ABOUT, format!("{name}: {error}")),
    }
}

fn room(name: &std::path::Display<'_>, found: &StatFs, report: &mut Report) {
    let size = found.f_blocks * u64::try_from(found.f_bsize).unwrap_or(PAGE);
    if found.f_blocks == 0 || found.f_files == 0 {
        return report.warning(
            ABOUT,
            format!("{name} has no limit: mount its tmpfs with size= and nr_inodes="),
        );
    }
    if found.f_files < size / PAGE {
        report.warning(
            ABOUT,
            format!(
                "{name} has {} inodes for {} pages: with nr_inodes={} room runs out first, which is slow, not an outage",
                found.f_files,
                size / PAGE,
                size / PAGE
            ),
        );
    }
    let mut left = |what, free, all| match free {
        0 => report.error(
            ABOUT,
            format!("{name} has no {what} left: remount it larger"),
        ),
        free if free < all / LITTLE => report.warning(
            ABOUT,
            format!("{name} has {} % of its {what} left", 100 * free / all),
        ),
        _ => {}
    };
    left("inodes", found.f_ffree, found.f_files);
    left("room", found.f_bavail, found.f_blocks);
}
