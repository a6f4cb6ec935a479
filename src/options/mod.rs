//! `-o` text → [`Config`]. Pure: the host's name is an argument, nothing is looked up.
//!
//! [`split`] cuts the text into options, [`given`] takes them one by one, [`table`] says what the ones every mount knows mean,
//! [`value`] reads the values of ours.

mod bounds;
mod given;
mod index;
mod publish;
mod split;
mod table;
mod value;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::MountFlags;
use thiserror::Error;

pub use self::bounds::Bounds;
use self::given::{Given, set};
pub use self::index::Index;
pub use self::publish::Publish;
use crate::template::Layout;

/// The layout where `layout=` is not given: 256 directories, then the user's name.
pub const DEFAULT_LAYOUT: &str = "%2.256Nu/%u";
/// The prefix where `prefix=` is not given: Dovecot's name for a mailbox list index.
pub const DEFAULT_PREFIX: &str = "dovecot.list.index";
/// How long an open waits for NFS where `check_timeout=` is not given.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a worker may give no answer where `watchdog=` is not given.
const DEFAULT_WATCHDOG: Duration = Duration::from_secs(10);

/// All that one mount was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The tmpfs directory under the mount, as given: it is the source shown in `/proc/mounts`.
    pub backing: PathBuf,
    /// Where Dovecot finds it.
    pub mountpoint: PathBuf,
    /// A user's directory below the mount point.
    pub layout: Layout,
    /// A user's index directory on NFS.
    pub index: Index,
    /// Dovecot's auth-userdb socket, where `index=` needs more than the user name.
    pub userdb: Option<PathBuf>,
    /// Names whose files are the list index, one for each namespace.
    pub prefixes: Vec<OsString>,
    /// What we write into `.lasthost`.
    pub host: String,
    /// Whether list indexes found on NFS are fetched.
    pub migrate: bool,
    /// The kinds of filesystem an INDEX may be on.
    pub index_fs: IndexFs,
    /// The kinds of filesystem the backing may be on.
    pub backing_fs: BackingFs,
    /// How stock Dovecot locks a list index on NFS.
    pub lock_method: LockMethod,
    /// How long an open waits for NFS before it is refused.
    pub check_timeout: Duration,
    /// How long a worker may give no answer before it is replaced.
    pub watchdog: Duration,
    /// What lies here may take so much room and no more, and when it goes.
    pub bounds: Bounds,
    /// To whom what is counted is given.
    pub publish: Publish,
    /// Flags for mount(2): `nosuid` and `nodev` always, the others as asked.
    pub flags: MountFlags,
}

/// The kinds of filesystem an INDEX may be on. Elsewhere the NFS mount is missing, and what is
/// seen there says nothing about the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexFs {
    /// Any network filesystem.
    Network,
    /// Anything: the operator answers for it.
    Any,
    /// These types, as `/proc/mounts` names them.
    Types(Vec<String>),
}

/// The kinds of filesystem the backing may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingFs {
    /// tmpfs only: nothing local outlives the host.
    Tmpfs,
    /// Anything: the operator answers for it.
    Any,
}

/// Dovecot's `lock_method`, which stock Dovecot uses on NFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMethod {
    /// fcntl(2) locks.
    Fcntl,
    /// flock(2) locks.
    Flock,
    /// Lock files only.
    Dotlock,
}

impl LockMethod {
    /// As Dovecot and `lock_method=` write it.
    pub fn word(self) -> &'static str {
        match self {
            LockMethod::Fcntl => "fcntl",
            LockMethod::Flock => "flock",
            LockMethod::Dotlock => "dotlock",
        }
    }
}

