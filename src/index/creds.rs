//! With whose rights NFS is touched: those of the process that asked, never ours.

use std::io;

use crate::sys::cred::ActAs;

/// User id, group id and supplementary groups for file access.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Creds {
    /// The caller's fsuid, as FUSE reports it.
    pub uid: u32,
    /// The caller's fsgid, as FUSE reports it.
    pub gid: u32,
    /// The caller's supplementary groups.
    pub groups: Vec<u32>,
}

impl Creds {
    /// Takes these rights on this thread until the guard is dropped.
    ///
    /// # Errors
    /// When we lack `CAP_SETUID` or `CAP_SETGID`.
    pub fn act(&self) -> io::Result<ActAs> {
        ActAs::new(self.uid, self.gid, &self.groups)
    }
}
