//! Dovecot 2.4's filters as plain functions; their errors are what Dovecot complains of.

use super::expr::Arithmetic;

const NOT_A_NUMBER: &str = "the input is not a number";

/// Decimal, as Dovecot's `str_to_intmax`: digits after an optional `-`.
fn signed(data: &[u8]) -> Option<i64> {
    let digits = data.strip_prefix(b"-").unwrap_or(data);
    unsigned(digits)?;
    std::str::from_utf8(data).ok()?.parse().ok()
}

/// Decimal digits only.
pub(super) fn unsigned(data: &[u8]) -> Option<u64> {
    let digits = !data.is_empty() && data.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(data)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// The last 8 bytes as a big-endian number, modulo `by`.
pub(super) fn binary_modulo(data: &[u8], by: i64) -> Result<Vec<u8>, String> {
    let number = data[data.len().saturating_sub(8)..]
        .iter()
        .fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    let by = u64::try_from(by)
        .ok()
        .filter(|by| *by > 0)
        .ok_or("modulo by no positive number")?;
    Ok((number % by).to_string().into_bytes())
}

pub(super) fn calculate(data: &[u8], how: Arithmetic, by: i64) -> Result<Vec<u8>, String> {
    let number = signed(data).ok_or(NOT_A_NUMBER)?;
    let result = match how {
        Arithmetic::Add => number.checked_add(by),
        Arithmetic::Subtract => number.checked_sub(by),
        Arithmetic::Multiply => number.checked_mul(by),
        Arithmetic::Divide => number.checked_div(by),
        Arithmetic::Modulo => number.checked_rem(by),
    };
    Ok(result
        .ok_or("the result is no 64-bit number")?
        .to_string()
        .into_bytes())
}

/// Decimal to hex; a width keeps the last digits, a negative one the first.
pub(super) fn hex(data: &[u8], width: i32) -> Result<Vec<u8>, String> {
    let digits = format!("{:x}", unsigned(data).ok_or(NOT_A_NUMBER)?);
    let len = width.unsigned_abs() as usize;
    Ok(match width {
        0 => digits,
        1.. => {
            let padded = format!("{digits:0>len$}");
            padded[padded.len() - len..].to_owned()
        }
        _ => format!("{digits:0<len$}")[..len].to_owned(),
    }
    .into_bytes())
}

pub(super) fn unhex(data: &[u8]) -> Result<Vec<u8>, String> {
    let digits = !data.is_empty() && data.iter().all(u8::is_ascii_hexdigit);
    let number = std::str::from_utf8(data)
        .ok()
        .filter(|_| digits)
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    Ok(number
        .ok_or("the input is not a hex number")?
        .to_string()
        .into_bytes())
}

/// Bytes to hex digits: the first `width`, padded from the left; all if it is 0.
pub(super) fn hexlify(data: &[u8], width: usize) -> Vec<u8> {
    let digits: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut digits = format!("{digits:0>width$}").into_bytes();
    if width > 0 {
        digits.truncate(width);
    }
    digits
}

pub(super) fn unhexlify(data: &[u8]) -> Result<Vec<u8>, String> {
    let byte = |pair: &[u8]| -> Option<u8> {
        let text = std::str::from_utf8(pair)
            .ok()
            .filter(|_| pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit))?;
        u8::from_str_radix(text, 16).ok()
    };
    data.chunks(2)
        .map(byte)
        .collect::<Option<_>>()
        .ok_or_else(|| "the input is not a hex value".to_owned())
}

/// Bytes from `offset` (from the end if negative), `len` of them, or all but the last `-len`.
pub(super) fn substr(data: &[u8], offset: i64, len: Option<i64>) -> Result<&[u8], String> {
    const OFFSET: &str = "the offset is out of bounds";
    const LENGTH: &str = "the length is out of bounds";
    let used = i64::try_from(data.len()).map_err(|_| OFFSET)?;
    if !(-used..=used).contains(&offset) {
        return Err(OFFSET.into());
    }
    let start = if offset < 0 { used + offset } else { offset };
    let end = match len {
        Some(len) if !(-used..=used).contains(&len) => return Err(LENGTH.into()),
        Some(0) => start,
        None => used,
        Some(len) if len < 0 => used + len,
        Some(len) => start + len,
    };
    let range =
        usize::try_from(start).map_err(|_| OFFSET)?..usize::try_from(end).map_err(|_| LENGTH)?;
    data.get(range).ok_or_else(|| LENGTH.into())
}

/// The piece at `position` (from the end if negative) between separators.
pub(super) fn index(data: &[u8], separator: &[u8], position: i32) -> Result<Vec<u8>, String> {
    let mut pieces = Vec::new();
    let mut rest = data;
    while let Some(at) = rest
        .windows(separator.len().max(1))
        .position(|window| window == separator)
    {
        pieces.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    pieces.push(rest);
    let at = i64::from(position) + if position < 0 { pieces.len() as i64 } else { 0 };
    let piece = usize::try_from(at).ok().and_then(|at| pieces.get(at));
    piece
        .map(|piece| piece.to_vec())
        .ok_or_else(|| "the position is out of bounds".to_owned())
}

pub(super) fn ldap_dn(data: &[u8]) -> Vec<u8> {
    data.iter()
        .flat_map(|byte| {
            if *byte == b'.' {
                b",dc="
            } else {
                std::slice::from_ref(byte)
            }
        })
        .copied()
        .collect()
}

/// 1, 2, 4 or 8 bytes as a number.
pub(super) fn number(data: &[u8], big_endian: bool) -> Result<Vec<u8>, String> {
    if !matches!(data.len(), 1 | 2 | 4 | 8) {
        return Err(format!("{} bytes cannot be made a number", data.len()));
    }
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    let number = if big_endian {
        data.iter().fold(0, add)
    } else {
        data.iter().rev().fold(0, add)
    };
    Ok(number.to_string().into_bytes())
}

pub(super) fn base64(data: &[u8], url: bool, pad: bool) -> Vec<u8> {
    let last = if url { b"-_" } else { b"+/" };
    let digit = |sextet: u32| match sextet as u8 {
        upper @ 0..=25 => b'A' + upper,
        lower @ 26..=51 => b'a' + lower - 26,
        number @ 52..=61 => b'0' + number - 52,
        other => last[usize::from(other == 63)],
    };
    let mut out = Vec::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0))
        });
        out.extend((0..=chunk.len()).map(|at| digit(bits >> (18 - 6 * at) & 63)));
        out.extend(std::iter::repeat_n(
            b'=',
            if pad { 3 - chunk.len() } else { 0 },
        ));
    }
    out
}
