//! INDEX, the user's index directory on NFS: reached with his own credentials, beneath the
//! administrator's part of the path, through no symbolic link, and with no descriptor kept.

mod change;
pub mod creds;
pub mod dir;
pub mod guard;
pub mod lasthost;
pub mod lock;
pub mod pool;
mod walk;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::stats::Cell;

/// Why INDEX cannot be used now. Every one leads to a refusal; the text is the operator's log line.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// INDEX lies on a file system that `index_fs=` does not name.
    #[error(
        "{path} is on {fs}, which index_fs= does not accept: mount the NFS that holds it, or name {fs} in index_fs="
    )]
    WrongFs {
        /// INDEX, or the deepest directory above it that exists.
        path: PathBuf,
        /// The type in mountinfo.
        fs: String,
    },
    /// NFS mounted with `softerr` or `softreval`: when the server is gone the client answers from its cache, and calls it the truth.
    #[error(
        "{path} is on {point}, which is mounted with {option}: a dead server's stale answers would be believed: mount it with hard, or with soft"
    )]
    SoftErr {
        /// INDEX.
        path: PathBuf,
        /// The mount point.
        point: PathBuf,
        /// The mount's option.
        option: &'static str,
    },
    /// The part of INDEX that is the same for all users is missing.
    #[error(
        "{path} does not exist: mount what should be there, see that its server exports the right directory, or make it"
    )]
    NoBase {
        /// The components of `index=` before the first with a variable.
        path: PathBuf,
    },
    /// A symbolic link in the user's part of the path.
    #[error(
        "{path} is or leads through a symbolic link, which is never followed: make it a directory or file of its own"
    )]
    Symlink {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A FIFO, device, directory … where a regular file is expected.
    #[error("{path} is not a {expected}: remove it")]
    WrongKind {
        /// What was found.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// The list index on NFS is larger than any list index.
    #[error(
        "{path} has {size} bytes, more than the {limit} that are pulled: remove it, Dovecot rebuilds it"
    )]
    TooBig {
        /// The file.
        path: PathBuf,
        /// Its size, bytes.
        size: u64,
        /// What is pulled at most, bytes.
        limit: u64,
    },
    /// More files than any list index has.
    #[error(
        "{path} and {count} more files begin with the prefix, more than the {limit} that are pulled: remove them, Dovecot rebuilds the list index"
    )]
    TooMany {
        /// The log.
        path: PathBuf,
        /// How many others there are.
        count: usize,
        /// How many are pulled at most.
        limit: usize,
    },
    /// Somebody else holds the lock.
    #[error(
        "{path} stayed locked for {waited:?}: a stock Dovecot backend is using it; if none is, remove a stale {path}.lock"
    )]
    Locked {
        /// INDEX/L.
        path: PathBuf,
        /// How long we tried.
        waited: Duration,
    },
    /// NFS did not answer.
    #[error("no answer within check_timeout={0:?}: is the NFS server up?")]
    TimedOut(Duration),
    /// Userdb does not tell where INDEX is.
    #[error(transparent)]
    Userdb(#[from] crate::userdb::Error),
    /// The user's name does not give an INDEX.
    #[error("no INDEX for this user name: {0}")]
    NoPath(String),
    /// A system call failed.
    #[error("cannot {what} {path}: {source}{}", mend(source))]
    Io {
        /// The call, in words.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Processes whose changes others would not see must end first.
    #[error("sessions from before the user moved or was refused still run (pid {}): end them with `doveadm kick`, or wait", pids(.0))]
    Draining(Vec<u32>),
    /// Another host claimed the user while we worked: the gate starts over.
    #[error(
        "another host, or a stock backend, changed the user's INDEX meanwhile, again and again: send him to one host at a time"
    )]
    Overtaken,
    /// The local half of the work failed.
    #[error("cannot {what} in the backing: {source}{}", mend_backing(source))]
    Backing {
        /// The step, in words.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Trouble {
    /// The local half of the work failed: makes the error of a step of it.
    pub fn backing(what: &'static str) -> impl Fn(io::Error) -> Trouble {
        move |source| Trouble::Backing { what, source }
    }

    /// Where those are counted who are refused for it.
    pub fn cell(&self) -> Cell {
        match self {
            Trouble::WrongFs { .. } => Cell::RefusedWrongFs,
            Trouble::SoftErr { .. } => Cell::RefusedSoftErr,
            Trouble::NoBase { .. } => Cell::RefusedNoBase,
            Trouble::Symlink { .. } => Cell::RefusedSymlink,
            Trouble::WrongKind { .. } => Cell::RefusedWrongKind,
            Trouble::TooBig { .. } | Trouble::TooMany { .. } => Cell::RefusedTooBig,
            Trouble::Locked { .. } => Cell::RefusedLocked,
            Trouble::TimedOut(_) => Cell::RefusedTimedOut,
            Trouble::NoPath(_) => Cell::RefusedNoPath,
            Trouble::Userdb(_) => Cell::RefusedUserdb,
            Trouble::Io { .. } => Cell::RefusedIo,
            Trouble::Draining(_) => Cell::RefusedDraining,
            Trouble::Overtaken => Cell::RefusedOvertaken,
            Trouble::Backing { .. } => Cell::RefusedBacking,
        }
    }

    /// A word for each kind: lines of one kind about one user are limited together.
    pub fn kind(&self) -> &'static str {
        match self {
            Trouble::WrongFs { .. } => "wrong file system",
            Trouble::SoftErr { .. } => "softerr",
            Trouble::NoBase { .. } => "no base",
            Trouble::Symlink { .. } => "symbolic link",
            Trouble::WrongKind { .. } => "wrong kind",
            Trouble::TooBig { .. } => "too big",
            Trouble::TooMany { .. } => "too many",
            Trouble::Locked { .. } => "locked",
            Trouble::TimedOut(_) => "timed out",
            Trouble::NoPath(_) => "no path",
            Trouble::Userdb(error) if error.is_of_all() => "no userdb",
            Trouble::Userdb(_) => "not told by userdb",
            Trouble::Io { .. } => "input/output",
            Trouble::Draining(_) => "draining",
            Trouble::Overtaken => "overtaken",
            Trouble::Backing { .. } => "backing",
        }
    }
}

/// What an operator can do about an errno, where something general can be said.
fn mend(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => ": give the mail user access to it",
        Some(libc::EDQUOT) => ": raise the user's quota on INDEX",
        Some(libc::ENOSPC) => ": make room there",
        Some(libc::EROFS) => ": mount it read-write",
        Some(libc::ENOLCK) => ": start rpc.statd here (NFSv3), or see to the server's locking",
        Some(libc::ESTALE) => ": the NFS server has dropped it, see its exports",
        _ => "",
    }
}

fn mend_backing(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => ": see who has changed its owners or modes",
        Some(libc::EDQUOT) => ": raise max_user_bytes=, or see what fills his directory",
        Some(libc::ENOSPC) => ": make room there, see df and df -i",
        Some(libc::EROFS) => ": mount it read-write",
        _ => "",
    }
}

/// The first few: a line must stay readable however many sessions there are.
fn pids(pids: &[u32]) -> String {
    let some: Vec<_> = pids.iter().take(5).map(u32::to_string).collect();
    let more = if pids.len() > some.len() { " …" } else { "" };
    format!("{}{more}", some.join(", "))
}
