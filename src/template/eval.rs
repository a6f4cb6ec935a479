//! Carries out a variable's operations on a user name, with Dovecot 2.4's rules for failures and binary values.
//!
//! 2.4 keeps a failure until the next filter: one that needs no value (`default`, `literal`, `concat`) mends it, any other
//! makes it final.

use super::digest;
use super::error::ExpandError;
use super::expr::{Arithmetic, Op, Part, Source, Var};
use super::filter_ops as filter;

/// Expands all parts.
pub(super) fn expand(parts: &[Part], user: &[u8]) -> Result<Vec<u8>, ExpandError> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text),
            Part::Var(var) => out.extend(variable(var, user)?),
            // No argument of a filter has it, and an index template is expanded by its components.
            Part::Home => return Err(ExpandError::NoHome),
        }
    }
    Ok(out)
}

/// The value of one variable.
pub(super) fn variable(var: &Var, user: &[u8]) -> Result<Vec<u8>, ExpandError> {
    let failed = |why| ExpandError::Filter {
        text: var.text.clone(),
        column: var.column,
        why,
    };
    let start = match &var.from {
        Source::User => user,
        Source::Local => local(user),
        Source::Domain => domain(user),
        Source::Const(text) => text,
    };
    let mut value = Value {
        data: start.to_vec(),
        binary: false,
    };
    let mut failure = None;
    for op in &var.ops {
        if let Some(why) = failure {
            if !matches!(op, Op::Default(_) | Op::Literal(_) | Op::Concat(_)) {
                return Err(failed(why));
            }
            value.data.clear();
        }
        failure = value.apply(op, user).err();
    }
    match failure {
        Some(why) => Err(failed(why)),
        None if value.binary => Ok(filter::hexlify(&value.data, 0)),
        None => Ok(value.data),
    }
}

/// Before the first `@`.
pub(super) fn local(user: &[u8]) -> &[u8] {
    user.split(|&byte| byte == b'@').next().unwrap_or(user)
}

/// After the first `@`, or empty.
pub(super) fn domain(user: &[u8]) -> &[u8] {
    user.iter()
        .position(|&byte| byte == b'@')
        .map_or(&[], |at| &user[at + 1..])
}

/// A value on its way through the filters. Digests are binary until a filter makes text of them.
struct Value {
    data: Vec<u8>,
    binary: bool,
}

impl Value {
    /// The part that Dovecot sees where it takes the value for a C string.
    fn c_str(&self) -> &[u8] {
        let end = self.data.iter().position(|&byte| byte == 0);
        &self.data[..end.unwrap_or(self.data.len())]
    }

    fn set_text(&mut self, data: Vec<u8>) -> Result<(), String> {
        *self = Self {
            data,
            binary: false,
        };
        Ok(())
    }

    fn set_binary(&mut self, data: Vec<u8>) -> Result<(), String> {
        *self = Self { data, binary: true };
        Ok(())
    }

    /// As 2.4's filters that change the bytes and leave the kind.
    fn set_data(&mut self, data: Vec<u8>) -> Result<(), String> {
        self.data = data;
        Ok(())
    }

    fn apply(&mut self, op: &Op, user: &[u8]) -> Result<(), String> {
        let text = |parts: &[Part]| expand(parts, user).map_err(|error| error.to_string());
        match op {
            Op::Lower => self.fold(u8::to_ascii_lowercase),
            Op::Upper => self.fold(u8::to_ascii_uppercase),
            Op::Reverse => self.data.reverse(),
            Op::LdapDn => return self.set_data(filter::ldap_dn(self.c_str())),
            Op::Digest {
                algorithm,
                rounds,
                salt,
            } => {
                return self.set_binary(algorithm.hash(*rounds, &text(salt)?, &self.data));
            }
            Op::TruncateBits(bits) => digest::truncate_bits(&mut self.data, *bits),
            Op::Hexlify(width) => return self.set_text(filter::hexlify(&self.data, *width)),
            Op::Base64 { url, pad } => {
                return self.set_text(filter::base64(&self.data, *url, *pad));
            }
            Op::Literal(parts) => return self.set_text(text(parts)?),
            Op::Default(parts) if self.data.is_empty() => return self.set_text(text(parts)?),
            Op::Default(_) => {}
            Op::Concat(arguments) => {
                for argument in arguments {
                    let more = text(argument)?;
                    self.data.extend(more);
                }
            }
            Op::Escape
            | Op::Trim
            | Op::DecimalToHex
            | Op::OldHash { .. }
            | Op::Skip(_)
            | Op::Last(_)
            | Op::Take(_)
            | Op::DropEnd(_)
            | Op::ZeroPad(_) => {
                let data = std::mem::take(&mut self.data);
                return self.set_text(old(op, data));
            }
            _ => return self.apply_new(op),
        }
        Ok(())
    }

