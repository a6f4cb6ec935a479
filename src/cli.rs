//! The command line of `listindexfs`, which is also the one mount(8) writes.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::daemon::{self, background};
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::options::Config;
use crate::supervise::Invocation;
use crate::supervise::worker::{self, Inherited};

/// The clock has an end, and so long from now it has not come.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

/// Serves Dovecot's mailbox list index from tmpfs, checked against NFS whenever it is opened.
#[derive(Debug, Parser)]
#[command(
    name = "listindexfs",
    version,
    override_usage = "listindexfs BACKING MOUNTPOINT -o OPTIONS",
    after_help = "The option index=TEMPLATE is needed: where the users' indexes are on NFS. \
                  All options are in listindexfs(8)."
)]
struct Args {
    /// The directory on tmpfs that holds the files; it is made where it is missing
    #[arg(value_name = "BACKING")]
    backing: PathBuf,
    /// The empty directory to mount on: what Dovecot's LISTINDEX= points into
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// Mount options, separated by commas; may be given several times
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    foreground: bool,
    /// Log every request; stays in the foreground
    #[arg(short, long)]
    debug: bool,
    /// The supervisor's descriptors: this process is its worker
    #[arg(long, hide = true)]
    worker: Option<Inherited>,
    /// This worker serves only when it is told to
    #[arg(long, hide = true)]
    standby: bool,
    /// What the host is called where no host= says it
    #[arg(long, hide = true)]
    host_name: Option<String>,
}

/// The command line as people write it, for what completes it.
pub(crate) fn command() -> clap::Command {
    let all = <Args as clap::CommandFactory>::command();
    let shown = all.get_arguments().filter(|arg| !arg.is_hide_set());
    clap::Command::new("listindexfs")
        .version(env!("CARGO_PKG_VERSION"))
        .args(shown.cloned())
}

/// Parses, runs, and gives the exit code.
pub fn main() -> ExitCode {
    end("listindexfs", |args: Args| {
        run(&args).map(|()| Exit::Success)
    })
}

/// Runs what the command line says, and gives the exit code. A failure is one line on standard error.
pub(crate) fn end<A: Parser>(
    program: &str,
    run: impl FnOnce(A) -> Result<Exit, Failure>,
) -> ExitCode {
    let done = match A::try_parse() {
        Ok(args) => run(args),
        Err(error) => refuse(program, &error),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            complain(program, &failure);
            failure.exit.into()
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let host_name = args.host_name.clone().unwrap_or_else(host_name);
    let config = config(args, &host_name)?;
    if let Some(inherited) = &args.worker {
        match args.foreground || args.debug {
            true => logging::to_stderr(args.debug),
            false => logging::to_syslog(),
        }
        return worker::run(config, inherited, args.standby);
    }
    let invocation = Invocation {
        backing: config.backing.clone(),
        mountpoint: config.mountpoint.clone(),
        options: args.options.clone(),
        host_name,
        foreground: args.foreground,
        debug: args.debug,
    };
    if args.foreground || args.debug {
        logging::to_stderr(args.debug);
        daemon::serve(config, invocation, &mut background::Caller::in_foreground())
    } else {
        background::run(|caller| {
            logging::to_syslog();
            daemon::serve(config, invocation, caller)
        })
    }
}

fn config(args: &Args, host_name: &str) -> Result<Config, Failure> {
    let backing = absolute("BACKING", &args.backing)?;
    let mountpoint = absolute("MOUNTPOINT", &args.mountpoint)?;
    Config::parse(&backing, &mountpoint, &args.options, host_name).map_err(Failure::usage)
}

/// What this host calls itself.
pub(crate) fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// A daemon works in `/`: relative paths are those of the caller.
pub(crate) fn absolute(what: &str, path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{what}: {error}")))
}

/// Help and version as clap prints them; of an error only what it says first, on one line.
fn refuse(program: &str, error: &clap::Error) -> Result<Exit, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            say(error.to_string().as_bytes()).map(|()| Exit::Success)
        }
        _ => Err(Failure::usage(one_line(program, error))),
    }
}

