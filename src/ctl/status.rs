//! `listindexctl status`: what the supervisor knows of a mount, and whether its worker answers.

use std::convert::identity;
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::counted::{self, tell};
use super::look::{BOLD, Facts, Level, Look, age, clean, count, moment, size, took};
use super::mounts::{self, Served};
use super::{print, status_of};
use crate::control::WORKER;
use crate::control::client::Lines;
use crate::control::protocol::{Command, Process, State, Status};
use crate::exit::{Exit, Failure};
use crate::stats;
use crate::stats::figures::{Counted, Figures, Server, Wait};

/// How long the worker may take to show that it answers.
const WORKER_WITHIN: Duration = Duration::from_secs(2);

/// A mount as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    /// Whether the worker answers when it is asked itself.
    worker_answers: bool,
    /// What has been counted.
    figures: Figures,
}

/// Of the mount that is named, or of all. Of several those that give no answer are told of, and the others shown.
pub fn run(given: Option<&Path>, json: bool) -> Result<Exit, Failure> {
    let look = Look::of_stdout();
    let (mut first, mut silent) = (true, None);
    for mount in mounts::meant_or_all(given)? {
        match look_at(&mount) {
            Ok(shown) => {
                let gap = if first { "" } else { "\n" };
                let lines = format!("{gap}{}", shown.lines(&look, stats::now()));
                print(&lines, &shown, json)?;
                first = false;
            }
            Err(failure) => silent = tell(silent, failure),
        }
    }
    silent.map_or(Ok(Exit::Success), Err)
}

fn look_at(mount: &Served) -> Result<Shown, Failure> {
    let status = status_of(mount)?;
    let worker = Lines::ask(&mount.backing, WORKER, &Command::Stats, WORKER_WITHIN);
    Ok(Shown {
        status,
        worker_answers: worker.is_ok_and(|mut lines| matches!(lines.next_answer(), Ok(Some(_)))),
        figures: Figures::of(&counted::reading(mount)?),
    })
}

impl Shown {
    fn lines(&self, look: &Look, now: u64) -> String {
        let of = &self.status;
        let (state, level) = match of.state {
            State::Starting => ("starting", Level::Warning),
            State::Serving => ("serving", Level::Ok),
            State::Stopping => ("stopping", Level::Warning),
        };
        let mut facts = Facts::default();
        if !of.host.is_empty() {
            facts.add("host", of.host.as_str());
        }
        facts.add("backing", of.backing.as_str());
        self.processes(&mut facts);
        if let Some(filter) = &of.log {
            facts.add_with(
                Level::Warning,
                "log",
                format!("{filter}, until told otherwise"),
            );
        }
        add_figures(&mut facts, &self.figures, now);
        let point = look.paint(BOLD, &clean(&of.mountpoint));
        let state = look.paint(level.style(), state);
        format!("{point}: {state}\n{}", facts.lines(look))
    }

    fn processes(&self, facts: &mut Facts) {
        let of = &self.status;
        facts.add("supervisor", process(&of.supervisor));
        match &of.worker {
            Some(worker) if self.worker_answers => facts.add("worker", process(worker)),
            Some(worker) => {
                facts.add("worker", process(worker));
                facts.add_with(
                    Level::Error,
                    "",
                    "it gives no answer: what follows is what it told before",
                );
            }
            None => facts.add_with(
                Level::Error,
                "worker",
                "none at the moment: what follows is of the one before",
            ),
        }
        let mut workers = format!(
            "{} started, {} died, {}",
            of.workers_started,
            self.figures.worker_deaths,
            count(self.figures.upgrades, "upgrade")
        );
        if of.upgrading {
            workers += ", one under way";
        }
        facts.add("workers", workers);
    }
}

fn process(of: &Process) -> String {
    let since = moment(of.since);
    format!("pid {}, version {}, since {since}", of.pid, of.version)
}

