//! The options that keep the backing small: `max_age=`, `max_bytes=`, `max_users=`, `max_user_bytes=`, `moved_rate=`.
//!
//! Sizes are written as tmpfs has them: a number with `k`, `m`, `g` or `t`, each 1024 of the one before, or a percentage.

use std::time::Duration;

use super::{OptionError, set};

/// What nobody has used for so long goes, where `max_age=` is not given.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A shorter one would be met by sessions under way.
const MIN_MAX_AGE: Duration = Duration::from_secs(1);
/// The part of the backing's filesystem that list indexes may take where `max_bytes=` is not given.
const DEFAULT_PERCENT: u8 = 80;
/// What one user may have where `max_user_bytes=` is not given, bytes: list indexes have kilobytes.
const DEFAULT_USER_BYTES: u64 = 64 << 20;
/// Less than that a list index of a few folders and its log need, bytes.
const MIN_BYTES: u64 = 64 << 10;
/// What looking for users who have moved away may cost where `moved_rate=` is not given, RPCs per second.
const DEFAULT_MOVED_RATE: u32 = 10;
/// More would be noticed by an NFS server.
const MAX_MOVED_RATE: u32 = 10_000;

/// What lies in the backing may take so much room and no more, and when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What a user has not used for so long goes; `None`: never.
    pub max_age: Option<Duration>,
    /// All users together.
    pub max_bytes: MaxBytes,
    /// How many users may have a list index here; `None`: any number.
    pub max_users: Option<u64>,
    /// One user, bytes; `None`: as much as there is room for.
    pub max_user_bytes: Option<u64>,
    /// RPCs per second for finding out which idle users have moved to other hosts; 0: none.
    pub moved_rate: u32,
}

/// A bound for all bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxBytes {
    /// Bytes.
    Bytes(u64),
    /// Of the backing's filesystem.
    Percent(u8),
}

impl MaxBytes {
    /// The bound in bytes where the backing's filesystem has `size`.
    pub fn of(self, size: u64) -> u64 {
        match self {
            MaxBytes::Bytes(bytes) => bytes,
            MaxBytes::Percent(percent) => size / 100 * u64::from(percent),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Given::default().finish()
    }
}

/// What has been read so far; `None` is "not given".
#[derive(Default)]
pub(super) struct Given {
    max_age: Option<Option<Duration>>,
    max_bytes: Option<MaxBytes>,
    max_users: Option<Option<u64>>,
    max_user_bytes: Option<Option<u64>>,
    moved_rate: Option<u32>,
}

impl Given {
    pub(super) fn take(&mut self, name: &'static str, text: &str) -> Result<(), OptionError> {
        match name {
            "max_age" => set(&mut self.max_age, name, text, max_age),
            "max_bytes" => set(&mut self.max_bytes, name, text, max_bytes),
            "max_users" => set(&mut self.max_users, name, text, number),
            "max_user_bytes" => set(&mut self.max_user_bytes, name, text, user_bytes),
            "moved_rate" => set(&mut self.moved_rate, name, text, moved_rate),
            _ => unreachable!("{name} is in OWN but not read"),
        }
    }

