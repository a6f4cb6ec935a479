//! What text a digest can become: how the filesystem tells a hash directory's name from any other.

use super::expr::Op;
use super::{filter_ops, reshape};

/// The set of texts that a value made from digests only can have. Wider than the truth at worst, never narrower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Binary of that length, the first byte no larger than `first`; as text it is hex
    Bytes { len: usize, first: u8 },
    /// A number without leading zeros but for `pad` digits in all
    Number {
        min: i128,
        max: i128,
        base: Base,
        pad: usize,
    },
    /// So many characters; in hex the first two are no larger than `first`
    Chars {
        alphabet: Alphabet,
        min: usize,
        max: usize,
        first: u8,
    },
    /// Not worth describing: such a value cannot name a level of a layout
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Decimal,
    Hex(Alphabet),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    HexLower,
    HexUpper,
    Base64Url,
}

impl Alphabet {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::HexLower => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::HexUpper => matches!(byte, b'0'..=b'9' | b'A'..=b'F'),
            Self::Base64Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='),
        }
    }
}

/// Hex digits of a fixed length.
pub(super) fn hex(len: usize, first: u8) -> Shape {
    Shape::Chars {
        alphabet: Alphabet::HexLower,
        min: len,
        max: len,
        first,
    }
}

impl Shape {
    /// What a digest or hash gives, whatever it was made from.
    pub fn of_hash(op: &Op) -> Option<Self> {
        match *op {
            Op::Digest { algorithm, .. } => Some(Self::Bytes {
                len: algorithm.len(),
                first: 0xff,
            }),
            Op::OldHash { md5, modulus, pad } => {
                let max = match modulus {
                    0 => u32::MAX,
                    1.. => modulus.unsigned_abs() - 1,
                    _ if md5 => u32::MAX,
                    _ => modulus as u32 - 1,
                };
                Some(Self::Number {
                    min: 0,
                    max: max.into(),
                    base: Base::Hex(Alphabet::HexLower),
                    pad,
                })
            }
            _ => None,
        }
    }

    /// The same after one more operation; an error if it would fail for every user.
    pub fn after(self, op: &Op) -> Result<Self, &'static str> {
        if let Some(shape) = Self::of_hash(op) {
            return Ok(shape);
        }
        match self {
            Self::Bytes { len, first } => reshape::bytes(len, first, op),
            Self::Number {
                min,
                max,
                base,
                pad,
            } => reshape::number((min, max), base, pad, op),
            Self::Chars {
                alphabet,
                min,
                max,
                first,
            } => Ok(reshape::chars(alphabet, (min, max), first, op)),
            Self::Unknown => Ok(Self::Unknown),
        }
    }

    /// The lengths its text can have.
    pub fn lengths(&self) -> (usize, usize) {
        match *self {
            Self::Bytes { len, .. } => (2 * len, 2 * len),
            Self::Number {
                min,
                max,
                base,
                pad,
            } => {
                let (low, high) = (digits(min, base, pad).len(), digits(max, base, pad).len());
                if min < 0 {
                    (1, low.max(high))
                } else {
                    (low, high)
                }
            }
            Self::Chars { min, max, .. } => (min, max),
            Self::Unknown => (0, usize::MAX),
        }
    }

    /// Whether `text` is one of them.
    pub fn matches(&self, text: &[u8]) -> bool {
        match *self {
            Self::Bytes { len, first } => hex(2 * len, first).matches(text),
            Self::Number {
                min,
                max,
                base,
                pad,
            } => {
                let radix = if base == Base::Decimal { 10 } else { 16 };
                let number = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| i128::from_str_radix(text, radix).ok());
                number.is_some_and(|number| {
                    (min..=max).contains(&number) && digits(number, base, pad).as_bytes() == text
                })
            }
            Self::Chars {
                alphabet,
                min,
                max,
                first,
            } => {
                let bound = || {
                    text.get(..2).is_none_or(|two| {
                        filter_ops::unhexlify(two).is_ok_and(|byte| byte[0] <= first)
                    })
                };
                (min..=max).contains(&text.len())
                    && text.iter().all(|byte| alphabet.has(*byte))
                    && (first == 0xff || bound())
            }
            Self::Unknown => false,
        }
    }
}

fn digits(number: i128, base: Base, pad: usize) -> String {
    match base {
        Base::Decimal => format!("{number:0pad$}"),
        Base::Hex(Alphabet::HexUpper) => format!("{number:0pad$X}"),
        Base::Hex(_) => format!("{number:0pad$x}"),
    }
}
