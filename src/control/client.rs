//! The asking side of the control sockets.

use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::SUPERVISOR;
use super::protocol::{self, Answer, Command};
use super::socket::within;
use crate::store::PRIVATE_DIR;

/// A longer answer is none of ours, bytes.
pub const LONGEST_ANSWER: u64 = 16 << 20;

/// Asks the supervisor of `backing`, and waits so long for its answer.
///
/// # Errors
/// `NotFound` where there is no socket, `ConnectionRefused` where nobody listens any more, else when no answer comes.
pub fn ask(backing: &Path, command: &Command, patience: Duration) -> io::Result<Answer> {
    let answer = Lines::ask(backing, SUPERVISOR, command, patience)?.next_answer();
    answer?.ok_or_else(|| io::Error::other("it has too many clients: ask again"))
}

/// An answer of several lines.
#[derive(Debug)]
pub struct Lines {
    from: BufReader<Take<UnixStream>>,
    patience: Duration,
}

impl Lines {
    /// Asks who listens on the socket of this `name`, and waits so long for each line.
    ///
    /// # Errors
    /// As [`ask`].
    pub fn ask(
        backing: &Path,
        name: &str,
        command: &Command,
        patience: Duration,
    ) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let private: OwnedFd = rustix::fs::open(backing.join(PRIVATE_DIR), flags, Mode::empty())?;
        let mut asked = UnixStream::connect(within(&private, name))?;
        asked.set_write_timeout(Some(patience))?;
        asked.set_read_timeout(Some(patience))?;
        asked.write_all(protocol::request(command)?.as_bytes())?;
        let from = BufReader::new(asked.take(LONGEST_ANSWER));
        Ok(Lines { from, patience })
    }

    /// The next line; `None` when there is none any more.
    ///
    /// # Errors
    /// When none comes, or it is none of ours.
    pub fn next_answer(&mut self) -> io::Result<Option<Answer>> {
        self.from.get_mut().set_limit(LONGEST_ANSWER);
        let mut line = Vec::new();
        match self.from.read_until(b'\n', &mut line) {
            Ok(_) if !line.ends_with(b"\n") => Ok(None), // whoever spoke has died
            Ok(_) => Ok(Some(protocol::read_response(&line)?)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let patience = self.patience;
                Err(io::Error::other(format!("no answer within {patience:?}")))
            }
            Err(e) => Err(e),
        }
    }
}
