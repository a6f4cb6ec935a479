//! Going into the background: the caller's process waits until the mount answers.
//!
//! mount(8) takes our exit code for the mount's, and exit 0 for a mount that is there. So the
//! process forks before it does anything, the child does the work and reports through a pipe, and
//! the parent says what the child said.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

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
}

impl Caller {
    /// Reports that the mount answers, after letting go of the caller's terminal and pipes:
    /// whoever reads the caller's output to its end is not to wait for a daemon.
    ///
    /// An error says that the caller has gone and takes the mount for failed.
    pub fn ready(&mut self) -> io::Result<()> {
        match std::mem::replace(self, Self::None) {
            Self::None => Ok(()),
            Self::Waiting(mut pipe) => {
                let_go_of_stdio()?;
                pipe.write_all(&[Exit::Success.code()])
            }
        }
    }

    /// Reports why there will be no mount. Whether somebody was there to be told.
    fn failed(&mut self, failure: &Failure) -> bool {
        match std::mem::replace(self, Self::None) {
            Self::None => false,
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
    fn what_failed_reaches_the_parent() {
        let (ours, childs) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
        let mut caller = Caller::Waiting(File::from(childs));
        assert!(caller.failed(&Failure::usage("bad")));
        assert!(!caller.failed(&Failure::usage("told once")));
        assert_eq!(await_report(ours), Err(Failure::usage("bad")));
    }
}
