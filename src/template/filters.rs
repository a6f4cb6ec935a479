//! Dovecot 2.4's filters by name: checks their arguments and makes the operation.

use super::digest::{ALGORITHMS, Algorithm, OTHER_ALGORITHMS};
use super::error::{Problem, TemplateError};
use super::expr::{Op, Part, Parts, Var};
use super::names::nearest;

/// A filter as it was written.
pub(super) struct Call<'a> {
    pub name: &'a str,
    pub column: usize,
    /// `None` without brackets; a key for those given as `key=value`
    pub arguments: Option<Vec<(Option<String>, Argument)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    Text(Vec<u8>),
    Number(i64),
    Variable(Var),
}

impl Argument {
    fn into_parts(self) -> Parts {
        vec![match self {
            Self::Text(text) => Part::Literal(text),
            Self::Number(number) => Part::Literal(number.to_string().into_bytes()),
            Self::Variable(var) => Part::Var(var),
        }]
    }
}

const KNOWN: [&str; 22] = [
    "lower",
    "upper",
    "md5",
    "sha1",
    "sha256",
    "sha384",
    "sha512",
    "hash",
    "literal",
    "default",
    "concat",
    "substr",
    "truncate",
    "reverse",
    "hex",
    "unhex",
    "hexlify",
    "unhexlify",
    "base64",
    "username",
    "domain",
    "index",
];
const KNOWN_TOO: [&str; 5] = ["lfill", "rfill", "ldap_dn", "benumber", "lenumber"];
/// What Dovecot has besides: their outcome differs between its versions, or cannot be had without Dovecot.
const UNSUPPORTED: [&str; 11] = [
    "lookup",
    "calculate",
    "unbase64",
    "if",
    "switch",
    "regexp",
    "list",
    "text",
    "encrypt",
    "decrypt",
    "safe",
];

/// Whether Dovecot has a filter of that name.
pub(super) fn exists(name: &str) -> bool {
    KNOWN.contains(&name) || KNOWN_TOO.contains(&name) || UNSUPPORTED.contains(&name)
}

/// Largest number of rounds and of padding: see `v23`.
const MAX_ROUNDS: i64 = 10_000;
const MAX_PAD: i64 = 255;

/// The operation that a call stands for.
pub(super) fn op(call: Call<'_>) -> Result<Op, TemplateError> {
    let mut arguments = Arguments {
        name: call.name,
        column: call.column,
        left: call.arguments.unwrap_or_default(),
    };
    let op = make(&mut arguments)?;
    match arguments.left.first() {
        None => Ok(op),
        Some((Some(key), _)) => Err(arguments.wrong(
            Problem::Unknown,
            format!("has no argument `{key}`"),
            "leave it out",
        )),
        Some((None, _)) => Err(arguments.wrong(
            Problem::Syntax,
            "has too many arguments",
            "leave the last out",
        )),
    }
}

/// The filters without arguments.
fn plain(name: &str) -> Option<Op> {
    Some(match name {
        "lower" => Op::Lower,
        "upper" => Op::Upper,
        "reverse" => Op::Reverse,
        "ldap_dn" => Op::LdapDn,
        "username" => Op::Username,
        "domain" => Op::Domain,
        "unhex" => Op::Unhex,
        "unhexlify" => Op::Unhexlify,
        "benumber" => Op::Number { big_endian: true },
        "lenumber" => Op::Number { big_endian: false },
        _ => return None,
    })
}

fn make(arguments: &mut Arguments<'_>) -> Result<Op, TemplateError> {
    let all = i64::MIN..=i64::MAX;
    Ok(match arguments.name {
        "literal" => Op::Literal(arguments.needed()?.into_parts()),
        "default" => Op::Default(
            arguments
                .next()
                .map(Argument::into_parts)
                .unwrap_or_default(),
        ),
        "concat" => {
            let mut texts = vec![arguments.needed()?.into_parts()];
            texts.extend(std::iter::from_fn(|| {
                arguments.next().map(Argument::into_parts)
            }));
            Op::Concat(texts)
        }
        "hash" => arguments.named_digest()?,
        "substr" => Op::Substr(arguments.number(all.clone())?, arguments.optional(all)?),
        "truncate" => arguments.truncate()?,
        "hex" => Op::Hex(arguments.optional(-MAX_PAD..=MAX_PAD)?.unwrap_or(0) as i32),
        "hexlify" => Op::Hexlify(arguments.optional(0..=MAX_PAD)?.unwrap_or(0) as usize),
        "base64" => arguments.base64()?,
        "index" => arguments.index()?,
        "lfill" => arguments.fill(true)?,
        "rfill" => arguments.fill(false)?,
        name => match (
            plain(name),
            ALGORITHMS.into_iter().find(|(known, _)| *known == name),
        ) {
            (Some(op), _) => op,
            (None, Some((_, algorithm))) => arguments.digest(algorithm)?,
            (None, None) => return Err(refuse(name, arguments.column)),
        },
    })
}

fn refuse(name: &str, column: usize) -> TemplateError {
    if UNSUPPORTED.contains(&name) {
        let mend = "use another filter: md5, sha1, substr, hexlify, lower, username, domain and their like";
        return TemplateError::new(
            Problem::Unsupported,
            (column, name),
            "is a filter that is not supported here",
            mend,
        );
    }
    let near = nearest(name, KNOWN.into_iter().chain(KNOWN_TOO).chain(UNSUPPORTED));
    let mend = near.map_or_else(
        || "see Dovecot's list of filters".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    TemplateError::new(
        Problem::Unknown,
        (column, name),
        "is no filter of Dovecot 2.4",
        mend,
    )
}

/// The arguments not yet taken.
struct Arguments<'a> {
    name: &'a str,
    column: usize,
    left: Vec<(Option<String>, Argument)>,
}

