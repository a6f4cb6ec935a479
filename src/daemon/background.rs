//! Going into the background: the caller's process waits until the mount answers.
//!
//! mount(8) takes our exit code for the mount's, and exit 0 for a mount that is there. So the
//! process forks before it does anything, the child does the work and reports through a pipe, and
//! the parent says what the child said.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::exit::{Exit, Failure};
use crate::sys::process::{self, Forked};

/// Who waits for the mount.
#[derive(Debug)]
pub enum Caller {
    /// Nobody: we are in the foreground, or have reported already.
    None,
    /// The parent, at the other end of this pipe.
    Waiting(File),
    /// A service manager, at this socket: see sd_notify(3).
    Manager(OsString),
}

impl Caller {
    /// In the foreground a service manager waits, if one has said so.
    pub fn in_foreground() -> Self {
        std::env::var_os("NOTIFY_SOCKET").map_or(Self::None, Self::Manager)
    }

    /// Reports that the mount answers, after letting go of the caller's terminal and pipes:
    /// whoever reads the caller's output to its end is not to wait for a daemon.
    ///
    /// An error says that the caller has gone and takes the mount for failed.
    pub fn ready(&mut self) -> io::Result<()> {
        match std::mem::replace(self, Self::None) {
            Self::None => Ok(()),
            Self::Manager(socket) => tell_manager(&socket),
            Self::Waiting(mut pipe) => {
                let_go_of_stdio()?;
                pipe.write_all(&[Exit::Success.code()])
            }
        }
    }

    /// Reports why there will be no mount. Whether somebody was there to be told.
    fn failed(&mut self, failure: &Failure) -> bool {
        match std::mem::replace(self, Self::None) {
            Self::None | Self::Manager(_) => false,
            Self::Waiting(mut pipe) => {
                let mut report = vec![failure.exit.code()];
                report.extend_from_slice(failure.to_string().as_bytes());
                pipe.write_all(&report).is_ok()
            }
        }
    }
}

/// Runs `body` in a child of its own session. Returns in the caller's process only, once the mount
/// answers or has failed.
pub fn run(body: impl FnOnce(&mut Caller) -> Result<(), Failure>) -> Result<(), Failure> {
    let cannot = |what: &'static str| {
        move |error: io::Error| Failure::system(format!("cannot {what}: {error}"))
    };
    process::close_inherited().map_err(cannot("close inherited files"))?;
    let (ours, childs) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| cannot("make a pipe")(error.into()))?;
    match process::fork().map_err(cannot("fork"))? {
        Forked::Parent => {
            drop(childs);
            await_report(ours)
        }
        Forked::Child => {
            drop(ours);
            let mut caller = Caller::Waiting(File::from(childs));
            let outcome = leave().and_then(|()| body(&mut caller));
            std::process::exit(i32::from(report(outcome, &mut caller).code()))
        }
    }
}

fn report(outcome: Result<(), Failure>, caller: &mut Caller) -> Exit {
    match outcome {
        Ok(()) => Exit::Success,
        Err(failure) => {
            log::error!("{failure}");
            caller.failed(&failure);
            failure.exit
        }
    }
}

/// A session of its own, so that the end of the caller's terminal is not ours, and no directory
/// held.
fn leave() -> Result<(), Failure> {
    let left = rustix::process::setsid().and_then(|_| rustix::process::chdir("/"));
    left.map_err(|error| Failure::system(format!("cannot leave the caller's session: {error}")))
}

/// A name that begins with `@` is in the abstract namespace.
fn tell_manager(socket: &OsStr) -> io::Result<()> {
    let name = socket.as_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

fn let_go_of_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn await_report(pipe: OwnedFd) -> Result<(), Failure> {
    let mut report = Vec::new();
    File::from(pipe)
        .read_to_end(&mut report)
        .map_err(|error| Failure::system(format!("cannot read the daemon's report: {error}")))?;
    read_report(&report)
}

/// A report is the exit code, then the line. None at all: the child has died.
fn read_report(report: &[u8]) -> Result<(), Failure> {
    let reported = report.split_first();
    match reported.map(|(code, line)| (Exit::from_code(*code), line)) {
        Some((Some(Exit::Success), _)) => Ok(()),
        Some((Some(exit), line)) => Err(Failure::new(exit, String::from_utf8_lossy(line))),
        _ => Err(Failure::system(
            "the daemon died while it mounted: run again with -d and see where it ends",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_code_and_line() {
        assert_eq!(read_report(&[0]), Ok(()));
        let failure = Failure::mount("/m: no");
        assert_eq!(read_report(b"\x20/m: no"), Err(failure));
        let died = read_report(b"").expect_err("no report");
        assert_eq!(died.exit, Exit::System);
    }

    #[test]
    fn a_service_manager_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let hidden = format!("listindexfs-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&hidden).expect("a name");
        let sockets = [
            (UnixDatagram::bind(&path), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&address),
                format!("@{hidden}").into(),
            ),
        ];
        for (socket, name) in sockets {
            let mut caller = Caller::Manager(name);
            caller.ready().expect("told");
            let mut said = [0; 16];
            let length = socket
                .and_then(|socket| socket.recv(&mut said))
                .expect("a word");
            assert_eq!(&said[..length], b"READY=1");
        }
        let gone = Caller::Manager("/no/manager".into()).ready();
        gone.expect_err("nobody is there");
    }

    #[test]
    fn what_failed_reaches_the_parent() {
        let (ours, childs) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
        let mut caller = Caller::Waiting(File::from(childs));
        assert!(caller.failed(&Failure::usage("bad")));
        assert!(!caller.failed(&Failure::usage("told once")));
        assert_eq!(await_report(ours), Err(Failure::usage("bad")));
    }
}
