//! The gate: who asked waits here until a run of the check that began after it came has decided.
//!
//! One run per user at a time, on the threads of the NFS mount that holds INDEX; readers never wait.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::Kernel;
pub use super::answer::{Answer, Waiter};
use super::flaps::Flaps;
use super::flight::Flight;
use super::history::History;
use super::housekeeper::Housekeeper;
use super::passing::Passing;
use super::process::{Caller, Process, Processes};
use super::records::Records;
use super::room::Room;
use super::state::{Inner, UserState};
use super::steps::OnStep;
use super::users::Users;
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::index::guard::MountTable;
use crate::index::lasthost::Instance;
use crate::index::pool::Pools;
use crate::journal::{Entry, Journal, Snapshot};
use crate::log_limit::LogLimit;
use crate::options::Config;
use crate::stats::{Cell, Stats};
use crate::store::Store;
use crate::template::{ExpandError, User};
use crate::userdb::Userdb;

/// The longest a run waits for the lock of a stock log.
const MAX_PATIENCE: Duration = Duration::from_secs(5);
/// Who waited for the worker before asks again at once; what it left of his check is looked for as long as this.
const AFTERMATH: Duration = Duration::from_secs(60);

/// What the gate works with; shared with its runs.
pub struct Gate {
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<Store>,
    pub(super) instance: Instance,
    pub(super) users: Users,
    pub(super) mounts: MountTable,
    pub(super) processes: Box<dyn Processes>,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) on_step: OnStep,
    pub(super) limit: LogLimit,
    pub(super) journal: Arc<Journal>,
    pub(super) stats: Arc<Stats>,
    pub(super) room: Room,
    pub(super) passing: Passing,
    pub(super) pools: Pools,
    pub(super) history: History,
    pub(super) flaps: Flaps,
    pub(super) records: Records,
    /// One for each question of an operator's that a server has not answered yet, besides our own.
    pub(super) questions: Arc<()>,
    housekeeper: Housekeeper,
    spared_threads: usize,
    /// Asked where INDEX is, if it has to be.
    pub(super) userdb: Option<Arc<Userdb>>,
    /// When it took over from another worker, if it did.
    took_over: OnceLock<Instant>,
    /// The mount has ended.
    pub(super) ended: AtomicBool,
}

/// What a gate is built from.
pub struct Parts {
    /// The mount's options.
    pub config: Arc<Config>,
    /// The backing.
    pub store: Arc<Store>,
    /// This mount's id.
    pub instance: Instance,
    /// Where to learn about callers.
    pub processes: Box<dyn Processes>,
    /// Where to send invalidations.
    pub kernel: Box<dyn Kernel>,
    /// What to run after each step.
    pub on_step: OnStep,
    /// How many of the threads that ask may wait for NFS themselves.
    pub spared_threads: usize,
    /// What the next worker has to know goes here.
    pub journal: Arc<Journal>,
    /// What is counted goes here.
    pub stats: Arc<Stats>,
}

impl Gate {
    /// A gate for one mount.
    ///
    /// # Errors
    /// When `/proc` cannot be read or no thread can be started.
    pub fn new(parts: Parts) -> io::Result<Arc<Self>> {
        let Parts {
            config,
            store,
            instance,
            processes,
            kernel,
            on_step,
            spared_threads,
            journal,
            stats,
        } = parts;
        let room = Room::new(config.bounds, &store)?;
        let userdb = Userdb::new(&config)?;
        let gate = Arc::new(Gate {
            room,
            passing: Passing::default(),
            config,
            store,
            instance,
            users: Users::new(Arc::clone(&journal)),
            mounts: MountTable::open()?,
            processes,
            kernel,
            on_step,
            limit: LogLimit::default(),
            housekeeper: Housekeeper::default(),
            pools: Pools::new(Arc::clone(&stats)),
            history: History::default(),
            flaps: Flaps::default(),
            records: Records::default(),
            questions: Arc::default(),
            spared_threads,
            userdb,
            journal,
            stats,
            took_over: OnceLock::new(),
            ended: AtomicBool::new(false),
        });
        Housekeeper::start(&gate)?;
        Ok(gate)
    }

