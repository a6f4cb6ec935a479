//! What text a digest can become: how the filesystem tells a hash directory's name from any other.

use super::expr::{Arithmetic, Op};
use super::filter_ops;

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
fn hex(len: usize, first: u8) -> Shape {
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
            Self::Bytes { len, first } => bytes_after(len, first, op),
            Self::Number {
                min,
                max,
                base,
                pad,
            } => number_after((min, max), base, pad, op),
            Self::Chars {
                alphabet,
                min,
                max,
                first,
            } => Ok(chars_after(alphabet, (min, max), first, op)),
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

fn bytes_after(len: usize, first: u8, op: &Op) -> Result<Shape, &'static str> {
    let any = |len| Shape::Bytes { len, first: 0xff };
    Ok(match *op {
        Op::Lower | Op::Upper | Op::Reverse => any(len),
        Op::TruncateBits(bits) if bits > len * 8 => Shape::Bytes { len, first },
        Op::TruncateBits(bits) => {
            let first = if bits % 8 == 0 {
                0xff
            } else {
                (1 << (bits % 8)) - 1
            };
            Shape::Bytes {
                len: bits.div_ceil(8),
                first,
            }
        }
        Op::Hexlify(0) => hex(2 * len, first),
        Op::Hexlify(width) => hex(
            width,
            if (2..=2 * len).contains(&width) {
                first
            } else {
                0xff
            },
        ),
        Op::Base64 { url: true, pad } => {
            let len = if pad {
                len.div_ceil(3) * 4
            } else {
                (len * 8).div_ceil(6)
            };
            Shape::Chars {
                alphabet: Alphabet::Base64Url,
                min: len,
                max: len,
                first: 0xff,
            }
        }
        Op::Default(_) if len > 0 => Shape::Bytes { len, first },
        Op::Calculate(Arithmetic::Modulo, by) => number(0, i128::from(by) - 1, 0),
        Op::Calculate(..) => {
            return Err("calculates with a digest, which is no number before it is taken % n");
        }
        Op::Hex(_) => {
            return Err(
                "gives a digest to `hex`, which takes a number: use hexlify, or % n before it",
            );
        }
        Op::Number { .. } if len.is_power_of_two() && len <= 8 => {
            number(0, (1i128 << (8 * len)) - 1, 0)
        }
        Op::Number { .. } => {
            return Err("makes a number of a digest that is not 1, 2, 4 or 8 bytes long");
        }
        Op::Substr(offset, length) => match filter_ops::substr(&vec![0; len], offset, length) {
            Ok(part) => any(part.len()),
            Err(_) => return Err("takes a substr that lies outside the digest"),
        },
        Op::Truncate(most) => Shape::Bytes {
            len: len.min(most),
            first,
        },
        _ => Shape::Unknown,
    })
}

fn number(min: i128, max: i128, pad: usize) -> Shape {
    let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
    if range.contains(&min) && range.contains(&max) {
        Shape::Number {
            min,
            max,
            base: Base::Decimal,
            pad,
        }
    } else {
        Shape::Unknown
    }
}

