//! `listindexctl users`: who has a list index here. The worker tells it page by page in the order of use, and holds none of it;
//! it is sorted here, where a million users take some hundred megabytes for a moment.

use std::cmp::Reverse;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anstyle::Style;
use clap::ValueEnum;
use serde::Serialize;

use super::look::{self, Column, Level, Look, Table};
use super::mounts::{self, Served};
use super::progress::Progress;
use super::worker::Worker;
use crate::control::client::Lines;
use crate::control::protocol::{Answer, Command};
use crate::control::users::{Activity, Here};
use crate::exit::{Exit, Failure};
use crate::store::usage::Stamp;

const COLUMNS: [Column; 5] = [
    Column::name("USER"),
    Column::number("SIZE", 10),
    Column::number("LAST USE", 8),
    Column::number("OPEN", 4),
    Column::text("STATE", 7),
];

/// What `users` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The mount, or its BACKING, where there are several
    mountpoint: Option<PathBuf>,
    /// The largest first, or who was here longest ago, by name, or who has most files open
    #[arg(long, value_enum, default_value_t = Sort::Bytes)]
    sort: Sort,
    /// No more than so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
}

/// Who comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Who has most.
    Bytes,
    /// Who was here longest ago.
    Age,
    /// By name.
    Name,
    /// Who has most files open.
    Opens,
}

/// What is told.
#[derive(Debug, Serialize)]
struct Report {
    mountpoint: String,
    backing: String,
    total: u64,
    bytes: u64,
    handles: u64,
    in_use: u64,
    haunted: u64,
    failed: u64,
    users: Vec<User>,
}

/// Somebody who has a list index here.
#[derive(Debug, Serialize)]
struct User {
    name: String,
    bytes: u64,
    /// Seconds since 1970.
    last_access: u64,
    handles: u64,
    state: Activity,
}

/// Asks, sorts and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mount = mounts::find(args.mountpoint.as_deref())?;
    let mut worker = Worker::of(&mount.backing, Some(&mount.point));
    let mut progress = Progress::new(!args.json);
    let (users, failed) = loop {
        let mut lines = worker.ask(&Command::Users)?;
        if let Some(all) = follow(&worker, &mut lines, &mut progress)? {
            break all;
        }
        // Where the next one stands in the order of use is not known: from the beginning.
        worker.lost()?;
    };
    progress.end();
    let report = Report::new(&mount, users, failed, args);
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = match args.json {
        true => report.write_json(&mut out),
        false => report.write_lines(&mut out, Look::of_stdout(), Stamp::now()),
    };
    crate::cli::told(printed.and_then(|()| out.flush()))?;
    Ok(Exit::Success)
}

/// All that one worker says, and of how many it could not tell; `None`: it has died before it was done.
fn follow(
    worker: &Worker<'_>,
    lines: &mut Lines,
    progress: &mut Progress,
) -> Result<Option<(Vec<Here>, u64)>, Failure> {
    let (mut users, mut due, mut failed) = (Vec::new(), None, 0);
    loop {
        let (page, last) = match worker.hear(lines)? {
            Some(Answer::Users(page)) => (page, false),
            Some(Answer::Listed(page)) => (page, true),
            Some(_) => return Err(worker.confused()),
            None => return Ok(None),
        };
        due = page.due.or(due);
        failed += page.failed;
        users.extend(page.users);
        progress.at(users.len() as u64, due, page.counting, "users".to_owned());
        if last {
            return Ok(Some((once(users), failed)));
        }
    }
}

/// Who was used meanwhile has been told of again: the later line counts.
fn once(mut users: Vec<Here>) -> Vec<Here> {
    users.reverse();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    users.dedup_by(|next, kept| next.name == kept.name);
    users
}

impl Report {
    /// Of all, who have been sorted by name.
    fn new(mount: &Served, mut users: Vec<Here>, failed: u64, args: &Args) -> Self {
        let number = |is: Activity| users.iter().filter(|user| user.state == is).count() as u64;
        let mut report = Report {
            mountpoint: look::path(&mount.point),
            backing: look::path(&mount.backing),
            total: users.len() as u64,
            bytes: users.iter().map(|user| user.bytes).sum(),
            handles: users.iter().map(|user| user.handles).sum(),
            in_use: number(Activity::InUse),
            haunted: number(Activity::Haunted),
            failed,
            users: Vec::new(),
        };
        match args.sort {
            Sort::Name => {}
            Sort::Bytes => users.sort_by_key(|user| Reverse(user.bytes)),
            Sort::Age => users.sort_by_key(|user| user.last),
            Sort::Opens => users.sort_by_key(|user| Reverse(user.handles)),
        }
        users.truncate(args.limit.unwrap_or(usize::MAX));
        report.users = users.into_iter().map(User::from).collect();
        report
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }

    fn write_lines(&self, out: &mut impl Write, look: Look, now: Stamp) -> io::Result<()> {
        out.write_all(self.summary(look).as_bytes())?;
        if self.users.is_empty() {
            return Ok(());
        }
        let widest = self.users.iter().map(|user| look::width_of(&user.name));
        let table = Table::new(look, &COLUMNS, widest.max());
        out.write_all(table.heading().as_bytes())?;
        for user in &self.users {
            out.write_all(user.row(&table, now).as_bytes())?;
        }
        Ok(())
    }

