//! `listindexctl log`: what both processes of a mount log, changed while they run.
//!
//! The supervisor is told first, so that every worker that is started from then on logs the same; then the one that serves.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::mounts::{self, Served};
use super::{STATUS_WITHIN, print};
use crate::control::WORKER;
use crate::control::client::{self, Lines};
use crate::control::protocol::{Answer, Command};
use crate::exit::{Exit, Failure};
use crate::logging;

/// What sets it back.
const USUAL: &str = "default";
/// How long the worker may take to answer, and how long it may take until there is one.
const WORKER_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// What `log` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// error, warn, info, debug, trace or off, or as RUST_LOG has it: warn,listindexfs::user=debug; default: what it was at first
    level: String,
    /// The mount, or its BACKING, where there are several
    mountpoint: Option<PathBuf>,
}

/// Changes it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let filter = match args.level.as_str() {
        USUAL => None,
        level => Some(logging::checked(level).map_err(Failure::usage)?),
    };
    let mount = mounts::find(args.mountpoint.as_deref())?;
    let point = mount.point.display();
    let command = Command::Log { filter };
    let now = match client::ask(&mount.backing, &command, STATUS_WITHIN) {
        Ok(Answer::Log(now)) => now,
        Ok(answer) => {
            return Err(Failure::system(format!(
                "{point}: the supervisor: {}",
                why(answer)
            )));
        }
        Err(error) => return Err(Failure::system(mounts::why_silent(&mount, &error))),
    };
    tell_worker(&mount, &command).map_err(|why| {
        Failure::system(format!(
            "{point}: the supervisor logs {now}, and so will the next worker, but this one: {why}"
        ))
    })?;
    print(&format!("{point}: {now} is logged\n"), &(), false)
}

fn why(answer: Answer) -> String {
    match answer {
        Answer::Error(why) => why,
        _ => "an answer to another question".to_owned(),
    }
}

fn tell_worker(mount: &Served, command: &Command) -> Result<(), String> {
    let until = Instant::now() + WORKER_WITHIN;
    loop {
        let error = match ask_worker(&mount.backing, command) {
            Ok(Some(Answer::Log(_))) => return Ok(()),
            Ok(Some(answer)) => return Err(why(answer)),
            Ok(None) => "it has died, or has too many clients".to_owned(),
            Err(error) => error.to_string(),
        };
        // The next one listens in a moment.
        if Instant::now() > until {
            return Err(error);
        }
        sleep(PAUSE);
    }
}

fn ask_worker(backing: &Path, command: &Command) -> io::Result<Option<Answer>> {
    Lines::ask(backing, WORKER, command, WORKER_WITHIN)?.next_answer()
}
