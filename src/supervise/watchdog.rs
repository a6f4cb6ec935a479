//! Finds out whether the worker still answers: one that is stopped or deadlocked dies of nothing by itself.
//!
//! The mount is asked for its `statfs(2)`, as any program might ask, now and then. A worker that waits for NFS
//! answers it all the same, for only some of its threads ever wait.
//!
//! What counts is how often it was looked in vain: where the host itself stood still for a while, the worker has not hung.
//!
//! Who asks may be killed while he waits, and his question with him only when the last `/dev/fuse` is closed: so he must
//! not have it open himself.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sys::process::forget_descriptors;

/// How often the mount is asked, and how often it is looked whether it has answered, within the time allowed.
const QUESTIONS: u32 = 4;
const LOOKS: u32 = 8;

/// When the question was asked that is not answered yet.
type Asked = Arc<Mutex<Option<Instant>>>;

/// How often it was looked in vain for the answer to one question.
#[derive(Default)]
struct Looks {
    asked: Option<Instant>,
    times: u32,
}

impl Looks {
    /// One more look. Tells whether the worker has had its time, and this host too.
    fn are_over(&mut self, asked: Option<Instant>, limit: Duration, now: Instant) -> bool {
        if asked != self.asked {
            *self = Self { asked, times: 0 };
        }
        self.times += 1;
        let waited = asked.is_some_and(|since| now.saturating_duration_since(since) >= limit);
        waited && self.times >= LOOKS
    }
}

/// Calls `hangs` whenever `mountpoint` has not answered for `limit`, and after each further `limit`, for as long as the process
/// lives. It is asked while `stands` tells that it is mounted, and uppermost.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    mountpoint: PathBuf,
    limit: Duration,
    stands: impl Fn() -> bool + Send + 'static,
    hangs: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let asked = Asked::default();
    let answered = Arc::clone(&asked);
    let ask = move || {
        if let Err(e) = forget_descriptors() {
            return log::error!("nobody watches the worker: {e}");
        }
        loop {
            // First: it has just answered; and while it is asked it is in use, so that who unmounts it at once would be refused.
            sleep(limit / QUESTIONS);
            // Where it does not, another mount may cover it for a while.
            if stands() {
                *answered.lock() = Some(Instant::now());
                // What it answers is no matter.
                let _ = rustix::fs::statfs(&mountpoint);
                *answered.lock() = None;
            }
        }
    };
    let look = move || {
        let mut looks = Looks::default();
        loop {
            sleep(limit / LOOKS);
            let mut asked = asked.lock();
            if looks.are_over(*asked, limit, Instant::now()) {
                *asked = Some(Instant::now()); // the next worker has its own time
                drop(asked);
                hangs();
            }
        }
    };
    Builder::new().name("ask".to_owned()).spawn(ask)?;
    Builder::new().name("look".to_owned()).spawn(look).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_worker_hangs_only_while_its_host_does_not() {
        let (limit, asked) = (Duration::from_secs(8), Instant::now());
        let after = |seconds| asked + Duration::from_secs(seconds);
        let over = |looks: &mut Looks, seconds| looks.are_over(Some(asked), limit, after(seconds));
        let mut looks = Looks::default();
        assert!((1..8).all(|second| !over(&mut looks, second)));
        assert!(over(&mut looks, 8));
        let mut looks = Looks::default();
        assert!(!over(&mut looks, 1));
        // The host stood still.
        assert!((60..66).all(|second| !over(&mut looks, second)));
        assert!(!looks.are_over(None, limit, after(66)), "it has answered");
        assert!((67..74).all(|second| !over(&mut looks, second)));
        assert!(over(&mut looks, 74));
    }

    #[test]
    fn a_mount_that_was_covered_for_a_while_is_watched_again() {
        let (tell, looked) = channel();
        let mut covered = [true, true, false].into_iter();
        let covered = Mutex::new(move || covered.next().unwrap_or(false));
        let stands = move || {
            let stands = !covered.lock()();
            tell.send(stands).is_ok() && stands
        };
        let limit = Duration::from_millis(20);
        start("/".into(), limit, stands, || ()).expect("threads");
        let looks = std::array::from_fn(|_| looked.recv_timeout(Duration::from_secs(60)));
        assert_eq!(looks, [Ok(false), Ok(false), Ok(true), Ok(true)]);
    }
}
