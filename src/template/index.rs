//! INDEX: the absolute path of a user's index directory on NFS.
//!
//! A path from the user name alone, or one that his home directory is a part of; that is then given to the expansion.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component as Part, Path, PathBuf};

use super::component::{Component, Cut, Home, complaint, components};
use super::error::{ExpandError, Problem, TemplateError};
use super::inverse::{Inverse, unknown};
use super::layout::Layout;
use super::trace::Info;
use super::{Syntax, Template, User};

/// Longer paths no system call takes.
const PATH_MAX: usize = 4095;

/// A template of an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexTemplate {
    template: Template,
    components: Vec<Component>,
    home: Option<Home>,
    prefix: PathBuf,
}

/// A user's INDEX, cut where what is the administrator's ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The leading directories without a variable; or, where the template begins with the home directory, that.
    pub base: PathBuf,
    /// What follows: no `..` and no empty name. Empty if INDEX is the home directory itself.
    pub rest: PathBuf,
}

impl IndexTemplate {
    /// Parses a template such as `/nfs/idx/%2.256Nu/%u` or `%h/index`, and refuses one that gives users the same directory.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let template = Template::parse_with_home(text)?;
        let Cut {
            absolute,
            components,
            home,
        } = components(&template)?;
        if !absolute {
            return Err(TemplateError::new(
                Problem::Path,
                (1, text),
                "is not an absolute path",
                "begin it with `/`",
            ));
        }
        let parts = || components.iter().flat_map(|component| &component.parts);
        if home.is_none() && !parts().any(|part| part.need.local.is_some()) {
            let domain = parts().find(|part| part.need.domain.is_some());
            let (place, what) = match domain {
                Some(part) => (part.place(), "is the same for all users of a domain"),
                None => ((1, text), "is the same for every user"),
            };
            return Err(TemplateError::new(
                Problem::Path,
                place,
                what,
                "put the user name into it, as in /nfs/idx/%2.256Nu/%u",
            ));
        }
        let before_home = home.as_ref().map_or(components.len(), |home| home.at);
        let fixed = components.iter().take(before_home);
        let fixed: Vec<Vec<u8>> = fixed.map_while(Component::fixed).collect();
        let prefix = absolute_path(&fixed);
        Ok(Self {
            template,
            components,
            home,
            prefix,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.template.as_str()
    }

    /// The same in this syntax; `None` where that has no template that means the same.
    pub fn in_syntax(&self, syntax: Syntax) -> Option<String> {
        self.template.in_syntax(syntax)
    }

    /// Whether the user's home directory is a part of it.
    pub fn needs_home(&self) -> bool {
        self.home.is_some()
    }

    /// Whether it begins with the home directory: then there is nothing that is the same for every user.
    pub fn begins_with_home(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.at == 0)
    }

    /// Whether a user's local part can be read in it: then no two users of one domain have the same INDEX.
    pub fn tells_the_local_part(&self) -> bool {
        Inverse::of(&self.components).is_ok_and(|inverse| inverse.known.local.is_some())
    }

    /// The leading directories that are the same for every user: the administrator's, not the users'.
    pub fn literal_prefix(&self) -> &Path {
        &self.prefix
    }

    /// The user's index directory. What follows the [literal prefix](Self::literal_prefix) has no `..` and no empty name.
    pub fn expand(&self, user: &User) -> Result<PathBuf, ExpandError> {
        let Expanded { base, rest } = self.expand_with(user, None)?;
        Ok(base.join(rest))
    }

    /// The same of a user with this home directory, cut.
    pub fn expand_with(&self, user: &User, home: Option<&[u8]>) -> Result<Expanded, ExpandError> {
        let named = self.components.iter().enumerate();
        let names: Result<Vec<_>, _> = named
            .map(|(at, component)| component.name(user.as_bytes(), at + 1))
            .collect();
        let mut names = names?;
        let mut fixed = self.prefix.components().count() - 1; // the root
        if let Some(Home { at, .. }) = &self.home {
            let above = home_names(home.ok_or(ExpandError::NoHome)?)?;
            if *at == 0 {
                fixed = above.len();
            }
            names.splice(*at..*at, above);
        }
        let rest = names.split_off(fixed).join(&b'/');
        let expanded = Expanded {
            base: absolute_path(&names),
            rest: OsString::from_vec(rest).into(),
        };
        let length = expanded.base.as_os_str().len() + 1 + expanded.rest.as_os_str().len();
        if length > PATH_MAX {
            return Err(ExpandError::TooLongAPath);
        }
        Ok(expanded)
    }

    /// The way back: whose INDEX this is, or what lies in it, where `layout` is the mount's. `None`: nobody's.
    ///
    /// # Errors
    /// [`ExpandError::NoWayBack`] where INDEX tells less of a name than the layout does, as one that is a hash: any path could be
    /// several users'.
    pub fn user_of(&self, layout: &Layout, path: &Path) -> Result<Option<User>, ExpandError> {
        if self.needs_home() {
            return Err(ExpandError::NoWayBack); // whose home it is only userdb knows
        }
        let inverse = Inverse::of(&self.components).map_err(|_| ExpandError::NoWayBack)?;
        if !inverse.known.covers(layout.known()) {
            return Err(ExpandError::NoWayBack);
        }
        let below = path.components().filter_map(|part| match part {
            Part::Normal(name) => Some(name.as_bytes()),
            _ => None,
        });
        let names: Vec<&[u8]> = below.take(self.components.len()).collect();
        let guess = inverse.name(&names);
        let user = guess.and_then(|name| layout.user_named(&name).ok());
        // It was a guess.
        Ok(user.filter(|user| self.expand(user).is_ok_and(|index| path.starts_with(index))))
    }
}

/// The directories of an absolute path, as the kernel would find them: without empty names and `.`, and never with `..`.
pub fn home_names(home: &[u8]) -> Result<Vec<Vec<u8>>, ExpandError> {
    let bad = |why| Err(ExpandError::BadHome(why));
    if home.first() != Some(&b'/') {
        return bad("is not an absolute path");
    }
    let names = home.split(|&byte| byte == b'/');
    let names: Vec<_> = names.filter(|name| !matches!(*name, b"" | b".")).collect();
    match names.iter().find_map(|name| complaint(name)) {
        Some(_) if names.contains(&&b".."[..]) => bad("leads through `..`"),
        Some(_) => bad("has a name in it that no directory can have"),
        None if names.is_empty() => bad("is the root"),
        None => Ok(names.into_iter().map(<[u8]>::to_vec).collect()),
    }
}

fn absolute_path(names: &[Vec<u8>]) -> PathBuf {
    let path = [b"/".as_slice(), &names.join(&b'/')].concat();
    OsString::from_vec(path).into()
}

/// Whether what the layout tells of a user is enough for INDEX: a layout of `%Lu` does not tell what `%u` is.
pub fn check_pair(layout: &Layout, index: &IndexTemplate) -> Result<(), TemplateError> {
    let parts = index
        .components
        .iter()
        .flat_map(|component| &component.parts);
    let mut parts = parts.chain(index.home.as_ref().map(|home| &home.part));
    match parts.find(|part| !layout.known().covers(part.need)) {
        Some(part) => Err(unknown(part, layout.known())),
        None => Ok(()),
    }
}

/// Whether the layout tells the whole name of a user, by which others can be asked about him.
pub fn tells_the_name(layout: &Layout) -> bool {
    let Info { local, domain } = layout.known();
    local.is_some() && domain.is_some()
}