    pub(super) fn finish(self) -> Bounds {
        Bounds {
            max_age: self.max_age.unwrap_or(Some(DEFAULT_MAX_AGE)),
            max_bytes: (self.max_bytes).unwrap_or(MaxBytes::Percent(DEFAULT_PERCENT)),
            max_users: self.max_users.unwrap_or(None),
            max_user_bytes: self.max_user_bytes.unwrap_or(Some(DEFAULT_USER_BYTES)),
            moved_rate: self.moved_rate.unwrap_or(DEFAULT_MOVED_RATE),
        }
    }
}

fn max_age(text: &str) -> Result<Option<Duration>, String> {
    match humantime::parse_duration(text) {
        _ if matches!(text, "off" | "0") => Ok(None),
        Ok(age) if age >= MIN_MAX_AGE => Ok(Some(age)),
        Ok(_) => Err("must be at least 1s, or off".to_owned()),
        Err(_) => Err("write a number and a unit, such as 7d or 12h, or off".to_owned()),
    }
}

fn max_bytes(text: &str) -> Result<MaxBytes, String> {
    let percent = text.strip_suffix('%').map(str::parse);
    match (percent, size(text)) {
        (Some(Ok(percent @ 1..=100)), _) => Ok(MaxBytes::Percent(percent)),
        (None, Some(bytes)) if bytes >= MIN_BYTES => Ok(MaxBytes::Bytes(bytes)),
        (None, Some(_)) => Err("must be at least 64k".to_owned()),
        _ => Err("write a size or a part of the backing, such as 512m, 2g or 80%".to_owned()),
    }
}

fn number(text: &str) -> Result<Option<u64>, String> {
    match text.parse() {
        _ if text == "off" => Ok(None),
        Ok(0) => Ok(None),
        Ok(users) => Ok(Some(users)),
        Err(_) => Err("write a number, or off".to_owned()),
    }
}

fn user_bytes(text: &str) -> Result<Option<u64>, String> {
    match size(text) {
        _ if matches!(text, "off" | "0") => Ok(None),
        Some(bytes) if bytes >= MIN_BYTES => Ok(Some(bytes)),
        Some(_) => Err("must be at least 64k, or off".to_owned()),
        None => Err("write a size, such as 64m, or off".to_owned()),
    }
}

fn moved_rate(text: &str) -> Result<u32, String> {
    match text.parse() {
        _ if text == "off" => Ok(0),
        Ok(rate @ 0..=MAX_MOVED_RATE) => Ok(rate),
        _ => Err(format!(
            "write RPCs per second, at most {MAX_MOVED_RATE}, or off"
        )),
    }
}

/// A size as tmpfs reads it, bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("7", Some(7))]
    #[case("64k", Some(64 << 10))]
    #[case("3M", Some(3 << 20))]
    #[case("2g", Some(2 << 30))]
    #[case("1t", Some(1 << 40))]
    #[case("", None)]
    #[case("m", None)]
    #[case("1mb", None)]
    #[case("-1", None)]
    #[case("99999999t", None)]
    fn a_size_is_what_tmpfs_takes_for_one(#[case] text: &str, #[case] bytes: Option<u64>) {
        assert_eq!(size(text), bytes);
    }

    #[test]
    fn a_part_is_of_the_filesystem_and_a_size_is_not() {
        assert_eq!(max_bytes("50%").map(|max| max.of(1000)), Ok(500));
        assert_eq!(max_bytes("1m").map(|max| max.of(1000)), Ok(1 << 20));
    }

    #[rstest]
    #[case("max_age", "12", "write a number and a unit")]
    #[case("max_age", "10ms", "at least 1s")]
    #[case("max_bytes", "0%", "write a size or a part")]
    #[case("max_bytes", "101%", "write a size or a part")]
    #[case("max_bytes", "3k", "at least 64k")]
    #[case("max_users", "many", "write a number")]
    #[case("max_user_bytes", "x", "write a size")]
    #[case("max_user_bytes", "1", "at least 64k")]
    #[case("moved_rate", "1000000", "at most 10000")]
    fn what_does_not_serve_is_told(
        #[case] name: &'static str,
        #[case] text: &str,
        #[case] why: &str,
    ) {
        let error = Given::default().take(name, text).expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.to_string().starts_with(&format!("{name}={text}: ")));
    }

    #[test]
    fn each_can_be_switched_off() {
        let mut given = Given::default();
        for name in ["max_age", "max_users", "max_user_bytes", "moved_rate"] {
            given.take(name, "off").expect(name);
        }
        let bounds = given.finish();
        let off = (bounds.max_age, bounds.max_users, bounds.max_user_bytes);
        assert_eq!((off, bounds.moved_rate), ((None, None, None), 0));
    }
}
