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

use crate::fuse::take_from_users;
use crate::mountinfo;
use crate::options::Config;
use crate::unmount;

/// How long the mount's users may keep it.
const USERS_WITHIN: Duration = Duration::from_secs(20);

/// A worker's mount, and what has happened, in whichever order.
struct Orphan {
    config: Arc<Config>,
    dev_fuse: OwnedFd,
    orphaned: AtomicBool,
    told_to_end: AtomicBool,
    leaving: AtomicBool,
}

/// Watches for the end of the supervisor, whose end of `life` closes then, and for signals. While the supervisor lives it
/// alone is the one who is told to end.
///
/// # Errors
/// When no thread can be started.
pub fn watch(life: OwnedFd, config: Arc<Config>, dev_fuse: OwnedFd) -> io::Result<()> {
    let orphan = Arc::new(Orphan {
        config,
        dev_fuse,
        orphaned: AtomicBool::new(false),
        told_to_end: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
    });
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let also = Arc::clone(&orphan);
    let listen = move || {
        for signal in signals.forever() {
            if signal != SIGHUP {
                also.told_to_end.store(true, Ordering::SeqCst);
                also.leave_if_due();
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
        orphan.orphaned.store(true, Ordering::SeqCst);
        orphan.leave_if_due();
    };
    let spawned = Builder::new().name("supervisor".to_owned()).spawn(watch);
    spawned.map(drop)
}

impl Orphan {
    /// The worker ends with its mount.
    fn leave_if_due(&self) {
        let due = [&self.orphaned, &self.told_to_end];
        if !due.iter().all(|fact| fact.load(Ordering::SeqCst))
            || self.leaving.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let (mountpoint, place) = (&self.config.mountpoint, self.config.mountpoint.display());
        let table = std::fs::read(mountinfo::PATH).unwrap_or_default();
        let uppermost = mountinfo::uppermost(&table, mountpoint.as_os_str());
        let Some(mount) = uppermost.filter(|mount| mount.source == self.config.backing) else {
            return; // it was detached, and what is there now is another's
        };
        match unmount::in_order(mountpoint, USERS_WITHIN, || false) {
            Ok(unmount::Users::None) => log::info!("unmounted {place}"),
            // What they have changed is still told to other hosts; what they change later nobody would tell.
            Ok(unmount::Users::Some) => {
                take_from_users(&self.dev_fuse, &mount.device, place);
            }
            Err(error) => log::error!("cannot unmount {place}: {error}"),
        }
    }
}
