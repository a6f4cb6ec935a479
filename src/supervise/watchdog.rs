//! Finds out whether the worker still answers: one that is stopped or deadlocked dies of nothing by itself.
//!
//! The mount is asked for its `statfs(2)`, as any program might ask, now and then. A worker that waits for NFS
//! answers it all the same, for only some of its threads ever wait.
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

/// Calls `hangs` whenever `mountpoint` has not answered for `limit`, and after each further `limit`. `stands` tells
/// whether it is still mounted.
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
        // The mount has just answered; and while it is asked it is in use, so that who unmounts it at once would be refused.
        sleep(limit / QUESTIONS);
        while stands() {
            *answered.lock() = Some(Instant::now());
            // What it answers is no matter.
            let _ = rustix::fs::statfs(&mountpoint);
            *answered.lock() = None;
            sleep(limit / QUESTIONS);
        }
    };
    let look = move || {
        loop {
            sleep(limit / LOOKS);
            let mut asked = asked.lock();
            if asked.is_some_and(|since| since.elapsed() >= limit) {
                *asked = Some(Instant::now()); // the next worker has its own time
                drop(asked);
                hangs();
            }
        }
    };
    Builder::new().name("ask".to_owned()).spawn(ask)?;
    Builder::new().name("look".to_owned()).spawn(look).map(drop)
}
