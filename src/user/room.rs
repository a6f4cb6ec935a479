//! Room for what is written: the bounds, and who goes when they are reached.
//!
//! Whoever writes beyond a bound first makes idle users go, who was here longest ago first. Users with open files never go.
//! Nothing here waits, for a run or for an operation: who is busy is passed over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::count::{growth, room_for};
use super::gate::Gate;
use super::state::UserState;
use super::told::Reason;
use crate::options::Bounds;
use crate::store::usage::{Kept, Stamp};
use crate::store::{Node, Store};
use crate::template::User;

/// Where eviction in the background begins and where it ends, in parts of the bound.
const HIGH: (u64, u64) = (15, 16);
const LOW: (u64, u64) = (7, 8);
/// So many users at least go at a time where the backing is full.
const AT_ONCE: u64 = 8;
/// So many at most for one call, where the bound has become smaller; the rest is the keeper's.
const AT_MOST: u64 = 64;
/// So often room is made for one call.
const TRIES: usize = 16;

/// What has been used of the bounds, and what is to be counted.
#[derive(Debug)]
pub struct Room {
    bounds: Bounds,
    /// `max_bytes=` in bytes, by the size that the backing's filesystem has now.
    most: AtomicU64,
    agenda: Mutex<Agenda>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Agenda {
    /// Users whose files have grown since they were counted.
    dirty: Vec<Arc<UserState>>,
    /// A bound is nearly reached.
    pressed: bool,
}

/// What became of somebody who was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// He has gone.
    Yes,
    /// He is in use, or has ghosts.
    Busy,
    /// There is no such user's directory.
    Absent,
}

impl Room {
    pub(super) fn new(bounds: Bounds, store: &Store) -> io::Result<Self> {
        let room = Room {
            bounds,
            most: AtomicU64::new(u64::MAX),
            agenda: Mutex::default(),
            changed: Condvar::new(),
        };
        room.measure(store)?;
        Ok(room)
    }

    /// The backing's filesystem may have been made larger or smaller.
    ///
    /// # Errors
    /// As `fstatvfs(2)`.
    pub fn measure(&self, store: &Store) -> io::Result<()> {
        let found = rustix::fs::fstatvfs(store.root())?;
        let size = found.f_blocks.saturating_mul(found.f_frsize);
        let most = match size {
            0 => u64::MAX, // a tmpfs without a limit
            size => self.bounds.max_bytes.of(size),
        };
        self.most.store(most, Ordering::Relaxed);
        Ok(())
    }

    /// The bounds as the options give them.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The bound of all bytes.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    fn is_beyond(&self, store: &Store, part: (u64, u64)) -> bool {
        let of = |bound: u64| bound / part.1 * part.0 + bound % part.1 * part.0 / part.1;
        let usage = store.usage();
        let users = self.bounds.max_users;
        usage.bytes() > of(self.most()) || users.is_some_and(|users| usage.users() > of(users))
    }

    fn press(&self) {
        self.agenda.lock().pressed = true;
        self.changed.notify_all();
    }

    fn is_dirty(&self, state: &Arc<UserState>) {
        self.agenda.lock().dirty.push(Arc::clone(state));
    }

    /// Waits until a bound is nearly reached, or for so long.
    pub fn wait(&self, limit: Duration) {
        let mut agenda = self.agenda.lock();
        if !agenda.pressed {
            self.changed.wait_for(&mut agenda, limit);
        }
        agenda.pressed = false;
    }
}

impl Gate {
    /// What has been used of the bounds.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// A file of the user is about to grow from `old` to `new` bytes. Idle users go first where that is more than all may have.
    ///
    /// # Errors
    /// EDQUOT when it is more than one user may have.
    pub fn grows(self: &Arc<Self>, state: &Arc<UserState>, old: u64, new: u64) -> io::Result<()> {
        let by = growth(old, new);
        if by == 0 {
            return Ok(());
        }
        if let Some(most) = self.room.bounds.max_user_bytes {
            let known = self.store.usage().bytes_of(state.dir()) + state.growth() + by;
            if known > most {
                let others = self.recount(state)?.saturating_sub(room_for(old));
                if others.saturating_add(room_for(new)) > most {
                    return Err(Errno::DQUOT.into());
                }
            }
        }
        self.expects(state, by);
        Ok(())
    }

