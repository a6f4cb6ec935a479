//! At most one warning a minute of each kind about each user, path or caller, with a count of what was
//! left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const PERIOD: Duration = Duration::from_secs(60);
/// So many are told apart; with more, all are told anew.
const MAX_KNOWN: usize = 10_000;

/// When each was last spoken of.
#[derive(Debug, Default)]
pub struct LogLimit {
    known: Mutex<HashMap<(Vec<u8>, &'static str), Spoken>>,
}

#[derive(Debug)]
struct Spoken {
    at: Instant,
    left_out: u64,
}

impl LogLimit {
    /// Logs `line` about `whom` unless one of this kind was logged within the last minute.
    pub fn warn(&self, whom: &[u8], kind: &'static str, line: &str) {
        self.log(log::Level::Warn, whom, kind, line);
    }

    /// The same at any level.
    pub fn log(&self, level: log::Level, whom: &[u8], kind: &'static str, line: &str) {
        if let Some(left_out) = self.pass(whom, kind, Instant::now()) {
            match left_out {
                0 => log::log!(level, "{line}"),
                n => log::log!(level, "{line} ({n} more such lines left out)"),
            }
        }
    }

    fn pass(&self, whom: &[u8], kind: &'static str, now: Instant) -> Option<u64> {
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let new = Spoken {
            at: now,
            left_out: 0,
        };
        let Some(spoken) = known.get_mut(&(whom.to_vec(), kind)) else {
            known.insert((whom.to_vec(), kind), new);
            return Some(0);
        };
        if now.duration_since(spoken.at) < PERIOD {
            spoken.left_out += 1;
            return None;
        }
        Some(std::mem::replace(spoken, new).left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_of_each_kind_and_a_count_of_the_rest() {
        let (limit, now) = (LogLimit::default(), Instant::now());
        assert_eq!(limit.pass(b"alice", "locked", now), Some(0));
        assert_eq!(limit.pass(b"alice", "locked", now), None);
        assert_eq!(limit.pass(b"alice", "draining", now), Some(0));
        assert_eq!(limit.pass(b"bob", "locked", now), Some(0));
        assert_eq!(limit.pass(b"alice", "locked", now + PERIOD), Some(1));
        assert_eq!(limit.pass(b"alice", "locked", now + 2 * PERIOD), Some(0));
    }
}
