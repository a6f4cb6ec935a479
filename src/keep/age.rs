//! What has not been used for `max_age=` goes, and directories in which nothing lies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::pace::Pace;
use crate::options::Config;
use crate::store::usage::{Kept, Stamp};
use crate::store::{Node, Store};
use crate::user::gate::Gate;

/// A directory in which nothing lies may be that of a session that is about to write.
const BARE_AGE: Duration = Duration::from_secs(3600);

/// Removes what has become too old.
pub fn sweep(config: &Config, store: &Store, gate: &Arc<Gate>) {
    let (now, mut pace) = (Stamp::now(), Pace::begin());
    if let Some(age) = config.bounds.max_age {
        let before = now.before(age);
        let gone = gate.evict_while(|_, kept| {
            pace.rest();
            kept.last < before
        });
        if gone > 0 {
            log::info!("the list indexes of {gone} users went, not used for {age:?}");
        }
    }
    let age = config.bounds.max_age.unwrap_or(BARE_AGE).min(BARE_AGE);
    drop_bare(now.before(age), store, gate, &mut pace);
}

fn drop_bare(before: Stamp, store: &Store, gate: &Arc<Gate>, pace: &mut Pace) {
    let usage = store.usage();
    let mut mark = (Stamp::default(), Node(0));
    while let Some(kept) = usage.bare_after(mark).filter(|kept| kept.last < before) {
        mark = kept.mark();
        if let Err(e) = remove(kept, store, gate) {
            log::warn!("cannot remove an empty directory: {e}");
            usage.left(kept.dir, Stamp::now()); // later again
        }
        pace.rest();
    }
}

fn remove(kept: Kept, store: &Store, gate: &Arc<Gate>) -> io::Result<()> {
    let usage = store.usage();
    match gate.user_in(kept.dir)? {
        Some(user) if gate.drop_directory(&user)? => {}
        // Plain files lie there, or he has just come back: later again.
        Some(_) => usage.left(kept.dir, Stamp::now()),
        None => usage.forget(kept.dir),
    }
    Ok(())
}
