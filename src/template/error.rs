//! What can be wrong with a template, and with a user under a good template.
//!
//! Every template error says in one line what is wrong, where, and what to write instead.

use std::fmt;

/// The kind of a [`TemplateError`], for callers that branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The text is not a template of either syntax.
    Syntax,
    /// Dovecot 2.3's and 2.4's syntax in one template.
    Mixed,
    /// A variable that needs more than the user name (a login, a lookup, the host).
    NotFromName,
    /// No such variable, filter, algorithm or argument.
    Unknown,
    /// Dovecot knows it, we do not.
    Unsupported,
    /// A number out of range, or an operation that fails for every user.
    Range,
    /// A component that cannot be a directory's name, or a path of the wrong kind.
    Path,
    /// The path does not tell who the user is.
    NoWayBack,
    /// One path may belong to two users.
    Ambiguous,
    /// Two parts need different knowledge of the user name.
    Mismatch,
}

/// A template that is refused: what is wrong, where, and the mend, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// What kind of trouble it is.
    pub problem: Problem,
    /// Where it begins: in characters, from 1.
    pub column: usize,
    /// The piece of the template that is meant.
    pub text: String,
    what: String,
    mend: String,
}

impl TemplateError {
    pub(super) fn new(
        problem: Problem,
        (column, text): (usize, &str),
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            problem,
            column,
            text: text.to_owned(),
            what: what.into(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!(
            "`{}` (column {}) {}; {}",
            self.text, self.column, self.what, self.mend
        );
        line.chars().try_for_each(|c| {
            if c.is_control() {
                write!(f, "{}", c.escape_default())
            } else {
                write!(f, "{c}")
            }
        })
    }
}

/// A user name that a good template gives no (safe) path for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The template needs the home directory, and there is none.
    #[error("the home directory is needed, which userdb tells")]
    NoHome,
    /// The home directory is none that a path can begin with.
    #[error("the home directory {0}")]
    BadHome(&'static str),
    /// There is no user without a name.
    #[error("the user name is empty")]
    EmptyName,
    /// Dovecot's strings end at a NUL, so no Dovecot user has one.
    #[error("the user name contains a NUL byte")]
    Nul,
    /// A filter of Dovecot 2.4 fails for this user, as it does in Dovecot.
    #[error("`{text}` (column {column}) fails for this user: {why}")]
    Filter {
        /// The variable.
        text: String,
        /// Where it begins, in characters, from 1.
        column: usize,
        /// What Dovecot would say.
        why: String,
    },
    /// A component would be empty (a user without a domain under `%d/%n`, say).
    #[error("directory {0} of the path would be empty")]
    EmptyComponent(usize),
    /// A component would be `.` or `..`.
    #[error("directory {0} of the path would be `.` or `..`")]
    Dots(usize),
    /// No system call takes a path of that length.
    #[error("the path would be longer than 4095 bytes")]
    TooLongAPath,
    /// A component would contain a `/`.
    #[error("directory {0} of the path would contain a `/`")]
    Slash(usize),
    /// A component would be longer than a file name can be.
    #[error("directory {0} of the path would be longer than 255 bytes")]
    TooLong(usize),
    /// A component would have a name that the filesystem keeps for itself.
    #[error("directory {0} of the path would begin with `.listindexfs`, which is reserved")]
    Reserved(usize),
    /// The path would not lead back to the user (a user without a domain under `%n@%d`, say).
    #[error("the path made from the layout does not lead back to this user")]
    NoWayBack,
}
