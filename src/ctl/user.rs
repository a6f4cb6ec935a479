//! `listindexctl user`: all that is known of one user, and why the gate decided as it did.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::look::{self, Facts, Level, Look};
use super::place::{self, Place};
use super::print;
use super::worker::Worker;
use crate::control::protocol::{Answer, Command};
use crate::control::users::{About, Activity, Decision, Ghost, Holder, Index, LastHost, Record};
use crate::exit::{Exit, Failure};
use crate::store::usage::Stamp;

/// So many decisions are shown to people.
const DECISIONS: usize = 8;
/// So many files.
const FILES: usize = 12;

/// What `user` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// By name, or by the path of his directory in the mount or the backing
    #[arg(value_name = "USER")]
    user: String,
    /// Of the listindexfs that is mounted here, or has this backing
    #[arg(long, value_name = "MOUNTPOINT")]
    mount: Option<PathBuf>,
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
}

/// What is told.
#[derive(Debug, Serialize)]
struct Report {
    mountpoint: Option<String>,
    backing: String,
    /// His directories, in full.
    directory: Option<String>,
    backing_directory: String,
    #[serde(flatten)]
    about: About,
}

/// Asks and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let named = std::slice::from_ref(&args.user);
    let (place, users) = place::of(args.mount.as_deref(), None, named)?;
    let (Place::Served { backing, point }, Some((_, who))) = (&place, users.0.first()) else {
        return Err(Failure::mount("nobody serves it: mount it first"));
    };
    let worker = Worker::of(backing, point.as_deref());
    let about = match worker.answer(&Command::User { who: who.clone() })? {
        Answer::User(about) => about.ok_or_else(|| place::not_known(&args.user))?,
        _ => return Err(worker.confused()),
    };
    let report = Report::new(backing, point.as_deref(), *about);
    let lines = report.lines(&Look::of_stdout(), Stamp::now());
    print(&lines, &report, args.json)
}

impl Report {
    fn new(backing: &Path, point: Option<&Path>, about: About) -> Self {
        let below = |root: &Path| look::path(&root.join(&about.path));
        Report {
            mountpoint: point.map(look::path),
            backing: look::path(backing),
            directory: point.map(below),
            backing_directory: below(backing),
            about,
        }
    }

    fn lines(&self, look: &Look, now: Stamp) -> String {
        let about = &self.about;
        let mut facts = Facts::default();
        facts.add_with(level_of(about.state), "state", state(about));
        if let Some(directory) = &self.directory {
            facts.path("directory", directory);
        }
        facts.path("backing", &self.backing_directory);
        match &about.index {
            Index::Path(path) => facts.path("INDEX", path),
            Index::None(why) => facts.add_with(Level::Error, "INDEX", why),
        }
        facts.add("list index", look::size(about.bytes));
        let files = about.files.iter().take(FILES);
        files.for_each(|file| facts.more(format!("{}, {}", file.name, look::size(file.size))));
        let more = about.files.len().saturating_sub(FILES) as u64 + about.more_files;
        if more > 0 {
            facts.more(format!("and {more} more"));
        }
        if about.plain_bytes > 0 {
            facts.add("plain files", look::size(about.plain_bytes));
        }
        facts.add("last use", moment(about.last_access, now));
        facts.add("record", record(&about.record));
        let (level, said) = lasthost(&about.lasthost);
        match level {
            Some(level) => facts.add_with(level, ".lasthost", said),
            None => facts.add(".lasthost", said),
        }
        let (holders, ghosts) = (about.holders.iter(), about.ghosts.iter());
        let (more_holders, more_ghosts) = (about.more_holders, about.more_ghosts);
        people(&mut facts, "open files", holders.map(holder), more_holders);
        people(&mut facts, "ghosts", ghosts.map(ghost), more_ghosts);
        decisions(&mut facts, &about.decisions, now);
        let name = look.paint(look::BOLD, &look::clean(&about.name));
        name + "\n" + &facts.lines(look)
    }
}

fn people(
    facts: &mut Facts,
    about: &'static str,
    mut lines: impl Iterator<Item = String>,
    more: u64,
) {
    if let Some(first) = lines.next() {
        facts.add(about, first);
    }
    lines.for_each(|line| facts.more(line));
    if more > 0 {
        facts.more(format!("and {more} more"));
    }
}

