//! What has been read of the options so far, one after the other, and what comes of it with what was left out.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::MountFlags;

use super::table::Meaning;
use super::{
    BackingFs, Config, DEFAULT_CHECK_TIMEOUT, DEFAULT_LAYOUT, DEFAULT_PREFIX, DEFAULT_WATCHDOG,
    Index, IndexFs, LockMethod, OptionError, bounds, index, publish, table, value,
};
use crate::template::Layout;

/// Names of our own options; those every mount knows are in [`table`].
pub(super) const OWN: [&str; 19] = [
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
pub(super) struct Given {
    layout: Option<Layout>,
    index: Option<Index>,
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
    pub(super) fn take(&mut self, option: &str) -> Result<(), OptionError> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match OWN.into_iter().find(|own| *own == name) {
            Some(name) => self.take_own(name, value),
            None => self.take_generic(name, value),
        }
    }

    fn take_own(&mut self, name: &'static str, text: Option<&str>) -> Result<(), OptionError> {
        let wanted = || match text {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(OptionError::NeedsValue(name)),
        };
        match name {
            "index" => set(&mut self.index, name, whole(name, wanted()?)?, Index::parse),
            "userdb" => set(&mut self.userdb, name, wanted()?, index::userdb),
            "layout" => set(
                &mut self.layout,
                name,
                whole(name, wanted()?)?,
                Layout::parse,
            ),
            "prefix" => {
                let prefix =
                    value::read(name, wanted()?, |text| value::prefix(text, &self.prefixes))?;
                self.prefixes.push(prefix);
                Ok(())
            }
            "host" => set(&mut self.host, name, wanted()?, value::host),
            "migrate" if text.is_none() => once(&mut self.migrate, name, true),
            "migrate" => set(&mut self.migrate, name, wanted()?, value::yes_or_no),
            "nomigrate" if text.is_some() => Err(OptionError::TakesNoValue(name)),
            "nomigrate" => once(&mut self.migrate, "migrate", false),
            "index_fs" => set(&mut self.index_fs, name, wanted()?, value::index_fs),
            "backing_fs" => set(&mut self.backing_fs, name, wanted()?, value::backing_fs),
            "lock_method" => set(&mut self.lock_method, name, wanted()?, value::lock_method),
            "check_timeout" => set(
                &mut self.check_timeout,
                name,
                wanted()?,
                value::check_timeout,
            ),
            "watchdog" => set(&mut self.watchdog, name, wanted()?, value::watchdog),
            "metrics" | "metrics_file" => self.publish.take(name, wanted()?),
            _ => self.bounds.take(name, wanted()?),
        }
    }

    fn take_generic(&mut self, name: &str, value: Option<&str>) -> Result<(), OptionError> {
        if table::is_for_others(name) {
            return Ok(());
        }
        let Some((name, takes_value, meaning)) = table::find(name) else {
            let nearest = value::nearest(name, OWN.into_iter().chain(table::names()));
            let name = name.to_owned();
            return Err(OptionError::Unknown { name, nearest });
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

    pub(super) fn finish(
        self,
        backing: &Path,
        mountpoint: &Path,
        hostname: &str,
    ) -> Result<Config, OptionError> {
        let index = self.index.ok_or(OptionError::NoIndex)?;
        index.is_outside(mountpoint, backing)?;
        let layout = match self.layout {
            Some(layout) => layout,
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

/// A template that ends between the brackets of a filter, as `%{user | substr(0`, was cut off by a comma.
fn whole<'a>(name: &'static str, text: &'a str) -> Result<&'a str, OptionError> {
    let last = text.rfind("%{").map_or("", |at| &text[at..]);
    let open = |sign: char, end: char| last.rfind(sign) > last.rfind(end);
    match open('(', ')') && !last.contains('}') {
        true => Err(OptionError::Cut { name }),
        false => Ok(text),
    }
}

/// Reads the value of an option that can be given once.
pub(super) fn set<T, E: Display>(
    slot: &mut Option<T>,
    name: &'static str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<(), OptionError> {
    once(slot, name, value::read(name, text, parse)?)
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), OptionError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Twice(name)),
    }
}
