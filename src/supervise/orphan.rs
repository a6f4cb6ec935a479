//! A worker whose supervisor has died serves on. When it is told to end it does what the supervisor would have done.
//!
//! So whoever ends all our processes in order, as systemd does, has the mount served until its users have gone.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::mountinfo;
use crate::options::Config;
use crate::unmount;

/// How long the mount's users may keep it.
const USERS_WITHIN: Duration = Duration::from_secs(20);

/// What has happened, in whichever order.
#[derive(Debug, Default)]
struct Happened {
    orphaned: AtomicBool,
    told_to_end: AtomicBool,
    leaving: AtomicBool,
}

/// Watches for the end of the supervisor, whose end of `life` closes then, and for signals. While the supervisor lives it
/// alone is the one who is told to end.
///
/// # Errors
/// When no thread can be started.
pub fn watch(life: OwnedFd, config: Arc<Config>) -> io::Result<()> {
    let happened = Arc::new(Happened::default());
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (also, of) = (Arc::clone(&happened), Arc::clone(&config));
    let listen = move || {
        for signal in signals.forever() {
            if signal != SIGHUP {
                also.told_to_end.store(true, Ordering::SeqCst);
                leave_if_due(&also, &of);
            }
        }
    };
    Builder::new().name("signals".to_owned()).spawn(listen)?;
    let watch = move || {
        let mut byte = [0];
        match File::from(life).read(&mut byte) {
            Ok(0) => log::error!(
                "the supervisor has died: this worker serves on, but when it ends nobody replaces it: \
                 unmount, mount again and restart Dovecot when it suits you"
            ),
            Ok(_) => return,
            Err(e) => return log::error!("cannot watch the supervisor: {e}"),
        }
        happened.orphaned.store(true, Ordering::SeqCst);
        leave_if_due(&happened, &config);
    };
    let spawned = Builder::new().name("supervisor".to_owned()).spawn(watch);
    spawned.map(drop)
}

/// The worker ends with its mount.
fn leave_if_due(happened: &Happened, config: &Config) {
    let due = [&happened.orphaned, &happened.told_to_end];
    if !due.iter().all(|fact| fact.load(Ordering::SeqCst))
        || happened.leaving.swap(true, Ordering::SeqCst)
    {
        return;
    }
    let (mountpoint, place) = (&config.mountpoint, config.mountpoint.display());
    let table = std::fs::read(mountinfo::PATH).unwrap_or_default();
    let uppermost = mountinfo::uppermost(&table, mountpoint.as_os_str());
    if uppermost.is_none_or(|mount| mount.source != config.backing) {
        return; // it was detached, and what is there now is another's
    }
    match unmount::in_order(mountpoint, USERS_WITHIN, || false) {
        Ok(unmount::Users::None) => log::info!("unmounted {place}"),
        Ok(unmount::Users::Some) => log::warn!("{place} still has files open: detached"),
        Err(error) => log::error!("cannot unmount {place}: {error}"),
    }
}
