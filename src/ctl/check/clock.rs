//! What users' INDEX tell of the NFS server: its clock, and what root is there. Nothing is written.
//!
//! When a user is claimed INDEX/.lasthost gets its time of change from the server, and the record here is made right after it: both
//! times are the same unless the clocks differ.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;

use super::WITHIN;
use super::report::{About, Report};
use super::subject::Subject;
use crate::ctl::bounded::in_thread;
use crate::index::creds::Creds;
use crate::index::lasthost::{LASTHOST, MAX_LEN};
use crate::options::Config;
use crate::user::record::Record;

/// So many users are looked at, at most.
const USERS: usize = 16;
/// And so many names in the backing.
const NAMES: usize = 512;
/// Clocks that are further apart are told of, seconds: Dovecot itself complains then.
const APART: i64 = 10;
/// So many users have to show it.
const SURE: usize = 3;

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What was seen of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// How much later the server's time of a claim is than ours of the record, seconds.
    later: Option<i64>,
    /// Whether root could enter his INDEX, which is the user's alone.
    root_enters: Option<bool>,
}

/// Looks at some of those who have a list index here.
pub fn look_at(subject: &Subject, report: &mut Report) {
    let (Some(config), Some(base), Some(_)) = (&subject.config, subject.base(), &subject.served)
    else {
        return report.ok(
            About::Clock,
            "not measured: nothing is mounted, so no user has been claimed",
        );
    };
    let (config, base) = (config.clone(), base.display().to_string());
    match in_thread(WITHIN, move || seen(&config)) {
        Some(seen) => {
            squash(&base, &seen, report);
            clock(&base, &seen, report);
        }
        None => report.ok(
            About::Clock,
            format!("not measured: {base} gives no answer"),
        ),
    }
}

fn squash(base: &str, seen: &[Seen], report: &mut Report) {
    let told: Vec<_> = seen.iter().filter_map(|seen| seen.root_enters).collect();
    let text = match told.as_slice() {
        [] => format!("{base}: what root is there was not seen, no user's own INDEX is known yet"),
        told if told.iter().all(|enters| *enters) => {
            format!("{base}: root is root there (no_root_squash), which listindexfs does not need")
        }
        _ => format!(
            "{base}: root is nobody there (root_squash), as is well: each user's INDEX is touched with his own rights"
        ),
    };
    report.ok(About::Nfs, text);
}

fn clock(base: &str, seen: &[Seen], report: &mut Report) {
    let mut later: Vec<_> = seen.iter().filter_map(|seen| seen.later).collect();
    later.sort_unstable();
    let Some(middle) = later.get(later.len() / 2).copied() else {
        return report.ok(
            About::Clock,
            format!("not measured: nobody has been claimed on {base} who is here still"),
        );
    };
    let near = later
        .iter()
        .filter(|other| (**other - middle).abs() <= APART);
    let agreed = near.count();
    if middle.abs() <= APART {
        return report.ok(
            About::Clock,
            format!("that of {base} and this host's go together, as users' claims show"),
        );
    }
    // Times of change are moved by a chmod, too, and a record may be written anew without a claim.
    if agreed < SURE || agreed * 2 < later.len() {
        return report.ok(
            About::Clock,
            format!("not measured: too few users' claims on {base} agree"),
        );
    }
    let how = if middle > 0 { "ahead of" } else { "behind" };
    let apart = middle.abs();
    report.warning(
        About::Clock,
        format!(
            "the server of {base} is {apart} s {how} this host: Dovecot and its locks go by both clocks, let both follow NTP"
        ),
    );
}

/// What users' directories in the backing, and their INDEX, show.
fn seen(config: &Config) -> Vec<Seen> {
    let (mut users, mut names) = (Vec::new(), NAMES);
    if let Ok(backing) = rustix::fs::open(&config.backing, DIRECTORY, Mode::empty()) {
        walk(config, &backing, &mut Vec::new(), &mut names, &mut users);
    }
    users
}

/// Looks below `dir`, which is at `path`.
fn walk(
    config: &Config,
    dir: &OwnedFd,
    path: &mut Vec<Vec<u8>>,
    names: &mut usize,
    found: &mut Vec<Seen>,
) {
    if path.len() == config.layout.depth() {
        found.extend(of_user(config, dir, path));
        return;
    }
    let Ok(entries) = Dir::read_from(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        if *names == 0 || found.len() == USERS {
            return;
        }
        *names -= 1;
        if let Ok(inner) = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) {
            path.push(name.to_bytes().to_vec());
            walk(config, &inner, path, names, found);
            path.pop();
        }
    }
}