fn add_figures(facts: &mut Facts, of: &Figures, now: u64) {
    let bound = of
        .max_users
        .map_or(String::new(), |most| format!(" of {most}"));
    facts.add(
        "users",
        format!(
            "{}{bound} with a list index here, {} here just now, {} open",
            of.users,
            of.users_active,
            count(of.open_files, "file")
        ),
    );
    facts.add("room", room(of));
    facts.add(
        "sessions",
        format!("{} served, {} refused", of.served, of.refused),
    );
    if !of.refusals.is_empty() {
        facts.add_with(Level::Warning, "refused", words(&of.refusals, identity));
    }
    facts.add("hit rate", hit_rate(of));
    facts.add("outcomes", words(&of.outcomes, identity));
    facts.add(
        "waiting",
        of.wait
            .as_ref()
            .map_or("nobody has yet".to_owned(), waiting),
    );
    if !of.evictions.is_empty() {
        facts.add("evicted", words(&of.evictions, identity));
    }
    if of.ghosts > 0 {
        facts.add_with(Level::Warning, "ghosts", ghosts(of.ghosts));
    }
    if of.flaps > 0 {
        let times = count(of.flaps, "time");
        facts.add(
            "flapping",
            format!("{times} a user was on several hosts at once: the log names him"),
        );
    }
    servers(facts, &of.nfs, now);
}

/// What is used of the bound.
pub(super) fn room(of: &Figures) -> String {
    match of.max_bytes {
        Some(most) => {
            let part = u128::from(of.bytes) * 100 / u128::from(most.max(1));
            format!("{} of {} ({part} %)", size(of.bytes), size(most))
        }
        None => format!("{}, without a bound", size(of.bytes)),
    }
}

fn hit_rate(of: &Figures) -> String {
    let shared = count(of.shared, "more open");
    match of.hit_rate {
        Some(rate) => format!(
            "{:.1} % of all looks at INDEX found what is here to be good; {shared} needed no look",
            // Never "100 %" while there was one that did not.
            (rate * 1000.0).floor() / 10.0
        ),
        None => "nobody has been here yet".to_owned(),
    }
}

/// Percentiles, as `50 % 120 µs`.
pub(super) fn waiting(of: &Wait) -> String {
    let took = |seconds: f64| took(Duration::from_secs_f64(seconds).as_micros() as u64);
    format!(
        "50 % up to {}, 90 % up to {}, 99 % up to {}",
        took(of.p50),
        took(of.p90),
        took(of.p99)
    )
}

