//! Dovecot's variables, both directions: user → path, path → user. Pure.

mod digest;
mod error;
mod eval;
mod expr;
mod filter_ops;
mod filters;
mod lex24;
mod names;
mod scan;
mod user;
mod v23;
mod v24;

pub use error::{ExpandError, Problem, TemplateError};
pub use scan::Syntax;
pub use user::User;

use expr::{Part, Parts};
use scan::{Kind, column};

/// Longer templates are refused.
const MAX_LEN: usize = 4096;

/// A text with Dovecot's variables, of which all can be told from the user name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    syntax: Syntax,
    parts: Parts,
}

impl Template {
    /// Parses a template in Dovecot 2.3's syntax or 2.4's, whichever it is in.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if let Some(at) = text.find('\0') {
            return Err(TemplateError::new(
                Problem::Syntax,
                (column(text, at), "\0"),
                "is a NUL byte",
                "take it out",
            ));
        }
        if text.len() > MAX_LEN {
            let what = format!("is the end of the {MAX_LEN} bytes that a template may have");
            return Err(TemplateError::new(
                Problem::Range,
                (MAX_LEN, "…"),
                what,
                "write a shorter one",
            ));
        }
        let (pieces, syntax) = scan::scan(text)?;
        let parts = pieces.into_iter().map(|piece| {
            let place = column(text, piece.at);
            match (piece.kind, syntax) {
                (Kind::Literal, _) => Ok(Part::Literal(piece.raw.into())),
                (Kind::Escaped, _) => Ok(Part::Literal(b"%{".to_vec())),
                (Kind::Old, _) | (Kind::Bare, Syntax::Old) => v23::variable(piece.raw, place),
                (Kind::New, _) | (Kind::Bare, Syntax::New) => v24::variable(piece.raw, place),
            }
        });
        Ok(Self {
            text: text.to_owned(),
            syntax,
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// What Dovecot would make of it for this user. Not yet a safe path: that is [`Layout`]'s and [`IndexTemplate`]'s affair.
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

    /// Whose syntax it is in; a template without filters counts as 2.3's.
    pub fn syntax(&self) -> Syntax {
        self.syntax
    }
}
