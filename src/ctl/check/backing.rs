//! The backing: a tmpfs of its own, root's alone, with room, and no larger than the host's memory allows.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::StatFs;

use super::WITHIN;
use super::report::{About, Report};
use super::subject::Subject;
use crate::ctl::bounded::in_thread;
use crate::ctl::look::size;
use crate::daemon::checks::TMPFS_MAGIC;
use crate::mountinfo::{self, Mount};
use crate::options::{BackingFs, Bounds};

/// What a file on tmpfs takes at least, bytes.
const PAGE: u64 = 4096;
/// Less than one part in so many left is little.
const LITTLE: u64 = 10;
/// What the kernel needs beside so many bytes of the tmpfs: a third, see docs/operating.md.
const BESIDE: u64 = 3;

/// What was seen of it.
struct Seen {
    own: std::io::Result<Metadata>,
    above: std::io::Result<Metadata>,
    /// Of itself, or where it is missing of what it is to be made in.
    fs: rustix::io::Result<StatFs>,
}

/// Looks at the directory; `table` is that of the mounts.
pub fn look_at(subject: &Subject, table: &[u8], report: &mut Report) {
    let Some(path) = subject.backing.clone() else {
        return report.ok(
            About::Backing,
            format!(
                "that of {} is not looked at: nothing says where it is to be, say --backing",
                subject.point.display()
            ),
        );
    };
    let looked = path.clone();
    let seen = in_thread(WITHIN, move || {
        let above = looked.parent().unwrap_or(Path::new("/"));
        let own = std::fs::symlink_metadata(&looked);
        let fs = rustix::fs::statfs(if own.is_ok() { &looked } else { above });
        Seen {
            above: std::fs::metadata(above),
            own,
            fs,
        }
    });
    match seen {
        Some(seen) => judge(subject, &path, &seen, table, report),
        None => report.error(
            About::Backing,
            format!(
                "{} gives no answer: what it is on hangs, use a tmpfs of its own",
                path.display()
            ),
        ),
    }
}

fn judge(subject: &Subject, path: &Path, seen: &Seen, table: &[u8], report: &mut Report) {
    let name = &path.display().to_string();
    if !rights(subject.served.is_some(), name, seen, report) {
        return;
    }
    let any = (subject.config.as_ref()).is_some_and(|config| config.backing_fs == BackingFs::Any);
    let fs = match &seen.fs {
        Ok(fs) => fs,
        Err(error) => return report.error(About::Backing, format!("{name}: {error}")),
    };
    if u64::try_from(fs.f_type) != Ok(TMPFS_MAGIC) && !any {
        return report.error(
            About::Backing,
            format!("{name} is not on tmpfs, so the mount is refused: mount one there, see listindexfs(8), or say backing_fs=any"),
        );
    }
    match mountinfo::uppermost(table, path.as_os_str()) {
        Some(mount) if mount.fs == "tmpfs" => {
            report.ok(About::Backing, format!("{name} is a tmpfs"));
            huge(name, &mount, report);
        }
        _ => report.warning(
            About::Backing,
            format!("{name} is not a tmpfs of its own: others may fill what it lies on: mount one there, see listindexfs(8)"),
        ),
    }
    room(name, fs, report);
    let bounds = subject.config.as_ref().map(|config| config.bounds);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match Memory::of(&memory) {
        Some(memory) if fs.f_blocks > 0 => {
            memory.judge(name, fs, &bounds.unwrap_or_default(), report)
        }
        _ => {}
    }
}

/// Whether it is there, or can be made, and is root's; all of it that the mount would refuse, too.
fn rights(served: bool, name: &str, seen: &Seen, report: &mut Report) -> bool {
    let own = match (&seen.own, &seen.above) {
        (Ok(own), _) => own,
        (Err(_), Ok(_)) if !served => return true, // made by the mount
        (Err(error), Ok(_)) => {
            report.error(
                About::Backing,
                format!("{name}: {error}: run this where it was mounted"),
            );
            return false;
        }
        (Err(_), Err(_)) => {
            report.error(
                About::Backing,
                format!("{name}: the directory it is to be made in does not exist: make that, or mount its tmpfs"),
            );
            return false;
        }
    };
    if !own.is_dir() {
        report.error(
            About::Backing,
            format!("{name} is not a directory: name one, and no symbolic link"),
        );
        return false;
    }
    let others = own.mode() & 0o077 != 0;
    if own.uid() != 0 || (others && served) || own.mode() & 0o022 != 0 {
        report.error(
            About::Backing,
            format!("{name} is open to others than root: unmount, remove it or chown root, chmod 700, mount"),
        );
    } else if others {
        report.warning(
            About::Backing,
            format!("{name} can be read by others than root until it is mounted: chmod 700 it, or mode=0700 for its tmpfs"),
        );
    }
    true
}

