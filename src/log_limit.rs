//! At most one warning a minute for each user or path, with a count of what was left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const PERIOD: Duration = Duration::from_secs(60);
/// So many are told apart; with more, all are told anew.
const MAX_KNOWN: usize = 10_000;

/// When each was last spoken of.
#[derive(Debug, Default)]
pub struct LogLimit {
    known: Mutex<HashMap<Vec<u8>, Spoken>>,
}

#[derive(Debug)]
struct Spoken {
    at: Instant,
    line: String,
    left_out: u64,
}

impl LogLimit {
    /// Logs `line` about `whom` unless the same was logged within the last minute.
    pub fn warn(&self, whom: &[u8], line: &str) {
        if let Some(left_out) = self.pass(whom, line, Instant::now()) {
            match left_out {
                0 => log::warn!("{line}"),
                n => log::warn!("{line} ({n} more such lines left out)"),
            }
        }
    }

    fn pass(&self, whom: &[u8], line: &str, now: Instant) -> Option<u64> {
        let mut known = self.known.lock();
        if let Some(spoken) = known.get_mut(whom) {
            if spoken.line == line && now.duration_since(spoken.at) < PERIOD {
                spoken.left_out += 1;
                return None;
            }
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let spoken = Spoken {
            at: now,
            line: line.to_owned(),
            left_out: 0,
        };
        Some(
            known
                .insert(whom.to_vec(), spoken)
                .map_or(0, |before| before.left_out),
        )
    }
}
