//! What keeps the backing small: files that an earlier mount has left are removed in the background.
//!
//! Nobody would be given them: a user's gate purges them when he comes. They would lie there for those who never do.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use crate::journal::Entry;
use crate::options::Config;
use crate::store::{PRIVATE_DIR, Store};
use crate::user::gate::Gate;

/// The least rest after one directory; the work takes half the time at most, so that sessions have the rest.
const REST: Duration = Duration::from_micros(100);

/// Starts removing what is left from before this mount, in a thread of its own. Told to the journal when it is done, so that
/// the next worker need not begin again.
///
/// # Errors
/// When no thread can be started.
pub fn start(config: &Arc<Config>, store: &Arc<Store>, gate: &Arc<Gate>) -> io::Result<()> {
    let sweep = Sweep {
        config: Arc::clone(config),
        store: Arc::clone(store),
        gate: Arc::clone(gate),
    };
    let run = move || {
        let (began, swept) = (Instant::now(), sweep.levels(&PathBuf::new(), 0));
        match swept {
            Ok(0) => {}
            Ok(users) => log::info!(
                "removed what an earlier mount had left of {users} users, in {:.1?}",
                began.elapsed()
            ),
            Err(e) => log::error!("cannot remove what an earlier mount left: {e}"),
        }
        sweep.gate.journal().note(&Entry::Swept);
    };
    Builder::new().name("sweep".into()).spawn(run).map(drop)
}

struct Sweep {
    config: Arc<Config>,
    store: Arc<Store>,
    gate: Arc<Gate>,
}

impl Sweep {
    /// Sweeps what is below `dir`, which is so deep in the layout; of how many users something was there.
    fn levels(&self, dir: &Path, depth: usize) -> io::Result<u64> {
        if depth == self.config.layout.depth() {
            return Ok(u64::from(self.user(dir)?));
        }
        let mut users = 0;
        for name in self.directories(dir)? {
            if depth > 0 || name != PRIVATE_DIR {
                users += self.levels(&dir.join(name), depth + 1)?;
            }
        }
        Ok(users)
    }

    fn user(&self, dir: &Path) -> io::Result<bool> {
        let began = Instant::now();
        let components: Vec<&[u8]> = dir.iter().map(OsStr::as_bytes).collect();
        let dropped = match self.config.layout.user_of(&components) {
            Some(user) => self.gate.drop_leftovers(&user)?,
            None => false, // nobody's
        };
        sleep(began.elapsed().max(REST));
        Ok(dropped)
    }

    fn directories(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let dir = match dir.as_os_str().is_empty() {
            true => Path::new("."),
            false => dir,
        };
        let opened = match self.store.open_path(dir) {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()), // meanwhile
            Err(e) => return Err(e),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if entry.file_type() == FileType::Directory && !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }
}
