//! The claim: our .lasthost on NFS, put there by a rename so that everybody sees the old or the new one.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::steps::{OnStep, Step};
use crate::index::Trouble;
use crate::index::dir::IndexDir;
use crate::index::lasthost::{Identity, LASTHOST, LastHost};

/// A claim is up to this many bytes longer than it need be.
const MAX_PADDING: u64 = 509;

/// Seconds.
const DAY: u64 = 24 * 3600;

/// Puts `lasthost` into INDEX as `host`, which is us, and returns its identity.
///
/// Its time, within the last day, and its size are random: a reused inode must not look like an older claim, and
/// only what `stat` sees counts. When the claim was made is told by its change time. The identity is taken before anybody can replace it.
///
/// # Errors
/// [`Trouble::Io`]; then .lasthost has been removed if that was possible, so that other hosts purge, unless it was to
/// warn of stock logs.
pub fn put(
    dir: &IndexDir,
    host: &str,
    lasthost: &LastHost,
    on_step: &OnStep,
) -> Result<Identity, Trouble> {
    let beside = beside(host);
    let put = || {
        let text = lasthost.to_text(random(MAX_PADDING) as usize);
        let made = match dir.make(&beside, text.as_bytes(), Some(random_time())) {
            Err(Trouble::Io { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
                dir.remove(&beside)?; // a claim of ours that died on its way
                dir.make(&beside, text.as_bytes(), Some(random_time()))?
            }
            made => made?,
        };
        on_step(Step::ClaimWritten);
        dir.rename(&beside, OsStr::new(LASTHOST))?;
        on_step(Step::Claimed);
        Ok(made.identity)
    };
    put().inspect_err(|_| {
        // What warns of stale logs must not be lost: other hosts would pull them.
        let lasthost = lasthost.stale.is_empty().then(|| OsStr::new(LASTHOST));
        let names = [Some(beside.as_os_str()), lasthost];
        names
            .into_iter()
            .flatten()
            .for_each(|name| dir.remove_quietly(name));
    })
}

/// One name per host, so that what a dying host leaves is found by its next claim. Host names may be
/// as long as file names: hence the digest.
fn beside(host: &str) -> OsString {
    format!("{LASTHOST}.{}", digest(host)).into()
}

/// What a host's own names in INDEX have in them.
pub(super) fn digest(host: &str) -> String {
    let digest = Sha256::digest(host.as_bytes());
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// A moment of the last day, as precise as a time stamp can be. On a server that keeps whole seconds the nanoseconds
/// are lost, and with a size of few possible ones alone a reused inode would look like an older claim in the end.
fn random_time() -> SystemTime {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = now.as_secs().saturating_sub(random(DAY));
    SystemTime::UNIX_EPOCH + Duration::new(seconds, random(1_000_000_000) as u32)
}

/// A random number below `bound`.
fn random(bound: u64) -> u64 {
    random_u128() as u64 % bound
}

/// 128 random bits.
pub fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    let mut have = 0;
    while have < bytes.len() {
        // Interrupted, or the pool not yet ready at boot: again.
        have += rustix::rand::getrandom(&mut bytes[have..], rustix::rand::GetRandomFlags::empty())
            .unwrap_or(0);
    }
    u128::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_beside_fits_any_host() {
        assert!(beside(&"h".repeat(255)).len() < 64);
        assert_ne!(beside("a"), beside("b"));
    }

    #[test]
    fn times_differ_in_seconds_too() {
        let now = SystemTime::now();
        let ages = (0..20).map(|_| {
            let age = now.duration_since(random_time()).unwrap_or_default();
            assert!(age.as_secs() <= DAY);
            age.as_secs()
        });
        let some: std::collections::HashSet<_> = ages.collect();
        assert!(some.len() > 15, "{some:?}");
    }
}
