//! Stand-ins for the templates until `crate::template` has them: they keep the text.

use thiserror::Error;

/// A user's directory below the mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(pub String);

/// A user's index directory on NFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTemplate(pub String);

/// Why a template's text is not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TextError {
    /// `index=` is not absolute.
    #[error("must begin with `/`")]
    NotAbsolute,
    /// `layout=` is absolute.
    #[error("must not begin with `/`: it is below the mount point")]
    Absolute,
}

impl Layout {
    /// Takes a relative template.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        match text.starts_with('/') {
            true => Err(TextError::Absolute),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl IndexTemplate {
    /// Takes an absolute template.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        match text.starts_with('/') {
            true => Ok(Self(text.to_owned())),
            false => Err(TextError::NotAbsolute),
        }
    }
}

/// Whether the two fit each other.
pub fn check_pair(_layout: &Layout, _index: &IndexTemplate) -> Result<(), TextError> {
    Ok(())
}