    /// Takes over what an earlier worker knew, and begins what it had to do still. Gives the states of those it knew.
    pub fn restore<'a>(self: &Arc<Self>, left: &'a Snapshot) -> HashMap<&'a [u8], Arc<UserState>> {
        let states = self.users.restore(left, |name| self.user_named(name).ok());
        let ghosts = left.users.values().map(|part| part.ghosts().count());
        let ghosts = ghosts.sum::<usize>();
        self.stats.set(Cell::Ghosts, ghosts as u64);
        for state in self.users.matching(Inner::is_busy) {
            self.kick(&state, &mut state.lock());
        }
        if ghosts > 0 {
            self.housekeeper.haunt();
        }
        states
    }

    /// The worker before may have died in the midst of a run.
    pub fn takes_over(&self) {
        self.took_over.get_or_init(Instant::now);
    }

    /// Whether what a worker that died has left in INDEX is to be looked for.
    pub(super) fn is_aftermath(&self) -> bool {
        let since = self.took_over.get();
        since.is_some_and(|since| since.elapsed() < AFTERMATH)
    }

    /// What the next worker has to know goes here.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What is counted goes here.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How many users something is known about at the moment.
    pub fn active_users(&self) -> usize {
        self.users.len()
    }

    /// The user's state.
    pub fn user(&self, user: &User) -> Arc<UserState> {
        self.users.get(user)
    }

    /// The user of this name, if the layout has a place for him.
    ///
    /// # Errors
    /// When it has none.
    pub fn user_named(&self, name: &[u8]) -> Result<User, ExpandError> {
        self.config.layout.user_named(name)
    }

    /// Whether nothing waits or runs at the user's gate: no check, and no fence.
    pub fn is_quiet(&self, user: &User) -> bool {
        !self.user(user).lock().is_busy()
    }

    /// A caller as the process and the rights it is.
    pub fn who(&self, caller: Caller) -> (Process, Creds) {
        (
            self.processes.identify(caller),
            self.processes.creds(caller),
        )
    }

    pub(super) fn housekeeper(&self) -> &Housekeeper {
        &self.housekeeper
    }

    /// Asks for a verdict; `done` is called with it within `check_timeout`: on another thread, or on this one,
    /// which then waits for NFS, if it can be spared.
    pub fn ask(
        self: &Arc<Self>,
        user: &User,
        caller: Caller,
        done: Box<dyn FnOnce(Answer) + Send>,
    ) {
        let (process, creds) = self.who(caller);
        let creds = Arc::new(creds);
        self.moved_on(process, user);
        let state = self.user(user);
        let since = Instant::now();
        let until = since + self.config.check_timeout;
        let mut inner = state.lock();
        inner.queue.waiting.push(Waiter {
            process,
            creds,
            since,
            until,
            done,
        });
        self.housekeeper.wake_at(until);
        let due = inner.queue.begin();
        drop(inner);
        if due {
            self.start(state, true);
        }
    }

    /// How many of the threads that ask may wait for NFS themselves.
    pub(super) fn spared_threads(&self) -> usize {
        self.spared_threads
    }

    /// Starts a run for the user unless one is under way.
    pub(super) fn kick(self: &Arc<Self>, state: &Arc<UserState>, inner: &mut Inner) {
        if inner.queue.begin() {
            self.start(Arc::clone(state), false);
        }
    }

    /// One thing from the user's queue, then the next.
    pub(super) fn run_next(self: &Arc<Self>, state: &Arc<UserState>) {
        let guard = RunGuard { gate: self, state };
        self.fence_due(state);
        if std::mem::take(&mut state.lock().queue.lay) {
            self.lay_ghosts(state, None);
        }
        self.run_flight(state);
        drop(guard);
    }

    fn run_flight(self: &Arc<Self>, state: &Arc<UserState>) {
        let Some(creds) = board(&mut state.lock()) else {
            return;
        };
        let began = Instant::now();
        let flight = Flight::new(self, state, &creds);
        let outcome = flight.run();
        (self.history).note(&state.user, began, flight.saw(), &outcome);
        if outcome.is_ok() {
            self.server_answers(state);
        }
        self.land(state, outcome);
    }

    /// One clear line for the operator.
    pub(super) fn report(&self, user: &User, trouble: &Trouble) {
        let line = format!("{user}: list index refused: {trouble}");
        // What is wrong for all is told once for all.
        let whom = match (trouble, &self.userdb) {
            (Trouble::Userdb(error), Some(userdb)) if error.is_of_all() => userdb.socket(),
            _ => Path::new(OsStr::from_bytes(user.as_bytes())),
        };
        let whom = whom.as_os_str().as_bytes();
        self.limit.warn(whom, trouble.kind(), &line);
    }

    /// A handle on a managed file is released; `told` is what the next worker has to know of it. Gives the run that is due
    /// then, which begins at the latest when it is dropped.
    pub fn released(
        self: &Arc<Self>,
        state: &Arc<UserState>,
        pid: u32,
        told: Option<&Entry>,
    ) -> Option<DueRun> {
        let mut inner = state.release(pid);
        if !inner.has_holders() {
            self.left(state);
        }
        // Before the fence that may be due now: the journal tells of it after this.
        told.into_iter().for_each(|entry| self.journal.note(entry));
        let due = inner.queue.begin();
        due.then(|| DueRun(Some((Arc::clone(self), Arc::clone(state)))))
    }

    /// Whether a process that has died still has files of the user open.
    pub fn is_left_open(&self, state: &UserState, process: Process) -> bool {
        let inner = state.lock();
        let holder = inner.holders.get(&process.pid);
        holder.is_some_and(|holder| holder.process == process) && !self.processes.alive(process)
    }

    /// How long a run waits for a lock: stock Dovecot holds it for milliseconds, and meanwhile others of
    /// the user's directory wait too.
    pub(super) fn patience(&self) -> Duration {
        (self.config.check_timeout / 4).min(MAX_PATIENCE)
    }
}

