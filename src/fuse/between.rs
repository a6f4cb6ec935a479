//! Where the kernel does not send again what a dead worker had taken (before Linux 6.9) the worker stands between it and its
//! own session, and keeps each request until it has been answered.
//!
//! Readers read requests into shared memory, note them in the journal and pass them on through a socket to the session, which
//! takes it for the kernel; one thread passes answers back. The next worker finds what was taken in the journal, or, if
//! its reader died before the note, in the reader's memory. Which of it still waits the kernel tells by the answer to
//! an interrupt: a write of a request's number with the lowest bit set succeeds while that request waits, and does nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use anyhow::Context;
use fuser::{Filesystem, Session, SessionACL};
use rustix::io::Errno;

use super::session::{self, RESENT};
use crate::journal::{Entry, Journal, Snapshot};
use crate::sys::shared::Shared;
use crate::user::steps;

/// The longest request, bytes: the largest WRITE and what stands before it, in whole pages.
const LONGEST: usize = session::MAX_WRITE as usize + (4 << 10);
/// What the socket holds in each direction, bytes.
const SOCKET: usize = 4 * LONGEST;
/// The length of `struct fuse_out_header`, bytes.
const OUT_HEADER: usize = 16;
/// Where a request's length, operation and number stand, and where an answer's number stands.
const OPCODE: usize = 4;
const UNIQUE: usize = 8;
/// How long a reader pauses where there is no memory to pass a request on.
const NO_MEMORY: Duration = Duration::from_millis(10);
/// The bit of a request's number that makes it its interrupt's.
const INTERRUPT: u64 = 1;

/// `FUSE_FORGET`, `FUSE_INTERRUPT` and `FUSE_BATCH_FORGET`, which nobody answers.
const UNANSWERED: [u32; 3] = [2, 36, 42];

/// A session behind readers of ours that goes on where an earlier one ended. `slots` is the readers' memory.
///
/// # Errors
/// When no socket, memory or thread can be had.
pub(super) fn go_on<F: Filesystem>(
    fs: F,
    dev_fuse: &OwnedFd,
    slots: &File,
    left: &Snapshot,
    journal: &Arc<Journal>,
) -> anyhow::Result<Session<F>> {
    let (kernel, ours) = session::made_up_kernel()?;
    for end in [&kernel, &ours] {
        rustix::net::sockopt::set_socket_send_buffer_size_force(end, SOCKET)?;
    }
    let config = super::server::session_config();
    let readers = config.n_threads.unwrap_or(1);
    let session = Session::from_fd(fs, ours, SessionACL::All, config)?;
    rustix::io::read(&kernel, &mut [0; 128])?; // what it agrees to was agreed with the real one
    let requests = unanswered(dev_fuse, slots, left, journal)
        .context("failed to find what the worker before took")?;
    let desk = Arc::new(Desk {
        fuse: dev_fuse.try_clone()?,
        session: kernel,
        journal: Arc::clone(journal),
    });
    let answers = Arc::clone(&desk);
    spawn("answers", move || answers.pass_answers())?;
    let asks = Arc::clone(&desk);
    spawn("again", move || asks.ask_again(&requests))?;
    for reader in 0..readers {
        let slot = Shared::map(slots, reader * LONGEST, LONGEST)?;
        let desk = Arc::clone(&desk);
        spawn("reader", move || desk.pass_requests(slot))?;
    }
    Ok(session)
}

