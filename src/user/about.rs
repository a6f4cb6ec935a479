//! All that is known of one user, for an operator. Changes nothing, and waits for nothing but, with a bound, for the server of INDEX.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::fs::Dir;

use super::count::Counted;
use super::gate::Gate;
use super::ghosts::Ghost;
use super::history::Decided;
use super::local;
use super::moved::owner;
use super::record::Kept;
use super::state::{Holder, Inner};
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::index::dir::{IndexDir, IndexPath};
use crate::index::lasthost::{Identity, LastHost};
use crate::store::usage::Stamp;
use crate::template::User;

/// So long INDEX may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// So many questions may wait for servers, those included that nobody waits for any more.
const QUESTIONS: usize = 8;
/// So many decisions are told.
const DECISIONS: usize = 20;

/// What goes on with a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// How many files of his list index are open.
    pub handles: u64,
    /// A run of his gate is under way, or due.
    pub busy: bool,
    /// He has ghosts, or an earlier mount left word of some.
    pub haunted: bool,
}

/// What is known of a user on this host.
#[derive(Debug)]
pub struct About {
    /// How much lies here.
    pub counted: Counted,
    /// When he was last here.
    pub last: Stamp,
    /// The files in his directory, with their lengths in bytes.
    pub files: Vec<(OsString, u64)>,
    /// How many more there are.
    pub more_files: u64,
    /// What is in the record's place.
    pub record: Kept,
    /// Who has files open.
    pub holders: Vec<Holder>,
    /// Whose changes do not reach the list index.
    pub ghosts: Vec<Ghost>,
    /// A run of his gate is under way, or due.
    pub busy: bool,
    /// The latest first.
    pub decisions: Vec<Decided>,
}

/// What INDEX told.
#[derive(Debug)]
pub enum Told {
    /// It was not asked, or has not answered, and why.
    Nothing(String),
    /// There is no INDEX.
    NoIndex,
    /// There is no .lasthost.
    Absent,
    /// There is one, which none of us wrote if it is not told what it says.
    LastHost(Identity, Option<LastHost>),
}

impl Gate {
    /// What goes on with a user.
    ///
    /// # Errors
    /// When his record cannot be read.
    pub fn activity(&self, user: &User) -> io::Result<Activity> {
        let known = self.users.known(user);
        let mut activity = known.map_or(Activity::default(), |state| state.lock().activity());
        if !activity.haunted {
            activity.haunted = local::read(self, user)? == Kept::Haunted;
        }
        Ok(activity)
    }

    /// What is known of a user here, of whose files so many are named; `None` where he has no directory.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn about(&self, user: &User, most: usize) -> io::Result<Option<About>> {
        let Some(dir) = local::dir_of(self, user)? else {
            return Ok(None);
        };
        let (node, counted) = self.count_in(&dir)?;
        let known = self.store.usage().get(node);
        let (files, more_files) = files_in(&dir, most)?;
        let mut about = About {
            counted,
            last: known.map_or(counted.last, |known| known.last),
            files,
            more_files,
            record: local::read_in(&dir, self.instance)?,
            holders: Vec::new(),
            ghosts: Vec::new(),
            busy: false,
            decisions: self.history.of(user, DECISIONS),
        };
        if let Some(state) = self.users.known(user) {
            let inner = state.lock();
            about.holders = inner.holders.values().cloned().collect();
            about.ghosts.clone_from(&inner.ghosts);
            about.busy = inner.is_busy();
        }
        about
            .holders
            .sort_unstable_by_key(|holder| holder.process.pid);
        Ok(Some(about))
    }

    /// Where his INDEX is.
    ///
    /// # Errors
    /// When his name gives none.
    pub fn index_of(&self, user: &User) -> Result<PathBuf, Trouble> {
        self.find_index(user).map(|at| at.path())
    }

    /// A claim of this mount.
    pub fn own_claim(&self) -> LastHost {
        LastHost::claim(&self.config.host, self.instance)
    }

    /// What INDEX/.lasthost says, read with the rights of who made his list index, by a thread for NFS work: what waits here
    /// waits no longer than seconds.
    ///
    /// # Errors
    /// When INDEX cannot be seen.
    pub fn ask_lasthost(self: &Arc<Self>, user: &User) -> Result<Told, Trouble> {
        let Some(creds) = self
            .rights_of(user)
            .map_err(Trouble::backing("look for a log"))?
        else {
            let why = "nobody's rights are known: no mail process has made a log here";
            return Ok(Told::Nothing(why.to_owned()));
        };
        let at = self.find_index(user)?;
        let mount = self.mounts.point_above(&at.path());
        let mount = mount.map_err(Trouble::backing("read the mount table"))?;
        if self.pools.is_silent(&mount) {
            let mount = mount.display();
            return Ok(Told::Nothing(format!("the server of {mount} is silent")));
        }
        let question = Arc::clone(&self.questions);
        if Arc::strong_count(&question) > QUESTIONS + 1 {
            let why = "earlier questions are not answered yet";
            return Ok(Told::Nothing(why.to_owned()));
        }
        let (tell, told) = mpsc::channel();
        let gate = Arc::clone(self);
        self.pools.of(mount).run(move || {
            // Who asked may have gone.
            let _ = tell.send(gate.read_lasthost(&at, &creds));
            drop(question);
        });
        let within = ANSWER_WITHIN.min(self.config.check_timeout);
        told.recv_timeout(within).unwrap_or_else(|_| {
            Ok(Told::Nothing(format!(
                "no answer within {within:?}: is the NFS server up?"
            )))
        })
    }

    fn read_lasthost(&self, at: &IndexPath, creds: &Creds) -> Result<Told, Trouble> {
        let _as = (creds.act()).map_err(Trouble::backing("take the owner's rights"))?;
        let Some(index) = IndexDir::open(at, creds, &self.mounts, &self.config.index_fs)? else {
            return Ok(Told::NoIndex);
        };
        Ok(match index.read_lasthost()? {
            None => Told::Absent,
            Some((identity, lasthost)) => Told::LastHost(identity, lasthost),
        })
    }

    /// Those of his log, as for a user who may have moved; where there is none, those of a session that lingers.
    fn rights_of(&self, user: &User) -> io::Result<Option<Creds>> {
        if let Some(creds) = owner(self, user)? {
            return Ok(Some(creds));
        }
        let Some(state) = self.users.known(user) else {
            return Ok(None);
        };
        let inner = state.lock();
        let mut ghosts = inner.ghosts.iter().map(|ghost| &*ghost.creds);
        Ok(ghosts.find(|creds| creds.uid != 0).cloned())
    }
}

impl Inner {
    fn activity(&self) -> Activity {
        let handles = self
            .holders
            .values()
            .map(|holder| u64::from(holder.handles));
        Activity {
            handles: handles.sum(),
            busy: self.is_busy(),
            haunted: !self.ghosts.is_empty(),
        }
    }
}

fn files_in(dir: &OwnedFd, most: usize) -> io::Result<(Vec<(OsString, u64)>, u64)> {
    let (mut files, mut more) = (Vec::new(), 0);
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if files.len() == most {
            more += 1;
            continue;
        }
        if let Some(stat) = local::look(dir, name)? {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            files.push((OsString::from_vec(name.to_bytes().to_vec()), size));
        }
    }
    files.sort_unstable();
    Ok((files, more))
}
