//! Which listindexfs is meant, and whom a path means: what lies below a mount point or a backing also tells which.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounded;
use super::mounts::{self, Served};
use crate::control::protocol::Who;
use crate::daemon::lock;
use crate::exit::{Exit, Failure};
use crate::options::Config;

/// A longer name or path is nobody's, bytes: `PATH_MAX`.
const LONGEST: usize = 4096;
/// How long it may take to find out where a path leads.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Somebody serves it.
    Served {
        /// Where the files are.
        backing: PathBuf,
        /// Where it is mounted, if that is to be seen.
        point: Option<PathBuf>,
    },
    /// A backing that nobody serves.
    Unmounted(PathBuf),
}

/// Those who were named: as they were, and as those who clean understand it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(pub Vec<(String, Who)>);

impl Users {
    /// Each once.
    pub fn wanted(&self) -> Vec<Who> {
        let mut all: Vec<_> = self.0.iter().map(|(_, who)| who.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// What is meant. Of a backing that nobody serves, the users are found when its options are known: [`below`].
///
/// # Errors
/// When there is no such, or more than one.
pub fn of(
    mount: Option<&Path>,
    backing: Option<&Path>,
    users: &[String],
) -> Result<(Place, Users), Failure> {
    let mounts = mounts::all()?;
    if let Some(backing) = backing {
        let backing = crate::cli::absolute("BACKING", backing)?;
        if !lock::is_held(&backing) || lock::is_for_cleaning(&backing) {
            return Ok((Place::Unmounted(backing), Users::default()));
        }
        let ours = mounts.into_iter().find(|mount| mount.backing == backing);
        let point = ours.map(|mount| mount.point);
        let users = in_one(&roots(point.as_deref(), &backing), users)?;
        return Ok((Place::Served { backing, point }, users));
    }
    let served = match (mount, users.iter().find(|user| is_path(user))) {
        (None, Some(path)) => mounts[located_in(&mounts, path)?].clone(),
        (given, _) => mounts::find(given)?,
    };
    let users = in_one(&roots(Some(&served.point), &served.backing), users)?;
    let Served { point, backing } = served;
    let point = Some(point);
    Ok((Place::Served { backing, point }, users))
}

/// The users of a backing that nobody serves.
///
/// # Errors
/// When a path leads elsewhere.
pub fn below(config: &Config, users: &[String]) -> Result<Users, Failure> {
    in_one(&roots(Some(&config.mountpoint), &config.backing), users)
}

/// Whether somebody is named by a path.
pub fn is_path(user: &str) -> bool {
    user.contains('/')
}

/// Nobody of this name, or of these names.
pub fn not_known(named: &str) -> Failure {
    let line = format!("not known here: {named}: no such directory, or none that layout= makes");
    Failure::new(Exit::NoUser, line)
}

fn roots(point: Option<&Path>, backing: &Path) -> Vec<PathBuf> {
    let both = point.into_iter().chain([backing]);
    both.map(Path::to_owned).collect()
}

fn located_in(mounts: &[Served], path: &str) -> Result<usize, Failure> {
    let roots = mounts
        .iter()
        .flat_map(|m| [m.point.clone(), m.backing.clone()]);
    match locate(roots.collect(), path)? {
        Some((root, _)) => Ok(root / 2),
        None => Err(Failure::mount(format!(
            "{path} is below no listindexfs that is mounted: name the user, or say --backing where it is not mounted"
        ))),
    }
}

fn in_one(roots: &[PathBuf], users: &[String]) -> Result<Users, Failure> {
    let who = |user: &String| {
        if user.len() > LONGEST {
            let line = format!("a name or path of {} bytes is nobody's", user.len());
            return Err(Failure::new(Exit::NoUser, line));
        }
        if !is_path(user) {
            return Ok((user.clone(), Who::Name(user.clone())));
        }
        match locate(roots.to_vec(), user)? {
            Some((_, rest)) => Ok((user.clone(), Who::Path(rest))),
            None => {
                let names: Vec<_> = roots.iter().map(|root| root.to_string_lossy()).collect();
                let names = names.join(" or ");
                Err(Failure::usage(format!("{user} is not below {names}")))
            }
        }
    };
    users.iter().map(who).collect::<Result<_, _>>().map(Users)
}

/// Below which of `roots` a path leads, and what is left of it.
///
/// # Errors
/// When that is not found out in time.
pub fn locate(roots: Vec<PathBuf>, path: &str) -> Result<Option<(usize, String)>, Failure> {
    let given = path.to_owned();
    let path = crate::cli::absolute("USER", Path::new(path))?;
    let found = bounded::in_thread(LOOK_WITHIN, move || {
        lexically(&roots, &path).or_else(|| through_links(&roots, &path))
    });
    let Some(found) = found else {
        let within = LOOK_WITHIN;
        return Err(Failure::system(format!(
            "{given}: not found out within {within:?} where that leads"
        )));
    };
    // It was text, and so is each part of it.
    Ok(found.map(|(root, rest)| (root, rest.to_string_lossy().into_owned())))
}

fn lexically(roots: &[PathBuf], path: &Path) -> Option<(usize, PathBuf)> {
    let all = roots.iter().enumerate();
    let below = all.filter_map(|(at, root)| Some((at, path.strip_prefix(root).ok()?.to_owned())));
    below.min_by_key(|(_, rest)| rest.as_os_str().len())
}

/// From the top, so that a mount that may hang is found before it is looked into.
fn through_links(roots: &[PathBuf], path: &Path) -> Option<(usize, PathBuf)> {
    let mut tops: Vec<_> = path.ancestors().collect();
    tops.reverse();
    tops.iter()
        .zip(tops.iter().skip(1))
        .find_map(|(above, top)| {
            let real = std::fs::canonicalize(above).ok()?.join(top.file_name()?);
            let root = roots.iter().position(|root| *root == real)?;
            Some((root, path.strip_prefix(top).ok()?.to_owned()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn two() -> Vec<Served> {
        let served = |name: &str| Served {
            point: format!("/run/{name}").into(),
            backing: format!("/var/lib/{name}").into(),
        };
        vec![served("a"), served("ab")]
    }

    #[rstest]
    #[case("/run/a/d0/u", Some((0, "d0/u")))]
    #[case("/run/ab/d0/u/", Some((3 - 1, "d0/u")))]
    #[case("/var/lib/ab/./x", Some((3, "x")))]
    #[case("/run/abc/x", None)]
    #[case("/run", None)]
    fn a_path_tells_where_it_lies(#[case] path: &str, #[case] expected: Option<(usize, &str)>) {
        let roots = two().into_iter().flat_map(|m| [m.point, m.backing]);
        let found = locate(roots.collect(), path).expect("looked for");
        let expected = expected.map(|(at, rest)| (at, rest.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_link_above_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let real = std::fs::canonicalize(dir.path()).expect("a path");
        std::fs::create_dir(real.join("run")).expect("mkdir");
        std::os::unix::fs::symlink("run", real.join("var")).expect("a link");
        let path = real.join("var/m/d0/u");
        let found = locate(vec![real.join("run/m")], path.to_str().expect("text"));
        assert_eq!(found, Ok(Some((0, "d0/u".to_owned()))));
    }

    #[test]
    fn a_user_is_a_name_or_a_path_of_the_one_place() {
        let users = ["alice".to_owned(), "/run/a/d0/bob".to_owned()];
        let found = in_one(
            &roots(Some(Path::new("/run/a")), Path::new("/var/lib/a")),
            &users,
        );
        let found = found.expect("found");
        assert_eq!(found.0[0].1, Who::Name("alice".to_owned()));
        assert_eq!(found.0[1].1, Who::Path("d0/bob".to_owned()));
        let refused = in_one(&roots(None, Path::new("/b")), &users).expect_err("elsewhere");
        assert_eq!(refused.to_string(), "/run/a/d0/bob is not below /b");
    }

    /// Before anything is asked: a request has no room for it.
    #[test]
    fn a_name_without_end_is_nobodys() {
        for user in ["x".repeat(70_000), "/run/a/".repeat(10_000)] {
            let refused = in_one(&["/run/a".into()], &[user]).expect_err("too long");
            assert_eq!(refused.exit, Exit::NoUser);
        }
    }

    #[test]
    fn who_is_named_twice_is_asked_for_once() {
        let bob = || ("bob".to_owned(), Who::Name("bob".to_owned()));
        assert_eq!(Users(vec![bob(), bob()]).wanted().len(), 1);
    }
}
