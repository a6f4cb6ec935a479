//! A user name that a path has proved to be one.

use std::fmt;
use std::sync::Arc;

/// A user, as the layout tells it: the full name, the name with its case folded, or the local part.
///
/// Only [`Layout`](super::Layout) makes one, and only when the name expands to the very path it was found in. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(Arc<[u8]>);

impl User {
    pub(super) fn new(name: &[u8]) -> Self {
        Self(name.into())
    }

    /// The name, which need not be UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for User {
    /// For logs: what is not UTF-8 or not printable is escaped as `\xNN` or `\u{N}`, so that a name cannot forge a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || c == '\\' {
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
