//! A variable in Dovecot 2.3's syntax.

use super::{digits_below, name_of, plain};
use crate::template::digest::Algorithm;
use crate::template::expr::{Arithmetic, Op, Parts, Source, Var};

/// In Dovecot 2.3's syntax.
pub(super) fn old(var: &Var) -> Option<String> {
    let mut ops = var.ops.as_slice();
    let (mut letter, mut modifiers) = ("u", String::new());
    match var.from {
        Source::User => {}
        Source::Local => letter = "n",
        Source::Domain => letter = "d",
        Source::Const(_) => return None,
    }
    while let [first, rest @ ..] = ops {
        match first {
            Op::Lower => modifiers.push('L'),
            Op::Upper => modifiers.push('U'),
            Op::Reverse => modifiers.push('R'),
            // Of the whole name: letters that have been made small or large stay so.
            Op::Username if letter == "u" && !modifiers.contains('R') => letter = "n",
            Op::Domain if letter == "u" && !modifiers.contains('R') => letter = "d",
            _ => break,
        }
        ops = rest;
    }
    match ops {
        [] => Some(format!("%{modifiers}{letter}")),
        [Op::Truncate(len @ 1..)] => Some(format!("%{len}{modifiers}{letter}")),
        [
            Op::Digest {
                algorithm,
                rounds,
                salt,
            },
            rest @ ..,
        ] => {
            let plain = *rounds == 1 && salt.is_empty() && *algorithm == Algorithm::Md5;
            old_number(rest, &modifiers, letter)
                .filter(|_| plain)
                .or_else(|| old_digest(*algorithm, *rounds, salt, rest, &modifiers, letter))
        }
        _ => None,
    }
}

/// `%2.256Nu`, which is what 2.4 has as `md5 | substr(0, 8) % 256 | hex(2)`.
fn old_number(ops: &[Op], modifiers: &str, letter: &str) -> Option<String> {
    let (modulus, pad) = match ops {
        [
            Op::Substr(0, Some(8)),
            Op::Calculate(Arithmetic::Modulo, modulus),
            Op::Hex(width),
            rest @ ..,
        ] => match rest {
            [] => (*modulus, usize::try_from(*width).ok()?),
            [
                Op::Fill {
                    left: true,
                    amount,
                    filler,
                },
            ] if *width == 0 && filler == b"0" => (*modulus, *amount),
            _ => return None,
        },
        _ => return None,
    };
    let modulus = match modulus {
        0x1_0000_0000 => String::new(),
        modulus => i32::try_from(modulus).ok()?.to_string(),
    };
    Some(match (pad, modulus.as_str()) {
        (0, modulus) => format!("%{modulus}{modifiers}N{letter}"),
        (pad, "") => format!("%{pad}.{modifiers}N{letter}"),
        (pad, modulus) => format!("%{pad}.{modulus}{modifiers}N{letter}"),
    })
}

/// `%Mu`, `%{sha1:user}` and parts of them.
fn old_digest(
    algorithm: Algorithm,
    rounds: u32,
    salt: &Parts,
    ops: &[Op],
    modifiers: &str,
    letter: &str,
) -> Option<String> {
    let mut arguments = Vec::new();
    if rounds != 1 {
        arguments.push(format!("rounds={rounds}"));
    }
    let mut ops = ops;
    if let [Op::TruncateBits(bits), rest @ ..] = ops {
        arguments.push(format!("truncate={bits}"));
        ops = rest;
    }
    if !salt.is_empty() {
        // The last: all that follows a salt counts for nothing.
        arguments.push(format!("salt={}", plain(salt)?));
    }
    let cut = cut(ops)?;
    if algorithm == Algorithm::Md5 && arguments.is_empty() {
        return Some(format!("%{cut}{modifiers}M{letter}"));
    }
    // There modifiers come after the hash.
    let field = match letter {
        _ if !modifiers.is_empty() => return None,
        "n" => "username",
        "d" => "domain",
        _ => "user",
    };
    let name = name_of(algorithm)?;
    let arguments: String = match arguments.is_empty() {
        true => String::new(),
        false => format!(";{}", arguments.join(",")),
    };
    Some(format!("%{cut}{{{name}{arguments}:{field}}}"))
}

/// What of the hash's digits is left, as 2.3 writes it before the letter.
fn cut(ops: &[Op]) -> Option<String> {
    match ops {
        [] | [Op::Hexlify(0)] => Some(String::new()),
        [Op::Hexlify(len)] => Some(len.to_string()),
        [Op::Hexlify(0), Op::Truncate(len @ 1..)] => Some(len.to_string()),
        [Op::Hexlify(0), Op::Substr(from @ 0.., Some(len @ 1..))] => Some(format!("{from}.{len}")),
        [Op::Hexlify(0), Op::Substr(from @ ..=-1, None)] => {
            let len = from.unsigned_abs();
            Some(format!("-{len}.{len}"))
        }
        // The remainder by a power of 16 is the last digits.
        [
            Op::Calculate(Arithmetic::Modulo, modulus),
            Op::Hex(width @ 1..),
        ] => {
            let digits =
                digits_below(*modulus).filter(|digits| 1i64 << (4 * digits) == *modulus)?;
            (i32::try_from(digits) == Ok(*width)).then(|| format!("-{digits}.{digits}"))
        }
        _ => None,
    }
}
