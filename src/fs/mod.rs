//! The file system: every operation of the mount, on the backing, with the gate where the design puts it.
//!
//! Knows no FUSE: an operation takes a [`Call`] and returns a value, an error, or what it has to wait for.

mod attr;
mod create;
mod dir;
pub mod error;
mod io;
mod link;
mod lookup;
mod open;
mod place;

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::attr::Change;
pub use self::dir::Rest as RestOfListing;
use self::error::{FsError, Result, Stop};
use crate::journal::{BLAME, Entry, Snapshot, Who};
use crate::options::Config;
use crate::stats::Cell;
use crate::store::opens::Opens;
use crate::store::{Attr, Node, Store};
use crate::template::User;
use crate::user::directory::{Operation, Wait};
use crate::user::gate::{Answer, Gate};
use crate::user::process::{Caller, Process};
use crate::user::state::{Pass, UserState};

/// The kernel may keep what it knows for ever: nothing changes behind its back but what it is told of.
pub const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// With so much blame a request is not tried again: three workers have died with it in their hands, the first of which has not
/// noted it, or twenty that somebody killed.
const MAX_BLAME: u32 = 2 * BLAME;

/// One request's caller, and the verdict it waited for.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// What the gate answered, once it was asked.
    pub verdict: Option<Verdict>,
    /// The request's number, the same when it is resent.
    pub unique: u64,
    /// An earlier worker may have carried it out and died before it answered.
    pub resent: bool,
}

/// What the gate answered one request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Go on.
    Pass(Pass),
    /// Answer EIO.
    Refused,
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Serve(pass) => Verdict::Pass(pass),
            Answer::Refuse => Verdict::Refused,
        }
    }
}

/// A file found or made.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its attributes, good for ever.
    pub attr: Attr,
    /// How long its name may be kept.
    pub name_ttl: Duration,
}

/// An open file: whom the kernel names at its RELEASE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(pub u64);

/// The file system of one mount.
pub struct Core {
    config: Arc<Config>,
    store: Arc<Store>,
    opens: Arc<Opens<Arc<UserState>>>,
    gate: Arc<Gate>,
    listings: dir::Listings,
    /// What the worker before left of requests.
    left: Snapshot,
    /// What workers before opened and have perhaps not answered, and who asked.
    unanswered: Mutex<HashMap<u64, (u64, Process)>>,
    misfits: crate::log_limit::LogLimit,
}

impl Core {
    /// The file system over a backing, behind a gate.
    pub fn new(config: Arc<Config>, store: Arc<Store>, gate: Arc<Gate>) -> Self {
        let listings = dir::Listings::default();
        Core {
            config,
            store,
            opens: Arc::default(),
            gate,
            listings,
            left: Snapshot::default(),
            unanswered: Mutex::default(),
            misfits: Default::default(),
        }
    }

    /// The same, going on where an earlier worker died.
    ///
    /// # Errors
    /// When the files unlinked while open cannot be looked through.
    pub fn take_over(mut self, left: &Snapshot) -> std::io::Result<Self> {
        let states = self.gate.restore(left);
        let orphans = self.store.orphans()?;
        for (node, (count, user)) in &left.open {
            let node = Node(*node);
            let state = |name: &Vec<u8>| match states.get(name.as_slice()) {
                Some(state) => Some(Arc::clone(state)),
                None => Some(self.gate.user(&self.gate.user_named(name).ok()?)),
            };
            let owner = user.as_ref().and_then(state);
            self.opens
                .restore(node, *count, orphans.contains(&node), owner);
        }
        self.store
            .keep_orphans(|node| left.open.contains_key(&node.0))?;
        self.left = left.of_requests();
        self.unanswered = Mutex::new(left.unanswered.clone());
        Ok(self)
    }

