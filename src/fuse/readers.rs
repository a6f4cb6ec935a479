//! No more threads wait for requests than are needed, which mostly is one.
//!
//! The kernel wakes the thread that has waited longest, whose memory the caches have long lost. So a thread that is not needed
//! rests, in the callback of the last request it served, and is called when a request is there and nobody waits for it.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::PollFlags;

use crate::ready;

/// How often it is looked whether a request is there that nobody reads.
const PERIOD: Duration = Duration::from_millis(25);
/// A thread is not needed while somebody has waited as long as this for a request.
const SPARE: Duration = Duration::from_millis(1);
/// After so many looks without any request nobody looks until the next one.
const QUIET: u32 = 40;

/// The threads that read requests.
#[derive(Debug)]
pub(super) struct Readers {
    state: Mutex<State>,
    /// Somebody is called, or all end.
    call: Condvar,
    /// There is something to look after.
    stir: Condvar,
}

#[derive(Debug)]
struct State {
    /// How many wait for a request, or are on their way there.
    waiting: usize,
    /// Since when anybody does.
    since: Instant,
    /// How many rest, and how many of them have been called.
    resting: usize,
    called: usize,
    /// How many requests there have been.
    requests: u64,
    /// Nobody looks after them.
    unwatched: bool,
    /// A reader has ended: all do.
    ended: bool,
}

/// A reader serves a request: dropped, it waits for the next one or rests.
pub(super) struct Turn<'a>(&'a Readers);

/// The end of a reader's thread is the end of all: of what the kernel tells one it tells the others nothing.
struct Seat(Arc<Readers>);

thread_local! {
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

impl State {
    /// One more waits for a request.
    fn wait(&mut self) {
        if self.waiting == 0 {
            self.since = Instant::now();
        }
        self.waiting += 1;
    }
}

impl Readers {
    /// So many threads, all of which wait for their first request.
    pub(super) fn new(threads: usize) -> Arc<Self> {
        let state = State {
            waiting: threads,
            since: Instant::now(),
            resting: 0,
            called: 0,
            requests: 0,
            unwatched: false,
            ended: false,
        };
        Arc::new(Readers {
            state: Mutex::new(state),
            call: Condvar::new(),
            stir: Condvar::new(),
        })
    }

    /// The thread that calls this has read a request.
    pub(super) fn turn(self: &Arc<Self>) -> Turn<'_> {
        SEAT.with_borrow_mut(|seat| {
            seat.get_or_insert_with(|| Seat(Arc::clone(self)));
        });
        let mut state = self.state.lock();
        state.waiting = state.waiting.saturating_sub(1);
        state.requests += 1;
        if std::mem::take(&mut state.unwatched) {
            self.stir.notify_one();
        }
        Turn(self)
    }

    /// Who serves a request may take long: somebody else waits for the next one.
    pub(super) fn step_aside(&self) {
        self.call(&mut self.state.lock());
    }

    /// All are to end.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.call.notify_all();
        self.stir.notify_all();
    }

    fn call(&self, state: &mut State) {
        if state.waiting == 0 && state.called < state.resting {
            state.called += 1;
            state.wait();
            self.call.notify_one();
        }
    }

    /// The thread that calls this has served a request.
    fn done(&self) {
        let mut state = self.state.lock();
        if state.waiting == 0 || state.since.elapsed() < SPARE || state.ended {
            return state.wait();
        }
        state.resting += 1;
        self.call
            .wait_while(&mut state, |state| state.called == 0 && !state.ended);
        state.resting -= 1;
        match state.called {
            0 => state.wait(),
            // Who called has counted it.
            _ => state.called -= 1,
        }
    }

    /// Looks after them: who serves may be held up where nobody foresaw it, or may not keep up. `requests` is what they read.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn watch(self: &Arc<Self>, requests: OwnedFd) -> io::Result<()> {
        let readers = Arc::clone(self);
        let watch = move || readers.look_after(&requests);
        Builder::new().name("watch".to_owned()).spawn(watch)?;
        Ok(())
    }

    fn look_after(&self, requests: &OwnedFd) {
        let (mut last, mut quiet, mut left) = (0, 0, false);
        let mut state = self.state.lock();
        while !state.ended {
            let was_left = left;
            left = state.waiting == 0 && is_there(requests);
            // Once is chance: who serves may wait for its processor, and so would another.
            if left && was_left {
                self.call(&mut state);
            }
            quiet = match state.requests == last {
                true => quiet + 1,
                false => 0,
            };
            last = state.requests;
            if quiet < QUIET || state.waiting == 0 {
                self.stir.wait_for(&mut state, PERIOD);
                continue;
            }
            quiet = 0;
            state.unwatched = true;
            self.stir
                .wait_while(&mut state, |state| state.unwatched && !state.ended);
        }
    }
}

