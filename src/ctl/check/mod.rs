//! `listindexctl check`: what an operator has to know of this host, before and after mounting, one finding a line.
//!
//! Nothing here changes anything, and nothing waits without a bound.

mod backing;
mod bare;
mod base;
mod boot;
mod clock;
mod dovecot;
mod host;
mod nfs;
mod plan;
mod report;
mod serving;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use self::report::Report;
use self::subject::Subject;
use super::look::Look;
use super::mounts;
use crate::exit::{Exit, Failure};

/// How long a file system, or another program, may take to answer.
const WITHIN: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This mount alone; else all there are, and those of fstab and the unit
    mountpoint: Option<PathBuf>,
    /// The options it is to be mounted with, instead of those of fstab or the unit
    #[arg(long, value_name = "OPTIONS")]
    options: Option<String>,
    /// Where its files are to be, instead of where fstab or the unit says
    #[arg(long, value_name = "BACKING")]
    backing: Option<PathBuf>,
    /// Dovecot's configuration, or what doveconf -n has printed
    #[arg(long, value_name = "CONFIG")]
    dovecot: Option<PathBuf>,
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
}

/// Looks, and prints what it finds. The exit code tells whether there is an error.
///
/// # Errors
/// When there is no `/proc`, or the arguments do not say enough. What is found wrong is no failure.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let report = look(args)?;
    super::print(&report.shown(&Look::of_stdout()), &report, args.json)?;
    Ok(report.exit())
}

fn look(args: &Args) -> Result<Report, Failure> {
    let mut report = Report::default();
    host::look_at(&mut report);
    let subjects = subject::find(args, &mut report)?;
    let table = mounts::table()?;
    for subject in &subjects {
        look_at(subject, &table, &mut report);
    }
    let conf = dovecot::look_at(args.dovecot.as_deref(), &subjects, &mut report);
    boot::dovecot_unit(&subjects, &mut report);
    serving::sight(&subjects, conf.as_ref(), &mut report);
    Ok(report)
}

fn look_at(subject: &Subject, table: &[u8], report: &mut Report) {
    serving::look_at(subject, report);
    backing::look_at(subject, table, report);
    bare::look_at(&subject.point, table, report);
    let base = base::look_at(subject, table, report);
    if base == base::Base::Answers {
        clock::look_at(subject, report);
    }
    boot::look_at(subject, table, report);
}