    /// In place and, as in Dovecot, only up to the first NUL.
    fn fold(&mut self, fold: fn(&u8) -> u8) {
        self.data
            .iter_mut()
            .take_while(|byte| **byte != 0)
            .for_each(|byte| *byte = fold(byte));
    }

    fn apply_new(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Username => self.set_text(local(self.c_str()).to_vec()),
            Op::Domain => self.set_text(domain(self.c_str()).to_vec()),
            Op::Index {
                separator,
                position,
            } => self.set_text(filter::index(self.c_str(), separator, *position)?),
            Op::Calculate(Arithmetic::Modulo, by) if self.binary => {
                self.set_text(filter::binary_modulo(&self.data, *by)?)
            }
            Op::Calculate(how, by) => self.set_data(filter::calculate(self.c_str(), *how, *by)?),
            Op::Hex(width) => self.set_data(filter::hex(self.c_str(), *width)?),
            Op::Unhex => self.set_text(filter::unhex(self.c_str())?),
            Op::Unhexlify => self.set_binary(filter::unhexlify(&self.data)?),
            Op::Substr(offset, len) => {
                self.set_data(filter::substr(&self.data, *offset, *len)?.to_vec())
            }
            Op::Truncate(len) => {
                self.data.truncate(*len);
                Ok(())
            }
            Op::Fill {
                left,
                amount,
                filler,
            } => {
                while self.data.len() < *amount {
                    let at = if *left { 0 } else { self.data.len() };
                    self.data.splice(at..at, filler.iter().copied());
                }
                Ok(())
            }
            Op::Number { big_endian } => self.set_text(filter::number(&self.data, *big_endian)?),
            other => Err(format!("{other:?} is not of Dovecot 2.4")),
        }
    }
}

/// The operations that only 2.3 has.
fn old(op: &Op, mut data: Vec<u8>) -> Vec<u8> {
    match *op {
        Op::Escape => data
            .into_iter()
            .flat_map(|byte| {
                matches!(byte, b'"' | b'\\' | b'\'')
                    .then_some(b'\\')
                    .into_iter()
                    .chain([byte])
            })
            .collect(),
        Op::Trim => {
            let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
            data.truncate(
                data.iter()
                    .rposition(|byte| !space(byte))
                    .map_or(0, |last| last + 1),
            );
            data
        }
        Op::DecimalToHex => format!("{:x}", filter::unsigned(&data).unwrap_or(0)).into_bytes(),
        Op::OldHash { md5, modulus, pad } => old_hash(&data, md5, modulus, pad),
        Op::Skip(offset) => data.split_off(offset.min(data.len())),
        Op::Last(count) => data.split_off(data.len().saturating_sub(count)),
        Op::Take(width) => {
            data.truncate(width);
            data
        }
        Op::DropEnd(count) => {
            data.truncate(data.len().checked_sub(count).unwrap_or(data.len()));
            data
        }
        Op::ZeroPad(width) => [vec![b'0'; width.saturating_sub(data.len())], data].concat(),
        _ => data,
    }
}

/// `N` (64 bits, of which the low 32 are printed) and `H` (32 bits). A negative modulus acts as C converts it.
fn old_hash(data: &[u8], md5: bool, modulus: i32, pad: usize) -> Vec<u8> {
    let number = match (md5, modulus) {
        (true, 0) => digest::md5_number(data) as u32,
        (true, modulus) => (digest::md5_number(data) % (i64::from(modulus) as u64)) as u32,
        (false, 0) => digest::pjw(data),
        (false, modulus) => digest::pjw(data) % (modulus as u32),
    };
    format!("{number:0pad$x}").into_bytes()
}