/// Writes all of it to standard output. Who reads, and has seen enough (`| head`), has been told.
///
/// # Errors
/// When it cannot be written otherwise, as where a disk is full.
pub(crate) fn say(text: &[u8]) -> Result<(), Failure> {
    told(io::stdout().write_all(text))
}

/// What became of writing to standard output.
///
/// # Errors
/// As [`say`].
pub(crate) fn told(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A line on standard error. Where that takes none there is nobody else to tell.
pub(crate) fn complain(program: &str, line: impl Display) {
    let _ = writeln!(io::stderr(), "{program}: {line}");
}

fn one_line(program: &str, error: &clap::Error) -> String {
    let help = format!("(see {program} --help)");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("no command: say what to do, such as {program} status {help}");
    }
    let text = error.to_string();
    let said = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<_> = said.split_whitespace().collect();
    let said = words.join(" ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    match nearest(error) {
        Some(nearest) => format!("{said}: did you mean `{nearest}`? {help}"),
        None => format!("{said} {help}"),
    }
}

/// The command, option or word that clap takes for the one that was meant.
fn nearest(error: &clap::Error) -> Option<&str> {
    let kinds = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    match kinds.into_iter().find_map(|kind| error.get(kind))? {
        ContextValue::String(nearest) => Some(nearest),
        ContextValue::Strings(all) => all.first().map(String::as_str),
        _ => None,
    }
}

/// A duration on a command line.
///
/// # Errors
/// What to write.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err("must be at most 100years"),
        Err(_) => Err("write a number and a unit, such as 7d, 12h or 30s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use rstest::rstest;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_mount_fuse_runs_is_taken() {
        let line = ["listindexfs", "/b", "/m", "-o", "rw,index=/n/%u,dev,suid"];
        let args = Args::try_parse_from(line).expect("taken");
        let config = config(&args, "host").expect("config");
        assert_eq!(config.backing, Path::new("/b"));
        assert!(!args.foreground && !args.debug);
    }

    #[test]
    fn several_o_are_one() {
        let line = ["listindexfs", "-o", "index=/n/%u", "/b", "-f", "/m", "-oro"];
        let args = Args::try_parse_from(line).expect("taken");
        assert_eq!(args.options, ["index=/n/%u", "ro"]);
    }

    #[test]
    fn a_duration_can_be_waited_for() {
        assert_eq!(duration("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert!(duration("100years").is_ok());
        let why = duration("18446744073709551615s").expect_err("without end");
        assert_eq!(why, "must be at most 100years");
        assert!(duration("12").is_err());
    }

    #[rstest]
    #[case(&["/b"], "the following required arguments were not provided: <MOUNTPOINT>")]
    #[case(&["/b", "/m", "/x"], "unexpected argument '/x' found")]
    #[case(&["/b", "/m", "--migrate"], "unexpected argument '--migrate' found")]
    #[case(&["/b", "/m", "-o"], "a value is required for '-o <OPTIONS>' but none was supplied")]
    fn an_error_is_one_line(#[case] args: &[&str], #[case] expected: &str) {
        let line = std::iter::once("listindexfs").chain(args.iter().copied());
        let error = Args::try_parse_from(line).expect_err("refused");
        let said = one_line("listindexfs", &error);
        assert_eq!(said, format!("{expected} (see listindexfs --help)"));
    }

    #[test]
    fn what_was_written_cannot_move_the_cursor() {
        let line = ["listindexfs", "/b", "/m", "\u{9b}2J"];
        let error = Args::try_parse_from(line).expect_err("refused");
        let refused = refuse("listindexfs", &error).expect_err("refused");
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.to_string().contains("\\u{9b}2J"), "{refused}");
    }
}