fn number_after(
    (min, max): (i128, i128),
    base: Base,
    pad: usize,
    op: &Op,
) -> Result<Shape, &'static str> {
    let same = |base| Shape::Number {
        min,
        max,
        base,
        pad,
    };
    Ok(match (op, base) {
        (Op::Lower, Base::Hex(_)) => same(Base::Hex(Alphabet::HexLower)),
        (Op::Upper, Base::Hex(_)) => same(Base::Hex(Alphabet::HexUpper)),
        (
            Op::Lower
            | Op::Upper
            | Op::Default(_)
            | Op::Username
            | Op::LdapDn
            | Op::Escape
            | Op::Trim,
            _,
        ) => same(base),
        (Op::Calculate(how, by), Base::Decimal) => calculated(min, max, *how, i128::from(*by)),
        (Op::Hex(_), Base::Decimal) if max < 0 => return Err("gives negative numbers to `hex`"),
        (Op::Hex(_), Base::Decimal) if min < 0 => Shape::Unknown,
        (Op::Hex(width @ ..=-1), Base::Decimal) => hex(width.unsigned_abs() as usize, 0xff),
        (Op::Hex(width), Base::Decimal) => {
            let pad = width.unsigned_abs() as usize;
            let end = 1i128
                .checked_shl(4 * width.unsigned_abs())
                .filter(|_| (1..31).contains(&pad));
            let (min, max) = end
                .filter(|end| *end <= max)
                .map_or((min, max), |end| (0, end - 1));
            Shape::Number {
                min,
                max,
                base: Base::Hex(Alphabet::HexLower),
                pad,
            }
        }
        (
            Op::Fill {
                left: true,
                amount,
                filler,
            },
            _,
        ) if filler == b"0" && min >= 0 => Shape::Number {
            min,
            max,
            base,
            pad: pad.max(*amount),
        },
        _ if min < 0 => Shape::Unknown,
        _ => {
            let alphabet = if base == Base::Hex(Alphabet::HexUpper) {
                Alphabet::HexUpper
            } else {
                Alphabet::HexLower
            };
            chars_after(alphabet, same(base).lengths(), 0xff, op)
        }
    })
}

fn calculated(min: i128, max: i128, how: Arithmetic, by: i128) -> Shape {
    let (a, b) = match how {
        Arithmetic::Add => (min + by, max + by),
        Arithmetic::Subtract => (min - by, max - by),
        Arithmetic::Multiply => (min * by, max * by),
        Arithmetic::Divide => (min / by, max / by),
        Arithmetic::Modulo if min >= 0 && max < by => (min, max),
        Arithmetic::Modulo => (if min < 0 { 1 - by } else { 0 }, by - 1),
    };
    number(a.min(b), a.max(b), 0)
}

fn chars_after(alphabet: Alphabet, (min, max): (usize, usize), first: u8, op: &Op) -> Shape {
    let chars = |min, max, first| Shape::Chars {
        alphabet,
        min,
        max,
        first,
    };
    let base64 = alphabet == Alphabet::Base64Url;
    match *op {
        Op::Lower | Op::Upper | Op::Unhexlify if base64 => Shape::Unknown,
        Op::Lower => Shape::Chars {
            alphabet: Alphabet::HexLower,
            min,
            max,
            first,
        },
        Op::Upper => Shape::Chars {
            alphabet: Alphabet::HexUpper,
            min,
            max,
            first,
        },
        Op::Reverse => chars(min, max, 0xff),
        Op::Escape | Op::Trim | Op::Username | Op::LdapDn => chars(min, max, first),
        Op::Default(_) if min > 0 => chars(min, max, first),
        Op::DecimalToHex => Shape::Chars {
            alphabet: Alphabet::HexLower,
            min: 1,
            max: 16,
            first: 0xff,
        },
        Op::Hexlify(0) => Shape::Chars {
            alphabet: Alphabet::HexLower,
            min: 2 * min,
            max: 2 * max,
            first: 0xff,
        },
        Op::Hexlify(width) => hex(width, 0xff),
        Op::Skip(offset) => chars(min.saturating_sub(offset), max.saturating_sub(offset), 0xff),
        Op::Last(count) => chars(min.min(count), max.min(count), 0xff),
        Op::Take(width) | Op::Truncate(width) => chars(
            min.min(width),
            max.min(width),
            if width < 2 { 0xff } else { first },
        ),
        Op::DropEnd(count) if min >= count => chars(
            min - count,
            max - count,
            if min - count < 2 { 0xff } else { first },
        ),
        Op::DropEnd(_) => chars(0, max, 0xff),
        Op::ZeroPad(width) => chars(
            min.max(width),
            max.max(width),
            if width > min { 0xff } else { first },
        ),
        Op::Unhexlify if min == max && min % 2 == 0 => Shape::Bytes {
            len: min / 2,
            first,
        },
        Op::Substr(offset, length) if min == max => {
            match filter_ops::substr(&vec![0; min], offset, length) {
                Ok(part) => chars(part.len(), part.len(), 0xff),
                Err(_) => Shape::Unknown,
            }
        }
        _ => Shape::Unknown,
    }
}