impl Arguments<'_> {
    fn wrong(&self, problem: Problem, what: impl Into<String>, mend: &str) -> TemplateError {
        TemplateError::new(problem, (self.column, self.name), what, mend)
    }

    /// The next one without a key; Dovecot sorts those first.
    fn next(&mut self) -> Option<Argument> {
        let at = self.left.iter().position(|(key, _)| key.is_none())?;
        Some(self.left.remove(at).1)
    }

    fn keyed(&mut self, key: &str) -> Option<Argument> {
        let at = self
            .left
            .iter()
            .position(|(known, _)| known.as_deref() == Some(key))?;
        Some(self.left.remove(at).1)
    }

    fn needed(&mut self) -> Result<Argument, TemplateError> {
        self.next()
            .ok_or_else(|| self.wrong(Problem::Syntax, "lacks an argument", "give it in brackets"))
    }

    fn in_range(
        &self,
        argument: &Argument,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, TemplateError> {
        match argument {
            Argument::Number(number) if range.contains(number) => Ok(*number),
            Argument::Number(number) => {
                let mend = format!("give one from {} to {}", range.start(), range.end());
                Err(self.wrong(Problem::Range, format!("has the argument {number}"), &mend))
            }
            _ => Err(self.wrong(
                Problem::Syntax,
                "takes a number there",
                "write a number, without quotes",
            )),
        }
    }

    fn number(&mut self, range: std::ops::RangeInclusive<i64>) -> Result<i64, TemplateError> {
        let argument = self.needed()?;
        self.in_range(&argument, range)
    }

    fn optional(
        &mut self,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, TemplateError> {
        self.next()
            .map(|argument| self.in_range(&argument, range))
            .transpose()
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, TemplateError> {
        let number = self
            .keyed(key)
            .map(|argument| self.in_range(&argument, 0..=1))
            .transpose()?;
        Ok(number.map(|number| number == 1))
    }

    /// A string that is not empty: an empty separator or filler has no end.
    fn text(&mut self) -> Result<Vec<u8>, TemplateError> {
        match self.needed()? {
            Argument::Text(text) if !text.is_empty() => Ok(text),
            _ => Err(self.wrong(
                Problem::Syntax,
                "takes a text there",
                "write it in quotes, not empty",
            )),
        }
    }

    fn truncate(&mut self) -> Result<Op, TemplateError> {
        let limit = 0..=i64::from(i32::MAX);
        match self.keyed("bits") {
            Some(bits) => Ok(Op::TruncateBits(self.in_range(&bits, limit)? as usize)),
            None => Ok(Op::Truncate(self.number(limit)? as usize)),
        }
    }

    fn base64(&mut self) -> Result<Op, TemplateError> {
        let (pad, url) = (self.flag("pad")?, self.flag("url")?);
        Ok(Op::Base64 {
            pad: pad.unwrap_or(true),
            url: url.unwrap_or(false),
        })
    }

    fn index(&mut self) -> Result<Op, TemplateError> {
        let separator = self.text()?;
        let position = self.number(i32::MIN.into()..=i32::MAX.into())? as i32;
        Ok(Op::Index {
            separator,
            position,
        })
    }

    fn fill(&mut self, left: bool) -> Result<Op, TemplateError> {
        let amount = self.number(1..=MAX_PAD)? as usize;
        let filler = if self.left.is_empty() {
            b"0".to_vec()
        } else {
            self.text()?
        };
        Ok(Op::Fill {
            left,
            amount,
            filler,
        })
    }

    /// `hash('sha1', …)`
    fn named_digest(&mut self) -> Result<Op, TemplateError> {
        let Argument::Text(name) = self.needed()? else {
            let mend = "write it in quotes, as in hash('sha1')";
            return Err(self.wrong(Problem::Syntax, "takes a hash's name there", mend));
        };
        let name = String::from_utf8_lossy(&name);
        let Some((_, algorithm)) = ALGORITHMS.into_iter().find(|(known, _)| *known == name) else {
            let known = OTHER_ALGORITHMS.contains(&&*name);
            let trouble = if known {
                "is not supported here"
            } else {
                "Dovecot has not"
            };
            let what = format!("has the hash `{name}`, which {trouble}");
            return Err(self.wrong(
                Problem::Unknown,
                what,
                "use md5, sha1, sha256, sha384 or sha512",
            ));
        };
        self.digest(algorithm)
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Op, TemplateError> {
        let rounds = self.keyed("rounds");
        let rounds = rounds
            .map(|rounds| self.in_range(&rounds, 1..=MAX_ROUNDS))
            .transpose()?;
        let salt = match self.keyed("salt") {
            None => Vec::new(),
            Some(Argument::Number(_)) => {
                return Err(self.wrong(
                    Problem::Syntax,
                    "takes a text as salt",
                    "write it in quotes",
                ));
            }
            Some(salt) => salt.into_parts(),
        };
        Ok(Op::Digest {
            algorithm,
            rounds: rounds.unwrap_or(1) as u32,
            salt,
        })
    }
}
