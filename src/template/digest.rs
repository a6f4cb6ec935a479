//! The hashes of Dovecot's variables, and its bit-wise truncation.

use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

/// A digest both Dovecot versions have and we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// By Dovecot's names.
pub(super) const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("md5", Algorithm::Md5),
    ("sha1", Algorithm::Sha1),
    ("sha256", Algorithm::Sha256),
    ("sha384", Algorithm::Sha384),
    ("sha512", Algorithm::Sha512),
];

/// What Dovecot can hash with besides, and nobody should need here.
pub(super) const OTHER_ALGORITHMS: [&str; 5] = ["md4", "sha3-256", "sha3-512", "size", "pkcs5"];

impl Algorithm {
    /// Length of the digest in bytes.
    pub fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn once(self, salt: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::new()
                .chain_update(salt)
                .chain_update(data)
                .finalize()
                .to_vec(),
            Self::Sha1 => Sha1::new()
                .chain_update(salt)
                .chain_update(data)
                .finalize()
                .to_vec(),
            Self::Sha256 => Sha256::new()
                .chain_update(salt)
                .chain_update(data)
                .finalize()
                .to_vec(),
            Self::Sha384 => Sha384::new()
                .chain_update(salt)
                .chain_update(data)
                .finalize()
                .to_vec(),
            Self::Sha512 => Sha512::new()
                .chain_update(salt)
                .chain_update(data)
                .finalize()
                .to_vec(),
        }
    }

    /// `rounds` times: the hash of the salt and the result so far.
    pub fn hash(self, rounds: u32, salt: &[u8], data: &[u8]) -> Vec<u8> {
        (0..rounds).fold(data.to_vec(), |data, _| self.once(salt, &data))
    }
}

/// Dovecot 2.3's `N`: the first 8 bytes of the MD5, as a number.
pub(super) fn md5_number(data: &[u8]) -> u64 {
    Md5::digest(data)
        .iter()
        .take(8)
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Dovecot 2.3's `H`: the PJW hash, in 32 bits.
pub(super) fn pjw(data: &[u8]) -> u32 {
    data.iter().fold(0u32, |hash, &byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        if high == 0 {
            hash
        } else {
            hash ^ (high >> 24) ^ high
        }
    })
}

/// The first `bits` bits as a number, in as many bytes as it needs; shorter data stays as it is.
pub(super) fn truncate_bits(data: &mut Vec<u8>, bits: usize) {
    if data.len() * 8 < bits {
        return;
    }
    data.truncate(bits.div_ceil(8));
    let odd = bits % 8;
    if odd > 0 {
        let mut above = 0;
        for byte in data {
            let whole = above << 8 | u16::from(*byte);
            *byte = (whole >> (8 - odd)) as u8;
            above = whole & 0xff;
        }
    }
}
