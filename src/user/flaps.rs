//! Users who are claimed back and forth: whoever sends a user's sessions to several hosts at once has each make his list index anew,
//! again and again. It is right all the same, so it is only counted, and told of by name.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::gate::Gate;
use crate::index::lasthost::LastHost;
use crate::stats::Cell;
use crate::template::User;

/// A claim counts for so long.
const WINDOW: Duration = Duration::from_secs(300);
/// So many claims within it are no move there and back any more, and are told of.
const NOTABLE: usize = 3;
/// So many users' claims are remembered, and so many of each.
const USERS: usize = 4096;
const CLAIMS: usize = 32;

/// When which users were claimed of late.
#[derive(Debug, Default)]
pub(super) struct Flaps(Mutex<HashMap<Box<[u8]>, Vec<Instant>>>);

/// A mail user may write whatever he likes into his .lasthost: so many characters of a host's name are told.
const LONGEST_NAME: usize = 64;

/// From whom a user is claimed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum From {
    /// There was no .lasthost, or a fence's, which says so.
    Nobody,
    /// .lasthost is of no form that is known.
    Unknown,
    /// This mount, which claims him anew.
    Us,
    /// This host, before this mount.
    Before,
    /// Another host; its name where that is known.
    Another(Option<String>),
}

impl From {
    /// By what .lasthost said, where we are `ours`.
    pub(super) fn of(owner: &LastHost, ours: &LastHost) -> Self {
        match owner {
            _ if owner.is_by(ours) => From::Us,
            _ if owner.is_nobody() => From::Nobody,
            _ if owner.host == ours.host => From::Before,
            _ => From::Another(Some(owner.host.chars().take(LONGEST_NAME).collect())),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::Nobody => f.write_str("was nobody's"),
            From::Unknown => f.write_str("was of unknown owner"),
            From::Us => f.write_str("was ours"),
            From::Before => f.write_str("was ours before this mount"),
            From::Another(Some(host)) => write!(f, "was {host}'s"),
            From::Another(None) => f.write_str("was another host's"),
        }
    }
}

impl Flaps {
    /// Whether the next claim of this user would be told of.
    pub(super) fn is_notable(&self, user: &User) -> bool {
        let known = self.0.lock();
        let claims = known.get(user.as_bytes());
        claims.is_some_and(|claims| recent(claims, Instant::now()) + 1 >= NOTABLE)
    }

    /// He is claimed. Gives how often he was of late, this time included.
    fn claimed(&self, user: &[u8], now: Instant) -> usize {
        let mut known = self.0.lock();
        if known.len() >= USERS && !known.contains_key(user) {
            known.retain(|_, claims| recent(claims, now) > 0);
            if known.len() >= USERS {
                return 1; // he is met again when there are fewer
            }
        }
        let claims = known.entry(user.into()).or_default();
        claims.retain(|claim| now.duration_since(*claim) < WINDOW);
        if claims.len() == CLAIMS {
            claims.remove(0);
        }
        claims.push(now);
        claims.len()
    }
}

fn recent(claims: &[Instant], now: Instant) -> usize {
    let recent = claims
        .iter()
        .filter(|claim| now.duration_since(**claim) < WINDOW);
    recent.count()
}

impl Gate {
    /// A user has been claimed.
    pub(super) fn claimed_from(&self, user: &User, from: From) {
        let times = self.flaps.claimed(user.as_bytes(), Instant::now());
        let From::Another(host) = from else { return };
        if times < 2 {
            return;
        }
        self.stats.count(Cell::Flaps);
        if times < NOTABLE {
            return;
        }
        let minutes = WINDOW.as_secs() / 60;
        let owner = host.map_or(String::new(), |host| format!("; last owner {host}"));
        let line = format!(
            "{user} is on several hosts at once (claimed {times} times in {minutes} minutes{owner}): send users to one host at a time"
        );
        self.limit.warn(user.as_bytes(), "several hosts", &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::lasthost::Instance;

    #[test]
    fn claims_count_for_a_while() {
        let (flaps, now) = (Flaps::default(), Instant::now());
        assert_eq!(flaps.claimed(b"alice", now), 1);
        assert_eq!(flaps.claimed(b"bob", now), 1);
        assert_eq!(flaps.claimed(b"alice", now + WINDOW / 2), 2);
        assert_eq!(
            flaps.claimed(b"alice", now + WINDOW),
            2,
            "the first is too old"
        );
        for _ in 0..2 * CLAIMS {
            assert!(flaps.claimed(b"alice", now + WINDOW) <= CLAIMS);
        }
    }

    #[test]
    fn it_stays_small() {
        let (flaps, now) = (Flaps::default(), Instant::now());
        for number in 0..2 * USERS as u32 {
            assert_eq!(flaps.claimed(&number.to_ne_bytes(), now), 1);
        }
        assert_eq!(flaps.0.lock().len(), USERS);
        assert_eq!(flaps.claimed(b"alice", now + WINDOW), 1);
        assert_eq!(flaps.0.lock().len(), 1, "all others were too old");
    }

    #[test]
    fn a_fence_and_this_host_are_no_other_host() {
        let (other, ours) = (
            LastHost::claim("b", Instance(1)),
            LastHost::claim("a", Instance(2)),
        );
        assert_eq!(From::of(&other, &ours), From::Another(Some("b".to_owned())));
        let earlier = LastHost::claim("a", Instance(3));
        assert_eq!(From::of(&earlier, &ours), From::Before);
        assert_eq!(From::of(&ours, &ours), From::Us);
        assert_eq!(From::of(&LastHost::nobody(), &ours), From::Nobody);
    }

    #[test]
    fn a_long_name_is_cut() {
        let long = LastHost::claim(&"h".repeat(5000), Instance(1));
        let from = From::of(&long, &LastHost::claim("a", Instance(2)));
        assert!(from.to_string().len() < 100);
    }
}
