//! A path template cut at its slashes: one directory each, checked at parse for all users and at expansion for each.

use super::Template;
use super::error::{ExpandError, Problem, TemplateError};
use super::eval;
use super::expr::{Op, Part, Var};
use super::trace::{Case, Form, Info, trace};

/// Names that the filesystem keeps for itself.
const RESERVED: &[u8] = b".listindexfs";
/// The longest file name.
const NAME_MAX: usize = 255;

/// What is wrong with a directory's name, if anything.
pub(super) fn complaint(name: &[u8]) -> Option<fn(usize) -> ExpandError> {
    match name {
        b"" => Some(ExpandError::EmptyComponent),
        b"." | b".." => Some(ExpandError::Dots),
        _ if name.contains(&b'/') => Some(ExpandError::Slash),
        _ if name.contains(&0) => Some(|_| ExpandError::Nul),
        _ if name.len() > NAME_MAX => Some(ExpandError::TooLong),
        _ if name.starts_with(RESERVED) => Some(ExpandError::Reserved),
        _ => None,
    }
}

/// A part of a component, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traced {
    /// Where it begins, and its text
    pub column: usize,
    pub text: String,
    pub form: Form,
    pub need: Info,
    /// `None` for a literal
    var: Option<Var>,
}

impl Traced {
    /// For an error about this part.
    pub fn place(&self) -> (usize, &str) {
        (self.column, &self.text)
    }

    fn value(&self, user: &[u8]) -> Result<Vec<u8>, ExpandError> {
        match (&self.form, &self.var) {
            (Form::Fixed(value), _) => Ok(value.clone()),
            (_, Some(var)) => eval::variable(var, user),
            (_, None) => Ok(Vec::new()),
        }
    }

    /// Whether it may give a slash: plain base64 has one among its digits, and a literal filter may.
    fn may_have_slash(&self) -> bool {
        if let Form::Fixed(value) = &self.form {
            return value.contains(&b'/');
        }
        let ops = self.var.iter().flat_map(|var| &var.ops);
        ops.fold(false, |slashes, op| match op {
            Op::Base64 { url, .. } => !url,
            Op::Digest { .. } | Op::OldHash { .. } | Op::Hexlify(_) | Op::Literal(_) => false,
            _ => slashes,
        })
    }

    /// Its length, if that is the same for every user.
    pub fn fixed_len(&self) -> Option<usize> {
        match &self.form {
            Form::Fixed(value) => Some(value.len()),
            Form::Digest(shape) => Some(shape.lengths())
                .filter(|(min, max)| min == max)
                .map(|(min, _)| min),
            Form::Piece(..) | Form::Other => None,
        }
    }
}

/// One directory of a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Component {
    pub column: usize,
    pub parts: Vec<Traced>,
}

impl Component {
    /// As it was written.
    pub fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }

    /// The directory's name for a user. `position` counts from 1, for the error.
    pub fn name(&self, user: &[u8], position: usize) -> Result<Vec<u8>, ExpandError> {
        let values: Result<Vec<_>, _> = self.parts.iter().map(|part| part.value(user)).collect();
        let name = values?.concat();
        complaint(&name).map_or(Ok(name), |complaint| Err(complaint(position)))
    }

    /// The name, if it is the same for every user.
    pub fn fixed(&self) -> Option<Vec<u8>> {
        self.parts
            .iter()
            .map(|part| match &part.form {
                Form::Fixed(value) => Some(value.as_slice()),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(|values| values.concat())
    }

    fn check(&self) -> Result<(), TemplateError> {
        if let Some(part) = self.parts.iter().find(|part| part.may_have_slash()) {
            let mend = "write slashes outside of %{…}, and base64 as base64(url=1) or hexlify";
            return Err(TemplateError::new(
                Problem::Path,
                part.place(),
                "may give a `/`",
                mend,
            ));
        }
        let starts = match self.parts.first().map(|part| &part.form) {
            Some(Form::Fixed(value)) if value.starts_with(RESERVED) => {
                Some(ExpandError::Reserved(0))
            }
            _ => None,
        };
        let fixed = self
            .fixed()
            .as_deref()
            .and_then(complaint)
            .map(|complaint| complaint(0));
        // hashes of which nothing is left, or too much
        let sized = match self
            .parts
            .iter()
            .map(Traced::fixed_len)
            .sum::<Option<usize>>()
        {
            Some(0) => Some(ExpandError::EmptyComponent(0)),
            Some(len) if len > NAME_MAX => Some(ExpandError::TooLong(0)),
            _ => None,
        };
        let (what, mend) = match fixed.or(sized).or(starts) {
            None => return Ok(()),
            Some(ExpandError::EmptyComponent(_)) => (
                "is an empty directory name",
                "write single slashes, none at the end",
            ),
            Some(ExpandError::Dots(_)) => (
                "is not a name of its own",
                "write the path without `.` and `..`",
            ),
            Some(ExpandError::TooLong(_)) => ("is longer than 255 bytes", "shorten it"),
            Some(ExpandError::Reserved(_)) => (
                "begins with `.listindexfs`, which is reserved",
                "choose another name",
            ),
            Some(_) => ("cannot be a directory's name", "choose another name"),
        };
        Err(TemplateError::new(
            Problem::Path,
            (self.column, &self.text()),
            what,
            mend,
        ))
    }
}

/// A path template, cut.
pub(super) struct Cut {
    /// Whether it begins with a slash, or with the home directory
    pub absolute: bool,
    pub components: Vec<Component>,
    pub home: Option<Home>,
}

/// The place of the home directory in a path template: all directories of it come before the component of that number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    pub at: usize,
    pub part: Traced,
}

