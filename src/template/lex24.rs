//! The words of a Dovecot 2.4 expression, as Dovecot's lexer cuts them.

use super::error::{Problem, TemplateError};

/// A word; `at` is its byte offset in the expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub at: usize,
    pub word: Word,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// May contain `-`, `/`, `.`, `;` and `:`, as in Dovecot: `a-b` is one name, `a - b` a subtraction.
    Name(String),
    Text(Vec<u8>),
    /// Digits without a sign
    Number(String),
    /// One of `| ( ) , = + - * / %`
    Sign(char),
}

/// Cuts `text`, the inside of `%{…}`. An error is placed at `column` (of the `%{`) and names `whole`.
pub(super) fn words(text: &str, column: usize, whole: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (len, word) = match c {
            ' ' | '\t' => (1, None),
            '|' | '(' | ')' | ',' | '=' | '+' | '-' | '*' | '/' | '%' => (1, Some(Word::Sign(c))),
            '0'..='9' => {
                let len = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                (len, Some(Word::Number(rest[..len].to_owned())))
            }
            c if c.is_ascii_alphabetic() || !c.is_ascii() => {
                let more =
                    |c: char| c.is_ascii_alphanumeric() || "_/;:.-".contains(c) || !c.is_ascii();
                let len = rest.len() - rest.trim_start_matches(more).len();
                (len, Some(Word::Name(rest[..len].to_owned())))
            }
            '\'' | '"' => {
                let (len, string) = quoted(rest, c).map_err(|(what, mend)| {
                    TemplateError::new(Problem::Syntax, (column, whole), what, mend)
                })?;
                (len, Some(Word::Text(string)))
            }
            other => {
                let what = format!("has `{other}`, which has no meaning there");
                return Err(TemplateError::new(
                    Problem::Syntax,
                    (column, whole),
                    what,
                    "quote text with '…'",
                ));
            }
        };
        tokens.extend(word.map(|word| Token { at, word }));
        at += len;
    }
    Ok(tokens)
}

type Complaint = (&'static str, &'static str);

/// A string in quotes and its length with them: `\xHH`, `\OOO`, `\t`, `\r`, `\n`, `\"`, `\'` and `\\` are escapes.
fn quoted(text: &str, quote: char) -> Result<(usize, Vec<u8>), Complaint> {
    const ESCAPE: Complaint = (
        "has an unknown escape in a string",
        "write a backslash as `\\\\`",
    );
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None => return Err(("has a string without an end", "close its quotes")),
            Some(0) => return Err(("has a NUL byte in a string", "take it out")),
            Some(&byte) if byte == quote as u8 => return Ok((at + 1, out)),
            Some(b'\\') => {
                let (len, byte) = escape(&bytes[at + 1..]).ok_or(ESCAPE)?;
                out.push(byte);
                at += 1 + len;
            }
            Some(&byte) => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// Length and value of what follows a backslash; never a NUL, which would end Dovecot's string.
fn escape(bytes: &[u8]) -> Option<(usize, u8)> {
    let number = |digits: &[u8], radix| {
        u8::from_str_radix(std::str::from_utf8(digits).ok()?, radix)
            .ok()
            .filter(|byte| *byte > 0)
    };
    Some(match bytes.first()? {
        b't' => (1, b'\t'),
        b'r' => (1, b'\r'),
        b'n' => (1, b'\n'),
        &byte @ (b'"' | b'\'' | b'\\') => (1, byte),
        b'x' => (
            3,
            number(
                bytes
                    .get(1..3)
                    .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))?,
                16,
            )?,
        ),
        b'0'..=b'9' => {
            let len = bytes
                .iter()
                .take(3)
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            (len, number(&bytes[..len], 8)?)
        }
        _ => return None,
    })
}