/// Why an `-o` text is not taken. Each says in one line what is wrong and what to do.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OptionError {
    /// No option has this name.
    #[error("unknown option `{name}`: did you mean `{nearest}`?")]
    Unknown {
        /// What was written.
        name: String,
        /// The nearest name there is.
        nearest: &'static str,
    },
    /// A comma within `%{…}` has cut an option in two.
    #[error("`{name}=` is cut off within %{{…}}: write a comma there as `\\,`")]
    Cut {
        /// The option that was cut.
        name: &'static str,
    },
    /// An option that can be given once was given again.
    #[error("option `{0}` is given twice: keep one")]
    Twice(&'static str),
    /// An option without the value it needs.
    #[error("option `{0}` needs a value: write `{0}=…`")]
    NeedsValue(&'static str),
    /// An option with a value it does not take.
    #[error("option `{0}` takes no value: leave out `=…`")]
    TakesNoValue(&'static str),
    /// A value that does not serve.
    #[error("{name}={value}: {why}")]
    Value {
        /// The option.
        name: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it, and what to write.
        why: String,
    },
    /// An option that others have and we cannot offer.
    #[error("option `{name}`: {why}")]
    Refused {
        /// The option.
        name: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
    /// There is no `index=`.
    #[error(
        "option `index` is missing: say where the indexes are on NFS, \
         for example -o index=/nfs/idx/%2.256Nu/%u"
    )]
    NoIndex,
    /// A socket that would never be asked.
    #[error(
        "option `userdb` is given, but the user name alone tells index=: \
         leave it out, or write index=userdb, or %h in index="
    )]
    NotAsked,
    /// INDEX would be looked at through the mount itself, or be beside what is kept of it.
    #[error("index={index}: lies in {what} {path}: index= says where Dovecot's INDEX= is on NFS")]
    Within {
        /// As it was written.
        index: String,
        /// BACKING or MOUNTPOINT.
        what: &'static str,
        /// That.
        path: PathBuf,
    },
    /// Two users would have one INDEX, and one .lasthost.
    #[error(
        "index={index}: {} and {} would have the same INDEX, {path}: \
         put the user name into it, as in /nfs/idx/%2.256Nu/%u",
        users[0], users[1]
    )]
    Shared {
        /// As it was written.
        index: String,
        /// Their names.
        users: [String; 2],
        /// INDEX.
        path: PathBuf,
    },
    /// The two templates do not fit each other.
    #[error("layout= and index= do not fit each other: {0}")]
    Pair(String),
}

impl Config {
    /// Each prefix with the name of its log, which Dovecot always opens first.
    pub fn logs(&self) -> impl Iterator<Item = (&OsString, OsString)> {
        self.prefixes.iter().map(|prefix| {
            let mut log = prefix.clone();
            log.push(".log");
            (prefix, log)
        })
    }

    /// The options that are not the same in both, those of mount(2) left out.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let all = [
            ("index", self.index.as_str() == other.index.as_str()),
            ("userdb", self.userdb == other.userdb),
            ("layout", self.layout.as_str() == other.layout.as_str()),
            ("prefix", self.prefixes == other.prefixes),
            ("host", self.host == other.host),
            ("migrate", self.migrate == other.migrate),
            ("index_fs", self.index_fs == other.index_fs),
            ("backing_fs", self.backing_fs == other.backing_fs),
            ("lock_method", self.lock_method == other.lock_method),
            ("check_timeout", self.check_timeout == other.check_timeout),
            ("watchdog", self.watchdog == other.watchdog),
            ("max_age", self.bounds.max_age == other.bounds.max_age),
            ("max_bytes", self.bounds.max_bytes == other.bounds.max_bytes),
            ("max_users", self.bounds.max_users == other.bounds.max_users),
            (
                "max_user_bytes",
                self.bounds.max_user_bytes == other.bounds.max_user_bytes,
            ),
            (
                "moved_rate",
                self.bounds.moved_rate == other.bounds.moved_rate,
            ),
            ("metrics", self.publish.http == other.publish.http),
            ("metrics_file", self.publish.file == other.publish.file),
        ];
        let differ = all.into_iter().filter(|(_, same)| !same);
        differ.map(|(name, _)| name).collect()
    }

    /// Reads the texts of all `-o`, in the order given. `hostname` is the host's own name, which
    /// `host=` replaces.
    pub fn parse(
        backing: &Path,
        mountpoint: &Path,
        texts: &[String],
        hostname: &str,
    ) -> Result<Self, OptionError> {
        let mut given = Given::default();
        for text in texts {
            for option in split::options(text) {
                given.take(&option)?;
            }
        }
        given.finish(backing, mountpoint, hostname)
    }
}

#[cfg(test)]
mod tests;
