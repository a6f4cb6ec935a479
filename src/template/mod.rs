//! Dovecot's variables, both directions: user → path, path → user. Pure.
//!
//! [`Template`] expands as Dovecot 2.3 or 2.4 does, byte for byte; both syntaxes are parsed into one list of operations
//! (`expr`). Following a variable through its operations (`trace`) tells what it carries of the name: from that come the
//! way back from a path ([`Layout`]) and whether [`IndexTemplate`] asks for more of the name than the path tells.

mod component;
mod convert;
mod digest;
mod error;
mod eval;
mod expr;
mod filter_ops;
mod filters;
mod index;
mod inverse;
mod layout;
mod lex24;
mod names;
mod reshape;
mod scan;
mod shape;
mod trace;
mod user;
mod v23;
mod v24;

pub use error::{ExpandError, Problem, TemplateError};
pub use index::{Expanded, IndexTemplate, check_pair, home_names, tells_the_name};
pub use layout::{DirPlace, Layout, LevelKind};
pub use scan::Syntax;
pub use user::User;

use std::ops::Range;

use expr::{Part, Parts, Var};
use scan::{Kind, Piece, column};

/// Longer templates are refused.
const MAX_LEN: usize = 4096;

/// Where a part of a template stands in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    column: usize,
    bytes: Range<usize>,
}

/// A text with Dovecot's variables, of which all can be told from the user name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    syntax: Syntax,
    parts: Parts,
    /// One for each part
    places: Vec<Place>,
}

impl Template {
    /// Parses a template in Dovecot 2.3's syntax or 2.4's, whichever it is in.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        check_text(text)?;
        let (pieces, syntax) = scan::scan(text)?;
        Self::of(text, syntax, pieces, |_| false)
    }

    /// The same, with `%h`, `%{home}` or `~/` at the beginning standing for the user's home directory.
    fn parse_with_home(text: &str) -> Result<Self, TemplateError> {
        check_text(text)?;
        let (mut pieces, syntax) = scan::scan(text)?;
        scan::cut_tilde(&mut pieces);
        Self::of(text, syntax, pieces, |piece| piece.is_home())
    }

    fn of(
        text: &str,
        syntax: Syntax,
        pieces: Vec<Piece<'_>>,
        is_home: impl Fn(&Piece<'_>) -> bool,
    ) -> Result<Self, TemplateError> {
        let mut parts = Parts::new();
        let mut places = Vec::new();
        for piece in pieces {
            let column = column(text, piece.at);
            let part = match (piece.kind, syntax) {
                _ if is_home(&piece) => Part::Home,
                (Kind::Literal, _) => Part::Literal(piece.raw.into()),
                (Kind::Escaped, _) => Part::Literal(b"%{".to_vec()),
                (Kind::Old, _) | (Kind::Bare, Syntax::Old) => v23::variable(piece.raw, column)?,
                (Kind::New, _) | (Kind::Bare, Syntax::New) => v24::variable(piece.raw, column)?,
            };
            if let Part::Var(var) = &part {
                trace::trace(var).map_err(|why| fails(var, why))?;
            }
            parts.push(part);
            places.push(Place {
                column,
                bytes: piece.at..piece.at + piece.raw.len(),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            syntax,
            parts,
            places,
        })
    }

    /// What Dovecot would make of it for this user. Not yet a safe path: that is the affair of [`Layout`] and [`IndexTemplate`].
    pub fn expand(&self, user: &[u8]) -> Result<Vec<u8>, ExpandError> {
        if user.contains(&0) {
            return Err(ExpandError::Nul);
        }
        eval::expand(&self.parts, user)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn check_text(text: &str) -> Result<(), TemplateError> {
    if let Some(at) = text.find('\0') {
        let place = (column(text, at), "\0");
        return Err(TemplateError::new(
            Problem::Syntax,
            place,
            "is a NUL byte",
            "take it out",
        ));
    }
    if text.len() > MAX_LEN {
        let what = format!("is beyond the {MAX_LEN} bytes that a template may have");
        return Err(TemplateError::new(
            Problem::Range,
            (MAX_LEN, "…"),
            what,
            "write a shorter one",
        ));
    }
    Ok(())
}

/// The error for a variable that fails for every user.
fn fails(var: &Var, why: String) -> TemplateError {
    TemplateError::new(
        Problem::Range,
        var.place(),
        format!("fails for every user: it {why}"),
        "mend its filters",
    )
}