    /// Whether a request may be tried: not when it has killed as many workers as it may, one after the other.
    ///
    /// # Errors
    /// [`FsError::Deadly`]; for one that came as far as the gate, what sends it there to be refused.
    pub fn dare(&self, call: &Call) -> Result<()> {
        if !call.resent || matches!(call.verdict, Some(Verdict::Refused)) {
            return Ok(());
        }
        self.unanswered.lock().remove(&call.unique);
        let (blame, user) = self.left.tried(call.unique);
        if blame < MAX_BLAME {
            self.note_try(call, None);
            return Ok(());
        }
        match user.and_then(|user| self.gate.user_named(user).ok()) {
            Some(user) => Err(Stop::Refuse(user)),
            None => Err(FsError::Deadly.into()),
        }
    }

    /// Closes what workers before opened and did not answer for processes that have been killed since: the kernel drops
    /// their requests, sends none of them again, and no RELEASE. To be called once all else has come again.
    pub fn close_unanswered(&self) {
        for (unique, (node, process)) in std::mem::take(&mut *self.unanswered.lock()) {
            let owner = self.opens.owner(Node(node));
            if owner.is_some_and(|state| self.gate.is_left_open(&state, process)) {
                log::debug!("closed for pid {}, which was killed", process.pid);
                let handle = Handle(process.pid.into());
                drop(self.closed(Node(node), handle, Some(unique)));
            } else {
                // Answered, and the worker before died before it noted that.
                self.gate.journal().note(&Entry::Answered { unique });
            }
        }
    }

    /// Tells the next worker that a request which has opened a file has been answered.
    pub fn note_answered(&self, call: &Call) {
        let unique = call.unique;
        self.gate.journal().note(&Entry::Answered { unique });
    }

    /// Tells the next worker of whose gate a request came to that was resent.
    pub fn note_gate(&self, call: &Call, user: &User) {
        if call.resent {
            self.note_try(call, Some(user.as_bytes().to_vec()));
        }
    }

    fn note_try(&self, call: &Call, user: Option<Vec<u8>>) {
        self.gate.journal().note(&Entry::Tried {
            unique: call.unique,
            blame: if user.is_none() { BLAME } else { 0 },
            user,
        });
    }

    /// Whether an earlier worker has carried this out and died before it answered.
    fn was_done(&self, call: &Call) -> bool {
        call.resent && self.left.is_done(call.unique)
    }

    /// The open files.
    pub fn opens(&self) -> &Arc<Opens<Arc<UserState>>> {
        &self.opens
    }

    /// The gate, to ask for verdicts.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Lets an operation on managed names begin that needs no verdict.
    fn enter(&self, state: &Arc<UserState>) -> Result<Operation> {
        state.enter().map_err(|wait| stop(state, wait))
    }

    /// Lets an operation begin that needs a verdict.
    fn admit(&self, call: &Call, state: &Arc<UserState>) -> Result<Operation> {
        let pass = match &call.verdict {
            Some(Verdict::Refused) => return Err(FsError::Refused.into()),
            Some(Verdict::Pass(pass)) => Some(pass),
            None => None,
        };
        let admitted = state.admit(call.caller.pid, pass);
        if pass.is_none() && admitted.is_ok() {
            self.gate.stats().count(Cell::SharedVerdicts);
        }
        admitted.map_err(|wait| stop(state, wait))
    }

    /// Counts a managed file as opened by the caller.
    fn hold(&self, call: &Call, operation: &Operation) -> (Vec<u8>, Who) {
        operation.hold(call.caller.pid, || self.gate.who(call.caller))
    }
}

fn stop(state: &Arc<UserState>, wait: Wait) -> Stop {
    match wait {
        Wait::Gate => Stop::Gate(state.user.clone()),
        Wait::Directory => Stop::Directory(Arc::clone(state)),
    }
}

/// The kernel sends no name with a NUL or a slash in it.
fn c_name(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| FsError::Absent.into())
}

/// A Linux file handle is gone: the name behind it was purged or replaced.
fn stale(e: std::io::Error) -> FsError {
    if e.raw_os_error() == Some(libc::ESTALE) {
        FsError::Stale
    } else {
        FsError::Backing(e)
    }
}
