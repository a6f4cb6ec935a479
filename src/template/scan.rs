//! Cuts a template into literals and variables, and tells which Dovecot's syntax it is in.
//!
//! `%` with a letter, width or modifier, and `%{sha1;…}`, are 2.3's; a `%{…}` with a filter is 2.4's; a bare `%{name}` fits both.

use super::error::{Problem, TemplateError};

/// The syntaxes of Dovecot 2.3 and before, and of 2.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `%2.256Nu`, `%{sha1:user}`
    Old,
    /// `%{user | md5 | hexlify(2)}`
    New,
}

/// A piece of a template: `raw` is its text, `at` where it begins, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub at: usize,
    pub raw: &'a str,
    pub kind: Kind,
}

impl Piece<'_> {
    /// Whether it stands for the home directory, where that is known: `%h`, `%{home}`, or a `~` cut off by [`cut_tilde`].
    pub fn is_home(&self) -> bool {
        match self.kind {
            Kind::Old => self.raw == "%h",
            Kind::Bare => self.raw == "%{home}",
            Kind::Literal => self.at == 0 && self.raw == "~",
            Kind::Escaped | Kind::New => false,
        }
    }
}

/// Has a `~` at the beginning be a piece of its own where it stands for the home directory: `~/…`, or nothing else.
pub(super) fn cut_tilde(pieces: &mut Vec<Piece<'_>>) {
    let Some(first) = pieces.first().copied() else {
        return;
    };
    if first.kind == Kind::Literal && first.raw.starts_with("~/") {
        let (raw, kind) = (&first.raw[1..], first.kind);
        pieces[0].raw = &first.raw[..1];
        pieces.insert(1, Piece { at: 1, raw, kind });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Stands for itself
    Literal,
    /// `%%{`, a literal `%{` in both syntaxes
    Escaped,
    /// `%{name}`
    Bare,
    Old,
    New,
}

/// The modifiers of 2.3, of which it takes at most [`MAX_MODIFIERS`].
pub(super) const MODIFIERS: &str = "LUEXRHNMDT";
pub(super) const MAX_MODIFIERS: usize = 10;

/// Column of a byte offset: in characters, from 1.
pub(super) fn column(text: &str, at: usize) -> usize {
    text.get(..at).map_or(0, |before| before.chars().count()) + 1
}

/// All pieces, and the syntax that they are in.
pub(super) fn scan(text: &str) -> Result<(Vec<Piece<'_>>, Syntax), TemplateError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (len, kind) = if rest.starts_with('%') {
            variable(rest).map_err(|(what, mend)| {
                TemplateError::new(Problem::Syntax, (column(text, at), rest), what, mend)
            })?
        } else {
            (rest.find('%').unwrap_or(rest.len()), Kind::Literal)
        };
        pieces.push(Piece {
            at,
            raw: &rest[..len],
            kind,
        });
        at += len;
    }
    let syntax = syntax(text, &pieces)?;
    Ok((pieces, syntax))
}

fn syntax(text: &str, pieces: &[Piece<'_>]) -> Result<Syntax, TemplateError> {
    let first = |kind| pieces.iter().find(|piece| piece.kind == kind);
    match (first(Kind::Old), first(Kind::New)) {
        (Some(old), Some(new)) => Err(TemplateError::new(
            Problem::Mixed,
            (column(text, old.at), old.raw),
            format!(
                "is Dovecot 2.3's syntax and `{}` (column {}) is 2.4's",
                new.raw,
                column(text, new.at)
            ),
            "write the whole template in one of them (a lone % is `%%` in 2.3 and cannot be had in 2.4's here)",
        )),
        (None, Some(_)) => Ok(Syntax::New),
        (_, None) => Ok(Syntax::Old),
    }
}

type Complaint = (&'static str, &'static str);
const UNCLOSED: Complaint = (
    "has no closing `}`",
    "close it, or write a literal `%{` as `%%{`",
);
const DANGLING: Complaint = ("names no variable", "write a literal % as %%");

/// Length and kind of the variable that `rest` begins with.
fn variable(rest: &str) -> Result<(usize, Kind), Complaint> {
    if rest.starts_with("%%{") {
        return Ok((3, Kind::Escaped));
    }
    let Some(inside) = rest.strip_prefix("%{") else {
        return old(rest).map(|len| (len, Kind::Old));
    };
    let name = inside.len()
        - inside
            .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_')
            .len();
    match (name, inside[name..].chars().next()) {
        (_, None) => Err(UNCLOSED),
        (1.., Some('}')) => Ok((2 + name + 1, Kind::Bare)),
        (1.., Some(';' | ':' | '-')) if long(inside) => old(rest).map(|len| (len, Kind::Old)),
        _ => new(inside).map(|len| (2 + len, Kind::New)),
    }
}

/// Whether a name with `;` or `:` in it goes on as 2.3's do: `sha1;rounds=2:user`, `if;%u;…`, `env:HOME`.
fn long(inside: &str) -> bool {
    let after =
        inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_/;:.-".contains(c));
    inside.starts_with("if;") || after.starts_with(['}', '=', ',', '%', '{'])
}

/// Length of a variable of 2.3: `%`, numbers, modifiers, then a letter or balanced braces.
fn old(rest: &str) -> Result<usize, Complaint> {
    let spec = rest[1..].trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
    let modifiers = spec
        .bytes()
        .take(MAX_MODIFIERS)
        .take_while(|byte| MODIFIERS.as_bytes().contains(byte))
        .count();
    let spec = &spec[modifiers..];
    let start = rest.len() - spec.len();
    match spec.chars().next() {
        None => Err(DANGLING),
        Some('{') => braces(spec).map(|len| start + len),
        Some(letter) => Ok(start + letter.len_utf8()),
    }
}

/// Length of balanced braces, as 2.3 counts them: a backslash hides the next character.
fn braces(text: &str) -> Result<usize, Complaint> {
    let (mut depth, mut escaped) = (0usize, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(at + 1);
        }
    }
    Err(UNCLOSED)
}

/// Length up to and with the `}` that closes an expression of 2.4; one in quotes does not.
fn new(inside: &str) -> Result<usize, Complaint> {
    let (mut quote, mut escaped) = (None, false);
    for (at, byte) in inside.bytes().enumerate() {
        match (quote, byte) {
            _ if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'}') => return Ok(at + 1),
            (None, _) => {}
        }
    }
    Err(UNCLOSED)
}
