//! `listindexctl clean`: idle users' list indexes go, by the worker of a mount, or here where nothing is mounted.

mod report;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use self::report::Report;
use super::place::{self, Place, Users};
use super::print;
use super::progress::Progress;
use crate::answer::unmounted;
use crate::control::protocol::{Clean, Step};
use crate::daemon::{checks, kept, lock::Lock};
use crate::exit::{Exit, Failure};
use crate::options::BackingFs;

/// What `clean` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who has not been here for so long, as 7days or 1h; 0s: whoever is idle
    #[arg(value_name = "MIN_AGE", value_parser = crate::cli::duration)]
    age: Duration,
    /// Only these: by name, or by the path of their directory in the mount or the backing
    #[arg(value_name = "USER")]
    users: Vec<String>,
    #[command(flatten)]
    at: At,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
}

/// Where they are.
#[derive(Debug, clap::Args)]
struct At {
    /// Of the listindexfs that is mounted here, or has this backing
    #[arg(long, value_name = "MOUNTPOINT", conflicts_with = "backing")]
    mount: Option<PathBuf>,
    /// What lies in this backing, mounted or not
    #[arg(long, value_name = "BACKING")]
    backing: Option<PathBuf>,
}

/// What `evict` is told.
#[derive(Debug, clap::Args)]
pub struct Evict {
    /// By name, or by the path of their directory in the mount or the backing
    #[arg(value_name = "USER", required = true)]
    users: Vec<String>,
    #[command(flatten)]
    at: At,
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
}

impl From<Evict> for Args {
    /// However recently they were here.
    fn from(evict: Evict) -> Self {
        Args {
            age: Duration::ZERO,
            users: evict.users,
            at: evict.at,
            dry_run: false,
            json: evict.json,
        }
    }
}

/// Cleans, and tells what became of it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let At { mount, backing } = &args.at;
    let (place, users) = place::of(mount.as_deref(), backing.as_deref(), &args.users)?;
    let mut progress = Progress::new(!args.json);
    let wanted = |users: &Users| Clean {
        age: u64::try_from(args.age.as_millis()).unwrap_or(u64::MAX),
        dry_run: args.dry_run,
        users: users.wanted(),
    };
    let (users, sum) = match &place {
        Place::Served { backing, point } => {
            let cleaned = worker::Asked::new(backing, point.as_deref(), wanted(&users));
            (users, cleaned.run(&mut progress)?)
        }
        Place::Unmounted(backing) => {
            let opened = checks::open_backing(backing, BackingFs::Any)?;
            kept::read(&opened, backing)?; // before anything is made in what may be no backing
            let _lock = Lock::take_to_clean(&opened, backing)?;
            let config = kept::read(&opened, backing)?;
            let users = place::below(&config, &args.users)?;
            let mut sum = Step::default();
            let cleaned = unmounted::clean(&config, &wanted(&users), &mut |step| {
                sum += step;
                progress.show(&sum);
            });
            cleaned.map_err(|e| Failure::system(format!("{}: {e}", backing.display())))?;
            (users, sum)
        }
    };
    progress.end();
    let report = Report::new(&place, args.dry_run, &users, sum);
    print(&report.lines(), &report, args.json)?;
    report.end()
}