/// Those that were, as `keep 12, claim 3`, each number `shown` so.
pub(super) fn words<S: Display>(of: &[Counted], shown: impl Fn(u64) -> S) -> String {
    let some = of.iter().filter(|counted| counted.count > 0);
    let words: Vec<_> = some
        .map(|Counted { what, count }| format!("{what} {}", shown(*count)))
        .collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

fn ghosts(number: u64) -> String {
    let sessions = match number {
        1 => "1 session that was refused or lost its files".to_owned(),
        number => format!("{number} sessions that were refused or lost their files"),
    };
    format!("{sessions}: their users are refused until they end")
}

/// One line for each.
pub(super) fn servers(facts: &mut Facts, of: &[Server], now: u64) {
    for (at, server) in of.iter().enumerate() {
        let about = if at == 0 { "NFS" } else { "" };
        let work = match (server.busy, server.queued) {
            (0, 0) => String::new(),
            (busy, 0) => format!(", {busy} at work"),
            (busy, queued) => format!(", {busy} at work, {queued} wait"),
        };
        let mount = &server.mount;
        match server.silent_since {
            Some(since) => facts.add_with(
                Level::Error,
                about,
                format!(
                    "{mount}: silent for {}{work}",
                    age(now.saturating_sub(since))
                ),
            ),
            None if server.silences > 0 => {
                let times = count(server.silences, "time");
                facts.add(about, format!("{mount}: answers, was silent {times}{work}"));
            }
            None => facts.add(about, format!("{mount}: answers{work}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::look::width_of;
    use crate::stats::{Cell, Field, Stats};

    const NOW: u64 = 1_800_000_000;

    fn shown(figures: Figures) -> Shown {
        Shown {
            status: Status {
                workers_started: 3,
                log: Some("debug".to_owned()),
                ..Status::example()
            },
            worker_answers: true,
            figures,
        }
    }

    fn busy() -> Figures {
        let stats = Stats::default();
        for (cell, number) in [
            (Cell::Users, 12_345),
            (Cell::ActiveUsers, 312),
            (Cell::OpenFiles, 641),
            (Cell::Bytes, 252 << 20),
            (Cell::MaxBytes, 3276 << 20),
            (Cell::Served, 53_210),
            (Cell::Refused, 12),
            (Cell::RefusedTimedOut, 10),
            (Cell::RefusedSymlink, 2),
            (Cell::SharedVerdicts, 160_000),
            (Cell::Keep, 51_999),
            (Cell::Claim, 700),
            (Cell::Pull, 12),
            (Cell::EvictedAge, 20),
            (Cell::EvictedMoved, 3),
            (Cell::Ghosts, 2),
            (Cell::WorkerKilled, 1),
            (Cell::Upgraded, 1),
        ] {
            stats.set(cell, number);
        }
        for _ in 0..100 {
            stats.took(Cell::GateWait, Duration::from_micros(180));
        }
        let slot = stats.nfs("/nfs/store1");
        stats.nfs_set(slot, Field::Busy, 2);
        let slot = stats.nfs("/nfs/store2");
        for (field, number) in [
            (Field::Busy, 16),
            (Field::Queued, 20),
            (Field::SilentSince, NOW - 200),
            (Field::Silences, 4),
        ] {
            stats.nfs_set(slot, field, number);
        }
        Figures::of(&stats.read())
    }

    #[test]
    fn it_fits_eighty_columns() {
        let lines = shown(busy()).lines(&Look::PLAIN, NOW);
        let expected = "\
/run/listindex: serving
host        mail1
backing     /var/lib/listindexfs
supervisor  pid 7, version 0.1.0, since 1970-01-02T00:00:00Z
worker      pid 8, version 0.1.0, since 1970-01-02T00:00:00Z
workers     3 started, 1 died, 1 upgrade
log         debug, until told otherwise
users       12345 with a list index here, 312 here just now, 641 files open
room        252.0 MiB of 3.2 GiB (7 %)
sessions    53210 served, 12 refused
refused     symlink 2, timed_out 10
hit rate    98.6 % of all looks at INDEX found what is here to be good; 160000
            more opens needed no look
outcomes    keep 51999, pull 12, claim 700
waiting     50 % up to 150 µs, 90 % up to 190 µs, 99 % up to 199 µs
evicted     age 20, moved 3
ghosts      2 sessions that were refused or lost their files: their users are
            refused until they end
NFS         /nfs/store1: answers, 2 at work
            /nfs/store2: silent for 3 min, 16 at work, 20 wait
";
        assert_eq!(lines, expected);
        assert!(lines.lines().all(|line| width_of(line) <= 80));
    }

    #[test]
    fn colours_are_where_something_is_good_or_bad() {
        let lines = shown(busy()).lines(&Look::COLOURED, NOW);
        assert!(
            lines.starts_with("\u{1b}[1m/run/listindex\u{1b}[0m: \u{1b}[32mserving\u{1b}[0m\n")
        );
        assert!(
            lines.contains("\u{1b}[31m/nfs/store2: silent for 3 min"),
            "{lines}"
        );
        let plain = shown(busy()).lines(&Look::PLAIN, NOW);
        assert_eq!(anstream::adapter::strip_str(&lines).to_string(), plain);
    }

    #[test]
    fn a_worker_without_an_answer_is_told_of() {
        let mut shown = shown(Figures::default());
        shown.worker_answers = false;
        let lines = shown.lines(&Look::PLAIN, NOW);
        assert!(
            lines.contains("it gives no answer: what follows is what it told before\n"),
            "{lines}"
        );
        assert!(
            lines.contains("hit rate    nobody has been here yet\n"),
            "{lines}"
        );
        assert!(
            lines.contains("room        0 B, without a bound\n"),
            "{lines}"
        );
        shown.status.worker = None;
        let lines = shown.lines(&Look::PLAIN, NOW);
        assert!(lines.contains("worker      none at the moment"), "{lines}");
    }

    #[test]
    fn as_json_it_is_the_status_and_more() {
        let json = serde_json::to_value(shown(busy())).expect("JSON");
        assert_eq!(json["worker"]["pid"], 8);
        assert_eq!(json["figures"]["users"], 12_345);
        assert_eq!(json["figures"]["nfs"][1]["silent_since"], NOW - 200);
        assert_eq!(json["worker_answers"], true);
    }
}
