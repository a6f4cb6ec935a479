//! What is known of one user while anything goes on: verdicts, open handles, ghosts, the directory's hold.
//!
//! Lives only while it is needed; an idle user costs nothing.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::gate::Waiter;
use super::ghosts::{BackOff, Ghost, Why};
use super::process::{Process, Processes};
use super::server::Server;
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::journal::{Entry as Change, Journal, UserPart, Who};
use crate::store::Node;
use crate::template::User;

/// How long one check serves its process: a login looks L up, opens it and makes it within milliseconds.
const VERDICT_LIFE: Duration = Duration::from_secs(1);

/// One user.
#[derive(Debug)]
pub struct UserState {
    /// Who.
    pub user: User,
    inner: Mutex<Inner>,
    /// No operation runs in the directory any more.
    pub(super) calm: Condvar,
    pub(super) server: Server,
    journal: Arc<Journal>,
    /// The user's directory; 0 while it is not known.
    dir: AtomicU64,
    /// Written since it was last counted, bytes.
    growth: AtomicU64,
}

/// What [`UserState`] guards.
#[derive(Debug, Default)]
pub struct Inner {
    /// Grows whenever the verdicts are voided.
    epoch: u64,
    /// The oldest first.
    pub(super) verdicts: VecDeque<Verdict>,
    pub(super) holders: HashMap<u32, Holder>,
    pub(super) ghosts: Vec<Ghost>,
    /// When they are tried to be laid again.
    pub(super) lay_again: BackOff,
    /// CREATE, RENAME, LINK, UNLINK, OPEN of managed names that run right now.
    pub(super) operations: u32,
    /// A gate run has the directory for itself.
    pub(super) taken: bool,
    pub(super) queue: Queue,
}

/// What waits for the user's gate, one thing at a time.
#[derive(Default)]
pub struct Queue {
    pub(super) running: bool,
    pub(super) waiting: Vec<Waiter>,
    pub(super) aboard: Vec<Waiter>,
    /// Processes that wrote and have closed their files: a fence is due.
    pub(super) writers: Vec<Holder>,
    /// Ghosts have ended: they are to be laid.
    pub(super) lay: bool,
    pub(super) parked: Vec<Box<dyn FnOnce() + Send>>,
}

#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) pid: u32,
    given: Instant,
    pub(super) process: Process,
    pub(super) creds: Arc<Creds>,
}

/// A process that has managed files open.
#[derive(Clone, Debug)]
pub struct Holder {
    /// How many handles.
    pub handles: u32,
    /// Who.
    pub process: Process,
    /// With what rights it came.
    pub creds: Arc<Creds>,
    /// It has changed the list index.
    pub wrote: bool,
}

/// A verdict for one request, good until the verdicts are voided.
#[derive(Clone, Debug)]
pub struct Pass {
    pub(super) state: Arc<UserState>,
    pub(super) epoch: u64,
}

impl Pass {
    /// At whose gate it was given.
    pub fn state(&self) -> &Arc<UserState> {
        &self.state
    }
}

impl Holder {
    pub(super) fn as_ghost(&self) -> Ghost {
        let Holder { process, creds, .. } = self;
        Ghost {
            process: *process,
            creds: Arc::clone(creds),
            why: Why::Held,
        }
    }
}

impl Queue {
    /// Whether a run is to be started; then it counts as under way.
    pub(super) fn begin(&mut self) -> bool {
        let due = !self.running && !self.is_empty();
        self.running |= due;
        due
    }

    /// Takes out those who wait for an answer.
    pub(super) fn take_asking(&mut self) -> Vec<Waiter> {
        let mut asking = std::mem::take(&mut self.waiting);
        asking.append(&mut self.aboard);
        asking
    }

    /// Whether there is nothing to run.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.writers.is_empty() && !self.lay
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Queue {{ running: {}, waiting: {}, aboard: {} }}",
            self.running,
            self.waiting.len(),
            self.aboard.len()
        )
    }
}

impl UserState {
    pub(super) fn new(user: User, journal: Arc<Journal>) -> Self {
        UserState {
            user,
            inner: Mutex::default(),
            calm: Condvar::new(),
            server: Server::default(),
            journal,
            dir: AtomicU64::new(0),
            growth: AtomicU64::new(0),
        }
    }

    /// Takes over what an earlier worker knew.
    pub(super) fn restore(&self, part: &UserPart) {
        let mut inner = self.lock();
        for (handles, who, wrote) in &part.holders {
            let holder = Holder {
                handles: *handles,
                process: who.process(),
                creds: who.creds(),
                wrote: *wrote,
            };
            inner.holders.insert(holder.process.pid, holder);
        }
        inner.ghosts = part.ghosts().collect();
        let due = part.due.iter().map(|who| Holder {
            handles: 0,
            process: who.process(),
            creds: who.creds(),
            wrote: true,
        });
        inner.queue.writers = due.collect();
    }

    /// Tells the next worker who the user's ghosts are now.
    pub(super) fn note_ghosts(&self, inner: &Inner) {
        let ghosts = Change::ghosts(self.user.as_bytes(), &inner.ghosts);
        self.journal.note(&ghosts);
    }

    /// Tells the next worker that no fence is due any more for a process that wrote.
    pub(super) fn note_fenced(&self, writer: &Holder) {
        self.journal.note(&Change::Fenced {
            user: self.user.as_bytes().to_vec(),
            who: Who::new(writer.process, &writer.creds),
        });
    }

