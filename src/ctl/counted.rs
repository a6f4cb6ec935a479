//! `listindexctl metrics`: what is counted of one mount or of all, as their supervisors tell it.

use std::path::Path;

use super::mounts::{self, Served};
use super::{STATUS_WITHIN, ask, refusal, say, status_of};
use crate::control::protocol::{Answer, Command};
use crate::exit::{Exit, Failure};
use crate::stats::Reading;
use crate::stats::exposition::{self, Shown};

/// Prints it. Of several mounts those that give no answer are told of, and the others printed.
pub fn metrics(given: Option<&Path>) -> Result<Exit, Failure> {
    let (mut shown, mut silent) = (Vec::new(), None);
    for mount in mounts::meant_or_all(given)? {
        match shown_of(&mount) {
            Ok(mount) => shown.push(mount),
            Err(failure) => silent = tell(silent, failure),
        }
    }
    if !shown.is_empty() {
        say(&exposition::text(&shown))?;
    }
    silent.map_or(Ok(Exit::Success), Err)
}

/// The last failure is told by who ends the program, those before it here.
pub fn tell(before: Option<Failure>, now: Failure) -> Option<Failure> {
    if let Some(before) = before {
        crate::cli::complain("listindexctl", before);
    }
    Some(now)
}

fn shown_of(mount: &Served) -> Result<Shown, Failure> {
    let status = status_of(mount)?;
    let worker = status.worker.map(|worker| worker.version);
    Ok(Shown {
        mountpoint: status.mountpoint,
        versions: (status.supervisor.version, worker),
        reading: reading(mount)?,
    })
}

/// All numbers.
///
/// # Errors
/// When nobody tells them.
pub fn reading(mount: &Served) -> Result<Reading, Failure> {
    match ask(mount, &Command::Stats, STATUS_WITHIN)? {
        Answer::Stats(reading) => Ok(*reading),
        other => Err(refusal(mount, other)),
    }
}
