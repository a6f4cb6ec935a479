//! The fence: a session that lingers here after its user moved, and writes, makes the new host stale.
//!
//! After its end .lasthost is set to nobody, so that the present owner's next gate purges.

use std::sync::Arc;

use super::claim;
use super::gate::Gate;
use super::local;
use super::state::UserState;
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::index::dir::IndexDir;
use crate::index::lasthost::LastHost;
use crate::user::decide::Claim;

/// Sets the fence if .lasthost is no longer what we last accepted: 2 GETATTR when it is.
pub fn set(gate: &Gate, state: &Arc<UserState>, creds: &Creds) {
    match try_set(gate, state, creds) {
        Ok(false) => {}
        Ok(true) => log::info!(
            "{}: written here after the user had moved: .lasthost set to nobody",
            state.user
        ),
        Err(e) => gate.limit.warn(
            state.user.as_bytes(),
            &format!("{}: no fence: {e}", state.user),
        ),
    }
}

fn try_set(gate: &Gate, state: &Arc<UserState>, creds: &Creds) -> Result<bool, Trouble> {
    let at = gate.index_path(&state.user)?;
    let Some(dir) = IndexDir::open(&at, creds, &gate.mounts, &gate.config.index_fs)? else {
        return Ok(false);
    };
    let record = local::read_record(gate, &state.user).map_err(|source| Trouble::Backing {
        what: "read the record",
        source,
    })?;
    let (claim, lasthost) = super::flight::claim_seen(gate, &dir, record.as_ref())?;
    // Without a .lasthost everybody's next gate purges as it is.
    if claim != Claim::Foreign || lasthost.is_none() {
        return Ok(false);
    }
    claim::put(&dir, &gate.config.host, &LastHost::nobody(), &gate.on_step)?;
    Ok(true)
}