    /// The same of what comes from INDEX, of which no user is denied his own.
    pub(super) fn expects(self: &Arc<Self>, state: &Arc<UserState>, by: u64) {
        self.store.usage().grows(by);
        if state.grows(by) {
            self.room.is_dirty(state);
        }
        self.keep_bounds();
    }

    /// The user has been claimed or adopted: he counts from now on.
    pub(super) fn settled(self: &Arc<Self>, state: &Arc<UserState>) -> io::Result<()> {
        self.recount(state)?;
        self.keep_bounds();
        Ok(())
    }

    /// Makes idle users go until the bounds are kept, or nobody is left who may go.
    pub(super) fn keep_bounds(self: &Arc<Self>) {
        if self.room.is_beyond(&self.store, HIGH) {
            self.room.press();
            self.evict_while(Reason::Bounds, |gone, _| {
                gone < AT_MOST && self.room.is_beyond(&self.store, (1, 1))
            });
        }
    }

    /// Counts what has grown, then makes idle users go well before the bounds.
    pub fn keep_room(self: &Arc<Self>) {
        let dirty = std::mem::take(&mut self.room.agenda.lock().dirty);
        for state in dirty {
            if let Err(e) = self.recount(&state) {
                log::warn!("{}: cannot count what lies here: {e}", state.user);
            }
        }
        if self.room.is_beyond(&self.store, HIGH) {
            self.evict_while(Reason::Bounds, |_, _| self.room.is_beyond(&self.store, LOW));
        }
    }

    /// Does `change`. Where there is no room for it idle users go, and it is tried again.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn with_room<T>(
        self: &Arc<Self>,
        mut change: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        for _ in 0..TRIES {
            match change() {
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                    let gone = self.evict_while(Reason::Full, |gone, _| gone < AT_ONCE);
                    if gone == 0 {
                        return Err(e);
                    }
                    let line = format!("the backing is full: {gone} idle users went");
                    self.limit.warn(b"", "full", &line);
                }
                done => return done,
            }
        }
        change()
    }

    /// Makes idle users go, who was here longest ago first, while `wanted` holds of how many have gone and of the next.
    /// Gives how many went.
    pub fn evict_while(
        self: &Arc<Self>,
        why: Reason,
        mut wanted: impl FnMut(u64, &Kept) -> bool,
    ) -> u64 {
        let usage = self.store.usage();
        let (began, mut gone) = (Stamp::now(), 0);
        usage.clock_is(began.before(Duration::from_millis(1))); // so that they come before `began` here
        // Each once: who is busy counts as used now.
        for _ in 0..usage.users() {
            let next = usage.oldest().filter(|kept| kept.last < began);
            let Some(kept) = next.filter(|kept| wanted(gone, kept)) else {
                break;
            };
            match self.evict_in(kept.dir, kept.last, why) {
                Ok(Evicted::Yes) => gone += 1,
                Ok(Evicted::Busy) => usage.left(kept.dir, Stamp::now()),
                Ok(Evicted::Absent) => usage.forget(kept.dir),
                Err(e) => {
                    log::warn!("cannot drop the list index of an idle user: {e}");
                    usage.left(kept.dir, Stamp::now()); // later again
                }
            }
        }
        gone
    }

    /// Drops what lies in a user's directory if he has not been here since `last`, through his gate.
    ///
    /// # Errors
    /// When the backing cannot be changed.
    fn evict_in(self: &Arc<Self>, dir: Node, last: Stamp, why: Reason) -> io::Result<Evicted> {
        let Some(user) = self.user_in(dir)? else {
            return Ok(Evicted::Absent);
        };
        let since = self.store.usage().get(dir).map(|kept| kept.last);
        if since.is_some_and(|since| since > last) || !self.evict(&user, why)? {
            return Ok(Evicted::Busy);
        }
        Ok(Evicted::Yes)
    }

    /// Whose directory it is; `None` when it is gone, or nobody's.
    ///
    /// # Errors
    /// When its path cannot be read.
    pub fn user_in(&self, dir: Node) -> io::Result<Option<User>> {
        let path = match self.store.open_node(dir, rustix::fs::OFlags::PATH) {
            Ok(file) => self.store.path_of(&file)?,
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => None,
            Err(e) => return Err(e),
        };
        let Some(path) = path else { return Ok(None) };
        let components: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
        Ok(self.config.layout.user_of(&components))
    }
}
