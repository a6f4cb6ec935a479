//! What an operation ends with when it does not succeed, and the errno for each.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::template::User;
use crate::user::state::UserState;

/// Why an operation did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// It failed.
    Error(FsError),
    /// It has done nothing yet: run it again with a verdict of this user's gate.
    Gate(User),
    /// It has killed workers at this user's gate: it is to be refused there.
    Refuse(User),
    /// It has done nothing yet: run it again when the user's directory is free.
    Directory(Arc<UserState>),
}

/// A failure.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The backing said so.
    #[error("{0}")]
    Backing(#[from] io::Error),
    /// The file behind the node has been purged or replaced: the kernel looks up again.
    #[error("the file is gone")]
    Stale,
    /// There is no such name.
    #[error("no such file")]
    Absent,
    /// The gate refused; it has logged why.
    #[error("refused by the gate")]
    Refused,
    /// A list index outside any user's directory.
    #[error("not in a user's directory")]
    Misfit,
    /// A name, or a kind of file, that the mount keeps for itself.
    #[error("not permitted here")]
    Reserved,
    /// Managed files stay in their user's directory.
    #[error("from one directory to another")]
    CrossDirectory,
    /// A bug of ours that kills the worker, each time the request comes.
    #[error("three workers have died of it: please report this")]
    Deadly,
    /// A bug of ours, caught.
    #[error("panicked")]
    Panicked,
}

impl FsError {
    /// What the caller is told.
    pub fn errno(&self) -> i32 {
        match self {
            FsError::Backing(e) if e.kind() == io::ErrorKind::InvalidInput => libc::EINVAL,
            FsError::Backing(e) => e.raw_os_error().unwrap_or(libc::EIO),
            FsError::Stale => libc::ESTALE,
            FsError::Absent => libc::ENOENT,
            FsError::Refused | FsError::Misfit | FsError::Panicked | FsError::Deadly => libc::EIO,
            FsError::Reserved => libc::EPERM,
            FsError::CrossDirectory => libc::EXDEV,
        }
    }

    /// How loudly it is logged: what every file system answers in its daily work is no news.
    pub fn level(&self) -> log::Level {
        match self.errno() {
            libc::EIO | libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EOVERFLOW => {
                match self {
                    FsError::Refused | FsError::Misfit => log::Level::Debug, // logged where it was decided
                    _ => log::Level::Error,
                }
            }
            libc::ENOSPC | libc::EDQUOT => log::Level::Warn,
            _ => log::Level::Debug,
        }
    }
}

impl Stop {
    /// The error by which there was no room, memory or descriptor for a list index: Dovecot keeps it in its own memory then.
    pub fn want(&self) -> Option<&io::Error> {
        let Stop::Error(FsError::Backing(e)) = self else {
            return None;
        };
        let wants = matches!(
            Errno::from_io_error(e),
            Some(Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::MFILE | Errno::NFILE)
        );
        let no_memory = e.kind() == io::ErrorKind::OutOfMemory; // the journal's has no number
        (wants || no_memory).then_some(e)
    }
}

impl<E: Into<FsError>> From<E> for Stop {
    fn from(e: E) -> Self {
        Stop::Error(e.into())
    }
}

impl From<Errno> for FsError {
    fn from(e: Errno) -> Self {
        FsError::Backing(e.into())
    }
}

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Stop>;