/// Whether a request is there. Where that cannot be told, as with a mount that has ended, there is something to be read too.
fn is_there(requests: &OwnedFd) -> bool {
    ready::now(requests, PollFlags::IN).map_or(true, |told| !told.is_empty())
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::thread::{JoinHandle, ThreadId};

    use rustix::event::{PollFd, Timespec, poll};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    const THREADS: usize = 4;
    const LIMIT: Duration = Duration::from_secs(60);
    /// Requests: one that is served at once, one that waits, with or without stepping aside before; and the end of who reads it.
    const QUICK: u8 = 0;
    const SLOW: u8 = 1;
    const UNFORESEEN: u8 = 2;
    const END: u8 = 3;

    /// Threads that read from a socket as from `/dev/fuse`.
    struct Site {
        kernel: OwnedFd,
        readers: Arc<Readers>,
        threads: Vec<JoinHandle<()>>,
        served: Receiver<ThreadId>,
        /// Lets one that waits go on.
        go_on: Sender<()>,
    }

    impl Site {
        fn new() -> Self {
            let pair = socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            );
            let (kernel, ours) = pair.unwrap();
            let readers = Readers::new(THREADS);
            let (serves, served) = mpsc::channel();
            let (go_on, wait) = mpsc::channel();
            let wait = Arc::new(Mutex::new(wait));
            let thread = |_| {
                let (requests, readers) = (ours.try_clone().unwrap(), Arc::clone(&readers));
                let (serves, wait) = (serves.clone(), Arc::clone(&wait));
                std::thread::spawn(move || read(&requests, &readers, &serves, &wait))
            };
            let threads = (0..THREADS).map(thread).collect();
            readers.watch(ours).unwrap();
            Site {
                kernel,
                readers,
                threads,
                served,
                go_on,
            }
        }

        fn ask(&self, request: u8) {
            rustix::io::write(&self.kernel, &[request]).unwrap();
        }

        fn serves(&self) -> ThreadId {
            self.served.recv_timeout(LIMIT).expect("served")
        }

        /// Asks until but one reader is left that does not rest.
        fn settle(&self) {
            let rest = || self.readers.state.lock().resting == THREADS - 1;
            while !rest() {
                self.ask(QUICK);
                self.serves();
            }
        }

        fn end(self) {
            self.ask(END);
            self.threads.into_iter().for_each(|t| t.join().unwrap());
        }
    }

    fn read(
        requests: &OwnedFd,
        readers: &Arc<Readers>,
        serves: &Sender<ThreadId>,
        wait: &Mutex<Receiver<()>>,
    ) {
        let mut request = [END];
        // Once one has read the end the others find nothing, as where a mount has ended.
        while !readers.state.lock().ended {
            let flags = rustix::net::RecvFlags::DONTWAIT;
            let mut fds = [PollFd::new(requests, PollFlags::IN)];
            poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 1_000_000,
                }),
            )
            .unwrap();
            if rustix::net::recv(requests, &mut request, flags).is_err() {
                continue;
            }
            let _turn = readers.turn();
            match request[0] {
                END => return,
                SLOW => readers.step_aside(),
                _ => {}
            }
            serves.send(std::thread::current().id()).unwrap();
            if request[0] != QUICK {
                wait.lock().recv_timeout(LIMIT).unwrap();
            }
        }
    }

    #[test]
    fn in_the_end_one_serves_nearly_all() {
        let site = Site::new();
        site.settle();
        let mut served = HashMap::<ThreadId, usize>::new();
        for _ in 0..50 {
            site.ask(QUICK);
            *served.entry(site.serves()).or_default() += 1;
        }
        // Another is called where one is slow to come back.
        assert!(served.values().any(|times| *times > 25), "{served:?}");
        site.end();
    }

    #[test]
    fn who_may_take_long_is_replaced() {
        for slow in [SLOW, UNFORESEEN] {
            let site = Site::new();
            site.settle();
            site.ask(slow);
            let held_up = site.serves();
            for _ in 0..5 {
                site.ask(QUICK);
                assert_ne!(site.serves(), held_up);
            }
            site.go_on.send(()).unwrap();
            site.settle();
            site.end();
        }
    }

    #[test]
    fn after_a_while_without_requests_nobody_looks() {
        let site = Site::new();
        site.settle();
        let looks = || !site.readers.state.lock().unwatched;
        while looks() {
            std::thread::sleep(PERIOD);
        }
        site.ask(UNFORESEEN);
        site.serves();
        assert!(looks());
        site.go_on.send(()).unwrap();
        site.end();
    }

    #[test]
    fn when_one_ends_all_do() {
        let site = Site::new();
        site.settle();
        site.end();
    }
}