    /// Of all, shown or not.
    fn summary(&self, look: Look) -> String {
        let place = look.paint(look::BOLD, &look::clean(&self.mountpoint));
        let (users, bytes) = (look::count(self.total, "user"), look::size(self.bytes));
        let mut line = format!("{place}: {users}, {bytes}");
        let parts = [
            (self.in_use, "in use", Level::Ok),
            (self.haunted, "haunted", Level::Warning),
            (self.failed, "unknown: see the log", Level::Error),
        ];
        for (number, what, level) in parts.into_iter().filter(|(number, ..)| *number > 0) {
            line += ", ";
            line += &look.paint(level.style(), &format!("{number} {what}"));
        }
        let shown = self.users.len() as u64;
        if shown < self.total {
            line += &format!("; {shown} shown");
        }
        line + "\n"
    }
}

impl From<Here> for User {
    fn from(here: Here) -> Self {
        User {
            name: here.name,
            bytes: here.bytes,
            last_access: here.last / 1000,
            handles: here.handles,
            state: here.state,
        }
    }
}

impl User {
    fn row(&self, table: &Table, now: Stamp) -> String {
        let age = (now.0 / 1000).saturating_sub(self.last_access);
        let state = match self.state {
            Activity::Idle => look::DIM,
            Activity::InUse => Level::Ok.style(),
            Activity::Haunted => Level::Warning.style(),
        };
        let open = match self.handles {
            0 => String::new(),
            some => some.to_string(),
        };
        let plain = Style::new();
        table.row(&[
            (&self.name, plain),
            (&look::size(self.bytes), plain),
            (&look::age(age), plain),
            (&open, plain),
            (self.state.word(), state),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp(1_790_000_000_123);

    fn here(name: &str, bytes: u64, ago: u64, handles: u64, state: Activity) -> Here {
        let last = NOW.0 - ago * 1000;
        Here {
            name: name.to_owned(),
            bytes,
            last,
            handles,
            state,
        }
    }

    fn report(sort: Sort, limit: Option<usize>) -> Report {
        let mount = Served {
            point: "/run/listindex".into(),
            backing: "/var/lib/listindexfs".into(),
        };
        let long = "somebody.with.a.very.long.name@mail.department.university.example";
        let users = vec![
            here("alice", 20_480, 0, 3, Activity::InUse),
            here("bob", 8_192, 200, 0, Activity::Idle),
            here(long, 12_900_000, 86_400 * 6, 0, Activity::Haunted),
        ];
        let args = Args {
            mountpoint: None,
            sort,
            limit,
            json: false,
        };
        Report::new(&mount, once(users), 0, &args)
    }

    fn lines(report: &Report, look: Look) -> String {
        let mut out = Vec::new();
        let written = report.write_lines(&mut out, look, NOW);
        written.expect("written");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn people_read_a_table_of_eighty_columns() {
        let plain = lines(&report(Sort::Bytes, None), Look::PLAIN);
        assert_eq!(
            plain,
            "\
/run/listindex: 3 users, 12.3 MiB, 1 in use, 1 haunted
USER                                               SIZE  LAST USE  OPEN  STATE
somebody.with.a.very.…nt.university.example    12.3 MiB    6 days        haunted
alice                                          20.0 KiB       0 s     3  in use
bob                                             8.0 KiB     3 min        idle
",
            "{plain}"
        );
        assert!(plain.lines().all(|line| look::width_of(line) <= 80));
        let coloured = lines(&report(Sort::Bytes, None), Look::COLOURED);
        assert_ne!(coloured, plain);
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
    }

    #[test]
    fn each_order_has_its_first_and_a_limit_leaves_the_sums_alone() {
        let first = |sort| {
            let report = report(sort, Some(1));
            assert_eq!((report.total, report.users.len()), (3, 1));
            report.users[0]
                .name
                .split('.')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let orders = [Sort::Bytes, Sort::Age, Sort::Name, Sort::Opens];
        let firsts = ["somebody", "somebody", "alice", "alice"];
        assert_eq!(orders.map(first), firsts);
        let shown = lines(&report(Sort::Name, Some(1)), Look::PLAIN);
        assert!(
            shown.starts_with("/run/listindex: 3 users, 12.3 MiB, 1 in use, 1 haunted; 1 shown\n")
        );
    }

    #[test]
    fn who_is_told_of_twice_is_there_once_as_he_was_last() {
        let twice = vec![
            here("bob", 1, 100, 0, Activity::Idle),
            here("alice", 2, 0, 0, Activity::Idle),
            here("bob", 3, 0, 1, Activity::InUse),
        ];
        let users = once(twice);
        let users: Vec<_> = users
            .iter()
            .map(|user| (user.name.as_str(), user.bytes))
            .collect();
        assert_eq!(users, [("alice", 2), ("bob", 3)]);
    }

    #[test]
    fn programs_read_one_object() {
        let mut out = Vec::new();
        let report = report(Sort::Opens, Some(1));
        report.write_json(&mut out).expect("written");
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json["total"], 3);
        assert_eq!(json["users"][0]["state"], "in-use");
        assert_eq!(json["users"][0]["last_access"], NOW.0 / 1000);
    }
}
