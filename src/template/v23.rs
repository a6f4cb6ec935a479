//! Dovecot 2.3's syntax: `%[-][0]digits[.[0][-]digits][modifiers]` and a letter or `{long name}`.
//!
//! `N` and `H` use up the width (as a modulus) and the offset (as padding), so all is settled at parse.

use super::digest::{ALGORITHMS, Algorithm, OTHER_ALGORITHMS};
use super::error::{Problem, TemplateError};
use super::expr::{Op, Part, Parts, Source, Var};
use super::names;
use super::scan::{self, Kind, MAX_MODIFIERS, MODIFIERS};

/// No file name is longer, so no padding need be.
const MAX_PAD: i32 = 255;
/// More rounds than this would be felt at every lookup.
const MAX_ROUNDS: u32 = 10_000;

/// One variable at `column`, in any of 2.3's forms.
pub(super) fn variable(raw: &str, column: usize) -> Result<Part, TemplateError> {
    let place = (column, raw);
    let mut spec = Spec {
        rest: raw.strip_prefix('%').unwrap_or(raw),
        width: 0,
        offset: 0,
        zero_pad: false,
    };
    spec.numbers().ok_or_else(|| {
        TemplateError::new(
            Problem::Range,
            place,
            "has a number above 2147483647",
            "use a smaller one",
        )
    })?;
    let modifiers = spec.modifiers();
    let (from, mut ops) = value(spec.rest, place, 0)?;
    for modifier in modifiers.bytes() {
        spec.modify(modifier, &mut ops)
            .map_err(|()| too_wide(place))?;
    }
    spec.slice(&mut ops).map_err(|()| too_wide(place))?;
    Ok(Part::Var(Var {
        column,
        text: raw.to_owned(),
        from,
        ops,
    }))
}

fn too_wide(place: (usize, &str)) -> TemplateError {
    TemplateError::new(
        Problem::Range,
        place,
        "pads to more than 255 characters",
        "no file name can be that long",
    )
}

/// Width and offset, until a modifier or the end uses them up.
struct Spec<'a> {
    rest: &'a str,
    width: i32,
    offset: i32,
    zero_pad: bool,
}

impl Spec<'_> {
    fn eat(&mut self, c: char) -> bool {
        self.rest
            .strip_prefix(c)
            .map(|rest| self.rest = rest)
            .is_some()
    }

    fn digits(&mut self) -> Option<i32> {
        let end = self.rest.len()
            - self
                .rest
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .len();
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if digits.is_empty() {
            Some(0)
        } else {
            digits.parse().ok()
        }
    }

    fn numbers(&mut self) -> Option<()> {
        let sign = if self.eat('-') { -1 } else { 1 };
        self.zero_pad = self.eat('0');
        self.width = self.digits()?;
        if self.eat('.') {
            self.offset = sign * self.width;
            self.zero_pad = self.eat('0');
            let sign = if self.eat('-') { -1 } else { 1 };
            self.width = sign * self.digits()?;
        }
        Some(())
    }

    fn modifiers(&mut self) -> String {
        let found: String = self
            .rest
            .chars()
            .take(MAX_MODIFIERS)
            .take_while(|c| MODIFIERS.contains(*c))
            .collect();
        self.rest = &self.rest[found.len()..];
        found
    }

    fn modify(&mut self, modifier: u8, ops: &mut Vec<Op>) -> Result<(), ()> {
        let op = match modifier {
            b'L' => Op::Lower,
            b'U' => Op::Upper,
            b'E' => Op::Escape,
            b'X' => Op::DecimalToHex,
            b'R' => Op::Reverse,
            b'D' => Op::LdapDn,
            b'T' => Op::Trim,
            b'M' => {
                ops.push(digest(Algorithm::Md5));
                Op::Hexlify(0)
            }
            hash => {
                let pad = pad(std::mem::take(&mut self.offset))?;
                Op::OldHash {
                    md5: hash == b'N',
                    modulus: std::mem::take(&mut self.width),
                    pad,
                }
            }
        };
        ops.push(op);
        Ok(())
    }

    fn slice(&self, ops: &mut Vec<Op>) -> Result<(), ()> {
        match self.offset {
            0 => {}
            1.. => ops.push(Op::Skip(self.offset.unsigned_abs() as usize)),
            _ => ops.push(Op::Last(self.offset.unsigned_abs() as usize)),
        }
        match (self.width, self.zero_pad) {
            (0, _) => {}
            (width, true) => ops.push(Op::ZeroPad(pad(width)?)),
            (width @ 1.., false) => ops.push(Op::Take(width.unsigned_abs() as usize)),
            (width, false) => ops.push(Op::DropEnd(width.unsigned_abs() as usize)),
        }
        Ok(())
    }
}

/// A negative padding pads nothing.
fn pad(width: i32) -> Result<usize, ()> {
    if width > MAX_PAD {
        Err(())
    } else {
        Ok(usize::try_from(width).unwrap_or(0))
    }
}

fn digest(algorithm: Algorithm) -> Op {
    Op::Digest {
        algorithm,
        rounds: 1,
        salt: Vec::new(),
    }
}

