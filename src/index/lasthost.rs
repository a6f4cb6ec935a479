//! INDEX/.lasthost, which tells who used the user last. Pure.
//!
//! The host's name on the first line, then `key value` lines (`instance`), then padding. Unknown keys
//! are ignored, so that it can grow.

use std::fmt::{self, Write as _};

/// Name of both files: on NFS in INDEX, locally in the user's directory.
pub const LASTHOST: &str = ".lasthost";

/// The longest `.lasthost` or record that is read, in bytes. Ours are far shorter; a longer one is not ours.
pub const MAX_LEN: usize = 8 * 1024;

/// Room for nearly every `.lasthost` and record, in bytes: then it is read at once.
pub const USUAL_LEN: usize = 1024;

/// The name that `.lasthost` bears after a fence: nobody holds the user.
const NOBODY: &str = "nobody";

/// What `stat` sees of a file on NFS, enough to tell whether it has been replaced or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Inode number.
    pub ino: u64,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Modification time, nanoseconds.
    pub nsec: u32,
    /// Size in bytes.
    pub size: u64,
}

/// A random id of one mount, kept across workers, never on disk but in `.lasthost` and records.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instance(pub u128);

/// What a `.lasthost` on NFS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHost {
    /// The name of the host that wrote it.
    pub host: String,
    /// The mount that wrote it; `None` where no mount of ours did.
    pub instance: Option<Instance>,
    /// Inode numbers of stock logs in INDEX that lack what sessions of this host changed: never to be pulled.
    pub stale: Vec<u64>,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Instance {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == 32)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(Instance)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}.{:09} {}",
            self.ino, self.mtime, self.nsec, self.size
        )
    }
}

impl Identity {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let ino = words.next()?.parse().ok()?;
        let (mtime, nsec) = words.next()?.split_once('.')?;
        let size = words.next()?.parse().ok()?;
        words.next().is_none().then_some(())?;
        Some(Identity {
            ino,
            mtime: mtime.parse().ok()?,
            nsec: nsec.parse().ok()?,
            size,
        })
    }
}

impl LastHost {
    /// A claim by a mount.
    pub fn claim(host: &str, instance: Instance) -> Self {
        LastHost {
            host: host.to_owned(),
            instance: Some(instance),
            stale: Vec::new(),
        }
    }

    /// The same, warning other hosts of stock logs by their inode numbers.
    pub fn warning_of(mut self, stale: Vec<u64>) -> Self {
        self.stale = stale;
        self
    }

    /// Whether the same mount wrote both.
    pub fn is_by(&self, other: &LastHost) -> bool {
        self.host == other.host && self.instance == other.instance
    }

    /// What a fence writes.
    pub fn nobody() -> Self {
        LastHost {
            host: NOBODY.to_owned(),
            instance: None,
            stale: Vec::new(),
        }
    }

    /// Whether a fence wrote it.
    pub fn is_nobody(&self) -> bool {
        self.instance.is_none() && self.host == NOBODY
    }

    /// Reads a `.lasthost`; `None` for one that nobody of us wrote.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (host, rest) = text.split_once('\n')?;
        let instance = value(rest, "instance").and_then(Instance::parse);
        let stale = value(rest, "stale").unwrap_or_default();
        let stale = stale.split(' ').filter_map(|ino| ino.parse().ok());
        Some(LastHost {
            host: host.to_owned(),
            instance,
            stale: stale.collect(),
        })
    }

    /// The file's text, made `padding` bytes longer than it need be: a reused inode must not look like
    /// an older claim, and only what `stat` sees counts.
    pub fn to_text(&self, padding: usize) -> String {
        let mut text = format!("{}\n", self.host);
        if let Some(instance) = self.instance {
            let _ = writeln!(text, "instance {instance}");
        }
        if !self.stale.is_empty() {
            let inos: Vec<String> = self.stale.iter().map(u64::to_string).collect();
            let _ = writeln!(text, "stale {}", inos.join(" "));
        }
        let _ = writeln!(text, "pad {}", ".".repeat(padding));
        text
    }
}

/// What the `key value` lines of a text say of a key; of several the last.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .rfind(|(named, _)| *named == key)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_claim_is_read_as_written(host in "[^\n]{1,64}", id: u128, padding in 0..500usize,
                                      stale in prop::collection::vec(any::<u64>(), 0..3)) {
            let claim = LastHost::claim(&host, Instance(id)).warning_of(stale);
            prop_assert_eq!(LastHost::parse(claim.to_text(padding).as_bytes()), Some(claim));
        }

        #[test]
        fn garbage_is_never_ours(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = LastHost::parse(&bytes);
            prop_assert!(read.is_none_or(|lasthost| lasthost.instance.is_none()));
        }
    }

    #[test]
    fn padding_changes_the_size_only() {
        let claim = LastHost::claim("a", Instance(7));
        assert_eq!(claim.to_text(10).len(), claim.to_text(0).len() + 10);
    }

    #[test]
    fn the_plugins_lasthost_is_a_host_without_an_instance() {
        let plugin = LastHost::parse(b"backend7\n").unwrap();
        assert_eq!((plugin.host.as_str(), plugin.instance), ("backend7", None));
    }

    #[test]
    fn nobody_is_never_one_of_us() {
        assert_eq!(
            LastHost::parse(LastHost::nobody().to_text(3).as_bytes())
                .unwrap()
                .instance,
            None
        );
    }
}