fn decisions(facts: &mut Facts, all: &[Decision], now: Stamp) {
    let mut about = "decisions";
    if all.is_empty() {
        facts.add(about, "none since this worker began");
    }
    for decision in all.iter().take(DECISIONS) {
        let level = match decision.served {
            true => Level::Ok,
            false => Level::Error,
        };
        let (at, took) = (moment(decision.at, now), look::took(decision.took_us));
        let Decision { decision, why, .. } = decision;
        facts.add_with(level, about, format!("{decision}: {why}"));
        facts.more(format!("{at}, took {took}"));
        about = "";
    }
}

fn level_of(state: Activity) -> Level {
    match state {
        Activity::Idle | Activity::InUse => Level::Ok,
        Activity::Haunted => Level::Warning,
    }
}

fn state(about: &About) -> String {
    let checking = if about.checking {
        ", a check or a fence is under way"
    } else {
        ""
    };
    let word = about.state.word();
    match about.state {
        Activity::Idle => word.to_owned(),
        Activity::InUse => format!("{word}{checking}"),
        Activity::Haunted if about.ghosts.is_empty() => format!(
            "{word}: sessions of an earlier mount were refused or lost their files: his next login here begins anew{checking}"
        ),
        Activity::Haunted => format!(
            "{word}: nobody is given his list index until sessions have ended whose changes it lacks{checking}"
        ),
    }
}

/// A moment in seconds since 1970, and how long ago it is.
fn moment(at: u64, now: Stamp) -> String {
    let ago = (now.0 / 1000).saturating_sub(at);
    format!("{}, {} ago", look::moment(at), look::age(ago))
}

fn record(record: &Record) -> String {
    match record {
        Record::None => "none of this mount: the next login begins anew".to_owned(),
        Record::Haunted => "says that sessions linger: no list index here is believed".to_owned(),
        Record::Accepted { inode, pulled, .. } => {
            let mut text = format!("accepts the .lasthost that is inode {inode}");
            if !pulled.is_empty() {
                text += &format!("; pulled {}", pulled.join(", "));
            }
            text
        }
    }
}

fn lasthost(said: &LastHost) -> (Option<Level>, String) {
    match said {
        LastHost::NotAsked { why } => (Some(Level::Warning), format!("not asked: {why}")),
        LastHost::Trouble { why } => (Some(Level::Error), why.clone()),
        LastHost::NoIndex => (None, "there is no INDEX".to_owned()),
        LastHost::Absent => (None, "there is none".to_owned()),
        LastHost::Foreign => (
            Some(Level::Warning),
            "there is one that no listindexfs has written".to_owned(),
        ),
        LastHost::Claim {
            host,
            instance,
            ours,
            recorded,
            stale,
        } => {
            let whose = match (ours, recorded, instance) {
                (true, true, _) => "this mount's, and the record's",
                (true, false, _) => "this mount's, and not in the record",
                (false, true, _) => "the record's",
                (false, false, Some(_)) => "another mount's: the next login here begins anew",
                (false, false, None) => "nobody's mount: the next login here begins anew",
            };
            let mut text = format!("{host}: {whose}");
            if *stale > 0 {
                text += &format!("; warns of {}", look::count(*stale, "stale log"));
            }
            (None, text)
        }
    }
}

fn process(pid: u32, program: &str) -> String {
    match (pid, program) {
        (0, _) => "a process that cannot be seen from here".to_owned(),
        (pid, "") => format!("pid {pid} (ended)"),
        (pid, program) => format!("pid {pid} ({program})"),
    }
}

fn holder(holder: &Holder) -> String {
    let wrote = if holder.wrote { ", has written" } else { "" };
    let process = process(holder.pid, &holder.program);
    let files = look::count(holder.handles.into(), "file");
    format!("{process}, uid {}: {files}{wrote}", holder.uid)
}

