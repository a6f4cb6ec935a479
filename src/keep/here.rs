//! Tells once a second how much is here: what is not counted as it happens, since what is asked for it is known anyway.

use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use crate::stats::Cell;
use crate::store::Store;
use crate::store::opens::Opens;
use crate::user::gate::Gate;
use crate::user::state::UserState;

/// How old it may be.
const PERIOD: Duration = Duration::from_secs(1);

/// Begins to tell, in a thread of its own.
///
/// # Errors
/// When none can be started.
pub fn tell_what_is_here(
    store: &Arc<Store>,
    gate: &Arc<Gate>,
    opens: Arc<Opens<Arc<UserState>>>,
) -> io::Result<()> {
    let (store, gate) = (Arc::clone(store), Arc::clone(gate));
    super::spawn("counted", move || {
        loop {
            tell(&store, &gate, &opens);
            sleep(PERIOD);
        }
    })
}

fn tell(store: &Store, gate: &Gate, opens: &Opens<Arc<UserState>>) {
    let (stats, usage, room) = (gate.stats(), store.usage(), gate.room());
    let most = Some(room.most()).filter(|most| *most != u64::MAX);
    // Until a new worker has counted them what the one before knew is nearer to the truth.
    let counted = |cell, now: u64| match usage.is_walked() {
        Some(_) => now,
        None => now.max(stats.get(cell)),
    };
    for (cell, now) in [
        (Cell::Users, counted(Cell::Users, usage.users())),
        (
            Cell::Directories,
            counted(Cell::Directories, usage.directories()),
        ),
        (Cell::Bytes, usage.bytes()),
        (Cell::MaxBytes, most.unwrap_or(0)),
        (Cell::MaxUsers, room.bounds().max_users.unwrap_or(0)),
        (Cell::OpenFiles, opens.files() as u64),
        (Cell::ActiveUsers, gate.active_users() as u64),
    ] {
        stats.set(cell, now);
    }
}
