//! A user name that a path has proved to be one.

use std::fmt;
use std::sync::Arc;

use crate::printable::misleads;

/// A user, as the layout tells it: the full name, the name with its case folded, or the local part.
///
/// Only [`Layout`](super::Layout) makes one, and only when the name expands to the very path it was found in, which is kept
/// with it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(Arc<Named>);

/// The path hangs on the name alone, for there is one layout.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Named {
    name: Box<[u8]>,
    dir: Box<[u8]>,
}

impl User {
    pub(super) fn new(name: Vec<u8>, dir: Vec<u8>) -> Self {
        let (name, dir) = (name.into(), dir.into());
        Self(Arc::new(Named { name, dir }))
    }

    /// The name, which need not be UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.name
    }

    /// The user directory, relative to the mount point.
    pub fn dir(&self) -> &[u8] {
        &self.0.dir
    }
}

impl fmt::Display for User {
    /// For logs: what is not UTF-8 or not printable is escaped as `\xNN` or `\u{N}`, so that a name cannot forge a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if misleads(c) || c == '\\' {
                    write!(f, "{}", c.escape_default())?
                } else {
                    write!(f, "{c}")?
                }
            }
            chunk
                .invalid()
                .iter()
                .try_for_each(|b| write!(f, "\\x{b:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({self})")
    }
}
