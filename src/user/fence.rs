//! The fence: makes other hosts purge what they made without knowing of changes made here.
//!
//! A session that lingers after its user moved, and writes, makes the new host stale; a ghost's changes
//! nobody saw at all. .lasthost is set to nobody, so that the present owner's next gate purges, and a
//! stock backend's list index in INDEX, which lacks the changes too, goes.

use std::sync::Arc;

use super::decide::Claim;
use super::gate::Gate;
use super::look::{claim_seen, logs_in, sources_seen};
use super::record::{Kept, Record};
use super::state::UserState;
use super::{claim, local, pull};
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::index::dir::IndexDir;
use crate::index::lasthost::{Identity, LastHost};
use crate::stats::Cell;

/// How often it starts over when another host claims the user or gives him back meanwhile.
const TRIES: usize = 5;

/// Whether a writer's changes are in what others will be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// They are, or others purge.
    Yes,
    /// A stock backend has a list index in INDEX meanwhile: it lacks what was written here, and what is
    /// here lacks what was written there. Both have to go: the writer is a ghost.
    StockLog,
}

/// After the last close of a process that wrote: 2 GETATTR when the user is still ours.
///
/// # Errors
/// [`Trouble`]; then the fence is not set.
pub fn after_writer(gate: &Gate, state: &Arc<UserState>, creds: &Creds) -> Result<Fenced, Trouble> {
    let record = record(gate, state)?;
    let acting = (creds.act()).map_err(Trouble::backing("take the writer's rights"))?;
    let Some(dir) = open(gate, state, creds)? else {
        return Ok(Fenced::Yes);
    };
    if gate.config.migrate && !logs_in(gate, &dir)?.is_empty() {
        return Ok(Fenced::StockLog);
    }
    let (seen, _) = claim_seen(gate, &dir, record.as_ref())?;
    drop(acting);
    match seen {
        Claim::Recorded => Ok(Fenced::Yes),
        // Without a record nobody has looked for INDEX/L after the claim: the host before may have given it back just then.
        Claim::Ours | Claim::Foreign => set(gate, state, &dir).map(|()| Fenced::Yes),
    }
}

/// After the end of a ghost.
///
/// # Errors
/// As [`after_writer`].
pub fn after_ghost(gate: &Gate, state: &Arc<UserState>, creds: &Creds) -> Result<Fenced, Trouble> {
    if let Some(dir) = open(gate, state, creds)? {
        set(gate, state, &dir)?;
    }
    Ok(Fenced::Yes)
}

/// The same when the mount has ended, and nobody will try again: where the list index of a stock backend cannot be dropped,
/// .lasthost warns of it.
///
/// # Errors
/// As [`after_writer`].
pub fn at_the_end(gate: &Gate, state: &Arc<UserState>, creds: &Creds) -> Result<Fenced, Trouble> {
    let Some(dir) = open(gate, state, creds)? else {
        return Ok(Fenced::Yes);
    };
    match set(gate, state, &dir) {
        Ok(()) => Ok(Fenced::Yes),
        Err(trouble) => match put_nobody(gate, state, &dir) {
            Ok(_) => Ok(Fenced::StockLog),
            Err(_) => Err(trouble), // which came first
        },
    }
}

fn open(gate: &Gate, state: &UserState, creds: &Creds) -> Result<Option<IndexDir>, Trouble> {
    let at = gate.index_path(state)?;
    IndexDir::open(&at, creds, &gate.mounts, &gate.config.index_fs)
}

fn look(
    gate: &Gate,
    state: &UserState,
    dir: &IndexDir,
) -> Result<(Claim, Option<Identity>), Trouble> {
    claim_seen(gate, dir, record(gate, state)?.as_ref())
}

fn record(gate: &Gate, state: &UserState) -> Result<Option<Record>, Trouble> {
    let kept = local::read(gate, &state.user).map_err(Trouble::backing("read the record"))?;
    Ok(match kept {
        Kept::Record(record) => Some(record),
        Kept::Haunted | Kept::Nothing => None,
    })
}

/// Under the lock of INDEX/L, so that a host that claims meanwhile finds nothing to pull.
fn set(gate: &Gate, state: &UserState, dir: &IndexDir) -> Result<(), Trouble> {
    for _ in 0..TRIES {
        let sources = pull::lock_if_any(gate, dir)?;
        let (claim, now) = look(gate, state, dir)?;
        let set = match (claim, now) {
            (Claim::Recorded | Claim::Ours, now) => now,
            (Claim::Foreign, None) if sources.is_empty() => None,
            (Claim::Foreign, _) => Some(put_nobody(gate, state, dir)?),
        };
        match set {
            Some(set) if !sources.is_empty() => {
                return pull::delete(gate, dir, &sources, set, &sources_seen(&sources));
            }
            _ if claim != Claim::Foreign => return Ok(()),
            _ => {}
        }
        // Whoever had the user may have given his list index back since, without what was changed here, and somebody may
        // have fetched it. Without a .lasthost everybody's next gate purges as it is.
        dir.ask()?;
        if logs_in(gate, dir)?.is_empty() && dir.lasthost()? == set {
            return Ok(());
        }
    }
    Err(Trouble::Overtaken)
}

/// The present owner's next gate purges.
pub(super) fn put_nobody(
    gate: &Gate,
    state: &UserState,
    dir: &IndexDir,
) -> Result<Identity, Trouble> {
    let nobody = LastHost::nobody().warning_of(logs_in(gate, dir)?);
    let set = claim::put(dir, &gate.config.host, &nobody, &gate.on_step)?;
    gate.stats.count(Cell::FenceSet);
    let line = "changed here unseen by others: .lasthost set to nobody";
    gate.did(&state.user, "fenced", line);
    Ok(set)
}
