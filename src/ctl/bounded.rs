//! What may hang, asked so that this program does not: another's mount, another's program.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::Builder;
use std::time::Duration;

use rustix::io::Errno;

/// What is known of a mount that was asked for its `statfs(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It answers.
    Answers,
    /// Nobody is there who could.
    Dead,
    /// It says nothing.
    Silent,
    /// It answers with an error.
    Fails(Errno),
}

/// Asks what is mounted on `point`, and waits so long for an answer. A thread that hangs ends with this program.
pub fn ask(point: &Path, within: Duration) -> Asked {
    let path = point.to_owned();
    match in_thread(within, move || rustix::fs::statfs(path)) {
        Some(Ok(_)) => Asked::Answers,
        Some(Err(Errno::NOTCONN | Errno::CONNABORTED)) => Asked::Dead,
        Some(Err(error)) => Asked::Fails(error),
        None => Asked::Silent,
    }
}

/// What a program prints, if it succeeds within this time.
///
/// # Errors
/// `NotFound` where there is no such program, `TimedOut`, or what it says on standard error.
pub fn output(program: &str, args: &[&str], within: Duration) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let said = in_thread(within, move || -> io::Result<_> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        // What it has to say on standard error fits into a pipe.
        stdout.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut out))?;
        stderr.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut err))?;
        Ok((out, err))
    });
    let Some(said) = said else {
        child.kill()?;
        return Err(io::ErrorKind::TimedOut.into());
    };
    let (out, err) = said?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match child.wait()?.success() {
        true => Ok(text(&out)),
        false => Err(io::Error::other(
            text(&err).lines().next().unwrap_or_default().to_owned(),
        )),
    }
}

/// What `work` gives, unless it takes longer.
pub fn in_thread<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, outcome) = channel();
    Builder::new().spawn(move || done.send(work())).ok()?;
    outcome.recv_timeout(within).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_program_prints_and_what_it_complains_of() {
        let said = output("sh", &["-c", "echo yes"], LONG).expect("succeeds");
        assert_eq!(said, "yes\n");
        let error = output("sh", &["-c", "echo no >&2; exit 1"], LONG).expect_err("fails");
        assert_eq!(error.to_string(), "no");
        let error = output("/no/such/program", &[], LONG).expect_err("none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_program_that_hangs_is_given_up() {
        let error = output("sleep", &["1000"], Duration::from_millis(50)).expect_err("hangs");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
