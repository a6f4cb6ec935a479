//! Users who are claimed back and forth: whoever sends a user's sessions to several hosts at once has each make his list index anew,
//! again and again. It is right all the same, so it is only counted, and told of by name.

use std::collections::HashMap;
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

/// From whom a user is claimed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Nobody had him, or this host.
    Nobody,
    /// Another host; its name where that is known.
    Another(Option<String>),
}

impl From {
    /// By what .lasthost said, where we are `host`.
    pub(super) fn of(owner: &LastHost, host: &str) -> Self {
        match owner.is_nobody() || owner.host == host {
            true => From::Nobody,
            false => From::Another(Some(owner.host.clone())),
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
        let other = LastHost::claim("b", Instance(1));
        assert_eq!(From::of(&other, "a"), From::Another(Some("b".to_owned())));
        assert_eq!(From::of(&other, "b"), From::Nobody);
        assert_eq!(From::of(&LastHost::nobody(), "a"), From::Nobody);
    }
}