fn spawn(name: &str, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let run = move || {
        if let Err(e) = run() {
            log::error!("between the kernel and the session: {e}");
        }
    };
    Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// What the workers before took and did not answer, in the order in which it came; all of it is noted.
fn unanswered(
    dev_fuse: &OwnedFd,
    slots: &File,
    left: &Snapshot,
    journal: &Journal,
) -> io::Result<Vec<Vec<u8>>> {
    let mut taken = in_slots(slots)?;
    taken.retain(|unique, _| !left.taken.contains_key(unique));
    taken.retain(|unique, _| still_waits(dev_fuse.as_fd(), *unique));
    for (unique, request) in &taken {
        log::debug!("request {unique} was taken and not noted");
        let (unique, request) = (*unique, request.clone());
        journal.append(&Entry::Taken { unique, request })?;
    }
    for (unique, request) in &left.taken {
        match still_waits(dev_fuse.as_fd(), *unique) {
            true => drop(taken.insert(*unique, request.clone())),
            false => journal.note(&Entry::Answered { unique: *unique }),
        }
    }
    log::debug!(
        "{} requests were left unanswered by the worker before",
        taken.len()
    );
    let mut taken: Vec<_> = taken.into_iter().collect();
    taken.sort_unstable_by_key(|(unique, _)| *unique);
    Ok(taken.into_iter().map(|(_, request)| request).collect())
}

/// The last request that each reader read.
fn in_slots(slots: &File) -> io::Result<HashMap<u64, Vec<u8>>> {
    let len = slots.metadata()?.len();
    let mut requests = HashMap::new();
    for at in (0..len).step_by(LONGEST) {
        let mut request_len = [0; 4];
        slots.read_exact_at(&mut request_len, at)?;
        let request_len = u32::from_ne_bytes(request_len) as usize;
        if (session::HEADER_LEN as usize..=LONGEST).contains(&request_len) {
            let mut request = vec![0; request_len];
            slots.read_exact_at(&mut request, at)?;
            requests.insert(number(&request), request);
        }
    }
    Ok(requests)
}

/// Whether a request has been taken and not answered.
fn still_waits(fuse: BorrowedFd<'_>, unique: u64) -> bool {
    let mut interrupt = (OUT_HEADER as u32).to_ne_bytes().to_vec();
    interrupt.extend_from_slice(&(-libc::EINTR).to_ne_bytes());
    interrupt.extend_from_slice(&(unique | INTERRUPT).to_ne_bytes());
    rustix::io::write(fuse, &interrupt).is_ok()
}

/// The number of a request or an answer.
fn number(message: &[u8]) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|at| message[UNIQUE + at]))
}

fn set_number(message: &mut [u8], unique: u64) {
    message[UNIQUE..UNIQUE + 8].copy_from_slice(&unique.to_ne_bytes());
}

fn opcode(request: &[u8]) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|at| request[OPCODE + at]))
}

/// What its threads share.
struct Desk {
    fuse: OwnedFd,
    /// The session's other end.
    session: OwnedFd,
    journal: Arc<Journal>,
}

impl Desk {
    /// Passes requests on until the mount ends.
    fn pass_requests(&self, mut slot: Shared) -> io::Result<()> {
        loop {
            let len = match rustix::io::read(&self.fuse, slot.bytes_mut()) {
                Ok(len) => len,
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => continue,
                Err(Errno::NODEV) => break,
                Err(e) => return Err(e.into()),
            };
            let request = &slot.bytes_mut()[..len];
            if !UNANSWERED.contains(&opcode(request)) {
                steps::lose(opcode(request));
                self.journal.append(&Entry::Taken {
                    unique: number(request),
                    request: request.to_vec(),
                })?;
            }
            self.pass_on(request)?;
        }
        self.pass_on(&session::destroy())
    }

    /// Passes one on. It needs memory in one piece for all but the last 64 KiB or so, which there may not be for a moment;
    /// and whoever waits for its answer would wait for ever if it were lost.
    fn pass_on(&self, request: &[u8]) -> io::Result<()> {
        loop {
            match rustix::io::write(&self.session, request) {
                Err(Errno::NOBUFS | Errno::NOMEM) => std::thread::sleep(NO_MEMORY),
                passed => return Ok(passed.map(drop)?),
            }
        }
    }

    /// Passes the requests of the worker before on, as the kernel would send them again.
    fn ask_again(&self, requests: &[Vec<u8>]) -> io::Result<()> {
        for request in requests {
            let mut request = request.clone();
            let unique = number(&request);
            set_number(&mut request, unique | RESENT);
            self.pass_on(&request)?;
        }
        Ok(())
    }

    /// Passes answers and notifications on, for as long as there is a session.
    fn pass_answers(&self) -> io::Result<()> {
        let mut answer = vec![0; LONGEST];
        loop {
            let len = match rustix::io::read(&self.session, &mut answer) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let answer = &mut answer[..len];
            let unique = number(answer) & !RESENT;
            set_number(answer, unique);
            match rustix::io::write(&self.fuse, answer) {
                Ok(_) => {}
                // Nobody waits for it any more, or the mount has ended; what is notified may be unknown.
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(e) => log::error!("the kernel takes no answer: {e}"),
            }
            if unique != 0 {
                self.journal.note(&Entry::Answered { unique });
            }
        }
    }
}
