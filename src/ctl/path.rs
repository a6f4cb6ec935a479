//! `listindexctl path`: from a name to its directories, and from any of these back to the name. All of it is text: nothing is
//! opened but the options that the mount has left in its backing, and whose directory it is hangs on the templates alone.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::look::{self, Facts, Look};
use super::place::{is_path, locate};
use super::{bounded, mounts, print};
use crate::daemon::kept;
use crate::exit::{Exit, Failure};
use crate::options::Config;
use crate::template::User;

/// How long it may take to look for the backing that a path is below.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What `path` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name, or a path below a mount point, a backing or INDEX
    #[arg(value_name = "NAME|PATH")]
    named: String,
    /// Of the listindexfs that is mounted here, or of this backing, mounted or not
    #[arg(long, value_name = "MOUNTPOINT")]
    mount: Option<PathBuf>,
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
}

/// A mount, or what it was when it was mounted last.
#[derive(Debug)]
struct Known {
    config: Config,
    mounted: bool,
}

/// What is told.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    mountpoint: String,
    backing: String,
    mounted: bool,
    /// As what he was named: `name`, `directory`, `backing` or `index`.
    by: &'static str,
    name: String,
    directory: String,
    backing_directory: String,
    listindex: Vec<String>,
    index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_index: Option<String>,
}

/// Expands, and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let report = match (&args.mount, is_path(&args.named)) {
        (Some(given), true) => of_path(&[meant(given)?], &args.named)?,
        (Some(given), false) => of_name(&meant(given)?, &args.named)?,
        (None, true) => of_any(&args.named)?,
        (None, false) => of_name(&read(&mounts::find(None)?.backing, true)?, &args.named)?,
    };
    print(&report.lines(&Look::of_stdout()), &report, args.json)
}

/// The mount there, or the backing, mounted or not.
fn meant(given: &Path) -> Result<Known, Failure> {
    match mounts::find(Some(given)) {
        Ok(mount) => read(&mount.backing, true),
        Err(failure) => {
            let backing = crate::cli::absolute("MOUNTPOINT", given)?;
            match kept::is_there(&backing) {
                true => read(&backing, false),
                false => Err(failure),
            }
        }
    }
}

fn read(backing: &Path, mounted: bool) -> Result<Known, Failure> {
    let config = kept::look(backing)?;
    Ok(Known { config, mounted })
}

/// By a path in any mount that can be asked. What is wrong with another is said only where that may be why nothing was found.
fn of_any(named: &str) -> Result<Report, Failure> {
    let (mut all, mut wrong) = (Vec::new(), None);
    for mount in mounts::all()? {
        match read(&mount.backing, true) {
            Ok(known) => all.push(known),
            Err(failure) => wrong = Some(failure),
        }
    }
    of_path(&all, named).map_err(|failure| match wrong {
        Some(wrong) if failure.exit == Exit::NoUser => {
            Failure::new(failure.exit, format!("{failure}; {wrong}"))
        }
        _ => failure,
    })
}

fn of_name(known: &Known, name: &str) -> Result<Report, Failure> {
    match known.config.layout.user_named(name.as_bytes()) {
        Ok(user) => Ok(Report::new(known, &user, "name")),
        Err(error) => Err(Failure::new(
            Exit::NoUser,
            format!("{name} has no place under layout=: {error}"),
        )),
    }
}

