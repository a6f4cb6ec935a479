//! One change, as the journal keeps it. Whoever changes an entry changes the journal's number.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::index::creds::Creds;
use crate::user::ghosts::{Ghost, Why};
use crate::user::process::Process;

/// A process and the rights it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    pid: u32,
    birth: u64,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// What a request is blamed with for each worker that dies of itself with it in its hands; for one that somebody kills it is 1.
/// The kernel kills too, when memory runs out, and that may be the request's doing.
pub const BLAME: u32 = 10;

/// A change. A user is his name; a request is its FUSE `unique`, a node is its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields' names are told above")]
pub enum Entry {
    /// The mount's instance.
    Instance(u128),
    /// A file was opened; a list index with its user, and by whom.
    Opened {
        unique: u64,
        node: u64,
        by: Option<(Vec<u8>, Who)>,
    },
    /// A handle of `pid` was released.
    Released {
        unique: u64,
        node: u64,
        user: Option<Vec<u8>>,
        pid: u32,
    },
    /// A process that has files of the user open has changed the list index.
    Wrote { user: Vec<u8>, pid: u32 },
    /// A fence is due for a process that wrote.
    Due { user: Vec<u8>, who: Who },
    /// It is set, or the process has become a ghost instead.
    Fenced { user: Vec<u8>, who: Who },
    /// All ghosts of the user there are now, and why each is one.
    Ghosts {
        user: Vec<u8>,
        ghosts: Vec<(Who, u8)>,
    },
    /// A rename that cannot be told from its result begins: of this node.
    Renames { unique: u64, node: u64 },
    /// This request was carried out.
    Done { unique: u64 },
    /// A request that an earlier worker did not answer begins again; of this user, once that is known. `blame` is what it
    /// gets of it if the worker dies: [`BLAME`].
    Tried {
        unique: u64,
        blame: u32,
        user: Option<Vec<u8>>,
    },
    /// The worker has lived on with all that was resent: none of it kills.
    Survived,
    /// The worker before was killed by somebody: what it had begun again is hardly to blame.
    Killed,
    /// What an earlier mount left in the backing has been removed.
    Swept,
    /// So many bytes lie in the backing.
    Kept { bytes: u64 },
    /// A request has been taken from the kernel, which does not send it again; its bytes.
    Taken { unique: u64, request: Vec<u8> },
    /// It has been answered; also of one that has opened a file, where the kernel sends again what has not been.
    Answered { unique: u64 },
    /// A request has opened this node for a process, and is not known to be answered. Of a journal written anew only.
    Unanswered {
        unique: u64,
        node: u64,
        pid: u32,
        birth: u64,
    },
    /// A node is open so often. Of a journal written anew only.
    Open {
        node: u64,
        times: u32,
        user: Option<Vec<u8>>,
    },
    /// A process has so many handles open. Of a journal written anew only.
    Holds {
        user: Vec<u8>,
        handles: u32,
        who: Who,
        wrote: bool,
    },
}

impl Who {
    /// A process with its rights.
    pub fn new(process: Process, creds: &Creds) -> Self {
        Who {
            pid: process.pid,
            birth: process.birth,
            uid: creds.uid,
            gid: creds.gid,
            groups: creds.groups.clone(),
        }
    }

    /// The process.
    pub fn process(&self) -> Process {
        Process {
            pid: self.pid,
            birth: self.birth,
        }
    }

    /// Its rights.
    pub fn creds(&self) -> Arc<Creds> {
        Arc::new(Creds {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        })
    }
}

impl Entry {
    /// All ghosts of a user.
    pub fn ghosts(user: &[u8], ghosts: &[Ghost]) -> Self {
        let number = |why| match why {
            Why::Refused => 0,
            Why::Held => 1,
            Why::MovedOn => 2,
        };
        let ghosts = ghosts
            .iter()
            .map(|ghost| (Who::new(ghost.process, &ghost.creds), number(ghost.why)));
        Entry::Ghosts {
            user: user.to_vec(),
            ghosts: ghosts.collect(),
        }
    }
}

/// A ghost as it was written. What is not known of it is taken for what lasts longest.
pub(super) fn ghost((who, why): &(Who, u8)) -> Ghost {
    Ghost {
        process: who.process(),
        creds: who.creds(),
        why: match why {
            1 => Why::Held,
            2 => Why::MovedOn,
            _ => Why::Refused,
        },
    }
}