    /// The user's directory is this.
    pub(super) fn lies_in(&self, dir: Node) {
        self.dir.store(dir.0, Ordering::Relaxed);
    }

    /// The user's directory, if it is known.
    pub(super) fn dir(&self) -> Node {
        Node(self.dir.load(Ordering::Relaxed))
    }

    /// So much is written. Tells whether it is the first since it was counted.
    pub(super) fn grows(&self, by: u64) -> bool {
        self.growth.fetch_add(by, Ordering::Relaxed) == 0
    }

    /// Written since it was last counted, bytes.
    pub(super) fn growth(&self) -> u64 {
        self.growth.load(Ordering::Relaxed)
    }

    /// The same, which is counted now.
    pub(super) fn take_growth(&self) -> u64 {
        self.growth.swap(0, Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Whether `pid` has managed files open.
    pub fn is_held_by(&self, pid: u32) -> bool {
        self.lock().holders.contains_key(&pid)
    }

    /// A process that holds files open changes the list index.
    pub fn wrote(&self, pid: u32) {
        let mut inner = self.lock();
        match inner.holders.get_mut(&pid) {
            Some(holder) if !holder.wrote => holder.wrote = true,
            _ => return,
        }
        self.journal.note(&Change::Wrote {
            user: self.user.as_bytes().to_vec(),
            pid,
        });
    }

    /// A handle of `pid` on a managed file is released. A fence is due after the last one of a process that wrote.
    pub(super) fn release(&self, pid: u32) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        if let Entry::Occupied(mut holder) = inner.holders.entry(pid) {
            holder.get_mut().handles -= 1;
            if holder.get().handles == 0 {
                let last = holder.remove();
                if last.wrote {
                    inner.queue.writers.push(last);
                }
            }
        }
        inner
    }

    /// Makes all verdicts given so far worthless.
    pub(super) fn void(&self) {
        self.lock().void();
    }

    /// Whether a process that wrote has closed its files and its fence is not begun.
    pub(super) fn has_fences_due(&self) -> bool {
        !self.lock().queue.writers.is_empty()
    }

    /// The ghosts whose time has ended; they stay until they are laid.
    pub(super) fn ended_ghosts(&self, processes: &dyn Processes) -> Vec<Ghost> {
        let inner = self.lock();
        let ended = |ghost: &&Ghost| !ghost.lives(&inner.holders, processes);
        inner.ghosts.iter().filter(ended).cloned().collect()
    }

    /// Whether the state says nothing that a new one would not say.
    pub(super) fn is_idle(&self) -> bool {
        let mut inner = self.lock();
        inner.drop_old_verdicts();
        let queue = &inner.queue;
        let quiet = !inner.is_busy() && queue.parked.is_empty();
        quiet && inner.verdicts.is_empty() && inner.holders.is_empty() && inner.ghosts.is_empty()
    }
}

impl Inner {
    /// Why nobody is served while there are ghosts.
    pub(super) fn draining(&self) -> Trouble {
        Trouble::Draining(self.ghosts.iter().map(|g| g.process.pid).collect())
    }

    /// Whether a run is under way or due.
    pub(super) fn is_busy(&self) -> bool {
        self.queue.running || !self.queue.is_empty()
    }

    /// Whether what lies here of the user may not be removed: a run is under way or due, files are open, or he has ghosts.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_busy() || self.has_holders() || !self.ghosts.is_empty()
    }

    /// Whether what there is to tell of ghosts could not be told.
    pub(super) fn has_failed_to_lay(&self) -> bool {
        self.lay_again.has_failed()
    }

    /// Forgets ghosts; tells whether any are left.
    pub(super) fn forget_ghosts(&mut self, laid: &[Ghost]) -> bool {
        // One that was refused again meanwhile stays.
        let laid = |ghost: &Ghost| {
            laid.iter()
                .any(|l| l.process == ghost.process && l.why == ghost.why)
        };
        self.ghosts.retain(|ghost| !laid(ghost));
        !self.ghosts.is_empty()
    }

    /// Who `pid` is, if it has files open or a verdict.
    pub(super) fn known(&self, pid: u32) -> Option<(Process, Arc<Creds>)> {
        if let Some(holder) = self.holders.get(&pid) {
            return Some((holder.process, Arc::clone(&holder.creds)));
        }
        let verdict = self.verdicts.iter().rev().find(|v| v.pid == pid)?;
        Some((verdict.process, Arc::clone(&verdict.creds)))
    }

    pub(super) fn void(&mut self) {
        self.epoch += 1;
        self.verdicts.clear();
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn has_holders(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Gives `process` a verdict that its further requests share.
    pub(super) fn give_verdict(&mut self, process: Process, creds: Arc<Creds>) {
        self.drop_old_verdicts();
        if process.pid != 0 {
            self.verdicts.push_back(Verdict {
                pid: process.pid,
                given: Instant::now(),
                process,
                creds,
            });
        }
    }

    pub(super) fn has_verdict(&mut self, pid: u32) -> bool {
        self.drop_old_verdicts();
        pid != 0 && self.verdicts.iter().rev().any(|v| v.pid == pid)
    }

    fn drop_old_verdicts(&mut self) {
        let now = Instant::now();
        let old = |v: &Verdict| now.duration_since(v.given) >= VERDICT_LIFE;
        while self.verdicts.front().is_some_and(old) {
            self.verdicts.pop_front();
        }
    }
}
