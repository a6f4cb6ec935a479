//! The asking side of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::protocol::{self, Answer, Command};
use super::socket::within;
use crate::store::PRIVATE_DIR;

/// A longer answer is none of ours, bytes.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Asks the supervisor of `backing`, and waits so long for its answer.
///
/// # Errors
/// `NotFound` where there is no socket, `ConnectionRefused` where nobody listens any more, else when no answer comes.
pub fn ask(backing: &Path, command: Command, patience: Duration) -> io::Result<Answer> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let private: OwnedFd = rustix::fs::open(backing.join(PRIVATE_DIR), flags, Mode::empty())?;
    let mut supervisor = UnixStream::connect(within(&private))?;
    supervisor.set_write_timeout(Some(patience))?;
    supervisor.set_read_timeout(Some(patience))?;
    supervisor.write_all(protocol::request(command)?.as_bytes())?;
    let mut line = Vec::new();
    let answer = BufReader::new(supervisor.take(LONGEST_ANSWER)).read_until(b'\n', &mut line);
    match answer {
        Ok(0) => Err(io::Error::other("it has too many clients: ask again")),
        Ok(_) => Ok(protocol::read_response(&line)?),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other(format!("no answer within {patience:?}")))
        }
        Err(e) => Err(e),
    }
}
