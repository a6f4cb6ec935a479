//! The command line of `listindexctl`, which asks those who serve, and looks after mount points and backings.

mod bounded;
mod check;
mod clean;
mod completions;
mod counted;
mod drain;
mod level;
mod look;
mod mounts;
mod path;
mod place;
mod point;
mod progress;
mod screen;
mod status;
mod top;
mod user;
mod users;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::mounts::Served;
use crate::cli;
use crate::control::client;
use crate::control::protocol::{self, Answer, Status};
use crate::exit::{Exit, Failure};

/// How long the supervisor may take to say what it knows.
const STATUS_WITHIN: Duration = Duration::from_secs(10);
/// An upgrade is answered within a minute.
const UPGRADE_WITHIN: Duration = Duration::from_secs(90);

/// Asks those who serve a listindexfs, and looks after its mount point.
#[derive(Debug, Parser)]
#[command(
    name = "listindexctl",
    version,
    after_help = "MOUNTPOINT, or its BACKING, can be left out where one listindexfs is mounted. See listindexctl(8)."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells how the mount fares: who serves it, for whom, and what came of it
    Status {
        /// This mount alone, or that of this BACKING
        mountpoint: Option<PathBuf>,
        /// As JSON, on one line
        #[arg(long)]
        json: bool,
    },
    /// Has the program that is installed now serve the mount, without a break
    Upgrade {
        /// The mount, or its BACKING, where there are several
        mountpoint: Option<PathBuf>,
    },
    /// Shows each second what the mount does, until q is pressed
    Top(top::Args),
    /// Changes what is logged, until the mount ends or this is run again
    Log(level::Args),
    /// Prints what is counted, for Prometheus
    Metrics {
        /// This mount alone, or that of this BACKING
        mountpoint: Option<PathBuf>,
    },
    /// Looks for what is wrong on this host, before and after mounting, and says what to do
    Check(check::Args),
    /// Drops the list indexes of users who have not been here for long
    Clean(clean::Args),
    /// Drops the list indexes of users now, however recently they were here
    Evict(clean::Evict),
    /// Tells who has a list index here
    Users(users::Args),
    /// Tells all that is known of a user
    User(user::Args),
    /// Tells a user's directories by his name, and his name by any of them
    Path(path::Args),
    /// Takes this host out of service: everybody's list index goes as soon as he is idle
    Drain(drain::Args),
    /// Makes it harmless that nothing is mounted on MOUNTPOINT
    Prepare {
        /// What listindexfs is to be mounted on; it is made where it is missing
        mountpoint: PathBuf,
    },
    /// Unmounts once nobody uses the mount, and after a while though somebody does
    Unmount {
        /// The mount, or its BACKING, where there are several
        mountpoint: Option<PathBuf>,
        /// How long its users may keep it
        #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = cli::duration)]
        within: Duration,
    },
    /// Prints what a shell is to complete
    Completions(completions::Args),
}

/// Parses, runs, and gives the exit code.
pub fn main() -> ExitCode {
    cli::end("listindexctl", |args: Args| run(args.command))
}

fn run(command: Command) -> Result<Exit, Failure> {
    let anybody = matches!(command, Command::Completions(_));
    if !anybody && !rustix::process::geteuid().is_root() {
        return Err(Failure::usage("only root can do this: run it as root"));
    }
    match command {
        Command::Status { mountpoint, json } => status::run(mountpoint.as_deref(), json),
        Command::Upgrade { mountpoint } => upgrade(&mounts::find(mountpoint.as_deref())?),
        Command::Top(args) => top::run(&args),
        Command::Log(args) => level::run(&args),
        Command::Metrics { mountpoint } => counted::metrics(mountpoint.as_deref()),
        Command::Check(args) => check::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Evict(args) => clean::run(&args.into()),
        Command::Users(args) => users::run(&args),
        Command::User(args) => user::run(&args),
        Command::Path(args) => path::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Prepare { mountpoint } => point::prepare(&absolute(&mountpoint)?),
        Command::Unmount { mountpoint, within } => {
            point::unmount(&mounts::find(mountpoint.as_deref())?, within)
        }
        Command::Completions(args) => completions::run(&args),
    }
}

/// These lines, or the same for programs.
fn print(lines: &str, all: &impl serde::Serialize, json: bool) -> Result<Exit, Failure> {
    match json {
        true => say(&(serde_json::to_string(all).map_err(Failure::system)? + "\n")),
        false => say(lines),
    }
}

fn say(lines: &str) -> Result<Exit, Failure> {
    cli::say(lines.as_bytes())?;
    Ok(Exit::Success)
}

fn upgrade(mount: &Served) -> Result<Exit, Failure> {
    let point = mount.point.display();
    match ask(mount, &protocol::Command::Upgrade, UPGRADE_WITHIN)? {
        Answer::Status(status) => {
            let version = status.worker.map_or("unknown".to_owned(), |of| of.version);
            say(&format!("{point}: version {version} serves\n"))
        }
        other => Err(Failure::usage(format!("{point}: {}", why(other)))),
    }
}

/// What the supervisor knows.
fn status_of(mount: &Served) -> Result<Status, Failure> {
    match ask(mount, &protocol::Command::Status, STATUS_WITHIN)? {
        Answer::Status(status) => Ok(*status),
        other => Err(refusal(mount, other)),
    }
}

/// What the supervisor answers.
fn ask(mount: &Served, command: &protocol::Command, within: Duration) -> Result<Answer, Failure> {
    client::ask(&mount.backing, command, within)
        .map_err(|error| Failure::system(mounts::why_silent(mount, &error)))
}

/// It has not done what it was asked for.
fn refusal(mount: &Served, answer: Answer) -> Failure {
    Failure::system(format!("{}: {}", mount.point.display(), why(answer)))
}

fn why(answer: Answer) -> String {
    match answer {
        Answer::Error(why) => why,
        _ => "an answer to another question".to_owned(),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    cli::absolute("MOUNTPOINT", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_man_page_has_every_command_and_option_and_code() {
        let page = include_str!("../../mount/listindexctl.8").replace("\\-", "-");
        for command in Args::command().get_subcommands() {
            let name = command.get_name();
            assert!(
                page.contains(&format!("\n.TP\n.BR {name} "))
                    || page.contains(&format!("\n.TP\n.B {name}\n"))
                    || page.contains(&format!("\n.TP\n.BI {name}\\~ ")),
                "{name} is not in the man page"
            );
            let options = command.get_arguments().filter_map(clap::Arg::get_long);
            for option in options.filter(|option| *option != "help") {
                assert!(page.contains(&format!("--{option}")), "{name}: --{option}");
            }
        }
        for exit in Exit::ALL {
            let entry = format!("\n.TP\n.B {}\n", exit.code());
            assert!(page.contains(&entry), "{exit:?} is not in the man page");
        }
    }
}
