//! At most so many lines a minute of each kind about each user, path or caller, with a count of what was
//! left out: with the next such line, or once the minute is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

const PERIOD: Duration = Duration::from_secs(60);
/// So many are told apart; with more, those of whom nothing was left out are told anew.
const MAX_KNOWN: usize = 10_000;

/// When each was last spoken of.
#[derive(Debug, Default)]
pub struct LogLimit {
    known: Mutex<HashMap<(Vec<u8>, &'static str), Spoken>>,
}

/// What was said within a minute.
#[derive(Debug)]
struct Spoken {
    since: Instant,
    times: u32,
    left_out: u64,
    /// The last of those that were left out.
    last: Option<(Level, String)>,
}

impl LogLimit {
    /// Logs `line` about `whom` unless one of this kind was logged within the last minute.
    pub fn warn(&self, whom: &[u8], kind: &'static str, line: &str) {
        self.log(Level::Warn, whom, kind, line);
    }

    /// The same at any level.
    pub fn log(&self, level: Level, whom: &[u8], kind: &'static str, line: &str) {
        self.some(level, whom, (kind, 1), line);
    }

    /// Logs `line` about `whom` unless `most` of this kind were logged within the last minute. At `debug` all are.
    pub fn some(&self, level: Level, whom: &[u8], (kind, most): (&'static str, u32), line: &str) {
        match self.pass(whom, (kind, most), (level, line), Instant::now()) {
            Some(left_out) => say(level, line, left_out),
            None if most > 1 => log::debug!("{line}"),
            None => {}
        }
    }

    /// Tells what was left out within minutes that are over. To be called now and then.
    pub fn tell_left_out(&self) {
        self.tell_over(Instant::now());
    }

    /// Tells what was left out up to now, for it ends.
    pub fn end(&self) {
        self.tell_over(Instant::now() + PERIOD);
    }

    fn tell_over(&self, now: Instant) {
        for (level, line, others) in self.over(now) {
            say(level, &line, others);
        }
    }

    /// How many were left out before this one, which may be logged.
    fn pass(
        &self,
        whom: &[u8],
        (kind, most): (&'static str, u32),
        (level, line): (Level, &str),
        now: Instant,
    ) -> Option<u64> {
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, spoken| spoken.left_out > 0);
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let new = || Spoken {
            since: now,
            times: 0,
            left_out: 0,
            last: None,
        };
        let spoken = known.entry((whom.to_vec(), kind)).or_insert_with(new);
        let mut before = 0;
        if now.duration_since(spoken.since) >= PERIOD {
            before = std::mem::replace(spoken, new()).left_out;
        }
        if spoken.times < most {
            spoken.times += 1;
            return Some(before);
        }
        spoken.left_out += 1;
        spoken.last = Some((level, line.to_owned()));
        None
    }

    /// Forgets the minutes that are over. Of each the last line that was left out, and how many others were.
    fn over(&self, now: Instant) -> Vec<(Level, String, u64)> {
        let mut lines = Vec::new();
        self.known.lock().retain(|_, spoken| {
            if now.duration_since(spoken.since) < PERIOD {
                return true;
            }
            if let Some((level, line)) = spoken.last.take() {
                lines.push((level, line, spoken.left_out - 1));
            }
            false
        });
        lines
    }
}

fn say(level: Level, line: &str, left_out: u64) {
    match left_out {
        0 => log::log!(level, "{line}"),
        1 => log::log!(level, "{line} (1 more such line left out)"),
        n => log::log!(level, "{line} ({n} more such lines left out)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_of_each_kind_and_a_count_of_the_rest() {
        let (limit, now) = (LogLimit::default(), Instant::now());
        let pass = |whom: &str, kind, now| {
            limit.pass(whom.as_bytes(), (kind, 1), (Level::Warn, "line"), now)
        };
        assert_eq!(pass("alice", "locked", now), Some(0));
        assert_eq!(pass("alice", "locked", now), None);
        assert_eq!(pass("alice", "draining", now), Some(0));
        assert_eq!(pass("bob", "locked", now), Some(0));
        assert_eq!(pass("alice", "locked", now + PERIOD), Some(1));
        assert_eq!(pass("alice", "locked", now + 2 * PERIOD), Some(0));
    }

    #[test]
    fn what_was_left_out_is_told_though_nothing_follows() {
        let (limit, now) = (LogLimit::default(), Instant::now());
        let pass = |line: &str, now| limit.pass(b"", ("evicted", 2), (Level::Info, line), now);
        let said = ["a", "b", "c", "d"].map(|line| pass(line, now));
        assert_eq!(said, [Some(0), Some(0), None, None]);
        assert_eq!(limit.over(now + PERIOD / 2), []);
        let over = [(Level::Info, "d".to_owned(), 1)];
        assert_eq!(limit.over(now + PERIOD), over);
        assert_eq!(limit.over(now + PERIOD), []);
        assert_eq!(pass("e", now + PERIOD), Some(0), "it was told");
    }

    #[test]
    fn it_stays_small_and_forgets_no_count() {
        let (limit, now) = (LogLimit::default(), Instant::now());
        let pass = |whom: u64| {
            let line = (Level::Info, "line");
            limit.pass(&whom.to_ne_bytes(), ("claimed", 1), line, now)
        };
        assert_eq!((pass(0), pass(0)), (Some(0), None));
        for whom in 1..2 * MAX_KNOWN as u64 {
            assert_eq!(pass(whom), Some(0));
        }
        assert!(limit.known.lock().len() <= MAX_KNOWN);
        assert_eq!(limit.over(now + PERIOD).len(), 1);
        assert!(limit.known.lock().is_empty());
    }
}