/// Below a mount point or a backing, in INDEX, or below the backing of a listindexfs that is not mounted.
fn of_path(all: &[Known], named: &str) -> Result<Report, Failure> {
    let path = crate::cli::absolute("PATH", Path::new(named))?;
    let roots = |all: &[Known]| -> Vec<PathBuf> {
        let both = |known: &Known| {
            [
                known.config.mountpoint.clone(),
                known.config.backing.clone(),
            ]
        };
        all.iter().flat_map(both).collect()
    };
    if !roots(all).iter().any(|root| path.starts_with(root)) {
        if let Some(report) = in_index(all, &path)? {
            return Ok(report);
        }
    }
    if let Some((at, rest)) = locate(roots(all), named)? {
        return in_directory(&all[at / 2], at % 2 == 1, &rest, named);
    }
    if let Some(backing) = backing_above(&path) {
        let known = [read(&backing, false)?];
        if let Some((at, rest)) = locate(roots(&known), named)? {
            return in_directory(&known[0], at == 1, &rest, named);
        }
    }
    Err(Failure::new(
        Exit::NoUser,
        format!("{named} is below no mount point and no backing, and is nobody's INDEX"),
    ))
}

fn in_directory(
    known: &Known,
    in_backing: bool,
    rest: &str,
    named: &str,
) -> Result<Report, Failure> {
    let layout = &known.config.layout;
    let names = Path::new(rest).iter().map(|name| name.as_bytes());
    let names: Vec<&[u8]> = names.take(layout.depth()).collect();
    let by = if in_backing { "backing" } else { "directory" };
    match layout.user_of(&names) {
        Some(user) => Ok(Report::new(known, &user, by)),
        None => Err(Failure::new(
            Exit::NoUser,
            format!("{named} is no user's, with layout={}", layout.as_str()),
        )),
    }
}

/// `None` where it is no INDEX of any.
fn in_index(all: &[Known], path: &Path) -> Result<Option<Report>, Failure> {
    let mut unclear = None;
    for known in all {
        let Config { index, layout, .. } = &known.config;
        let may_lie_there = |base| path.starts_with(base);
        match index.user_of(layout, path) {
            Ok(Some(user)) => return Ok(Some(Report::new(known, &user, "index"))),
            Err(_) if index.literal_prefix().is_some_and(may_lie_there) => {
                unclear = Some(index.as_str());
            }
            Ok(None) | Err(_) => {}
        }
    }
    match unclear {
        Some(index) => Err(Failure::usage(format!(
            "{}: index={index} cannot be turned back into a name: name the user",
            path.display()
        ))),
        None => Ok(None),
    }
}

/// The nearest directory above that a mount has left its options in. The path may lead to a server that is silent.
fn backing_above(path: &Path) -> Option<PathBuf> {
    let path = path.to_owned();
    let look = move || {
        path.ancestors()
            .find(|above| kept::is_there(above))
            .map(Path::to_owned)
    };
    bounded::in_thread(LOOK_WITHIN, look).flatten()
}

impl Report {
    fn new(known: &Known, user: &User, by: &'static str) -> Self {
        let config = &known.config;
        let dir = Path::new(std::ffi::OsStr::from_bytes(user.dir()));
        let directory = config.mountpoint.join(dir);
        let index = config.index.expand(user);
        Report {
            mountpoint: look::path(&config.mountpoint),
            backing: look::path(&config.backing),
            mounted: known.mounted,
            by,
            name: user.to_string(),
            listindex: (config.prefixes.iter())
                .map(|prefix| look::path(&directory.join(prefix)))
                .collect(),
            directory: look::path(&directory),
            backing_directory: look::path(&config.backing.join(dir)),
            index: index.as_ref().ok().map(|path| look::path(path)),
            no_index: index.err().map(|why| why.to_string()),
        }
    }