/// A run that is to begin: dropped, on a thread of the pool.
#[derive(Default)]
pub struct DueRun(Option<(Arc<Gate>, Arc<UserState>)>);

impl DueRun {
    /// Begins it on this very thread if that can be spared: it may wait for NFS then.
    pub fn run(mut self) {
        if let Some((gate, state)) = self.0.take() {
            gate.start(state, true);
        }
    }
}

impl Drop for DueRun {
    fn drop(&mut self) {
        if let Some((gate, state)) = self.0.take() {
            gate.start(state, false);
        }
    }
}

/// Who waits and has the same rights as the first: a run touches NFS with one set of rights.
fn board(inner: &mut Inner) -> Option<Arc<Creds>> {
    let queue = &mut inner.queue;
    let creds = Arc::clone(&queue.waiting.first()?.creds);
    let (aboard, waiting) = std::mem::take(&mut queue.waiting)
        .into_iter()
        .partition(|w| w.creds == creds);
    queue.aboard = aboard;
    queue.waiting = waiting;
    Some(creds)
}

/// Ends a run, also one that panicked: then those aboard are refused.
pub(super) struct RunGuard<'a> {
    pub(super) gate: &'a Arc<Gate>,
    pub(super) state: &'a Arc<UserState>,
}

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        if !self.state.lock().queue.aboard.is_empty() {
            self.gate.land(self.state, Err(Trouble::Overtaken));
        }
        let mut inner = self.state.lock();
        inner.queue.running = false;
        self.gate.kick(self.state, &mut inner);
    }
}

impl Inner {
    /// The earliest time at which somebody who waits is refused.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue
            .waiting
            .iter()
            .chain(&self.queue.aboard)
            .map(|w| w.until)
            .min()
    }
}
