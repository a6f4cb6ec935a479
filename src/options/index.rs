//! `index=` and `userdb=`: where INDEX is, and whom to ask for what the user name does not tell.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::OptionError;
use crate::template::{
    ExpandError, IndexTemplate, Layout, TemplateError, User, check_pair, tells_the_name,
};

/// The word that stands for "as userdb says".
const USERDB: &str = "userdb";
/// Where Dovecot's auth listens if it is not told otherwise.
pub(super) const DEFAULT_USERDB: &str = "/run/dovecot/auth-userdb";
/// So many users' INDEXes are compared: a hash of 16 bits gives two of them the same.
const NAMES: usize = 512;
/// `sockaddr_un` has room for so many bytes and a NUL.
const SOCKET_MAX: usize = 107;

/// Where a user's INDEX is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Index {
    /// A path with Dovecot's variables.
    Template(Box<IndexTemplate>),
    /// Whatever userdb's reply says.
    Userdb,
}

impl Index {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        match text {
            USERDB => Ok(Index::Userdb),
            _ => IndexTemplate::parse(text)
                .map(Box::new)
                .map(Index::Template),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Index::Template(template) => template.as_str(),
            Index::Userdb => USERDB,
        }
    }

    /// The template, if it is one.
    pub fn template(&self) -> Option<&IndexTemplate> {
        match self {
            Index::Template(template) => Some(template),
            Index::Userdb => None,
        }
    }

    /// The leading directories that are the same for every user, where there are any.
    pub fn literal_prefix(&self) -> Option<&Path> {
        let template = self.template().filter(|index| !index.begins_with_home());
        template.map(IndexTemplate::literal_prefix)
    }

    /// A user's INDEX, if his name tells it.
    ///
    /// # Errors
    /// When it does not: [`ExpandError::NoHome`] where userdb has to be asked.
    pub fn expand(&self, user: &User) -> Result<PathBuf, ExpandError> {
        let template = self.template().ok_or(ExpandError::NoHome)?;
        template.expand(user)
    }

    /// The way back, as [`IndexTemplate::user_of`].
    ///
    /// # Errors
    /// [`ExpandError::NoWayBack`] where a path may be several users', or userdb has to be asked.
    pub fn user_of(&self, layout: &Layout, path: &Path) -> Result<Option<User>, ExpandError> {
        let template = self.template().ok_or(ExpandError::NoWayBack)?;
        template.user_of(layout, path)
    }

    /// Whether the user name alone does not tell it.
    pub fn needs_userdb(&self) -> bool {
        self.template().is_none_or(IndexTemplate::needs_home)
    }

    /// Whether it lies neither in the mount nor in its backing.
    pub(super) fn is_outside(&self, mountpoint: &Path, backing: &Path) -> Result<(), OptionError> {
        let base = self.literal_prefix();
        for (what, path) in [("MOUNTPOINT", mountpoint), ("BACKING", backing)] {
            let known = !path.as_os_str().is_empty(); // who checks a set-up may not have told it
            if known && base.is_some_and(|base| base.starts_with(path)) {
                let (index, path) = (self.as_str().to_owned(), path.to_owned());
                return Err(OptionError::Within { index, what, path });
            }
        }
        Ok(())
    }

    /// Whether the layout tells enough of a user for it.
    pub(super) fn fits(&self, layout: &Layout) -> Result<(), OptionError> {
        let pair = |why: String| Err(OptionError::Pair(why));
        match self {
            Index::Template(template) => {
                check_pair(layout, template).or_else(|error| pair(error.to_string()))?;
                apart(layout, template)
            }
            Index::Userdb if tells_the_name(layout) => Ok(()),
            Index::Userdb => pair(
                "userdb is asked by the whole name, and the layout tells only the local part; \
                 put %u or %d into the layout"
                    .to_owned(),
            ),
        }
    }

    /// The socket to ask, if one has to be.
    pub(super) fn socket(&self, given: Option<PathBuf>) -> Result<Option<PathBuf>, OptionError> {
        match (self.needs_userdb(), given) {
            (true, given) => Ok(Some(given.unwrap_or_else(|| DEFAULT_USERDB.into()))),
            (false, None) => Ok(None),
            (false, Some(_)) => Err(OptionError::NotAsked),
        }
    }
}

/// Whether users have each an INDEX of their own. Where the name cannot be read in it some names show that: a short hash gives
/// one to many, a long one to nobody else. (Each worker does this as it takes over, so not where it need not.)
fn apart(layout: &Layout, index: &IndexTemplate) -> Result<(), OptionError> {
    if index.needs_home() || index.tells_the_local_part() {
        return Ok(());
    }
    let mut seen = HashMap::new();
    for number in 0..NAMES {
        let of = |end: &str| layout.user_named(format!("u{number}{end}").as_bytes());
        // Not every layout takes a domain, or none.
        let Ok(user) = of("@example.com").or_else(|_| of("")) else {
            continue;
        };
        let Ok(path) = index.expand(&user) else {
            continue;
        };
        if let Some(first) = seen.insert(path.clone(), user.clone()) {
            let index = index.as_str().to_owned();
            let users = [first, user].map(|user| user.to_string());
            return Err(OptionError::Shared { index, users, path });
        }
    }
    Ok(())
}

/// Reads `userdb=`.
pub(super) fn userdb(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!(
            "write the path of Dovecot's auth-userdb socket, such as {DEFAULT_USERDB}"
        ));
    }
    if text.len() > SOCKET_MAX || text.contains('\0') {
        return Err(format!(
            "no socket has such a path: it has {SOCKET_MAX} bytes at most"
        ));
    }
    Ok(path.to_owned())
}