    fn lines(&self, look: &Look) -> String {
        let mut facts = Facts::default();
        facts.path("directory", &self.directory);
        for (at, listindex) in self.listindex.iter().enumerate() {
            facts.path(if at == 0 { "LISTINDEX" } else { "" }, listindex);
        }
        facts.path("backing", &self.backing_directory);
        match (&self.index, &self.no_index) {
            (Some(index), _) => facts.path("INDEX", index),
            (None, Some(why)) => {
                facts.add_with(look::Level::Error, "INDEX", format!("none: {why}"))
            }
            (None, None) => {}
        }
        if !self.mounted {
            facts.add_with(
                look::Level::Warning,
                "mount",
                "not mounted: as it was the last time",
            );
        }
        let name = look.paint(look::BOLD, &look::clean(&self.name));
        name + "\n" + &facts.lines(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn known(name: &str, options: &str, mounted: bool) -> Known {
        let (backing, point) = (format!("/var/lib/{name}"), format!("/run/{name}"));
        let options = [options.to_owned()];
        let config = Config::parse(Path::new(&backing), Path::new(&point), &options, "host");
        let config = config.expect("options");
        Known { config, mounted }
    }

    fn two() -> [Known; 2] {
        let hashed = "index=/nfs/a/%2.256Nu/%u";
        let own = "index=/nfs/b/%d/%n,layout=%d/%n,prefix=dovecot.list.index,prefix=archive";
        [known("a", hashed, true), known("b", own, false)]
    }

    #[rstest]
    #[case("/run/a/bf/alice@example.com", "a", "directory")]
    #[case("/run/a/bf/alice@example.com/dovecot.list.index.log", "a", "directory")]
    #[case("/var/lib/a/bf/alice@example.com/", "a", "backing")]
    #[case("/nfs/a/bf/alice@example.com", "a", "index")]
    #[case("/nfs/a/bf/alice@example.com/.lasthost", "a", "index")]
    #[case("/run/b/example.com/alice", "b", "directory")]
    #[case("/nfs/b/example.com/alice", "b", "index")]
    fn each_path_of_a_user_tells_his_name_and_all_others(
        #[case] path: &str,
        #[case] mount: &str,
        #[case] by: &str,
    ) {
        let found = of_path(&two(), path).expect("found");
        assert_eq!((found.name.as_str(), found.by), ("alice@example.com", by));
        assert_eq!(found.mountpoint, format!("/run/{mount}"));
        let [a, b] = two();
        let known = if mount == "a" { a } else { b };
        let by = found.by;
        let named = of_name(&known, "alice@example.com").expect("found");
        assert_eq!(found, Report { by, ..named });
    }

    #[test]
    fn a_name_tells_all_paths() {
        let [_, b] = two();
        let report = of_name(&b, "alice@example.com").expect("found");
        assert_eq!(
            report.lines(&Look::PLAIN),
            "\
alice@example.com
directory  /run/b/example.com/alice
LISTINDEX  /run/b/example.com/alice/dovecot.list.index
           /run/b/example.com/alice/archive
backing    /var/lib/b/example.com/alice
INDEX      /nfs/b/example.com/alice
mount      not mounted: as it was the last time
"
        );
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["listindex"][1], "/run/b/example.com/alice/archive");
        assert_eq!(json["mounted"], false);
        assert_eq!(json.get("no_index"), None);
    }

    #[rstest]
    #[case("/run/a/00/alice@example.com", "is no user's, with layout=")]
    #[case("/run/a", "is no user's, with layout=")]
    #[case("/nfs/a/00/alice@example.com", "is nobody's INDEX")]
    #[case("/elsewhere/x", "is below no mount point")]
    fn a_path_of_nobody_is_said_to_be_so(#[case] path: &str, #[case] expected: &str) {
        let refused = of_path(&two(), path).expect_err("nobody's");
        assert_eq!(refused.exit, Exit::NoUser);
        assert!(refused.to_string().contains(expected), "{refused}");
    }

    #[test]
    fn an_index_that_is_a_hash_and_a_name_without_a_place_are_said_to_be_so() {
        let hashes = [known("h", "index=/nfs/h/%Mu", true)];
        let refused = of_path(&hashes, "/nfs/h/0123").expect_err("a hash");
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.to_string().contains("cannot be turned back"));
        let [_, b] = two();
        let refused = of_name(&b, "alice").expect_err("no domain");
        assert_eq!(refused.exit, Exit::NoUser);
    }
}
