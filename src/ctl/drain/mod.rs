//! `listindexctl drain`: the worker of a mount lets everybody's list index go, or gives it back to INDEX, and who is still
//! here is waited for.

mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::report::Report;
use super::progress::Progress;
use super::worker::Worker;
use super::{mounts, print};
use crate::control::drain::{Drain, Drained};
use crate::control::protocol::{Answer, Command};
use crate::exit::{Exit, Failure};

/// What `drain` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The mount, or its BACKING, where there are several
    mountpoint: Option<PathBuf>,
    /// For going back to stock Dovecot: list indexes are given back to INDEX
    #[arg(long)]
    stock: bool,
    /// How long those who are here are waited for
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = crate::cli::duration)]
    within: Duration,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
}

/// Drains, and tells what became of it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let served = mounts::find(args.mountpoint.as_deref())?;
    let worker = Worker::of(&served.backing, Some(&served.point));
    let mut progress = Progress::new(!args.json);
    let sum = ask(worker, args, &mut progress)?;
    progress.end();
    let report = Report::new(&served, args.stock, args.dry_run, sum);
    print(&report.lines(), &report, args.json)?;
    report.end()
}

/// Asks until all is done. A worker that dies is followed by another, which is asked to go on.
fn ask(mut worker: Worker<'_>, args: &Args, progress: &mut Progress) -> Result<Drained, Failure> {
    let until = Instant::now() + args.within;
    let mut sum = Drained::default();
    loop {
        let within = until.saturating_duration_since(Instant::now());
        let mut lines = worker.ask(&Command::Drain(Drain {
            within: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            stock: args.stock,
            dry_run: args.dry_run,
        }))?;
        loop {
            let (step, last) = match worker.hear(&mut lines)? {
                Some(Answer::Draining(step)) => (step, false),
                Some(Answer::Drained(step)) => (step, true),
                Some(_) => return Err(worker.confused()),
                None => break,
            };
            if step.dropped + step.given_back > 0 {
                worker.gets_on();
            }
            sum += step;
            let left = sum.left.unwrap_or_default();
            let done = sum.due.unwrap_or_default().saturating_sub(left);
            let message = format!("{}; {left} still here", report::gone(&sum));
            progress.at(done, sum.due, sum.counting, message);
            if last {
                return Ok(sum);
            }
        }
        worker.lost()?;
    }
}
