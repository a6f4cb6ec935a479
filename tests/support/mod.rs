//! What the integration tests share: a throw-away world (`Lab`) with real Dovecots (`Dovecot`) and our
//! mounts (`Mount`) in it, a blocking IMAP client (`Imap`), and a model of what must be seen (`Model`).
//!
//! Nothing here waits for time: `eventually` waits for conditions, with a limit that only a hang reaches.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test program uses another part"
)]

pub mod config;
pub mod cost;
pub mod dovecot;
pub mod dovecot24;
pub mod imap;
pub mod lab;
pub mod light;
pub mod lmtp;
pub mod model;
pub mod mount;
pub mod needs;
pub mod ops;
pub mod process;
pub mod rounds;
pub mod site;
pub mod stories;
pub mod tiny;
pub mod vm;

pub use config::{Config, Format, Users};
pub use dovecot::{Dovecot, finish};
pub use imap::{Counts, Imap, ListStatus};
pub use lab::{GID, Lab, UID};
pub use light::Light;
pub use model::Model;
pub use mount::Mount;
pub use needs::{DEBIAN, DOVECOT, FUSE, ROOT, SYSTEMD, VM, lacks};
pub use site::Site;

use std::time::{Duration, Instant};

/// How long a condition may take before it counts as a hang: generous, as test machines are slow and shared, and stand still at
/// times. For a lock that somebody has left Dovecot waits three minutes: that is to count as one.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Waits until `probe` gives a value, and panics with `what` after [`LIMIT`].
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, probe).unwrap_or_else(|| panic!("not within {LIMIT:?}: {what}"))
}

/// Waits until `probe` gives a value, but no longer than `limit`.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// How long a load lasts: so many seconds as the environment's variable of this `name` says, else `usual`.
pub fn lasting(name: &str, usual: Duration) -> Duration {
    let given = std::env::var(name).ok().map(|text| text.parse());
    let seconds = given.map(|seconds| seconds.unwrap_or_else(|_| panic!("{name} is a number")));
    seconds.map_or(usual, Duration::from_secs)
}

/// A message of one line, unlike any other.
pub fn message(subject: &str) -> Vec<u8> {
    format!("From: a@b.invalid\r\nSubject: {subject}\r\n\r\nhello {subject}\r\n").into_bytes()
}
