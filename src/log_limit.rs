//! At most one warning a minute for each user, with a count of what was left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::template::User;

const PERIOD: Duration = Duration::from_secs(60);
/// So many users are told apart; with more, all are told anew.
const MAX_USERS: usize = 10_000;

/// When each user was last spoken of.
#[derive(Debug, Default)]
pub struct LogLimit {
    users: Mutex<HashMap<User, Spoken>>,
}

#[derive(Debug)]
struct Spoken {
    at: Instant,
    /// The line, without what changes each time.
    line: String,
    left_out: u64,
}

impl LogLimit {
    /// Logs `line` about `user` unless the same was logged within the last minute.
    pub fn warn(&self, user: &User, line: &str) {
        if let Some(left_out) = self.pass(user, line, Instant::now()) {
            match left_out {
                0 => log::warn!("{line}"),
                n => log::warn!("{line} ({n} more such lines left out)"),
            }
        }
    }

    fn pass(&self, user: &User, line: &str, now: Instant) -> Option<u64> {
        let mut users = self.users.lock();
        if let Some(spoken) = users.get_mut(user) {
            if spoken.line == line && now.duration_since(spoken.at) < PERIOD {
                spoken.left_out += 1;
                return None;
            }
        }
        if users.len() >= MAX_USERS {
            users.clear();
        }
        let spoken = Spoken { at: now, line: line.to_owned(), left_out: 0 };
        Some(users.insert(user.clone(), spoken).map_or(0, |before| before.left_out))
    }
}
