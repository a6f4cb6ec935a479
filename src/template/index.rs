//! INDEX: the absolute path of a user's index directory on NFS.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component as Part, Path, PathBuf};

use super::component::{Component, components};
use super::error::{ExpandError, Problem, TemplateError};
use super::inverse::{Inverse, unknown};
use super::layout::Layout;
use super::{Template, User};

/// A template of an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexTemplate {
    template: Template,
    components: Vec<Component>,
    prefix: PathBuf,
}

impl IndexTemplate {
    /// Parses a template such as `/nfs/idx/%2.256Nu/%u`, and refuses one that gives users the same directory.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let template = Template::parse(text)?;
        let (absolute, components) = components(&template)?;
        if !absolute {
            return Err(TemplateError::new(
                Problem::Path,
                (1, text),
                "is not an absolute path",
                "begin it with `/`",
            ));
        }
        let parts = || components.iter().flat_map(|component| &component.parts);
        if !parts().any(|part| part.need.local.is_some()) {
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
        let fixed: Vec<Vec<u8>> = components.iter().map_while(Component::fixed).collect();
        let prefix = absolute_path(&fixed);
        Ok(Self {
            template,
            components,
            prefix,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.template.as_str()
    }

    /// The leading directories that are the same for every user: the administrator's, not the users'.
    pub fn literal_prefix(&self) -> &Path {
        &self.prefix
    }

    /// The user's index directory. What follows the [literal prefix](Self::literal_prefix) has no `..` and no empty name.
    pub fn expand(&self, user: &User) -> Result<PathBuf, ExpandError> {
        let named = self.components.iter().enumerate();
        let names: Result<Vec<_>, _> = named
            .map(|(at, component)| component.name(user.as_bytes(), at + 1))
            .collect();
        Ok(absolute_path(&names?))
    }

    /// The way back: whose INDEX this is, or what lies in it, where `layout` is the mount's. `None`: nobody's.
    ///
    /// # Errors
    /// [`ExpandError::NoWayBack`] where INDEX tells less of a name than the layout does, as one that is a hash: any path could be
    /// several users'.
    pub fn user_of(&self, layout: &Layout, path: &Path) -> Result<Option<User>, ExpandError> {
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

fn absolute_path(names: &[Vec<u8>]) -> PathBuf {
    let path = [b"/".as_slice(), &names.join(&b'/')].concat();
    OsString::from_vec(path).into()
}

/// Whether what the layout tells of a user is enough for INDEX: a layout of `%Lu` does not tell what `%u` is.
pub fn check_pair(layout: &Layout, index: &IndexTemplate) -> Result<(), TemplateError> {
    let mut parts = index
        .components
        .iter()
        .flat_map(|component| &component.parts);
    match parts.find(|part| !layout.known().covers(part.need)) {
        Some(part) => Err(unknown(part, layout.known())),
        None => Ok(()),
    }
}
