//! Values of our own options. An error says what is wrong and what to write.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fmt::Display;
use std::time::Duration;

use super::{BackingFs, IndexFs, LockMethod, OptionError};

/// Longer names leave no room for what Dovecot puts behind them (`.log.newlock`) and we do.
const PREFIX_MAX: usize = 200;
/// As long as a host's name can be.
const HOST_MAX: usize = 255;
/// Names of ours, which must stay apart from the list index.
const OUR_NAMES: [&str; 2] = [".lasthost", ".listindexfs"];
/// An open that waits longer is a hanging Dovecot.
const CHECK_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The shortest `watchdog=`.
const WATCHDOG_MIN: Duration = Duration::from_secs(1);

/// Reads a value and names option and value where that fails.
pub fn read<T, E: Display>(
    name: &'static str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, OptionError> {
    parse(text).map_err(|error| OptionError::Value {
        name,
        value: text.to_owned(),
        why: error.to_string(),
    })
}

/// The nearest of `names`: one that holds what was written (`timeout`), else by edits, and of these
/// by a common beginning.
pub fn nearest(name: &str, names: impl Iterator<Item = &'static str>) -> &'static str {
    let common = |known: &str| {
        let pairs = name.chars().zip(known.chars());
        pairs.take_while(|(a, b)| a == b).count()
    };
    names
        .min_by_key(|known| {
            let holds = name.len() > 3 && known.contains(name);
            let edits = strsim::damerau_levenshtein(name, known);
            (!holds, edits, Reverse(common(known)))
        })
        .unwrap_or("index")
}

fn one_of<T: Copy>(text: &str, allowed: &[(&'static str, T)]) -> Result<T, String> {
    match allowed.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let names: Vec<_> = allowed.iter().map(|(name, _)| *name).collect();
            Err(format!("write {}", names.join(" or ")))
        }
    }
}

pub fn yes_or_no(text: &str) -> Result<bool, String> {
    one_of(text, &[("yes", true), ("no", false)])
}

pub fn backing_fs(text: &str) -> Result<BackingFs, String> {
    one_of(
        text,
        &[("tmpfs", BackingFs::Tmpfs), ("any", BackingFs::Any)],
    )
}

pub fn lock_method(text: &str) -> Result<LockMethod, String> {
    let all = [LockMethod::Fcntl, LockMethod::Flock, LockMethod::Dotlock];
    one_of(text, &all.map(|method| (method.word(), method)))
}

pub fn index_fs(text: &str) -> Result<IndexFs, String> {
    let is_type = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !name.is_empty() && name.chars().all(fits)
    };
    match text {
        "network" => Ok(IndexFs::Network),
        "any" => Ok(IndexFs::Any),
        _ if text
            .split(':')
            .any(|name| matches!(name, "network" | "any")) =>
        {
            Err("`network` and `any` stand alone: write one of them, or types".to_owned())
        }
        _ if text.split(':').all(is_type) => {
            Ok(IndexFs::Types(text.split(':').map(str::to_owned).collect()))
        }
        _ => Err("write network, any, or types as /proc/mounts has them, such as nfs4:ceph".into()),
    }
}

/// Long enough for a busy machine: a worker that is killed for nothing costs more than one that hangs a moment.
pub fn watchdog(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time < WATCHDOG_MIN => Err("must be at least 1s".to_owned()),
        _ => check_timeout(text),
    }
}

pub fn check_timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Err(_) => Err("write a number and a unit, such as 30s or 500ms".to_owned()),
        Ok(Duration::ZERO) => Err("must be longer than 0s".to_owned()),
        Ok(time) if time > CHECK_TIMEOUT_MAX => Err("must be at most 1h".to_owned()),
        Ok(time) => Ok(time),
    }
}

pub fn host(text: &str) -> Result<String, String> {
    let why = match text {
        "" => "the host has no name: give one with host=",
        _ if text.len() > HOST_MAX => "must be at most 255 bytes",
        _ if text.chars().any(char::is_control) => "must not hold control characters",
        _ if text.trim() != text => "must not begin or end with a blank",
        _ => return Ok(text.to_owned()),
    };
    Err(why.to_owned())
}

pub fn prefix(text: &str, given: &[OsString]) -> Result<OsString, String> {
    if text.contains('/') || matches!(text, "." | "..") {
        return Err("must be a file name, without `/`".to_owned());
    }
    if text.len() > PREFIX_MAX {
        return Err(format!("must be at most {PREFIX_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    if let Some(ours) = OUR_NAMES.into_iter().find(|ours| meets(text, ours)) {
        return Err(format!(
            "`{ours}` is a file of listindexfs itself: take another name"
        ));
    }
    let given = given.iter().filter_map(|other| other.to_str());
    match given.into_iter().find(|other| meets(text, other)) {
        Some(other) => Err(format!(
            "`{other}` begins alike: no prefix may begin another"
        )),
        None => Ok(text.into()),
    }
}

/// Whether a file name could belong to both.
fn meets(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
