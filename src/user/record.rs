//! The record: what we last accepted of a user, in `.lasthost` of his directory in the backing. Pure.
//!
//! `key value` lines; unknown keys are ignored, so that it can grow.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::index::lasthost::{Identity, Instance, value};

/// What we last accepted of a user, kept in his directory in the backing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The `.lasthost` on NFS that is our claim.
    pub lasthost: Identity,
    /// The mount that wrote the record: nothing local from before a mount is trusted.
    pub instance: Instance,
    /// The INDEX/L that was pulled, by file name.
    pub pulled: Vec<(OsString, Identity)>,
}

/// What the record's place holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing, or nothing of this mount.
    Nothing,
    /// The user has, or had when an earlier mount ended, ghosts whose fence is not set.
    Haunted,
    /// What this mount last accepted.
    Record(Record),
}

/// Stands in the record's place while the user has ghosts, so that a daemon that dies leaves word of them.
pub const HAUNTED: &str = "haunted\n";

impl Kept {
    /// Reads what is there; records of another mount are nothing.
    pub fn parse(bytes: &[u8], ours: Instance) -> Self {
        match Record::parse(bytes) {
            _ if bytes == HAUNTED.as_bytes() => Kept::Haunted,
            Some(record) if record.instance == ours => Kept::Record(record),
            _ => Kept::Nothing,
        }
    }
}

impl Record {
    /// Reads a record; `None` for one that is damaged or of a later, incompatible kind: then there is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let pulled = text
            .lines()
            .filter_map(|line| line.strip_prefix("pulled "))
            .map(parse_pulled);
        Some(Record {
            lasthost: Identity::parse(value(text, "lasthost")?)?,
            instance: Instance::parse(value(text, "instance")?)?,
            pulled: pulled.collect::<Option<_>>()?,
        })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("lasthost {}\ninstance {}\n", self.lasthost, self.instance);
        for (name, identity) in &self.pulled {
            let _ = writeln!(text, "pulled {identity} {}", hex(name.as_bytes()));
        }
        text
    }

    /// What was pulled as `log`.
    pub fn pulled_as(&self, log: &OsStr) -> Option<Identity> {
        self.pulled
            .iter()
            .find(|(name, _)| name == log)
            .map(|(_, identity)| *identity)
    }
}

fn parse_pulled(text: &str) -> Option<(OsString, Identity)> {
    let (identity, name) = text.rsplit_once(' ')?;
    Some((OsString::from_vec(unhex(name)?), Identity::parse(identity)?))
}

/// File names may hold anything but `/` and NUL: written in hexadecimal they cannot break a line.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    (digits.len() % 2 == 0).then_some(())?;
    digits
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity() -> impl Strategy<Value = Identity> {
        (
            any::<u64>(),
            any::<i64>(),
            0..1_000_000_000u32,
            any::<u64>(),
        )
            .prop_map(|(ino, mtime, nsec, size)| Identity {
                ino,
                mtime,
                nsec,
                size,
            })
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_written(lasthost in identity(), id: u128,
                                       pulled in prop::collection::vec(("[^/\0]{1,20}", identity()), 0..3)) {
            let pulled = pulled.into_iter().map(|(name, identity)| (name.into(), identity)).collect();
            let record = Record { lasthost, instance: Instance(id), pulled };
            prop_assert_eq!(Record::parse(record.to_text().as_bytes()), Some(record));
        }

        #[test]
        fn garbage_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Reading it neither panics nor yields a record by chance.
            prop_assert_eq!(Record::parse(&bytes), None);
        }
    }

    #[test]
    fn only_our_own_record_and_word_of_ghosts_count() {
        let record = Record {
            lasthost: Identity {
                ino: 1,
                mtime: 2,
                nsec: 3,
                size: 4,
            },
            instance: Instance(5),
            pulled: vec![],
        };
        let text = record.to_text();
        assert_eq!(Kept::parse(text.as_bytes(), Instance(6)), Kept::Nothing);
        assert_eq!(
            Kept::parse(text.as_bytes(), Instance(5)),
            Kept::Record(record)
        );
        assert_eq!(Kept::parse(HAUNTED.as_bytes(), Instance(5)), Kept::Haunted);
        assert_eq!(Kept::parse(b"", Instance(5)), Kept::Nothing);
    }

    #[test]
    fn a_later_version_may_add_keys() {
        let record =
            b"lasthost 1 2.000000003 4\ninstance 0000000000000000000000000000000f\nstamp x y\n";
        assert_eq!(Record::parse(record).unwrap().instance, Instance(15));
    }
}
