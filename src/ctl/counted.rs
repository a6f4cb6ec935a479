//! What is counted of one mount or of all: the supervisor tells it, or where that is of an earlier version, the worker.

use std::path::Path;
use std::time::Duration;

use super::mounts::{self, Served};
use super::{STATUS_WITHIN, print, status_of};
use crate::control::WORKER;
use crate::control::client::{self, Lines};
use crate::control::protocol::{Answer, Command};
use crate::exit::{Exit, Failure};
use crate::stats::Reading;
use crate::stats::exposition::{self, Shown};

/// How long the worker may take to say what it knows.
const WORKER_WITHIN: Duration = Duration::from_secs(2);

/// `listindexctl metrics`. Of several mounts those that give no answer are told of, and the others printed.
pub fn metrics(given: Option<&Path>) -> Result<Exit, Failure> {
    let (mut shown, mut silent) = (Vec::new(), None);
    for mount in mounts::meant_or_all(given)? {
        match shown_of(&mount) {
            Ok(mount) => shown.push(mount),
            Err(failure) => silent = tell(silent, failure),
        }
    }
    if !shown.is_empty() {
        print(&exposition::text(&shown), &(), false)?;
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
    if let Some(reading) = of_supervisor(mount) {
        return Ok(*reading);
    }
    match of_worker(mount) {
        Some(Answer::Stats(reading)) => Ok(*reading),
        _ => Err(Failure::system(format!(
            "{}: who serves it is of an earlier version, which counts nothing: unmount and mount again",
            mount.point.display()
        ))),
    }
}

/// Those that the supervisor tells, if it is none of an earlier version.
pub fn of_supervisor(mount: &Served) -> Option<Box<Reading>> {
    match client::ask(&mount.backing, &Command::Stats, STATUS_WITHIN) {
        Ok(Answer::Stats(reading)) => Some(reading),
        _ => None,
    }
}

/// What the worker says when it is asked for what is counted: one of an earlier version says that it does not understand, and `None`
/// is one that does not answer.
pub fn of_worker(mount: &Served) -> Option<Answer> {
    let asked = Lines::ask(&mount.backing, WORKER, &Command::Stats, WORKER_WITHIN);
    asked
        .and_then(|mut lines| lines.next_answer())
        .ok()
        .flatten()
}
