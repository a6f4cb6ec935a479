//! The layout: the user directory below the mount point, and the way back from a directory to its user.
//!
//! A layout is accepted only when two users cannot share a path: `%n-%d` is refused. Where that hangs on the user (`a` and
//! `a@` under `%n@%d`), the users in doubt have no path at all: a wrong user is never given.

use std::cmp::Ordering;

use super::component::{Component, Cut, complaint, components};
use super::error::{ExpandError, Problem, TemplateError};
use super::inverse::Inverse;
use super::trace::{Form, Info};
use super::{Template, User};

/// What a level of the layout is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelKind {
    /// From digests of the name, or from nothing but fixed text: it does not carry the name, and its possible names are known.
    Hashed,
    /// From the name, or pieces of it.
    Named,
}

/// Where in the layout a directory lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirPlace {
    /// The root (0) or a level above the user directories.
    Level(usize),
    /// A user's directory.
    UserDir(User),
    /// In the depth of user directories, but no user's name gives this path.
    Misfit,
    /// Within a user's directory.
    Deeper,
}

/// An invertible template of a relative path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    template: Template,
    levels: Vec<Component>,
    inverse: Inverse,
}

impl Layout {
    /// Parses a layout such as `%2.256Nu/%u`, and refuses one that does not tell the user.
    ///
    /// `%Lu` tells the name in lower case, and `%n` without `%d` the local part: that is then the [`User`], and
    /// [`check_pair`](super::check_pair) sees to it that INDEX needs no more.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let template = Template::parse(text)?;
        let Cut {
            absolute,
            components: levels,
            ..
        } = components(&template)?;
        if absolute {
            let mend = "leave the first `/` out: it is below the mount point";
            return Err(TemplateError::new(
                Problem::Path,
                (1, text),
                "is an absolute path",
                mend,
            ));
        }
        for part in levels.iter().flat_map(|level| &level.parts) {
            if part.form == Form::Digest(super::shape::Shape::Unknown) {
                let what = "makes something of a hash that no directory can be known by";
                let mend = "end it with hexlify(n) or hex(n)";
                return Err(TemplateError::new(
                    Problem::Unsupported,
                    part.place(),
                    what,
                    mend,
                ));
            }
        }
        let inverse = Inverse::of(&levels)?;
        let layout = Self {
            template,
            levels,
            inverse,
        };
        layout.check_last()?;
        Ok(layout)
    }

    /// The last level is the user's own directory, made by the user's session: it must carry a name.
    fn check_last(&self) -> Result<(), TemplateError> {
        match self.levels.last() {
            Some(last) if kind(last) == LevelKind::Hashed => Err(TemplateError::new(
                Problem::NoWayBack,
                (last.column, &last.text()),
                "is the user directory and does not carry the name",
                "end the layout with the user name, as in %2.256Nu/%u",
            )),
            _ => Ok(()),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.template.as_str()
    }

    /// Number of directories from the mount point down to the user's.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// What the directories at `level` (1 to [`depth`](Self::depth)) are made from; beyond, [`LevelKind::Named`].
    pub fn kind(&self, level: usize) -> LevelKind {
        self.level(level).map_or(LevelKind::Named, kind)
    }

    fn level(&self, level: usize) -> Option<&Component> {
        self.levels.get(level.checked_sub(1)?)
    }

    /// Whether `name` may be looked up or made at `level`: at a hashed level one that a digest can give, at a named one any file name.
    pub fn may_be(&self, level: usize, name: &[u8]) -> bool {
        match self.level(level) {
            None => false,
            Some(_) if complaint(name).is_some() => false,
            Some(component) => kind(component) == LevelKind::Named || fits(component, name),
        }
    }

    /// The user whose directory this is: none if no name expands to this very path.
    pub fn user_of(&self, components: &[&[u8]]) -> Option<User> {
        if components.len() != self.depth()
            || components.iter().any(|name| complaint(name).is_some())
        {
            return None;
        }
        let name = self.inverse.name(components)?;
        let path = self.names(&name).ok()?;
        path.iter()
            .eq(components.iter())
            .then(|| User::new(name, path.join(&b'/')))
    }

    /// The place of the directory at a path relative to the mount point.
    pub fn place_of(&self, path: &[Vec<u8>]) -> DirPlace {
        match path.len().cmp(&self.depth()) {
            Ordering::Less => DirPlace::Level(path.len()),
            Ordering::Greater => DirPlace::Deeper,
            Ordering::Equal => {
                let components: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
                self.user_of(&components)
                    .map_or(DirPlace::Misfit, DirPlace::UserDir)
            }
        }
    }

    /// The user of that name, as the layout tells it: in lower case under `%Lu`, say. An error if there is no path, or no way back from it.
    pub fn user_named(&self, name: &[u8]) -> Result<User, ExpandError> {
        let path = self.names(name)?;
        let components: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
        self.user_of(&components).ok_or(ExpandError::NoWayBack)
    }

    /// The directories' names, from the top.
    fn names(&self, user: &[u8]) -> Result<Vec<Vec<u8>>, ExpandError> {
        if user.is_empty() {
            return Err(ExpandError::EmptyName);
        }
        if user.contains(&0) {
            return Err(ExpandError::Nul);
        }
        self.levels
            .iter()
            .enumerate()
            .map(|(at, level)| level.name(user, at + 1))
            .collect()
    }

    /// What a [`User`] of this layout tells of the user's name.
    pub(super) fn known(&self) -> Info {
        self.inverse.known
    }
}

fn kind(level: &Component) -> LevelKind {
    let named = |form: &Form| matches!(form, Form::Piece(..) | Form::Other);
    if level.parts.iter().any(|part| named(&part.form)) {
        LevelKind::Named
    } else {
        LevelKind::Hashed
    }
}

/// Whether the parts of a hashed level can spell `name`: `reached` holds the lengths that the parts so far can spell.
fn fits(level: &Component, name: &[u8]) -> bool {
    let mut reached = vec![0usize];
    for part in &level.parts {
        let (min, max) = match &part.form {
            Form::Fixed(text) => (text.len(), text.len()),
            Form::Digest(shape) => shape.lengths(),
            Form::Piece(..) | Form::Other => return false,
        };
        let spells = |text: &[u8]| match &part.form {
            Form::Fixed(fixed) => fixed == text,
            Form::Digest(shape) => shape.matches(text),
            Form::Piece(..) | Form::Other => false,
        };
        let mut next: Vec<usize> = Vec::new();
        for &start in &reached {
            let ends = start.saturating_add(min)..=start.saturating_add(max).min(name.len());
            next.extend(ends.filter(|&end| spells(&name[start..end])));
        }
        next.sort_unstable();
        next.dedup();
        reached = next;
    }
    reached.contains(&name.len())
}
