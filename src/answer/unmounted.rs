//! `listindexctl clean` of a backing that nobody serves: whoever calls this holds its lock.
//!
//! Nobody has a file open, so there is no gate; word of ghosts stays, for the next mount. Directories in which nothing lies go
//! too.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;

use super::clean::{age_of, became, before};
use super::{in_dir, named};
use crate::control::protocol::{Clean, Outcome, Step, Who};
use crate::index::dir::is_managed;
use crate::index::lasthost::{Instance, LASTHOST};
use crate::keep::walk::user_dirs;
use crate::options::Config;
use crate::store::Store;
use crate::store::usage::Stamp;
use crate::template::User;
use crate::user::count::look_through;
use crate::user::local::read_in;
use crate::user::record::Kept;

/// No mount serves it: only word of ghosts counts, and no record.
const NOBODYS: Instance = Instance(0);

/// Cleans what lies in the backing of `config`, and says so step by step.
///
/// # Errors
/// When the backing cannot be used, or a directory above the users' cannot be read.
pub fn clean(config: &Config, wanted: &Clean, say: &mut dyn FnMut(Step)) -> io::Result<()> {
    let run = Run {
        config,
        store: Store::open(&config.backing)?,
        before: before(wanted),
        dry_run: wanted.dry_run,
    };
    if wanted.users.is_empty() {
        return user_dirs(&run.store, config.layout.depth(), &mut |dir| {
            if let Some(user) = in_dir(&config.layout, dir.as_os_str().as_bytes()) {
                match run.clean(&user) {
                    Outcome::Recent { .. } | Outcome::Nothing | Outcome::Unknown => {}
                    outcome => say(counted(&outcome)),
                }
            }
            Ok(())
        });
    }
    for who in &wanted.users {
        say(run.named(who));
    }
    Ok(())
}

fn counted(outcome: &Outcome) -> Step {
    let mut step = Step::default();
    step.count(outcome);
    step
}

struct Run<'a> {
    config: &'a Config,
    store: Store,
    before: Stamp,
    dry_run: bool,
}

impl Run<'_> {
    fn named(&self, who: &Who) -> Step {
        let user = named(&self.config.layout, who);
        let outcome = match &user {
            Some(user) => self.clean(user),
            None => Outcome::Unknown,
        };
        let mut step = counted(&outcome);
        step.users.push(became(who, user.as_ref(), outcome));
        step
    }

    fn clean(&self, user: &User) -> Outcome {
        let cleaned = self.clean_in(Path::new(OsStr::from_bytes(user.dir())));
        cleaned.unwrap_or_else(|error| Outcome::Failed {
            why: error.to_string(),
        })
    }

    fn clean_in(&self, path: &Path) -> io::Result<Outcome> {
        let dir = match self.store.open_path(path) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Unknown),
            Err(error) => return Err(error),
        };
        let counted = look_through(&self.config.prefixes, &dir)?;
        let outcome = match counted.bytes.managed {
            _ if counted.last > self.before => {
                let age = age_of(counted.last);
                return Ok(Outcome::Recent { age });
            }
            0 => Outcome::Nothing,
            _ if read_in(&dir, NOBODYS)? == Kept::Haunted => return Ok(Outcome::Busy),
            bytes => Outcome::Dropped { bytes },
        };
        if !self.dry_run {
            self.remove(&dir)?;
            self.remove_empty(path)?;
        }
        Ok(outcome)
    }

    /// Record first, as ever.
    fn remove(&self, dir: &OwnedFd) -> io::Result<()> {
        unlink(dir, LASTHOST)?;
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if is_managed(&self.config.prefixes, name) {
                unlink(dir, name)?;
            }
        }
        Ok(())
    }

    /// The directory goes if nothing lies in it, and so do those above.
    fn remove_empty(&self, path: &Path) -> io::Result<()> {
        let above = path.ancestors().zip(path.ancestors().skip(1));
        for (dir, above) in above {
            let level = match above.as_os_str().is_empty() {
                true => self.store.root().try_clone_to_owned()?,
                false => self.store.open_path(above)?,
            };
            let name = dir.file_name().unwrap_or_default();
            match rustix::fs::unlinkat(&level, name, AtFlags::REMOVEDIR) {
                Ok(()) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A directory that happens to have such a name is not Dovecot's.
fn unlink(dir: impl AsFd, name: impl rustix::path::Arg) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
