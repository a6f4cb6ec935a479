//! What a variable's value tells of the user, and what must be known of the user to have it.
//!
//! The inverse of a layout and the check of INDEX against it rest on this.

use super::eval;
use super::expr::{Op, Part, Source, Var};
use super::shape::Shape;

/// How well a piece of the name is known, or must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Case {
    /// Up to the case of ASCII letters
    Folded,
    Exact,
}

/// Which pieces of the user name are known, or needed, and how well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Info {
    pub local: Option<Case>,
    pub domain: Option<Case>,
}

impl Info {
    /// Whether who knows this knows what is needed.
    pub fn covers(self, need: Self) -> bool {
        need.local <= self.local && need.domain <= self.domain
    }

    fn with(self, other: Self) -> Self {
        Self {
            local: self.local.max(other.local),
            domain: self.domain.max(other.domain),
        }
    }

    fn folded(self) -> Self {
        Self {
            local: self.local.and(Some(Case::Folded)),
            domain: self.domain.and(Some(Case::Folded)),
        }
    }

    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// A piece of the name that is there as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Whole,
    Local,
    Domain,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// The same for every user
    Fixed(Vec<u8>),
    /// A piece of the name, as it is or with its case folded
    Piece(Piece, Case),
    /// Made from digests only
    Digest(Shape),
    /// Carries some of the name, but not to be turned back
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    pub form: Form,
    pub need: Info,
}

/// Follows a variable through its operations; an error if one of them fails for every user.
pub(super) fn trace(var: &Var) -> Result<Trace, String> {
    let whole = Info {
        local: Some(Case::Exact),
        domain: Some(Case::Exact),
    };
    let (form, need) = match var.from {
        Source::User => (Form::Piece(Piece::Whole, Case::Exact), whole),
        Source::Local => (
            Form::Piece(Piece::Local, Case::Exact),
            Info {
                domain: None,
                ..whole
            },
        ),
        Source::Domain => (
            Form::Piece(Piece::Domain, Case::Exact),
            Info {
                local: None,
                ..whole
            },
        ),
        Source::Const(_) => (Form::Other, Info::default()),
    };
    let mut tracer = Tracer {
        form,
        need,
        folding: true,
    };
    for op in &var.ops {
        tracer.step(op)?;
    }
    if tracer.need.is_nothing() {
        tracer.form = Form::Fixed(eval::variable(var, b"").map_err(|error| error.to_string())?);
    }
    Ok(Trace {
        form: tracer.form,
        need: tracer.need,
    })
}

/// What the parts of a filter's argument need.
fn need(parts: &[Part]) -> Result<Info, String> {
    parts
        .iter()
        .try_fold(Info::default(), |sum, part| match part {
            Part::Literal(_) | Part::Home => Ok(sum),
            Part::Var(var) => Ok(sum.with(trace(var)?.need)),
        })
}

struct Tracer {
    form: Form,
    need: Info,
    /// All operations so far give, for a name in other case, the same in other case
    folding: bool,
}

impl Tracer {
    fn step(&mut self, op: &Op) -> Result<(), String> {
        let arguments = match op {
            Op::Literal(parts) | Op::Default(parts) | Op::Digest { salt: parts, .. } => {
                need(parts)?
            }
            Op::Concat(all) => all.iter().try_fold(Info::default(), |sum, parts| {
                Ok::<_, String>(sum.with(need(parts)?))
            })?,
            _ => Info::default(),
        };
        self.need = match op {
            Op::Literal(_) => arguments,
            Op::Lower | Op::Upper if self.folding => self.need.folded(),
            _ => self.need.with(arguments),
        };
        self.form = match (std::mem::replace(&mut self.form, Form::Other), op) {
            (Form::Piece(piece, _), Op::Lower | Op::Upper) => Form::Piece(piece, Case::Folded),
            (Form::Piece(Piece::Whole | Piece::Local, case), Op::Username) => {
                self.need.domain = None;
                Form::Piece(Piece::Local, case)
            }
            (Form::Piece(Piece::Whole, case), Op::Domain) => {
                self.need.local = None;
                Form::Piece(Piece::Domain, case)
            }
            (Form::Piece(Piece::Local, _), Op::Domain) => {
                self.need = Info::default();
                Form::Other
            }
            (_, Op::Literal(_)) => Form::Other,
            // no user name is empty
            (form @ Form::Piece(Piece::Whole, _), Op::Default(_)) => form,
            (Form::Digest(shape), op) => Form::Digest(shape.after(op)?),
            (_, op) => Shape::of_hash(op).map_or(Form::Other, Form::Digest),
        };
        self.folding &= commutes(op);
        Ok(())
    }
}

/// Whether the operation minds the case of letters no more than to keep it.
fn commutes(op: &Op) -> bool {
    matches!(
        op,
        Op::Lower
            | Op::Upper
            | Op::Reverse
            | Op::Username
            | Op::Domain
            | Op::Substr(..)
            | Op::Truncate(_)
            | Op::Trim
            | Op::Escape
            | Op::Skip(_)
            | Op::Last(_)
            | Op::Take(_)
            | Op::DropEnd(_)
            | Op::ZeroPad(_)
    )
}
