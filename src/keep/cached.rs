//! What the kernel has cached of users who are idle is given back: it grows with those who are in use, and not with those who
//! have ever been.
//!
//! The users are gone through in the order of use, from where it was left the last time: each once after he was here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::pace::Pace;
use crate::store::opens::Opens;
use crate::store::usage::Stamp;
use crate::store::{Node, Store};
use crate::user::state::UserState;
use crate::user::steps;

/// A user who has not been here for so long is idle: mail programs that look every few minutes find everything cached.
const IDLE: Duration = Duration::from_secs(600);
/// How often it is looked whether anybody is.
const PERIOD: Duration = Duration::from_secs(1);
/// So many files are given back at a time, about.
const BATCH: usize = 512;
/// Directories of others' making in a user's directory are looked into so deep.
const DEEPEST: usize = 8;

/// The kernel, as what has cached files of the mount.
pub trait KernelCache: Send {
    /// The files that have gone since this was asked last.
    fn gone(&self) -> Vec<Node>;

    /// Has it give back what it has cached of these files, as far as nobody uses them. May wait: nothing for readers to do.
    ///
    /// # Errors
    /// As `write(2)` on `/dev/fuse`.
    fn give_back(&self, files: &[Node]) -> io::Result<()>;
}

/// Gives back what is cached of idle users.
pub struct Cached {
    store: Arc<Store>,
    opens: Arc<Opens<Arc<UserState>>>,
    kernel: Box<dyn KernelCache>,
    idle: Duration,
    /// Who was here last of those that are done.
    mark: (Stamp, Node),
}

impl Cached {
    /// Gives back what `kernel` has cached. Before the first worker of a mount it has nothing; one that `follows` another
    /// begins anew with everybody.
    pub fn new(
        store: &Arc<Store>,
        opens: &Arc<Opens<Arc<UserState>>>,
        kernel: Box<dyn KernelCache>,
        follows: bool,
    ) -> Self {
        let from = match follows {
            true => Stamp::default(),
            false => Stamp::now(),
        };
        Cached {
            store: Arc::clone(store),
            opens: Arc::clone(opens),
            kernel,
            idle: steps::idle().unwrap_or(IDLE),
            mark: (from, Node(0)),
        }
    }

    /// Does so for as long as the worker lives.
    pub fn run(mut self) {
        loop {
            sleep(PERIOD.min(self.idle));
            if let Err(e) = self.give_back() {
                // What is cached all the same is left to the kernel's shrinker.
                log::debug!("cannot give back what is cached: {e}");
            }
        }
    }

    fn give_back(&mut self) -> io::Result<()> {
        let before = Stamp::now().before(self.idle);
        // The clock may have been set back.
        self.mark = self.mark.min((before, Node(0)));
        let (mut files, mut pace) = (self.kernel.gone(), Pace::begin());
        while let Some(kept) = self.store.usage().any_after(self.mark) {
            if kept.last >= before {
                break;
            }
            self.mark = kept.mark();
            let from = files.len();
            match self.add_files_of(kept.dir, &mut files) {
                // He is done when he has closed them and is idle again.
                Ok(()) if self.is_open(&files[from..]) => files.truncate(from),
                Ok(()) => {}
                Err(e) => log::debug!("what is cached of {:x} is not known: {e}", kept.dir.0),
            }
            if files.len() >= BATCH {
                self.kernel.give_back(&files)?;
                files.clear();
            }
            pace.rest();
        }
        self.kernel.give_back(&files)
    }

    fn is_open(&self, files: &[Node]) -> bool {
        files.iter().any(|file| self.opens.owner(*file).is_some())
    }

    /// A user's directory and all that lies in it: what is below before what it is in, which it holds.
    fn add_files_of(&self, dir: Node, files: &mut Vec<Node>) -> io::Result<()> {
        match self.store.open_list(dir) {
            Ok(opened) => self.add_files_in(&opened, DEEPEST, files)?,
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => {} // meanwhile
            Err(e) => return Err(e),
        }
        files.push(dir);
        Ok(())
    }

    fn add_files_in(&self, dir: &OwnedFd, levels: usize, files: &mut Vec<Node>) -> io::Result<()> {
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory && levels > 0 {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()) {
                    Ok(below) => self.add_files_in(&below, levels - 1, files)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue, // meanwhile
                    Err(e) => return Err(e.into()),
                }
            }
            match self.store.node_at(dir, name) {
                Ok(node) => files.push(node),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {} // meanwhile
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
