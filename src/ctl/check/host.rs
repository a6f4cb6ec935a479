//! The host: its kernel and what that has of FUSE, what mount(8) needs, how many files may be open.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::plan::{self, By};
use super::report::{About, Report};
use crate::daemon::checks::{OLDEST_KERNEL, version};

/// The first kernel that sends again what a dead worker left unanswered.
const RESENDS: (u32, u32) = (6, 9);
/// The first that gives back names and inodes when it is asked to.
const PRUNES: (u32, u32) = (6, 18);
const DEV_FUSE: &str = "/dev/fuse";
/// Where mount(8) looks for what it runs.
const HELPERS: [&str; 2] = ["/sbin/mount.fuse", "/usr/sbin/mount.fuse"];
/// Where the shell that mount.fuse(8) runs looks for us.
const PROGRAMS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// So much of what may be open is much, per cent.
const MUCH: u64 = 80;

/// Looks at all of it.
pub fn look_at(report: &mut Report) {
    let uname = rustix::system::uname();
    kernel(&uname.release().to_string_lossy(), report);
    fuse(report);
    if let Ok(text) = std::fs::read_to_string("/proc/sys/fs/file-nr") {
        open_files(&text, report);
    }
}

fn kernel(release: &str, report: &mut Report) {
    match version(release) {
        Some(found) if found < OLDEST_KERNEL => report.error(
            About::Kernel,
            format!("Linux {release} is too old: 5.10 or later is needed"),
        ),
        Some(found) if found < RESENDS => report.warning(
            About::Kernel,
            format!(
                "Linux {release} does not send again what a dead worker left unanswered: each request is kept for the next, which \
                 costs; and what is cached of idle users stays: Linux 6.18 has both, 6.9 the first"
            ),
        ),
        Some(found) if found < PRUNES => report.ok(
            About::Kernel,
            format!(
                "Linux {release} sends again what a dead worker left (6.9); names and inodes of idle users stay in its cache until \
                 memory is short (not from 6.18 on)"
            ),
        ),
        _ => report.ok(
            About::Kernel,
            format!("Linux {release} has all of FUSE that is of use"),
        ),
    }
}

fn fuse(report: &mut Report) {
    let is_device =
        std::fs::metadata(DEV_FUSE).is_ok_and(|found| found.file_type().is_char_device());
    let opened = std::fs::File::options()
        .read(true)
        .write(true)
        .open(DEV_FUSE);
    let in_fstab = plan::all().iter().any(|plan| plan.by == By::Fstab);
    let helper = HELPERS.into_iter().find(|path| Path::new(path).exists());
    let program = |dir: &&str| Path::new(dir).join("listindexfs").exists();
    let program = PROGRAMS.into_iter().find(program);
    match (is_device, opened) {
        (false, _) | (true, Err(_)) => report.error(
            About::Fuse,
            format!(
                "{DEV_FUSE} is missing or no device: modprobe fuse, or let this container have it"
            ),
        ),
        (true, Ok(_)) => {}
    }
    match (helper, program) {
        (None, _) if in_fstab => report.error(
            About::Fuse,
            "there is no mount.fuse, which mount(8) needs for the line in fstab: install fuse3",
        ),
        (Some(_), None) if in_fstab => report.error(
            About::Fuse,
            format!(
                "listindexfs is in none of {}, where mount.fuse looks for it: install it in one of them",
                PROGRAMS[..4].join(", ")
            ),
        ),
        _ => {}
    }
    if !report.speaks_of(About::Fuse) {
        let helper = helper.unwrap_or("no mount.fuse (for fstab alone)");
        report.ok(About::Fuse, format!("{DEV_FUSE}, {helper}"));
    }
}

/// `/proc/sys/fs/file-nr`: how many are open, a zero, how many may be.
fn open_files(text: &str, report: &mut Report) {
    let mut numbers = text
        .split_whitespace()
        .filter_map(|word| word.parse::<u64>().ok());
    let (Some(open), Some(_), Some(most)) = (numbers.next(), numbers.next(), numbers.next()) else {
        return;
    };
    match open >= most / 100 * MUCH {
        true => report.warning(
            About::Files,
            format!(
                "{open} of the {most} files that fs.file-max allows are open: raise it with sysctl"
            ),
        ),
        false => report.ok(
            About::Files,
            format!("{open} are open, fs.file-max is {most}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::check::report::Level;
    use rstest::rstest;

    #[rstest]
    #[case("5.4.0-1", Level::Error, "5.10 or later is needed")]
    #[case("6.1.0-13-amd64", Level::Warning, "Linux 6.18 has both")]
    #[case("6.12.43+deb13-amd64", Level::Ok, "until memory is short")]
    #[case("6.18.4", Level::Ok, "all of FUSE")]
    #[case("strange", Level::Ok, "all of FUSE")]
    fn old_kernels_lack_something(
        #[case] release: &str,
        #[case] level: Level,
        #[case] expected: &str,
    ) {
        let mut report = Report::default();
        kernel(release, &mut report);
        let found = &report.findings()[0];
        assert_eq!(found.level, level);
        assert!(found.text.contains(expected), "{}", found.text);
    }

    #[rstest]
    #[case("800\t0\t1000\n", Level::Warning)]
    #[case("1696\t0\t9223372036854775807\n", Level::Ok)]
    fn files_run_out(#[case] text: &str, #[case] level: Level) {
        let mut report = Report::default();
        open_files(text, &mut report);
        assert_eq!(report.findings()[0].level, level);
    }
}
