//! What becomes of a [`Shape`] under one more operation.
//!
//! An error means that the operation would fail for every user, so that the template is refused.

use super::expr::{Arithmetic, Op};
use super::filter_ops;
use super::shape::{Alphabet, Base, Shape, hex};

type After = Result<Shape, &'static str>;

/// After a binary value of `len` bytes.
pub(super) fn bytes(len: usize, first: u8, op: &Op) -> After {
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
        Op::Truncate(most) => Shape::Bytes {
            len: len.min(most),
            first,
        },
        Op::Hexlify(0) => hex(2 * len, first),
        Op::Hexlify(width) if (2..=2 * len).contains(&width) => hex(width, first),
        Op::Hexlify(width) => hex(width, 0xff),
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
        Op::Substr(offset, length) => any(part(len, offset, length).ok_or(SUBSTR)?),
        Op::Calculate(Arithmetic::Modulo, by) => decimal(0, i128::from(by) - 1, 0),
        Op::Calculate(..) => return Err(CALCULATE),
        Op::Hex(_) => return Err(HEX),
        Op::Number { .. } if matches!(len, 1 | 2 | 4 | 8) => {
            decimal(0, (1i128 << (8 * len)) - 1, 0)
        }
        Op::Number { .. } => return Err(NUMBER),
        _ => Shape::Unknown,
    })
}

const SUBSTR: &str = "takes a substr that lies outside the digest";
const CALCULATE: &str = "calculates with a digest, which is no number before it is taken % n";
const HEX: &str = "gives a digest to `hex`, which takes a number: use hexlify, or % n before it";
const NUMBER: &str = "makes a number of a digest that is not 1, 2, 4 or 8 bytes long";

/// Length of a substr of `len` bytes.
fn part(len: usize, offset: i64, length: Option<i64>) -> Option<usize> {
    filter_ops::substr(&vec![0; len], offset, length)
        .ok()
        .map(<[u8]>::len)
}

fn decimal(min: i128, max: i128, pad: usize) -> Shape {
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

/// After a number from `min` to `max`.
pub(super) fn number((min, max): (i128, i128), base: Base, pad: usize, op: &Op) -> After {
    let same = |base| Shape::Number {
        min,
        max,
        base,
        pad,
    };
    Ok(match (op, base) {
        (Op::Lower, Base::Hex(_)) => same(Base::Hex(Alphabet::HexLower)),
        (Op::Upper, Base::Hex(_)) => same(Base::Hex(Alphabet::HexUpper)),
        (Op::Lower | Op::Upper | Op::Default(_) | Op::Username, _) => same(base),
        (Op::LdapDn | Op::Escape | Op::Trim, _) => same(base),
        (Op::Calculate(how, by), Base::Decimal) => calculated(min, max, *how, i128::from(*by)),
        (Op::Hex(_), Base::Decimal) if max < 0 => return Err("gives negative numbers to `hex`"),
        (Op::Hex(_), Base::Decimal) if min < 0 => Shape::Unknown,
        (Op::Hex(width), Base::Decimal) => hex_of(min, max, *width),
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
        (_, Base::Hex(alphabet)) => chars(alphabet, same(base).lengths(), 0xff, op),
        _ => chars(Alphabet::HexLower, same(base).lengths(), 0xff, op),
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
    decimal(a.min(b), a.max(b), 0)
}

/// `hex(width)` keeps the last digits, or the first if negative.
fn hex_of(min: i128, max: i128, width: i32) -> Shape {
    let digits = width.unsigned_abs() as usize;
    if width < 0 {
        return hex(digits, 0xff);
    }
    // 16 digits hold every number there is
    let end = 1i128 << (4 * digits.min(17));
    let (min, max) = if width > 0 && end <= max {
        (0, end - 1)
    } else {
        (min, max)
    };
    Shape::Number {
        min,
        max,
        base: Base::Hex(Alphabet::HexLower),
        pad: digits,
    }
}

/// After text of some alphabet, `min` to `max` characters long.
pub(super) fn chars(alphabet: Alphabet, (min, max): (usize, usize), first: u8, op: &Op) -> Shape {
    let of = |alphabet, min, max, first| Shape::Chars {
        alphabet,
        min,
        max,
        first,
    };
    let base64 = alphabet == Alphabet::Base64Url;
    match *op {
        Op::Lower | Op::Upper | Op::Unhexlify if base64 => Shape::Unknown,
        Op::Lower => of(Alphabet::HexLower, min, max, first),
        Op::Upper => of(Alphabet::HexUpper, min, max, first),
        Op::Reverse => of(alphabet, min, max, 0xff),
        Op::Escape | Op::Trim | Op::Username | Op::LdapDn => of(alphabet, min, max, first),
        Op::Default(_) if min > 0 => of(alphabet, min, max, first),
        Op::DecimalToHex => of(Alphabet::HexLower, 1, 16, 0xff),
        Op::Hexlify(0) => of(Alphabet::HexLower, 2 * min, 2 * max, 0xff),
        Op::Hexlify(width) => hex(width, 0xff),
        Op::Unhexlify if min == max && min % 2 == 0 => Shape::Bytes {
            len: min / 2,
            first,
        },
        _ => match slice(min, max, op) {
            Some((min, max, starts)) => of(
                alphabet,
                min,
                max,
                if starts && min >= 2 { first } else { 0xff },
            ),
            None => Shape::Unknown,
        },
    }
}

/// Lengths of a slice of text, and whether it starts where the text starts.
fn slice(min: usize, max: usize, op: &Op) -> Option<(usize, usize, bool)> {
    Some(match *op {
        Op::Skip(offset) => (
            min.saturating_sub(offset),
            max.saturating_sub(offset),
            false,
        ),
        Op::Last(count) => (min.min(count), max.min(count), false),
        Op::Take(width) | Op::Truncate(width) => (min.min(width), max.min(width), true),
        Op::DropEnd(count) if min >= count => (min - count, max - count, true),
        Op::DropEnd(_) => (0, max, true),
        Op::ZeroPad(width) => (min.max(width), max.max(width), min >= width),
        Op::Substr(offset, length) if min == max => {
            let len = part(min, offset, length)?;
            (len, len, false)
        }
        _ => return None,
    })
}
