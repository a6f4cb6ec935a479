//! Serving a mount: threads that read requests until the mount ends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::Context;
use fuser::{Session, SessionACL};
use rustix::event::PollFlags;

use super::notify::Invalidator;
use super::prune::Pruner;
use super::readers::Readers;
use super::reply::Runner;
use super::{Adapter, between, session};
use crate::answer;
use crate::control::socket::Socket;
use crate::fs::Core;
use crate::index::lasthost::Instance;
use crate::journal::{Entry, Journal};
use crate::keep::{self, Cached};
use crate::options::Config;
use crate::ready;
use crate::stats::{Cell, Stats};
use crate::store::Store;
use crate::user::gate::{Gate, Parts};
use crate::user::process::Proc;
use crate::user::steps;

/// Threads that read requests, at least and at most. As many as there are cores serve best: more only
/// wake each other up, and slow work has threads of its own.
const READERS: std::ops::RangeInclusive<usize> = 2..=8;
/// How many of them may wait for NFS.
const SPARED: usize = 1;
/// How often the mount is looked at while its readers do not end.
const MOUNT_PERIOD: Duration = Duration::from_secs(1);
/// How long the end of a mount waits for its readers: one may wait for an NFS server that is dead, and others are to be told all the same.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long it waits for fences.
const LAST_FENCES: Duration = Duration::from_secs(10);

/// A session with the kernel.
pub struct Server {
    session: Session<Adapter>,
    core: Arc<Core>,
    readers: Arc<Readers>,
    dev_fuse: OwnedFd,
    /// Where it is asked to clean; it goes with this.
    _socket: Option<Socket>,
}

impl Server {
    /// Begins to serve the mount of `dev_fuse`, on which hands have been shaken, where the worker before left it: in the
    /// journal, and in `slots`, which are used where the kernel does not send again what was not answered.
    ///
    /// `killed`: the worker before was killed by somebody.
    ///
    /// # Errors
    /// When the backing or the journal cannot be used.
    pub fn start(
        config: Arc<Config>,
        dev_fuse: OwnedFd,
        journal: [OwnedFd; 2],
        slots: OwnedFd,
        stats: Arc<Stats>,
        killed: bool,
    ) -> anyhow::Result<Self> {
        let (journal, mut left) = Journal::open(journal)?;
        let follows = journal.follows_another();
        if killed {
            journal.append(&Entry::Killed)?;
            left.apply(Entry::Killed);
        }
        let journal = Arc::new(journal);
        stats.begin();
        stats.add(Cell::Takeovers, follows.into());
        let store = Store::open(&config.backing)
            .with_context(|| format!("failed to open the backing {}", config.backing.display()))?;
        store.keep_numbers_small();
        let store = Arc::new(store);
        let readers = Readers::new(session_config().n_threads.unwrap_or(1));
        let invalidator = Invalidator::new(Arc::clone(&readers));
        let parts = Parts {
            config: Arc::clone(&config),
            store: Arc::clone(&store),
            instance: Instance(left.instance),
            processes: Box::new(Proc),
            kernel: Box::new(invalidator.clone()),
            on_step: steps::crash_from_env(),
            spared_threads: SPARED,
            journal: Arc::clone(&journal),
            stats,
        };
        let gate = Gate::new(parts).context("failed to start the gate")?;
        if follows {
            gate.takes_over();
        }
        let core = Core::new(Arc::clone(&config), Arc::clone(&store), Arc::clone(&gate));
        let core = core
            .take_over(&left)
            .context("failed to go on where the worker before ended")?;
        let pruner = Pruner::new(dev_fuse.try_clone()?, invalidator.gone.clone());
        let opens = Arc::clone(core.opens());
        let cached = Cached::new(&store, core.opens(), Box::new(pruner), follows);
        keep::start(&config, &store, &gate, &left, cached).context("failed to start the keeper")?;
        keep::tell_what_is_here(&store, &gate, opens).context("failed to start counting")?;
        let resends =
            session::resend(dev_fuse.as_fd()).context("failed to ask for what was not answered")?;
        let core = Arc::new(core);
        let adapter = Adapter {
            run: Runner::new(Arc::clone(&core), Arc::clone(&readers), resends),
        };
        let session = match resends {
            true => session::go_on(adapter, &dev_fuse).map_err(Into::into),
            false => between::go_on(adapter, &dev_fuse, &slots.into(), &left, &journal),
        };
        let session = session.context("failed to begin a session")?;
        invalidator.attach(session.notifier());
        let requests = session.as_fd().try_clone_to_owned()?;
        readers
            .watch(requests)
            .context("failed to start the readers' watch")?;
        Ok(Server {
            session,
            _socket: answer::listen(&config, &store, &gate),
            core,
            readers,
            dev_fuse,
        })
    }

    /// Serves until the mount ends, and then until the fences that its last sessions left are set.
    ///
    /// # Errors
    /// When `/dev/fuse` fails.
    pub fn run(self) -> std::io::Result<()> {
        let core = Arc::clone(&self.core);
        let lives = move || {
            core.close_unanswered();
            core.gate().journal().note(&Entry::Survived);
        };
        let gate = self.core.gate();
        let (outcome, at) = ended(self.session, &self.readers, &self.dev_fuse, lives)?;
        // Where only this worker ends, the next goes on with what is due.
        let last = is_unmounted(&self.dev_fuse);
        if last && !gate.end(LAST_FENCES.saturating_sub(at.elapsed())) {
            log::warn!(
                "not all fences are set: other hosts may not know of the last changes made here"
            );
        }
        gate.tell_all_left_out();
        outcome
    }
}

/// Runs the session until it or the mount ends, and tells when that was. A reader that waits for a dead NFS server then is
/// not waited for.
/// `lives` is called once the worker has lived a while with what was resent to it.
fn ended(
    session: Session<Adapter>,
    readers: &Readers,
    dev_fuse: &OwnedFd,
    lives: impl FnOnce(),
) -> std::io::Result<(std::io::Result<()>, Instant)> {
    let mut lives = Some(lives);
    let (ends, ended) = mpsc::channel();
    let run = move || {
        let _ = ends.send(session.run()); // fails when nobody waits any more
    };
    Builder::new().name("readers".to_owned()).spawn(run)?;
    while !is_unmounted(dev_fuse) {
        match ended.recv_timeout(MOUNT_PERIOD) {
            Err(RecvTimeoutError::Timeout) => {
                if let Some(lives) = lives.take() {
                    lives();
                }
            }
            outcome => return Ok((outcome.unwrap_or(Ok(())), Instant::now())), // a panic has been logged
        }
    }
    readers.end();
    let at = Instant::now();
    let outcome = ended.recv_timeout(LAST_ANSWERS).unwrap_or(Ok(()));
    Ok((outcome, at))
}

/// Whether the mount of `dev_fuse` has ended. Asked without waiting: every request would wake who waits in `poll(2)` on `/dev/fuse`.
pub fn is_unmounted(dev_fuse: &OwnedFd) -> bool {
    ready::now(dev_fuse, PollFlags::empty()).is_ok_and(|told| told.contains(PollFlags::ERR))
}

pub(super) fn session_config() -> fuser::Config {
    let mut config = fuser::Config::default();
    config.acl = SessionACL::All;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config.n_threads = Some(cores.clamp(*READERS.start(), *READERS.end()));
    config
}