/// The components of a template.
pub(super) fn components(template: &Template) -> Result<Cut, TemplateError> {
    let mut home: Option<Home> = None;
    let mut out = vec![Component {
        column: 1,
        parts: Vec::new(),
    }];
    for (part, place) in template.parts.iter().zip(&template.places) {
        let text = &template.text[place.bytes.clone()];
        let after_home = home.as_ref().is_some_and(|home| home.at == out.len());
        if after_home && !text.starts_with('/') {
            let mend = "end the template there, or go on with `/`";
            let what = "stands right behind the home directory";
            let place = (place.column, text);
            return Err(TemplateError::new(Problem::Path, place, what, mend));
        }
        match part {
            Part::Literal(_) => literal(text, place.column, &mut out),
            Part::Home if home.is_some() => {
                let what = "is the home directory for the second time";
                let place = (place.column, text);
                return Err(TemplateError::new(
                    Problem::Path,
                    place,
                    what,
                    "write it once",
                ));
            }
            // It begins with a slash itself, so it ends the component before: `/nfs%h` is `/nfs/%h`.
            Part::Home => {
                if out
                    .last()
                    .is_some_and(|last| last.parts.is_empty() && last.column > 1)
                {
                    out.pop();
                }
                let at = out.len();
                let part = home_part(place.column, text);
                home = Some(Home { at, part });
            }
            Part::Var(var) => {
                let trace = trace(var).map_err(|why| super::fails(var, why))?;
                push(
                    &mut out,
                    Traced {
                        column: var.column,
                        text: var.text.clone(),
                        form: trace.form,
                        need: trace.need,
                        var: Some(var.clone()),
                    },
                );
            }
        }
    }
    let begins_with_home = home.as_ref().is_some_and(|home| home.at == 1);
    let absolute = out[0].parts.is_empty() && (out.len() > 1 || begins_with_home);
    if absolute {
        out.remove(0);
        home.iter_mut().for_each(|home| home.at -= 1);
    }
    out.iter().try_for_each(Component::check)?;
    Ok(Cut {
        absolute,
        components: out,
        home,
    })
}

/// Userdb is asked for it by the whole name, in which the case of letters seldom matters.
fn home_part(column: usize, text: &str) -> Traced {
    let folded = Some(Case::Folded);
    Traced {
        column,
        text: text.to_owned(),
        form: Form::Other,
        need: Info {
            local: folded,
            domain: folded,
        },
        var: None,
    }
}

fn push(out: &mut [Component], part: Traced) {
    if let Some(last) = out.last_mut() {
        last.parts.push(part);
    }
}

/// Literal text, as it was written: `%%{` is the one escape.
fn literal(raw: &str, column: usize, out: &mut Vec<Component>) {
    let mut column = column;
    for (nth, text) in raw.split('/').enumerate() {
        if nth > 0 {
            column += 1;
            out.push(Component {
                column,
                parts: Vec::new(),
            });
        }
        if !text.is_empty() {
            let value = if text == "%%{" {
                b"%{".to_vec()
            } else {
                text.into()
            };
            let need = Info::default();
            push(
                out,
                Traced {
                    column,
                    text: text.to_owned(),
                    form: Form::Fixed(value),
                    need,
                    var: None,
                },
            );
        }
        column += text.chars().count();
    }
}
