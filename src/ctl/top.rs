//! `listindexctl top`: what a mount does right now, seen again each second.

use std::convert::identity;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::counted;
use super::look::{BOLD, Column, DIM, Facts, Look, Table, age, clean, count, size, width_of};
use super::mounts::{self, Served};
use super::screen::{self, Screen};
use super::status::{room, servers, waiting, words};
use super::{say, status_of};
use crate::control::WORKER;
use crate::control::client::Lines;
use crate::control::protocol::{Answer, Command, Status};
use crate::control::users::Big;
use crate::exit::{Exit, Failure};
use crate::stats::figures::{Figures, Wait};
use crate::stats::{self, Cell, Reading};

/// A frame is about so long.
const PERIOD: Duration = Duration::from_secs(1);
/// How often it is asked who has most, which goes through all users, and how long that may take where it is waited for.
const BIGGEST_PERIOD: Duration = Duration::from_secs(10);
const BIGGEST_WITHIN: Duration = Duration::from_secs(5);
/// How long the worker may take for it.
const WORKER_WITHIN: Duration = Duration::from_secs(30);
/// So many users are shown.
const USERS: usize = 10;

/// What `top` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The mount, or its BACKING, where there are several
    mountpoint: Option<PathBuf>,
    /// Only one second is shown, as where there is no terminal
    #[arg(long)]
    once: bool,
}

/// What is known at one moment.
struct Moment {
    at: Instant,
    status: Status,
    reading: Reading,
}

/// Those who have most, asked for in a thread of its own.
type Biggest = Arc<(Mutex<Option<Vec<Big>>>, Condvar)>;

/// Shows it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mount = mounts::find(args.mountpoint.as_deref())?;
    let mut before = Moment::of(&mount)?;
    let biggest = ask_who_is_biggest(&mount)?;
    if args.once || !screen::is_there() {
        sleep(PERIOD);
        let now = Moment::of(&mount)?;
        let mut known = biggest.0.lock();
        if known.is_none() {
            biggest.1.wait_for(&mut known, BIGGEST_WITHIN);
        }
        let users = known.clone().unwrap_or_default();
        return say(&frame(&Look::of_stdout(), &before, &now, &users));
    }
    let cannot = |error| Failure::system(format!("the terminal: {error}"));
    let screen = Screen::take().map_err(cannot)?;
    while !screen.wait(PERIOD).map_err(cannot)? {
        let now = Moment::of(&mount)?;
        let users = biggest.0.lock().clone().unwrap_or_default();
        let lines = frame(&Look::of_stdout(), &before, &now, &users);
        screen.show(&lines).map_err(cannot)?;
        before = now;
    }
    Ok(Exit::Success)
}

impl Moment {
    fn of(mount: &Served) -> Result<Self, Failure> {
        let (status, reading) = (status_of(mount)?, counted::reading(mount)?);
        let at = Instant::now();
        Ok(Moment {
            at,
            status,
            reading,
        })
    }
}

fn ask_who_is_biggest(mount: &Served) -> Result<Biggest, Failure> {
    let (biggest, mount) = (Biggest::default(), mount.clone());
    let found = Arc::clone(&biggest);
    let ask = move || {
        loop {
            let most = USERS as u64;
            let asked = Lines::ask(
                &mount.backing,
                WORKER,
                &Command::Biggest { most },
                WORKER_WITHIN,
            );
            // A worker that says nothing, or does not understand, is seen elsewhere.
            if let Ok(Some(Answer::Biggest(users))) =
                asked.and_then(|mut lines| lines.next_answer())
            {
                *found.0.lock() = Some(users);
                found.1.notify_all();
            }
            sleep(BIGGEST_PERIOD);
        }
    };
    let spawned = Builder::new().name("biggest".to_owned()).spawn(ask);
    spawned.map_err(|error| Failure::system(format!("cannot start a thread: {error}")))?;
    Ok(biggest)
}

/// What has been between two moments.
fn frame(look: &Look, before: &Moment, now: &Moment, users: &[Big]) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let between = between(&before.reading, &now.reading);
    let (figures, all) = (Figures::of(&between), Figures::of(&now.reading));
    let rate = |number: u64| format!("{:.1}/s", number as f64 / seconds.max(f64::MIN_POSITIVE));
    let mut facts = Facts::default();
    facts.add(
        "sessions",
        format!(
            "{} served, {} refused",
            rate(figures.served),
            rate(figures.refused)
        ),
    );
    facts.add("checks", words(&figures.outcomes, rate));
    if !figures.refusals.is_empty() {
        facts.add("refused", words(&figures.refusals, rate));
    }
    facts.add(
        "waiting",
        figures.wait.as_ref().map_or("nobody".to_owned(), waiting),
    );
    if let Some(wait) = Wait::of(&now.reading.times(Cell::GateWait)) {
        facts.add("in all", waiting(&wait));
    }
    facts.add("requests", rate(requests(&between)));
    facts.add(
        "users",
        format!(
            "{}, {} here just now, {} open, {}",
            all.users,
            all.users_active,
            count(all.open_files, "file"),
            count(all.ghosts, "ghost")
        ),
    );
    facts.add("room", room(&all));
    if !figures.evictions.is_empty() {
        facts.add("evicted", words(&figures.evictions, identity));
    }
    servers(&mut facts, &all.nfs, stats::now());
    heading(look, &now.status) + &facts.lines(look) + &table(look, users)
}

