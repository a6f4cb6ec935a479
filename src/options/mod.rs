//! `-o` text → [`Config`]. Pure: the host's name is an argument, nothing is looked up.
//!
//! [`split`] cuts the text into options, [`table`] says what the ones every mount knows mean,
//! [`value`] reads the values of ours.

mod bounds;
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

pub use self::bounds::{Bounds, MaxBytes};
pub use self::index::{DEFAULT_USERDB, Index};
pub use self::publish::Publish;
use self::table::Meaning;
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

/// Names of our own options; those every mount knows are in [`table`].
const OWN: [&str; 19] = [
    "index",
    "layout",
    "prefix",
    "host",
    "migrate",
    "nomigrate",
    "index_fs",
    "backing_fs",
    "lock_method",
    "check_timeout",
    "watchdog",
    "max_age",
    "max_bytes",
    "max_users",
    "max_user_bytes",
    "moved_rate",
    "metrics",
    "metrics_file",
    "userdb",
];

/// What has been read so far; `None` is "not given".
#[derive(Default)]
struct Given {
    layout: Option<(String, Layout)>,
    index: Option<(String, Index)>,
    userdb: Option<PathBuf>,
    prefixes: Vec<OsString>,
    host: Option<String>,
    migrate: Option<bool>,
    index_fs: Option<IndexFs>,
    backing_fs: Option<BackingFs>,
    lock_method: Option<LockMethod>,
    check_timeout: Option<Duration>,
    watchdog: Option<Duration>,
    bounds: bounds::Given,
    publish: publish::Given,
    flags: Flags,
}

struct Flags(MountFlags);

impl Default for Flags {
    /// FUSE keeps no access times.
    fn default() -> Self {
        Self(MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME)
    }
}

impl Given {
    fn take(&mut self, option: &str) -> Result<(), OptionError> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match OWN.into_iter().find(|own| *own == name) {
            Some(name) => self.take_own(name, value),
            None => self.take_generic(option, name, value),
        }
    }

    fn take_own(&mut self, name: &'static str, text: Option<&str>) -> Result<(), OptionError> {
        let wanted = || match text {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(OptionError::NeedsValue(name)),
        };
        match name {
            "index" => {
                let text = wanted()?;
                let index = value::read(name, text, Index::parse)?;
                once(&mut self.index, name, (text.to_owned(), index))
            }
            "userdb" => once(
                &mut self.userdb,
                name,
                value::read(name, wanted()?, index::userdb)?,
            ),
            "layout" => {
                let text = wanted()?;
                let layout = value::read(name, text, Layout::parse)?;
                once(&mut self.layout, name, (text.to_owned(), layout))
            }
            "prefix" => {
                let prefix =
                    value::read(name, wanted()?, |text| value::prefix(text, &self.prefixes))?;
                self.prefixes.push(prefix);
                Ok(())
            }
            "host" => once(
                &mut self.host,
                name,
                value::read(name, wanted()?, value::host)?,
            ),
            "migrate" => {
                let migrate = match text {
                    None => true,
                    Some(_) => value::read(name, wanted()?, value::yes_or_no)?,
                };
                once(&mut self.migrate, name, migrate)
            }
            "nomigrate" if text.is_some() => Err(OptionError::TakesNoValue(name)),
            "nomigrate" => once(&mut self.migrate, "migrate", false),
            "index_fs" => once(
                &mut self.index_fs,
                name,
                value::read(name, wanted()?, value::index_fs)?,
            ),
            "backing_fs" => once(
                &mut self.backing_fs,
                name,
                value::read(name, wanted()?, value::backing_fs)?,
            ),
            "lock_method" => once(
                &mut self.lock_method,
                name,
                value::read(name, wanted()?, value::lock_method)?,
            ),
            "check_timeout" => once(
                &mut self.check_timeout,
                name,
                value::read(name, wanted()?, value::check_timeout)?,
            ),
            "watchdog" => once(
                &mut self.watchdog,
                name,
                value::read(name, wanted()?, value::watchdog)?,
            ),
            "metrics" | "metrics_file" => self.publish.take(name, wanted()?),
            _ => self.bounds.take(name, wanted()?),
        }
    }

    fn take_generic(
        &mut self,
        option: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), OptionError> {
        if table::is_for_others(name) {
            return Ok(());
        }
        let Some((name, takes_value, meaning)) = table::find(name) else {
            return Err(self.unknown(option, name));
        };
        match meaning {
            Meaning::Refused(why) => return Err(OptionError::Refused { name, why }),
            _ if value.is_some() && !takes_value => return Err(OptionError::TakesNoValue(name)),
            Meaning::Set(flag) => self.flags.0.insert(flag),
            Meaning::Clear(flag) => self.flags.0.remove(flag),
            Meaning::Nothing => {}
        }
        Ok(())
    }

    /// An unknown option is the rest of a template when one was cut off within `%{…}`.
    fn unknown(&self, option: &str, name: &str) -> OptionError {
        let cut = |text: &str| match text.rfind("%{") {
            Some(at) => !text[at..].contains('}') && option.contains('}'),
            None => false,
        };
        if self.index.as_ref().is_some_and(|(text, _)| cut(text)) {
            return OptionError::Cut { name: "index" };
        }
        if self.layout.as_ref().is_some_and(|(text, _)| cut(text)) {
            return OptionError::Cut { name: "layout" };
        }
        let nearest = value::nearest(name, OWN.into_iter().chain(table::names()));
        let name = name.to_owned();
        OptionError::Unknown { name, nearest }
    }

    fn finish(
        self,
        backing: &Path,
        mountpoint: &Path,
        hostname: &str,
    ) -> Result<Config, OptionError> {
        let (_, index) = self.index.ok_or(OptionError::NoIndex)?;
        let layout = match self.layout {
            Some((_, layout)) => layout,
            None => value::read("layout", DEFAULT_LAYOUT, Layout::parse)?,
        };
        index.fits(&layout)?;
        let userdb = index.socket(self.userdb)?;
        let host = match self.host {
            Some(host) => host,
            None => value::read("host", hostname, value::host)?,
        };
        let prefixes = match self.prefixes {
            none if none.is_empty() => vec![DEFAULT_PREFIX.into()],
            given => given,
        };
        Ok(Config {
            backing: backing.to_owned(),
            mountpoint: mountpoint.to_owned(),
            layout,
            index,
            userdb,
            prefixes,
            host,
            migrate: self.migrate.unwrap_or(false),
            index_fs: self.index_fs.unwrap_or(IndexFs::Network),
            backing_fs: self.backing_fs.unwrap_or(BackingFs::Tmpfs),
            lock_method: self.lock_method.unwrap_or(LockMethod::Fcntl),
            check_timeout: self.check_timeout.unwrap_or(DEFAULT_CHECK_TIMEOUT),
            watchdog: self.watchdog.unwrap_or(DEFAULT_WATCHDOG),
            bounds: self.bounds.finish(),
            publish: self.publish.finish(),
            flags: self.flags.0,
        })
    }
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), OptionError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Twice(name)),
    }
}

#[cfg(test)]
mod tests;
