//! The answering side of a control socket.
//!
//! One thread takes clients, one for each client answers it. All of it is bounded: how many clients, how long a request, how
//! long one may take to write or read. What a client does wrong is the client's trouble alone.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::protocol::{self, Answer, Command, LONGEST_REQUEST};
use crate::store::PRIVATE_DIR;

/// So many are answered at a time; one more finds the connection closed.
const CLIENTS: usize = 8;
/// How long a client may take to say what it wants, and to read the answer; tests run on slow machines.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 5 });
/// The pause where no client can be taken, as when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket, there until this is dropped.
#[derive(Debug)]
pub struct Socket {
    private: OwnedFd,
    name: &'static str,
}

/// A client who is being answered.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    /// Says something before the answer.
    ///
    /// # Errors
    /// When the client has gone, or does not read.
    pub fn say(&mut self, answer: &Answer) -> io::Result<()> {
        self.0.write_all(protocol::response(answer)?.as_bytes())
    }
}

impl Socket {
    /// Listens in the private directory of `backing` under `name`, and has `answer` called for what is asked, in a thread for
    /// each client.
    ///
    /// # Errors
    /// As `bind(2)`, or when no thread can be started.
    pub fn listen(
        backing: impl AsFd,
        name: &'static str,
        answer: impl Fn(Command, &mut Client) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let private = rustix::fs::openat(backing, PRIVATE_DIR, flags, Mode::empty())?;
        let new = format!("{name}.new");
        match rustix::fs::unlinkat(&private, &new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let path = within(&private, &new);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        // What is there is of one before this one: whoever listens holds the backing's lock.
        rustix::fs::renameat(&private, &new, &private, name)?;
        let take = move || {
            let serve = move |client| serve(client, &answer);
            take_clients(
                listener.incoming(),
                "the control socket",
                (CLIENTS, "client"),
                serve,
            );
        };
        Builder::new().name("control".to_owned()).spawn(take)?;
        Ok(Socket { private, name })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::unlinkat(&self.private, self.name, AtFlags::empty()) {
            log::debug!("the control socket: {error}");
        }
    }
}

/// A path that is short, however long that of the backing is: a socket's has 107 bytes at most.
pub(super) fn within(private: &OwnedFd, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", private.as_raw_fd()).into()
}

/// Serves so many clients at a time, each in a thread of this name; one more finds the connection closed. Returns when none come
/// any more.
pub fn take_clients<S: Send + 'static>(
    incoming: impl Iterator<Item = io::Result<S>>,
    about: &'static str,
    (most, name): (usize, &str),
    serve: impl Fn(S) -> io::Result<()> + Send + Sync + 'static,
) {
    let serve = Arc::new(serve);
    // One for each client besides our own.
    let clients = Arc::new(());
    for client in incoming {
        let client = match client {
            Ok(client) if Arc::strong_count(&clients) <= most => client,
            Ok(_) => continue,
            Err(error) => {
                log::debug!("{about}: {error}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let (serve, counted) = (Arc::clone(&serve), Arc::clone(&clients));
        let run = move || {
            if let Err(error) = serve(client) {
                log::debug!("a client of {about}: {error}");
            }
            drop(counted);
        };
        if let Err(error) = Builder::new().name(name.to_owned()).spawn(run) {
            log::debug!("{about}: {error}");
        }
    }
}

fn serve(
    mut client: UnixStream,
    answer: &impl Fn(Command, &mut Client) -> Answer,
) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(&client)?;
    let line = read_line(&mut client, PATIENCE)?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut client = Client(client);
    let answer = match (peer.uid.is_root(), protocol::read_request(&line)) {
        (false, _) => Answer::Error("only root is answered".to_owned()),
        (true, Ok(command)) => answer(command, &mut client),
        (true, Err(error)) => Answer::Error(error),
    };
    client.say(&answer)
}

/// How long it is until then: how long one read or write may wait where all together have a bound.
///
/// # Errors
/// `TimedOut` when that is past.
pub fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// A line without its end, or what was written before the end of all, within `patience` in all.
fn read_line(client: &mut UnixStream, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let (mut line, mut bytes) = (Vec::new(), [0; 4096]);
    while line.len() <= LONGEST_REQUEST {
        client.set_read_timeout(Some(left(until)?))?;
        let read = client.read(&mut bytes)?;
        let end = bytes[..read].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&bytes[..end.unwrap_or(read)]);
        if end.is_some() || read == 0 {
            return Ok(line);
        }
    }
    Err(io::Error::other("a request without end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::SUPERVISOR;

    fn listen() -> (tempfile::TempDir, Socket) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(PRIVATE_DIR)).expect("mkdir");
        let answer = |command, client: &mut Client| {
            // Who has gone does not hear it.
            let _ = client.say(&Answer::Error("begun".to_owned()));
            Answer::Error(format!("{command:?}"))
        };
        let socket = listen_in(&dir, answer);
        (dir, socket)
    }

    fn listen_in(
        dir: &tempfile::TempDir,
        answer: impl Fn(Command, &mut Client) -> Answer + Send + Sync + 'static,
    ) -> Socket {
        let backing = std::fs::File::open(dir.path()).expect("open");
        Socket::listen(backing, SUPERVISOR, answer).expect("a socket")
    }

    fn path(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join(PRIVATE_DIR).join(SUPERVISOR)
    }

    fn connect(socket: &Socket) -> UnixStream {
        UnixStream::connect(within(&socket.private, SUPERVISOR)).expect("connected")
    }

    fn ask(socket: &Socket, said: &[u8]) -> String {
        let mut client = connect(socket);
        client.write_all(said).expect("written");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("answered");
        answer
    }

    #[test]
    fn who_hangs_or_talks_nonsense_keeps_nobody_from_an_answer() {
        let (dir, socket) = listen();
        let mode = std::fs::metadata(path(&dir)).expect("stat");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let silent: Vec<_> = (0..CLIENTS - 4).map(|_| connect(&socket)).collect();
        assert!(ask(&socket, b"nonsense\n").contains("not understood"));
        // One that goes before it is answered.
        let mut gone = connect(&socket);
        gone.write_all(b"{\"protocol\":1,\"command\":\"status\"}\n")
            .expect("written");
        drop(gone);
        let said = protocol::request(&Command::Status).expect("a line");
        assert!(ask(&socket, said.as_bytes()).contains("Status"));
        drop(silent);
    }

    #[test]
    fn a_request_without_end_is_cut_off() {
        let (_dir, socket) = listen();
        let mut client = connect(&socket);
        // Written until nobody reads any more.
        while client.write_all(&[b'x'; 1000]).is_ok() {}
        let said = protocol::request(&Command::Upgrade).expect("a line");
        assert!(ask(&socket, said.as_bytes()).contains("Upgrade"));
    }

    #[test]
    fn one_too_many_is_turned_away_and_the_others_are_answered_later() {
        let (_dir, socket) = listen();
        let said = protocol::request(&Command::Status).expect("a line");
        let mut silent: Vec<_> = (0..CLIENTS).map(|_| connect(&socket)).collect();
        let mut more = connect(&socket);
        let mut answer = Vec::new();
        // Closed without an answer; reset, where what it said was not read.
        let _ = more.write_all(said.as_bytes());
        let _ = more.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{answer:?}");
        for client in &mut silent {
            client.write_all(said.as_bytes()).expect("written");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("answered");
            assert!(answer.contains("Status"), "{answer}");
        }
    }

    #[test]
    fn an_answer_may_have_several_lines_and_a_socket_takes_the_place_of_the_one_before() {
        let (dir, before) = listen();
        let answer = |_, _: &mut Client| Answer::Error("the next".to_owned());
        let next = listen_in(&dir, answer);
        let said = protocol::request(&Command::Status).expect("a line");
        let answer = ask(&before, said.as_bytes());
        assert_eq!(answer, "{\"protocol\":1,\"error\":\"the next\"}\n");
        drop((before, next));
        let (_dir, socket) = listen();
        let answer = ask(&socket, said.as_bytes());
        let lines: Vec<_> = answer.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"protocol":1,"error":"begun"}"#,
                r#"{"protocol":1,"error":"Status"}"#
            ]
        );
    }

    #[test]
    fn the_socket_goes_with_its_owner() {
        let (dir, socket) = listen();
        drop(socket);
        assert!(!path(&dir).exists());
    }

    #[test]
    fn a_client_that_says_nothing_has_a_bound() {
        let (mut ours, _theirs) = UnixStream::pair().expect("a pair");
        let error = read_line(&mut ours, Duration::from_millis(20)).expect_err("no line");
        let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}
