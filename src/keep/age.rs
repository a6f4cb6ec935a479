//! What has not been used for `max_age=` goes, and directories in which nothing lies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::pace::Pace;
use crate::options::Config;
use crate::store::usage::{FIRST, Stamp};
use crate::store::{Node, Store};
use crate::user::gate::Gate;
use crate::user::told::Reason;

/// A directory in which nothing lies may be that of a session that is about to write.
const BARE_AGE: Duration = Duration::from_secs(3600);
/// So long nobody may have looked at it before it goes: between looking and writing a session takes no such time. The shorter
/// one is for a `max_age=` that is shorter than an hour.
const MAX_GRACE: Duration = Duration::from_secs(60);
const MIN_GRACE: Duration = Duration::from_secs(10);

/// Removes what has become too old.
pub fn sweep(config: &Config, store: &Store, gate: &Arc<Gate>) {
    let (now, mut pace) = (Stamp::now(), Pace::begin());
    store.usage().clock_is(now);
    if let Some(age) = config.bounds.max_age {
        let before = now.before(age);
        gate.evict_while(Reason::Age, |_, kept| {
            pace.rest();
            kept.last < before
        });
    }
    let age = config.bounds.max_age.unwrap_or(BARE_AGE).min(BARE_AGE);
    drop_bare(age.clamp(MIN_GRACE, MAX_GRACE), store, gate, &mut pace);
    let (mut mark, before) = (FIRST, now.before(age));
    while !store.leaving().is_full() {
        let bare = store.usage().bare_after(mark);
        let Some(kept) = bare.filter(|kept| kept.last < before) else {
            break;
        };
        mark = kept.mark();
        gate.leave_directory(kept.dir);
    }
}

/// Removes the directories at which nobody has looked since they were to go.
fn drop_bare(unseen: Duration, store: &Store, gate: &Arc<Gate>, pace: &mut Pace) {
    for dir in store.leaving().due(unseen) {
        match remove(dir, store, gate) {
            Ok(true) => store.usage().forget(dir),
            // Plain files lie there, or somebody has come back: later again.
            Ok(false) => store.usage().left(dir, Stamp::now()),
            Err(e) => {
                log::warn!("cannot remove an empty directory: {e}");
                store.usage().left(dir, Stamp::now());
            }
        }
        pace.rest();
    }
}

/// Whether the directory is gone.
fn remove(dir: Node, store: &Store, gate: &Arc<Gate>) -> io::Result<bool> {
    let user = gate.user_in(dir)?;
    let gone = user.map_or(Ok(true), |user| gate.drop_directory(&user, dir))?;
    store.leaving().end(dir, || ());
    Ok(gone)
}
