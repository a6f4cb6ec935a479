//! Which listindexfs is meant, and what can be said of one whose supervisor gives no answer.
//!
//! The mount itself is asked only where that has a bound: a dead one fails, a hanging one hangs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounded::{self, Asked};
use crate::daemon::{lock, mount::is_ours};
use crate::exit::Failure;
use crate::mountinfo;
use crate::user::process::{Proc, Processes};

/// How long a mount may take to show that it lives.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A listindexfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Where its files are.
    pub backing: PathBuf,
}

/// Every listindexfs that can be seen.
///
/// # Errors
/// When there is no `/proc`.
pub fn all() -> Result<Vec<Served>, Failure> {
    Ok(listed(&table()?))
}

/// This process's table of mounts.
pub fn table() -> Result<Vec<u8>, Failure> {
    std::fs::read(mountinfo::PATH).map_err(|e| Failure::system(format!("{}: {e}", mountinfo::PATH)))
}

/// The one on `given`, or whose backing it is, or the only one.
///
/// # Errors
/// When there is no such, or more than one where none was named.
pub fn find(given: Option<&Path>) -> Result<Served, Failure> {
    let mounts = all()?;
    match given {
        Some(given) => meant(&mounts, given),
        None => only(mounts),
    }
}

/// The one on `given`, or all where none is named.
///
/// # Errors
/// When there is no such, or none at all.
pub fn meant_or_all(given: Option<&Path>) -> Result<Vec<Served>, Failure> {
    match (given, all()?) {
        (Some(given), mounts) => Ok(vec![meant(&mounts, given)?]),
        (None, mounts) if mounts.is_empty() => only(mounts).map(|one| vec![one]),
        (None, mounts) => Ok(mounts),
    }
}

fn listed(table: &[u8]) -> Vec<Served> {
    let uppermost = |mount: &mountinfo::Mount| {
        mountinfo::uppermost(table, mount.point.as_os_str()).is_some_and(|top| top.id == mount.id)
    };
    let ours = mountinfo::parse(table).filter(|mount| is_ours(mount) && uppermost(mount));
    ours.map(|mount| Served {
        point: mount.point,
        backing: mount.source,
    })
    .collect()
}

fn only(mut mounts: Vec<Served>) -> Result<Served, Failure> {
    match (mounts.pop(), mounts.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(Failure::mount(
            "no listindexfs is mounted: mount it, or start its unit",
        )),
        (Some(last), _) => {
            mounts.push(last);
            let names: Vec<_> = mounts.iter().map(|m| m.point.to_string_lossy()).collect();
            let names = names.join(", ");
            Err(Failure::usage(format!(
                "more than one listindexfs is mounted, say which: {names}"
            )))
        }
    }
}

fn meant(mounts: &[Served], given: &Path) -> Result<Served, Failure> {
    let cannot = |error: io::Error| Failure::usage(format!("{}: {error}", given.display()));
    let path = std::path::absolute(given).map_err(cannot)?;
    let is = |path: &Path| (mounts.iter()).find(|m| m.point == path || m.backing == path);
    // Without the last component, which the mount itself would have to be asked for.
    let real = || {
        let above = std::fs::canonicalize(path.parent()?).ok()?;
        is(&above.join(path.file_name()?)).cloned()
    };
    is(&path).cloned().or_else(real).ok_or_else(|| {
        let name = path.display();
        Failure::mount(format!(
            "no listindexfs is mounted on {name}: mount it, or start its unit"
        ))
    })
}

/// Whether the mount answers.
pub fn ask(mount: &Served) -> Asked {
    bounded::ask(&mount.point, ANSWER_WITHIN)
}

/// Why nobody answers on the control socket, and what to do.
pub fn why_silent(mount: &Served, error: &io::Error) -> String {
    let point = mount.point.display();
    if !matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    ) {
        return format!("{point}: the supervisor cannot be asked: {error}");
    }
    if !lock::is_held(&mount.backing) {
        return match ask(mount) {
            Asked::Answers => format!(
                "{point}: it is served, but its backing {} is not to be seen here: run this where it was mounted",
                mount.backing.display()
            ),
            _ => format!(
                "{point}: all that served it is dead: mount it again (or restart its unit), then restart Dovecot"
            ),
        };
    }
    match lock::supervisor_of(&mount.backing).filter(|pid| lives(*pid)) {
        Some(pid) => format!(
            "{point}: the supervisor (pid {pid}) has no control socket: its log says why; kill -HUP {pid} upgrades"
        ),
        None => format!(
            "{point}: the supervisor has died, its worker serves on: unmount, mount again and restart Dovecot when it suits you"
        ),
    }
}

/// Whether there is such a process that has not exited, as far as that can be told.
fn lives(pid: u32) -> bool {
    matches!(Proc.birth(pid), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
40 27 0:51 / /run/a rw - fuse.listindexfs /var/lib/a rw,user_id=0,group_id=0,allow_other
41 27 0:52 / /covered rw - fuse.listindexfs /var/lib/c rw,user_id=0,group_id=0
42 41 0:53 / /covered rw - tmpfs none rw
43 27 0:54 / /home/mallory/m rw - fuse.listindexfs /home/mallory/b rw,user_id=1000,group_id=1000
";

    #[test]
    fn the_only_one_need_not_be_named() {
        let one = listed(TABLE);
        assert_eq!(one.len(), 1, "{one:?}");
        let found = only(one).expect("one");
        assert_eq!(found.point, Path::new("/run/a"));
    }

    #[test]
    fn of_several_one_must_be_named() {
        let mut mounts = listed(TABLE);
        let more = Served {
            point: "/run/b".into(),
            backing: "/var/lib/b".into(),
        };
        mounts.push(more.clone());
        let refused = only(mounts.clone()).expect_err("two").to_string();
        assert!(refused.ends_with("say which: /run/a, /run/b"), "{refused}");
        for name in ["/run/b", "/var/lib/b", "/run/./b/"] {
            assert_eq!(meant(&mounts, Path::new(name)), Ok(more.clone()), "{name}");
        }
        let refused = meant(&mounts, Path::new("/run/c")).expect_err("none");
        assert_eq!(refused.exit, crate::exit::Exit::Mount);
        let refused = only(Vec::new()).expect_err("none").to_string();
        assert!(
            refused.starts_with("no listindexfs is mounted"),
            "{refused}"
        );
    }
}
