//! The gate's clock: refuses who waited too long, ends ghosts, forgets idle users.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::gate::Gate;

/// How often ghosts are looked at.
const GHOST_PERIOD: Duration = Duration::from_millis(500);
/// With very many of them less often: looking takes this part of the time at most.
const GHOST_SHARE: u32 = 20;
/// How often idle users are forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// Wakes its thread when something is due; the thread ends with it.
#[derive(Debug, Default)]
pub struct Housekeeper {
    agenda: Arc<Agenda>,
}

#[derive(Debug, Default)]
struct Agenda {
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    /// The earliest deadline of anybody who waits.
    next: Option<Instant>,
    /// While the thread sleeps: when it wakes up by itself, to look who waits.
    sleeps_until: Option<Instant>,
    haunted: bool,
    /// How long the last look at ghosts took.
    look: Duration,
    /// How often somebody became a ghost.
    haunts: u64,
    now: bool,
    ended: bool,
}

impl Housekeeper {
    /// Starts the thread.
    pub(super) fn start(gate: &Arc<Gate>) -> std::io::Result<()> {
        let agenda = Arc::clone(&gate.housekeeper().agenda);
        let gate = Arc::downgrade(gate);
        std::thread::Builder::new()
            .name("housekeeper".into())
            .spawn(move || keep_house(&gate, &agenda))?;
        Ok(())
    }

    /// Somebody waits until `at` at most. The thread is woken only if it would sleep longer: a login
    /// must not cost a switch to it.
    pub(super) fn wake_at(&self, at: Instant) {
        let mut due = self.agenda.due.lock();
        due.next = Some(due.next.map_or(at, |next| next.min(at)));
        if due.sleeps_until.is_some_and(|until| at < until) {
            self.agenda.changed.notify_one();
        }
    }

    /// Some user has ghosts.
    pub(super) fn haunt(&self) {
        let mut due = self.agenda.due.lock();
        due.haunted = true;
        due.haunts += 1;
        self.agenda.changed.notify_one();
    }

    /// Whether some user may have ghosts.
    pub(super) fn haunted(&self) -> bool {
        self.agenda.due.lock().haunted
    }

    /// Ghosts are to be looked at now.
    pub(super) fn wake(&self) {
        self.agenda.due.lock().now = true;
        self.agenda.changed.notify_one();
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.agenda.due.lock().ended = true;
        self.agenda.changed.notify_one();
    }
}

impl Agenda {
    /// Waits until something is due. Tells whether somebody may have waited too long; `None` when the gate has ended.
    fn wait(&self, last_sweep: Instant) -> Option<bool> {
        let mut due = self.due.lock();
        if !due.now && !due.ended {
            let ghosts = due
                .haunted
                .then(|| Instant::now() + GHOST_PERIOD.max(due.look * GHOST_SHARE));
            let times = [Some(last_sweep + SWEEP_PERIOD), ghosts, due.next];
            if let Some(at) = times.into_iter().flatten().min() {
                due.sleeps_until = Some(at);
                self.changed.wait_until(&mut due, at);
                due.sleeps_until = None;
            }
        }
        due.now = false;
        let late = due.next.is_some_and(|next| next <= Instant::now());
        if late {
            due.next = None; // found anew from those who wait
        }
        (!due.ended).then_some(late)
    }
}

fn keep_house(gate: &Weak<Gate>, agenda: &Agenda) {
    let mut last_sweep = Instant::now();
    while let Some(late) = agenda.wait(last_sweep) {
        let Some(gate) = gate.upgrade() else { return };
        if late {
            refuse_late(&gate);
        }
        if gate.housekeeper().haunted() {
            end_ghosts(&gate);
        }
        if last_sweep.elapsed() >= SWEEP_PERIOD {
            last_sweep = Instant::now();
            gate.users.sweep();
        }
    }
}

fn refuse_late(gate: &Arc<Gate>) {
    let now = Instant::now();
    for state in gate.users.matching(|inner| inner.next_deadline().is_some()) {
        gate.refuse_late(&state, now);
        if let Some(next) = state.lock().next_deadline() {
            gate.housekeeper().wake_at(next);
        }
    }
}

fn end_ghosts(gate: &Arc<Gate>) {
    let agenda = &gate.housekeeper().agenda;
    let before = agenda.due.lock().haunts;
    let start = Instant::now();
    let haunted = gate.look_at_ghosts(false);
    let mut due = agenda.due.lock();
    due.look = start.elapsed();
    // Who became a ghost during the look counts.
    due.haunted = haunted || due.haunts != before;
}