/// `dir` is the user's, open.
fn of_user(config: &Config, dir: &OwnedFd, path: &[Vec<u8>]) -> Option<Seen> {
    let names: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
    let user = config.layout.user_of(&names)?;
    let index = config.index.expand(&user).ok()?;
    let creds = owner(config, dir)?;
    let own = open_index(config, &index, Some(&creds)).ok()?;
    let alone = statx(&own, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).ok()?;
    let private = alone.stx_mode & 0o077 == 0 && alone.stx_uid != 0;
    let root_enters = match open_index(config, &index, None) {
        Ok(_) if private => Some(true),
        Err(Errno::ACCESS) => Some(false),
        Ok(_) | Err(_) => None,
    };
    Some(Seen {
        later: later(dir, &own, &creds),
        root_enters,
    })
}

/// Whoever made the list index; root is no mail user.
fn owner(config: &Config, dir: &OwnedFd) -> Option<Creds> {
    let mut stats = config
        .logs()
        .filter_map(|(_, log)| rustix::fs::statat(dir, &log, AtFlags::SYMLINK_NOFOLLOW).ok());
    let stat = stats.find(|stat| stat.st_uid != 0)?;
    Some(Creds {
        uid: stat.st_uid,
        gid: stat.st_gid,
        groups: Vec::new(),
    })
}

/// Opens INDEX for reading, with these rights or root's, through no link below the administrator's part.
fn open_index(config: &Config, index: &Path, creds: Option<&Creds>) -> Result<OwnedFd, Errno> {
    let base = config.index.literal_prefix().ok_or(Errno::INVAL)?;
    let rest = index.strip_prefix(base).map_err(|_| Errno::INVAL)?;
    let _acting = match creds.map(Creds::act) {
        None => None,
        Some(Ok(acting)) => Some(acting),
        Some(Err(_)) => return Err(Errno::PERM),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = openat2(
        CWD,
        base,
        OFlags::PATH | flags,
        Mode::empty(),
        ResolveFlags::empty(),
    )?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(base, rest, flags, Mode::empty(), beneath)
}

/// Nothing where INDEX/.lasthost is not the record's any more.
fn later(dir: &OwnedFd, index: &OwnedFd, creds: &Creds) -> Option<i64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, LASTHOST, flags, Mode::empty()).ok()?;
    let made = statx(&opened, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let made = (made.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(made.stx_btime.tv_sec)?;
    let mut text = Vec::new();
    let limit = u64::try_from(MAX_LEN).ok()?;
    File::from(opened).take(limit).read_to_end(&mut text).ok()?;
    let record = Record::parse(&text)?;
    let _acting = creds.act().ok()?;
    let fresh = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
    let claim = statx(index, LASTHOST, fresh, StatxFlags::BASIC_STATS).ok()?;
    let same =
        claim.stx_ino == record.lasthost.ino && claim.stx_mtime.tv_sec == record.lasthost.mtime;
    same.then(|| claim.stx_ctime.tv_sec - made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::check::report::Level;
    use rstest::rstest;

    fn of(later: &[i64]) -> Report {
        let seen = later.iter().map(|later| Seen {
            later: Some(*later),
            root_enters: None,
        });
        let mut report = Report::default();
        clock("/nfs", &seen.collect::<Vec<_>>(), &mut report);
        report
    }

    #[rstest]
    #[case(&[], Level::Ok, "not measured")]
    #[case(&[0], Level::Ok, "go together")]
    #[case(&[-600, -1, -3], Level::Ok, "go together")]
    #[case(&[-600], Level::Ok, "not measured")]
    #[case(&[600, 7000, 80_000, -9000], Level::Ok, "not measured")]
    #[case(&[25, 30, 5000, 27], Level::Warning, "30 s ahead of")]
    #[case(&[-60, -61, -59], Level::Warning, "60 s behind")]
    fn clocks_that_differ_are_told_of(
        #[case] later: &[i64],
        #[case] level: Level,
        #[case] expected: &str,
    ) {
        let report = of(later);
        let found = &report.findings()[0];
        assert_eq!(found.level, level);
        assert!(found.text.contains(expected), "{}", found.text);
    }

    #[rstest]
    #[case(&[], "was not seen")]
    #[case(&[true, true], "no_root_squash")]
    #[case(&[false], "(root_squash)")]
    fn what_root_is_there(#[case] enters: &[bool], #[case] expected: &str) {
        let seen = enters.iter().map(|enters| Seen {
            later: None,
            root_enters: Some(*enters),
        });
        let mut report = Report::default();
        squash("/nfs", &seen.collect::<Vec<_>>(), &mut report);
        assert!(report.findings()[0].text.contains(expected));
    }
}