/// What a letter or `{long name}` stands for. `depth` bounds the nesting of hashes.
fn value(
    text: &str,
    place: (usize, &str),
    depth: usize,
) -> Result<(Source, Vec<Op>), TemplateError> {
    if text == "%" {
        return Ok((Source::Const(b"%".to_vec()), Vec::new()));
    }
    match text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    {
        Some(key) => long(key, place, depth),
        None => Ok((
            names::from_name(text)
                .filter(|_| text.len() == 1)
                .ok_or_else(|| names::refuse(text, place))?,
            Vec::new(),
        )),
    }
}

fn long(key: &str, place: (usize, &str), depth: usize) -> Result<(Source, Vec<Op>), TemplateError> {
    let unsupported =
        |what: &str, mend: &str| TemplateError::new(Problem::Unsupported, place, what, mend);
    if let Some(source) = names::from_name(key).filter(|_| key.len() > 1) {
        return Ok((source, Vec::new()));
    }
    let (function, field) = key.split_once(':').unwrap_or((key, ""));
    let (name, arguments) = function.split_once(';').unwrap_or((function, ""));
    if name == "if" {
        return Err(unsupported(
            "is a condition, which is not supported here",
            "write the template without %{if;…}",
        ));
    }
    if OTHER_ALGORITHMS.contains(&name) {
        return Err(unsupported(
            "uses a hash that is not supported here",
            "use md5, sha1, sha256, sha384 or sha512",
        ));
    }
    let Some((_, algorithm)) = ALGORITHMS.into_iter().find(|(known, _)| *known == name) else {
        return Err(unknown(key, name, place));
    };
    if depth == 8 {
        return Err(unsupported("nests hashes too deeply", "use fewer"));
    }
    let (source, mut ops) = long(field, place, depth + 1)?;
    hash(algorithm, arguments, place, &mut ops)?;
    Ok((source, ops))
}

fn unknown(key: &str, name: &str, place: (usize, &str)) -> TemplateError {
    match names::nearest(name, ALGORITHMS.into_iter().map(|(known, _)| known))
        .filter(|_| key.contains([';', ':']))
    {
        Some(near) => TemplateError::new(
            Problem::Unknown,
            place,
            format!("uses `{name}`, which is no hash of Dovecot"),
            format!("did you mean {near}?"),
        ),
        None => names::refuse(key, place),
    }
}

/// `;rounds=…,truncate=…,format=…,salt=…`. As in Dovecot, unknown arguments and all that follow `salt` count for nothing.
fn hash(
    algorithm: Algorithm,
    arguments: &str,
    place: (usize, &str),
    ops: &mut Vec<Op>,
) -> Result<(), TemplateError> {
    let wrong = |what: String, mend: &str| TemplateError::new(Problem::Range, place, what, mend);
    let (mut rounds, mut bits, mut salt, mut format) = (1, 0, Vec::new(), Op::Hexlify(0));
    for (key, value) in arguments
        .split(',')
        .filter_map(|argument| argument.split_once('='))
    {
        let number = || {
            number(value).ok_or_else(|| wrong(format!("has `{value}` for {key}"), "give a number"))
        };
        match (key, value) {
            ("rounds", _) => rounds = number()?,
            ("truncate", _) => bits = number()?,
            ("salt", _) => {
                salt = parse_salt(value, place.0)?;
                break;
            }
            ("format", _) => {
                let unknown = || {
                    wrong(
                        format!("has the unknown format `{value}`"),
                        "use hex or base64",
                    )
                };
                format = digits(value).ok_or_else(unknown)?;
            }
            _ => {}
        }
    }
    if !(1..=MAX_ROUNDS).contains(&rounds) {
        return Err(wrong(format!("has {rounds} rounds"), "give 1 to 10000"));
    }
    ops.push(Op::Digest {
        algorithm,
        rounds,
        salt,
    });
    let bits = (bits as usize).min(algorithm.len() * 8);
    ops.extend((bits > 0).then_some(Op::TruncateBits(bits)));
    ops.push(format);
    Ok(())
}

/// `format=`: Dovecot's hexuc is in lower case.
fn digits(format: &str) -> Option<Op> {
    match format {
        "hex" | "hexuc" => Some(Op::Hexlify(0)),
        "base64" => Some(Op::Base64 {
            url: false,
            pad: true,
        }),
        _ => None,
    }
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A salt is a template itself.
fn parse_salt(text: &str, column: usize) -> Result<Parts, TemplateError> {
    let place = |mut error: TemplateError| {
        error.column = column;
        error
    };
    let (pieces, _) = scan::scan(text).map_err(place)?;
    pieces
        .iter()
        .map(|piece| match piece.kind {
            Kind::Literal => Ok(Part::Literal(piece.raw.into())),
            Kind::Escaped => Ok(Part::Literal(b"%{".to_vec())),
            Kind::Old | Kind::Bare => variable(piece.raw, column),
            Kind::New => Err(names::refuse(piece.raw, (column, piece.raw))),
        })
        .collect()
}
