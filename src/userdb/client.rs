//! One connection to auth-userdb, on which all requests go out at once: a thread writes, reads and tells whoever asked.
//!
//! It begins with the first request and ends, with the connection, soon after the last. While nobody answers, one request at
//! a time finds out whether that is over; the others are refused at once.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use super::Error;
use super::protocol::{self, Answer};

mod conversation;

/// What is done with an answer.
pub type Done = Box<dyn FnOnce(Result<Answer, Error>) + Send>;

/// While nobody answers, one request in so long finds out whether that is over.
const PROBE: Duration = Duration::from_secs(1);

/// Asks auth-userdb.
pub struct Client {
    shared: Arc<Shared>,
}

/// A user to be looked up.
struct Ask {
    name: Vec<u8>,
    until: Instant,
    done: Done,
    /// It was sent on a connection that has been closed since.
    again: bool,
}

impl Ask {
    /// A panic is reported by the hook, and ends nobody else's request.
    fn tell(self, answer: Result<Answer, Error>) {
        let done = std::panic::AssertUnwindSafe(|| (self.done)(answer));
        let _ = std::panic::catch_unwind(done);
    }
}

struct Shared {
    socket: PathBuf,
    patience: Duration,
    inbox: Mutex<Inbox>,
    /// An eventfd: something is in the inbox.
    wake: OwnedFd,
}

#[derive(Default)]
struct Inbox {
    asks: Vec<Ask>,
    /// The thread runs, and looks here before it ends.
    running: bool,
    ended: bool,
    down: Option<Down>,
}

/// Nobody is answered.
struct Down {
    why: Error,
    /// When the next request may find out whether that is over.
    probe_at: Instant,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client {{ {} }}", self.shared.socket.display())
    }
}

impl Client {
    /// For the socket at `socket`. Nothing is connected yet.
    ///
    /// # Errors
    /// As `eventfd(2)`.
    pub fn new(socket: PathBuf, patience: Duration) -> io::Result<Self> {
        let shared = Shared {
            socket,
            patience,
            inbox: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.shared.socket
    }

    /// Asks for a user of this name. `done` is told on the thread of the connection; on this one where it is refused at once.
    pub fn ask(&self, name: &[u8], done: Done) {
        if protocol::request(u32::MAX, name).is_none() {
            return done(Err(Error::NameTooLong));
        }
        let ask = Ask {
            name: name.to_vec(),
            until: Instant::now() + self.shared.patience,
            done,
            again: false,
        };
        match self.shared.post(ask) {
            Ok(true) => Shared::start(&self.shared),
            Ok(false) => self.shared.wake(),
            Err((ask, why)) => ask.tell(Err(why)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.inbox.lock().ended = true;
        self.shared.wake();
    }
}

impl Shared {
    /// Takes a request in, or gives it back with the reason. Tells whether the thread is to be started.
    fn post(&self, ask: Ask) -> Result<bool, (Ask, Error)> {
        let mut inbox = self.inbox.lock();
        if let Some(down) = &mut inbox.down {
            let now = Instant::now();
            if now < down.probe_at {
                return Err((ask, down.why.clone()));
            }
            // It will have been answered or given up by then.
            down.probe_at = now + self.patience + PROBE;
        }
        inbox.asks.push(ask);
        Ok(!std::mem::replace(&mut inbox.running, true))
    }

    fn start(shared: &Arc<Self>) {
        let serving = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("userdb".into());
        let serve = move || {
            let served = std::panic::AssertUnwindSafe(|| conversation::serve(&serving));
            if std::panic::catch_unwind(served).is_err() {
                serving.inbox.lock().running = false; // the hook has told; the next request starts it anew
            }
        };
        if let Err(e) = thread.spawn(serve) {
            log::error!("cannot start a thread to ask userdb: {e}");
            let asks = {
                let mut inbox = shared.inbox.lock();
                inbox.running = false;
                std::mem::take(&mut inbox.asks)
            };
            shared.fail(asks, Error::Unreachable(e.to_string()));
        }
    }

    fn wake(&self) {
        // It cannot fail: the counter is far from full, as each look empties it.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Nobody answers: refuses these, and for a moment whoever asks.
    fn fail(&self, asks: impl IntoIterator<Item = Ask>, why: Error) {
        self.inbox.lock().down = Some(Down {
            why: why.clone(),
            probe_at: Instant::now() + PROBE,
        });
        for ask in asks {
            ask.tell(Err(why.clone()));
        }
    }

    fn is_down(&self) -> bool {
        self.inbox.lock().down.is_some()
    }

    /// Somebody was answered.
    fn is_up(&self) {
        if self.inbox.lock().down.take().is_some() {
            log::info!("{}: userdb answers again", self.socket.display());
        }
    }
}

#[cfg(test)]
mod tests;
