//! The worker's side: it takes what the supervisor hands it, serves, and may die at any moment.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::Arc;

use super::orphan;
use crate::exit::Failure;
use crate::fuse::Server;
use crate::journal::Journal;
use crate::options::Config;
use crate::stats::Stats;
use crate::sys::fd::adopt;
use anyhow::Context;

/// Names the descriptor of what is counted. A variable, for a program that knows nothing of it passes over one.
pub(super) const COUNTED: &str = "LISTINDEXFS_COUNTED_FD";

/// The step after which the first worker of a mount dies, in debug builds.
pub const CRASH_AT: &str = "LISTINDEXFS_WORKER_CRASH_AT";

/// In debug builds: a worker in waiting dies when it is its turn.
const DIES_AS_IT_TAKES_OVER: &str = "LISTINDEXFS_NEXT_DIES";

/// What a worker in waiting says when it could serve, before its version, and what it hears when it may.
const READY: &str = "ready ";
pub(super) const GO: &[u8; 2] = b"go";
/// The same where the worker before was killed by somebody, not by what it did.
pub(super) const GO_ON: &[u8; 2] = b"on";

/// The version of a worker that says so that it could serve.
pub(super) fn version_of_ready(said: &str) -> Option<&str> {
    said.strip_prefix(READY)?.split_whitespace().next()
}

/// The descriptors that a worker is started with.
#[derive(Clone, Debug)]
pub struct Inherited([i32; 7]);

impl FromStr for Inherited {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<i32>, _> = text.split(',').map(str::parse).collect();
        let numbers = numbers.map_err(|e| e.to_string())?;
        let seven = numbers
            .try_into()
            .map_err(|_| "seven descriptors are wanted");
        seven.map(Self).map_err(str::to_owned)
    }
}

/// Serves the mount until it ends. Only the supervisor calls this.
///
/// # Errors
/// When it cannot serve; the supervisor is told so.
pub fn run(config: Config, inherited: &Inherited, standby: bool) -> Result<(), Failure> {
    let told = |e: io::Error| Failure::usage(format!("--worker is for listindexfs itself: {e}"));
    let adopted = inherited.0.map(adopt);
    let [dev_fuse, a, b, slots, lock, life, report] = adopted;
    let (dev_fuse, lock) = (dev_fuse.map_err(told)?, lock.map_err(told)?);
    let journal = [a.map_err(told)?, b.map_err(told)?];
    let mut report = UnixStream::from(report.map_err(told)?);
    let served = wait_for_turn(standby, &journal, &mut report).and_then(|killed| {
        prepare_process();
        let stats = Arc::new(counted());
        let config = Arc::new(config);
        orphan::watch(
            life.map_err(told)?,
            Arc::clone(&config),
            dev_fuse.try_clone()?,
        )?;
        let slots = slots.map_err(told)?;
        let server = Server::start(config, dev_fuse, journal, slots, stats, killed)?;
        server.run().context("the session broke off")
    });
    drop(lock); // held until here
    served.map_err(|e| {
        let line = format!("{e:#}");
        if let Err(e) = report.write_all(line.as_bytes()) {
            log::debug!("the supervisor is not told: {e}");
        }
        Failure::system(line)
    })
}

/// Serves when the supervisor says so. One in waiting first says that it can. Tells whether the worker before was killed
/// by somebody.
fn wait_for_turn(
    standby: bool,
    journal: &[OwnedFd; 2],
    supervisor: &mut UnixStream,
) -> anyhow::Result<bool> {
    if standby {
        Journal::check(journal)?;
        supervisor.write_all(format!("{READY}{}", env!("CARGO_PKG_VERSION")).as_bytes())?;
    }
    let mut go = [0; GO.len()];
    supervisor
        .read_exact(&mut go)
        .context("the supervisor has died")?;
    if cfg!(debug_assertions) && standby && std::env::var_os(DIES_AS_IT_TAKES_OVER).is_some() {
        std::process::abort();
    }
    Ok(&go == GO_ON)
}

/// What is counted goes on where the worker before ended. Where that cannot be had it begins anew, and nobody else sees it.
fn counted() -> Stats {
    let Ok(text) = std::env::var(COUNTED) else {
        return Stats::default(); // a supervisor of an earlier version
    };
    let fd = text.parse().map_err(io::Error::other).and_then(adopt);
    fd.and_then(Stats::open).unwrap_or_else(|error| {
        log::error!("what is counted is not seen by others: {error}");
        Stats::default()
    })
}

/// It is the supervisor that is spared when memory runs out.
fn prepare_process() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "0") {
        log::debug!("/proc/self/oom_score_adj: {error}");
    }
}
