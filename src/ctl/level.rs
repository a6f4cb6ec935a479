//! `listindexctl log`: what both processes of a mount log, changed while they run.
//!
//! The supervisor is told first, so that every worker that is started from then on logs the same; then the one that serves.

use std::path::PathBuf;

use super::mounts::{self, Served};
use super::worker::Worker;
use super::{STATUS_WITHIN, ask, refusal, say};
use crate::control::protocol::{Answer, Command};
use crate::exit::{Exit, Failure};
use crate::logging;

/// What sets it back.
const USUAL: &str = "default";

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
    let command = Command::Log { filter };
    let now = match ask(&mount, &command, STATUS_WITHIN)? {
        Answer::Log(now) => now,
        other => return Err(refusal(&mount, other)),
    };
    tell_worker(&mount, &command).map_err(|why| {
        Failure::system(format!(
            "{why}; the supervisor logs {now}, and so will the next worker"
        ))
    })?;
    say(&format!("{}: {now} is logged\n", mount.point.display()))
}

fn tell_worker(mount: &Served, command: &Command) -> Result<(), Failure> {
    let worker = Worker::of(&mount.backing, Some(&mount.point));
    match worker.answer(command)? {
        Answer::Log(_) => Ok(()),
        _ => Err(worker.confused()),
    }
}