fn heading(look: &Look, of: &Status) -> String {
    let point = look.paint(BOLD, &clean(&of.mountpoint));
    let worker = match &of.worker {
        Some(worker) => {
            let since = age(stats::now().saturating_sub(worker.since));
            format!(
                "worker {} for {since}, {} started",
                worker.pid, of.workers_started
            )
        }
        None => "no worker at the moment".to_owned(),
    };
    let host = clean(&of.host);
    format!("{point} on {host}: {worker}\n")
}

fn table(look: &Look, users: &[Big]) -> String {
    if users.is_empty() {
        return String::new();
    }
    let columns = [
        Column::name("BIGGEST USERS"),
        Column::number("BYTES", 10),
        Column::number("AGE", 7),
    ];
    let widest = users.iter().map(|user| width_of(&user.name)).max();
    let (table, now) = (Table::new(*look, &columns, widest), stats::now());
    let row = |user: &Big| {
        let plain = anstyle::Style::new();
        let age = age(now.saturating_sub(user.last / 1000));
        table.row(&[(&user.name, plain), (&size(user.bytes), plain), (&age, DIM)])
    };
    let rows: String = users.iter().take(USERS).map(row).collect();
    format!("\n{}{rows}", table.heading())
}

/// All numbers less what they were before; of what only tells how it is now that is nothing to go by.
fn between(before: &Reading, now: &Reading) -> Reading {
    let less =
        |(at, cell): (usize, &u64)| cell.saturating_sub(before.cells.get(at).copied().unwrap_or(0));
    Reading {
        cells: now.cells.iter().enumerate().map(less).collect(),
        nfs: Vec::new(),
    }
}

fn requests(of: &Reading) -> u64 {
    let ops = Cell::OpLookup as usize..=Cell::OpStatfs as usize;
    ops.filter_map(|at| of.cells.get(at)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;

    fn moment(at: Instant, stats: &Stats) -> Moment {
        let mut status = Status::example();
        if let Some(worker) = &mut status.worker {
            worker.since = stats::now() - 7200;
        }
        Moment {
            at,
            status,
            reading: stats.read(),
        }
    }

    #[test]
    fn a_frame_tells_of_the_time_between_and_fits_eighty_columns() {
        let (stats, began) = (Stats::default(), Instant::now());
        stats.add(Cell::Served, 1000);
        stats.add(Cell::Keep, 1000);
        stats.took(Cell::GateWait, Duration::from_secs(10));
        let before = moment(began, &stats);
        for (cell, number) in [
            (Cell::Served, 24),
            (Cell::Keep, 20),
            (Cell::Claim, 3),
            (Cell::OpLookup, 50),
            (Cell::OpStatfs, 1),
            (Cell::Users, 1200),
            (Cell::Bytes, 24 << 20),
            (Cell::MaxBytes, 100 << 20),
        ] {
            stats.add(cell, number);
        }
        for _ in 0..50 {
            stats.took(Cell::GateWait, Duration::from_micros(180));
        }
        stats.nfs("/nfs");
        let now = moment(began + Duration::from_secs(2), &stats);
        let big = |name: &str, bytes| Big {
            name: name.to_owned(),
            bytes,
            last: (stats::now() - 200) * 1000,
        };
        let users = [big("alice@example.org", 3 << 20), big("bob", 20_480)];
        let lines = frame(&Look::PLAIN, &before, &now, &users);
        let expected = "\
/run/listindex on mail1: worker 8 for 2 h, 2 started
sessions  12.0/s served, 0.0/s refused
checks    keep 10.0/s, claim 1.5/s
waiting   50 % up to 150 µs, 90 % up to 190 µs, 99 % up to 199 µs
in all    50 % up to 151 µs, 90 % up to 191 µs, 99 % up to 7.4 s
requests  25.5/s
users     1200, 0 here just now, 0 files open, 0 ghosts
room      24.0 MiB of 100.0 MiB (24 %)
NFS       /nfs: answers

BIGGEST USERS           BYTES      AGE
alice@example.org     3.0 MiB    3 min
bob                  20.0 KiB    3 min
";
        assert_eq!(lines, expected);
        assert!(lines.lines().all(|line| width_of(line) <= 80));
    }
}
