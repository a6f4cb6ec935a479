//! What both syntaxes are parsed into: literals, and variables with the operations done on them.

use super::digest::Algorithm;

/// A template, or one component of it, or a filter's argument.
pub(super) type Parts = Vec<Part>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(Vec<u8>),
    Var(Var),
    /// The user's home directory, in an index template only
    Home,
}

/// One `%…` of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Var {
    /// In characters, from 1.
    pub column: usize,
    /// As the administrator wrote it.
    pub text: String,
    pub from: Source,
    pub ops: Vec<Op>,
}

impl Var {
    /// For an error about this variable.
    pub fn place(&self) -> (usize, &str) {
        (self.column, &self.text)
    }
}

/// Where a value begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `%u`, `%{user}`
    User,
    /// `%n`, `%{username}`: before the first `@`
    Local,
    /// `%d`, `%{domain}`: after it, or empty
    Domain,
    /// `%%`, or nothing yet: a filter comes that makes a value
    Const(Vec<u8>),
}

/// A step of an expansion. Those of 2.3 never fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Lower,
    Upper,
    Reverse,
    /// `.` becomes `,dc=`
    LdapDn,

    // 2.3 only
    Escape,
    Trim,
    DecimalToHex,
    /// `N` and `H`: the value's hash, modulo `modulus` unless that is 0, in hex, at least `pad` digits
    OldHash {
        md5: bool,
        modulus: i32,
        pad: usize,
    },
    Skip(usize),
    Last(usize),
    Take(usize),
    /// Without the last so many bytes; a shorter value stays whole
    DropEnd(usize),
    ZeroPad(usize),

    // both, in 2.3 as `%{sha1;…:user}`
    Digest {
        algorithm: Algorithm,
        rounds: u32,
        salt: Parts,
    },
    TruncateBits(usize),
    Hexlify(usize),
    Base64 {
        url: bool,
        pad: bool,
    },

    // 2.4 only
    Username,
    Domain,
    Index {
        separator: Vec<u8>,
        position: i32,
    },
    Literal(Parts),
    Default(Parts),
    Concat(Vec<Parts>),
    Calculate(Arithmetic, i64),
    Hex(i32),
    Unhex,
    Unhexlify,
    Substr(i64, Option<i64>),
    Truncate(usize),
    Fill {
        left: bool,
        amount: usize,
        filler: Vec<u8>,
    },
    Number {
        big_endian: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}