fn ghost(ghost: &Ghost) -> String {
    format!("{}: {}", process(ghost.pid, &ghost.program), ghost.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::users::File;

    const NOW: Stamp = Stamp(1_790_000_000_123);

    const SHOWN: &str = "\
bob@example.com
state       haunted: nobody is given his list index until sessions have ended
            whose changes it lacks
directory   /run/listindex/d0/bob@example.com
backing     /var/lib/listindexfs/d0/bob@example.com
INDEX       /nfs/idx/d0/bob@example.com
list index  12.0 KiB
            dovecot.list.index.log, 2.0 KiB
            and 2 more
last use    2026-09-21T14:10:00Z, 3 min ago
record      says that sessions linger: no list index here is believed
.lasthost   backend7: another mount's: the next login here begins anew; warns of
            1 stale log
open files  pid 4711 (imap), uid 5000: 2 files, has written
            and 2 more
ghosts      pid 12 (ended): had files open that had to go
decisions   drain: sessions from before the user moved or was refused still run
            (pid 12): end them with `doveadm kick`, or wait
            2026-09-21T14:13:17Z, 3 s ago, took 3 ms
            keep: INDEX/.lasthost is the one that the record names
            2026-09-21T14:10:00Z, 3 min ago, took 87 µs
";

    fn report() -> Report {
        let seconds = NOW.0 / 1000;
        let about = About {
            name: "bob@example.com".to_owned(),
            path: "d0/bob@example.com".to_owned(),
            index: Index::Path("/nfs/idx/d0/bob@example.com".to_owned()),
            bytes: 12_288,
            plain_bytes: 0,
            files: vec![File {
                name: "dovecot.list.index.log".to_owned(),
                size: 2_000,
            }],
            more_files: 2,
            last_access: seconds - 200,
            state: Activity::Haunted,
            checking: false,
            record: Record::Haunted,
            lasthost: LastHost::Claim {
                host: "backend7".to_owned(),
                instance: Some("f".repeat(32)),
                ours: false,
                recorded: false,
                stale: 1,
            },
            holders: vec![Holder {
                pid: 4711,
                program: "imap".to_owned(),
                uid: 5000,
                handles: 2,
                wrote: true,
            }],
            more_holders: 2,
            more_ghosts: 0,
            ghosts: vec![Ghost {
                pid: 12,
                program: String::new(),
                why: "had files open that had to go".to_owned(),
            }],
            decisions: vec![
                Decision {
                    at: seconds - 3,
                    decision: "drain".to_owned(),
                    served: false,
                    why: "sessions from before the user moved or was refused still run (pid 12): end them with `doveadm kick`, or wait".to_owned(),
                    took_us: 3_210,
                },
                Decision {
                    at: seconds - 200,
                    decision: "keep".to_owned(),
                    served: true,
                    why: "INDEX/.lasthost is the one that the record names".to_owned(),
                    took_us: 87,
                },
            ],
        };
        let (backing, point) = (
            Path::new("/var/lib/listindexfs"),
            Path::new("/run/listindex"),
        );
        Report::new(backing, Some(point), about)
    }

    #[test]
    fn people_read_facts_of_eighty_columns() {
        let plain = report().lines(&Look::PLAIN, NOW);
        assert_eq!(plain, SHOWN, "{plain}");
        assert!(plain.lines().all(|line| look::width_of(line) <= 80));
        let coloured = report().lines(&Look::COLOURED, NOW);
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
    }

    /// Its time is random, and is not to be taken for when it was written.
    #[test]
    fn a_record_names_the_file_that_it_accepts() {
        let record = Record::Accepted {
            lasthost: "4711 1.2 163".to_owned(),
            inode: 4711,
            instance: "f".repeat(32),
            pulled: vec!["dovecot.list.index.log".to_owned()],
        };
        assert_eq!(
            super::record(&record),
            "accepts the .lasthost that is inode 4711; pulled dovecot.list.index.log"
        );
    }

    #[test]
    fn programs_read_one_object() {
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!(json["name"], "bob@example.com");
        assert_eq!(json["directory"], "/run/listindex/d0/bob@example.com");
        assert_eq!(json["index"]["path"], "/nfs/idx/d0/bob@example.com");
        assert_eq!(json["lasthost"]["kind"], "claim");
        assert_eq!(json["record"]["kind"], "haunted");
        assert_eq!(json["holders"][0]["pid"], 4711);
        assert_eq!(json["decisions"][1]["decision"], "keep");
    }
}
