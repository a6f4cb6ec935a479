//! The single operations that Dovecot does on a list index, each repeated for a short while by every contestant in turn.

mod workload;

use anyhow::{Context, Result};

use crate::contestant::{Contestant, Talk};
use crate::place::ROOT;
use crate::plan::Plan;
use crate::rate;
use crate::running::Running;
use crate::series::{Series, interleave};
use crate::users::{self, PER_THREAD, UserFiles};
use workload::Workload;

/// How many threads work at once, one after the other.
pub const THREADS: [usize; 2] = [1, 4];

struct Ready {
    users: Vec<Vec<UserFiles>>,
    /// Dropped last: it holds the mount up.
    running: Running,
}

/// Runs every workload at every thread count.
pub fn run(contestants: &[Contestant], plan: &Plan) -> Result<Vec<Series>> {
    let most = THREADS.into_iter().max().unwrap_or(1);
    let ready = contestants
        .iter()
        .map(|c| make_ready(c, plan, most))
        .collect::<Result<Vec<_>>>()?;
    let mut all = Vec::new();
    for workload in workload::ALL {
        for threads in THREADS {
            let series = interleave(workload.name, threads, contestants, plan.ops_rounds, |i| {
                let Ready { users, running } = &ready[i];
                round(workload, &users[..threads], plan)
                    .with_context(|| format!("{} failed on {}", workload.name, running.name))
            })?;
            eprintln!("ops: {} with {threads} thread(s) done", workload.name);
            all.push(series);
        }
    }
    Ok(all)
}

/// One thread for each entry of `users`. It warms up by a turn through its users.
fn round(workload: &Workload, users: &[Vec<UserFiles>], plan: &Plan) -> Result<f64> {
    let prepared = users.iter().map(|mine| (workload.prepare)(mine));
    let mut steps = prepared.collect::<Result<Vec<_>>>()?;
    rate::measure(&mut steps, PER_THREAD, plan.ops_time)
}

fn make_ready(contestant: &Contestant, plan: &Plan, threads: usize) -> Result<Ready> {
    let place = contestant.place(&plan.dir, "ops", ROOT)?;
    let running = Running::start(contestant, place, Talk::Quiet)?;
    let users = (0..threads)
        .map(|thread| users::make(&running, thread))
        .collect::<Result<_>>();
    let users = users.with_context(|| format!("failed to make users on {contestant}"))?;
    Ok(Ready { users, running })
}