fn huge(name: &str, mount: &Mount, report: &mut Report) {
    if let Some("always") = mount.option("huge") {
        report.warning(
            About::Backing,
            format!("{name} has huge=always, so a file of 4 kB may take 2 MB: mount its tmpfs without huge="),
        );
    }
}

fn room(name: &str, found: &StatFs, report: &mut Report) {
    let size = size_of(found);
    if found.f_blocks == 0 || found.f_files == 0 {
        return report.warning(
            About::Backing,
            format!("{name} has no limit: mount its tmpfs with size= and nr_inodes="),
        );
    }
    if found.f_files < size / PAGE {
        report.warning(
            About::Backing,
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
            About::Backing,
            format!("{name} has no {what} left: remount it larger"),
        ),
        free if free < all / LITTLE => report.warning(
            About::Backing,
            format!(
                "{name} has {} % of its {what} left: remount it larger",
                100 * free / all
            ),
        ),
        _ => {}
    };
    left("inodes", found.f_ffree, found.f_files);
    left("room", found.f_bavail, found.f_blocks);
}

fn size_of(found: &StatFs) -> u64 {
    bytes(found, found.f_blocks)
}

/// Other file systems than tmpfs tell what they like.
fn bytes(of: &StatFs, blocks: u64) -> u64 {
    blocks.saturating_mul(u64::try_from(of.f_bsize).unwrap_or(PAGE))
}

/// What the host has, bytes.
#[derive(Debug, PartialEq, Eq)]
struct Memory {
    all: u64,
    available: u64,
    swap: u64,
}

impl Memory {
    /// Reads `/proc/meminfo`.
    fn of(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            let kilobytes = line.split_whitespace().next()?.parse::<u64>().ok()?;
            Some(kilobytes * 1024)
        };
        Some(Memory {
            all: value("MemTotal:")?,
            available: value("MemAvailable:")?,
            swap: value("SwapFree:").unwrap_or_default(),
        })
    }

    /// Whether what list indexes may take fits in.
    fn judge(&self, name: &str, found: &StatFs, bounds: &Bounds, report: &mut Report) {
        let whole = size_of(found);
        let most = bounds.max_bytes.of(whole).min(whole);
        let used = whole.saturating_sub(bytes(found, found.f_bfree));
        let with_beside = |bytes: u64| bytes.saturating_add(bytes / BESIDE);
        let (all, need) = (size(self.all), size(with_beside(most)));
        if with_beside(most) > self.all {
            return report.warning(
                About::Memory,
                format!(
                    "{name} may take {need} with what the kernel needs beside it, the host has {all}: a smaller size= for its tmpfs, or max_bytes="
                ),
            );
        }
        let more = with_beside(most.saturating_sub(used));
        match more > self.available + self.swap {
            true => report.warning(
                About::Memory,
                format!("{name} may take {} more, {} are available: a smaller size= for its tmpfs, or max_bytes=", size(more), size(self.available + self.swap)),
            ),
            false => report.ok(
                About::Memory,
                format!("{name} may take {need} with what the kernel needs beside it, the host has {all}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        let text = "MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   20480000 kB\nSwapFree: 1024 kB\n";
        let memory = Memory::of(text).expect("read");
        assert_eq!(memory.available, 20_480_000 * 1024);
        assert_eq!(memory.swap, 1 << 20);
        assert_eq!(Memory::of("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_file_system_without_end_ends_no_check() {
        let mut found = rustix::fs::statfs("/").expect("statfs");
        (found.f_blocks, found.f_bfree) = (u64::MAX, u64::MAX);
        let memory = Memory::of("MemTotal: 8 kB\nMemAvailable: 4 kB\n").expect("read");
        let mut report = Report::default();
        memory.judge("/b", &found, &Bounds::default(), &mut report);
        assert!(report.findings()[0].text.contains("a smaller size="));
    }

    #[test]
    fn huge_pages_are_told_of() {
        let line = "43 27 0:54 / /b rw - tmpfs tmpfs rw,size=4096k,huge=always\n";
        let mount = mountinfo::parse(line.as_bytes()).next().expect("a mount");
        let mut report = Report::default();
        huge("/b", &mount, &mut report);
        assert!(report.findings()[0].text.contains("without huge="));
    }
}
