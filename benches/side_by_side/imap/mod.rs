//! Real IMAP sessions: a stock Dovecot for each contestant, its list index there, its mail on the same tmpfs as all.

pub mod host;
mod session;

use anyhow::{Context, Result};

use crate::contestant::{Contestant, Talk};
use crate::plan::Plan;
use crate::rate::{self, Step};
use crate::series::{Series, interleave};
use host::Host;
pub use session::{KINDS, Kind};

/// How many clients are at it at once, one after the other.
const CLIENTS: [usize; 2] = [1, 8];
const USERS: usize = 30;

/// Runs every kind of session at every number of clients.
pub fn run(contestants: &[Contestant], plan: &Plan) -> Result<Vec<Series>> {
    let mut hosts = Vec::new();
    for contestant in contestants {
        eprintln!("imap: making {USERS} users on {contestant}");
        hosts.push(Host::start(
            contestant,
            &plan.dir,
            "imap",
            USERS,
            Talk::Quiet,
        )?);
    }
    let mut all = Vec::new();
    for kind in KINDS {
        for clients in CLIENTS {
            let series = interleave(kind.name, clients, contestants, plan.imap_rounds, |i| {
                round(&mut hosts[i], kind, clients, plan)
            })?;
            eprintln!("imap: {} with {clients} client(s) done", kind.name);
            all.push(series);
        }
    }
    hosts.into_iter().try_for_each(Host::finish)?;
    Ok(all)
}

/// Every client has users of its own, so that it knows what it must be told.
fn round(host: &mut Host, kind: &Kind, clients: usize, plan: &Plan) -> Result<f64> {
    let dovecot = &host.dovecot;
    let each = host.users.len().div_ceil(clients);
    let mut steps: Vec<Step<'_>> = host
        .users
        .chunks_mut(each)
        .map(|users| {
            let mut turn = 0;
            Box::new(move || {
                turn = (turn + 1) % users.len();
                (kind.run)(dovecot, &mut users[turn])
            }) as Step<'_>
        })
        .collect();
    let rate = rate::measure(&mut steps, 0, plan.imap_time);
    rate.with_context(|| format!("a {} session failed on {}", kind.name, host.running.name))
}
