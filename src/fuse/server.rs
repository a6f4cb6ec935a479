//! Serving a mount: threads that read requests until the mount ends.

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::Duration;

use anyhow::Context;
use fuser::{Session, SessionACL};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Adapter;
use super::notify::Invalidator;
use super::reply::Runner;
use crate::fs::Core;
use crate::index::lasthost::Instance;
use crate::options::Config;
use crate::store::Store;
use crate::user::claim::random_u128;
use crate::user::gate::{Gate, Parts};
use crate::user::process::Proc;
use crate::user::steps;

/// Threads that read requests, at least and at most. As many as there are cores serve best: more only
/// wake each other up, and slow work has threads of its own.
const READERS: std::ops::RangeInclusive<usize> = 2..=8;
/// How many of them may wait for NFS.
const SPARED: usize = 1;
/// How long the end of a mount waits for fences.
const LAST_FENCES: Duration = Duration::from_secs(10);
/// A session with the kernel.
pub struct Server {
    session: Session<Adapter>,
    gate: Arc<Gate>,
    dev_fuse: OwnedFd,
}

impl Server {
    /// Begins to serve a mount made on `dev_fuse`: does the INIT handshake.
    ///
    /// # Errors
    /// When the backing cannot be used or the kernel does not shake hands.
    pub fn start(config: Arc<Config>, dev_fuse: OwnedFd) -> anyhow::Result<Self> {
        let store = Store::open(&config.backing)
            .with_context(|| format!("failed to open the backing {}", config.backing.display()))?;
        let store = Arc::new(store);
        let invalidator = Invalidator::default();
        let parts = Parts {
            config: Arc::clone(&config),
            store: Arc::clone(&store),
            instance: Instance(random_u128()),
            processes: Box::new(Proc),
            kernel: Box::new(invalidator.clone()),
            on_step: steps::crash_from_env(),
            spared_threads: SPARED,
        };
        let watched = dev_fuse.try_clone().context("failed to watch /dev/fuse")?;
        let gate = Gate::new(parts).context("failed to start the gate")?;
        let core = Core::new(config, store, Arc::clone(&gate));
        let adapter = Adapter {
            run: Runner::new(core),
        };
        let session = Session::from_fd(adapter, dev_fuse, SessionACL::All, session_config())
            .context("failed to shake hands with the kernel")?;
        invalidator.attach(session.notifier());
        Ok(Server {
            session,
            gate,
            dev_fuse: watched,
        })
    }

    /// Serves until the mount ends, and then until the fences that its last sessions left are set.
    ///
    /// # Errors
    /// When `/dev/fuse` fails.
    pub fn run(self) -> std::io::Result<()> {
        let outcome = ended(self.session, self.dev_fuse)?;
        if !self.gate.wait_quiet(LAST_FENCES) {
            log::warn!(
                "not all fences are set: other hosts may not know of the last changes made here"
            );
        }
        outcome
    }
}

/// Runs the session until it or the mount ends. A reader that waits for a dead NFS server then is not waited for.
fn ended(session: Session<Adapter>, dev_fuse: OwnedFd) -> std::io::Result<std::io::Result<()>> {
    let (session_ends, ends) = mpsc::channel();
    let mount_ends = session_ends.clone();
    let spawn = |name: &str, wait: Box<dyn FnOnce() + Send>| {
        Builder::new().name(name.to_owned()).spawn(wait).map(drop)
    };
    spawn(
        "readers",
        Box::new(move || {
            let _ = session_ends.send(Some(session.run())); // fails when nobody waits any more
        }),
    )?;
    spawn(
        "mount",
        Box::new(move || {
            let mut fds = [PollFd::new(&dev_fuse, PollFlags::empty())]; // POLLERR: no mount any more
            while poll(&mut fds, None) == Err(Errno::INTR) {}
            let _ = mount_ends.send(None);
        }),
    )?;
    match ends.recv() {
        Ok(Some(outcome)) => Ok(outcome),
        _ => Ok(ends
            .recv_timeout(LAST_FENCES)
            .ok()
            .flatten()
            .unwrap_or(Ok(()))),
    }
}

fn session_config() -> fuser::Config {
    let mut config = fuser::Config::default();
    config.acl = SessionACL::All;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config.n_threads = Some(cores.clamp(*READERS.start(), *READERS.end()));
    config
}
