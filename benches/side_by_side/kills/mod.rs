//! How long anybody waits when the worker is killed: the longest single call over each kill, of threads that do what
//! logins do, and beside it the longest call of a while without a kill, which is the machine's own doing.

mod calls;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::stat;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use crate::contestant::{Contestant, LISTINDEXFS, Talk};
use crate::place::ROOT;
use crate::plan::Plan;
use crate::running::Running;
use crate::support::process::Family;
use crate::table::Table;
use crate::users::{self, UserFiles};

const THREADS: usize = 4;
/// Users of each thread: its calls are about files that nobody else uses.
const USERS: usize = 8;
/// How long it goes on after a kill was overcome, and how long a while without a kill lasts.
const WHILE: Duration = Duration::from_millis(130);
/// Sessions of a user after which his log, which has grown, is made anew.
const SESSIONS: usize = 200;

const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// What each kill cost, milliseconds.
#[derive(Clone, Debug)]
pub struct Kills {
    /// The longest call over each kill.
    pub longest: Vec<f64>,
    /// The longest call of each while without.
    pub without: Vec<f64>,
    /// From each kill to the next worker's first answer.
    pub answered: Vec<f64>,
}

/// Whiles follow one another: in the odd ones the worker is killed, in the even ones not.
fn is_kill(of_while: usize) -> bool {
    of_while % 2 == 1
}

/// Kills listindexfs's workers, if it takes part.
pub fn run(contestants: &[Contestant], plan: &Plan) -> Result<Option<Kills>> {
    let Some(contestant) = contestants.iter().find(|c| c.name == LISTINDEXFS) else {
        return Ok(None);
    };
    let place = contestant.place(&plan.dir, "kills", ROOT)?;
    let running = Running::start(contestant, place, Talk::Quiet)?;
    let users = (0..=THREADS).map(|thread| users::make(&running, thread));
    let users = users.collect::<Result<Vec<_>>>()?;
    let (mine, theirs) = users.split_first().context("no users")?;
    let (now, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let whiles = 2 * plan.kills;
    let (answered, longest) = thread::scope(|scope| {
        let start = |users| {
            let (now, stop) = (&now, &stop);
            scope.spawn(move || work(users, now, stop, whiles))
        };
        let workers: Vec<_> = theirs.iter().map(|users| start(&users[..USERS])).collect();
        let answered = kill_all(&running, &mine[0], &now, whiles);
        stop.store(true, Ordering::Relaxed);
        let mut longest = vec![0.0_f64; whiles];
        for worker in workers {
            let of_one = worker.join().map_err(|_| anyhow!("a thread panicked"))??;
            let both = longest.iter_mut().zip(of_one);
            both.for_each(|(longest, one)| *longest = longest.max(one));
        }
        Ok::<_, anyhow::Error>((answered?, longest))
    })?;
    eprintln!("kills: {} workers killed", answered.len());
    let of = |kill| {
        let all = longest.iter().enumerate();
        all.filter(move |(number, _)| is_kill(*number) == kill)
            .map(|(_, longest)| *longest)
            .collect()
    };
    Ok(Some(Kills {
        longest: of(true),
        without: of(false),
        answered,
    }))
}

/// One after the other; gives how long each time nobody was answered.
fn kill_all(
    running: &Running,
    user: &UserFiles,
    now: &AtomicUsize,
    whiles: usize,
) -> Result<Vec<f64>> {
    let mut answered = Vec::new();
    for number in 0..whiles {
        now.store(number, Ordering::SeqCst);
        if is_kill(number) {
            answered.push(kill(running, user)?);
        }
        thread::sleep(WHILE);
    }
    Ok(answered)
}

/// Kills the worker; gives the time until the next one has answered, milliseconds.
fn kill(running: &Running, user: &UserFiles) -> Result<f64> {
    let supervisor = running.pid().context("no daemon")?;
    let worker = Family::of(supervisor).alive().next();
    let worker = worker.context("there is no worker")?;
    let worker = Pid::from_raw(worker.try_into()?).context("pid 0")?;
    let worker = pidfd_open(worker, PidfdFlags::empty()).context("failed to open the worker")?;
    let killed = Instant::now();
    pidfd_send_signal(&worker, Signal::KILL).context("failed to kill the worker")?;
    // Until it is gone it may answer still.
    let mut end = [PollFd::new(&worker, PollFlags::IN)];
    let ended = poll(&mut end, Some(&PATIENCE)).context("failed to wait")?;
    ensure!(ended == 1, "the worker that was killed is not gone");
    match stat(&user.log2) {
        Err(Errno::NOENT) => Ok(milliseconds(killed)),
        other => bail!("stat of a missing file gave {other:?}"),
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// One thread's longest call in each while, milliseconds. A call that a kill falls into, or that began after it, counts for it.
fn work(
    users: &[UserFiles],
    now: &AtomicUsize,
    stop: &AtomicBool,
    whiles: usize,
) -> Result<Vec<f64>> {
    let mut longest = vec![0.0_f64; whiles];
    for session in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let user = &users[session % users.len()];
        if session / users.len() % SESSIONS == SESSIONS - 1 {
            calls::shorten(user)?;
        }
        let mut first = now.load(Ordering::SeqCst);
        calls::session(user, &mut |began| {
            let took = milliseconds(began);
            let last = now.load(Ordering::SeqCst);
            let of = (first..=last).rev().find(|number| is_kill(*number));
            let of = of.unwrap_or(last);
            longest[of] = longest[of].max(took);
            first = last;
        })?;
    }
    Ok(longest)
}

impl Kills {
    fn rows(&self) -> [(&'static str, &[f64]); 3] {
        [
            ("longest call over a kill", &self.longest),
            ("the same without a kill", &self.without),
            ("from a kill to the next answer", &self.answered),
        ]
    }

    /// p50, p90 and max of each.
    pub fn table(&self) -> Table {
        let mut table = Table::new(["milliseconds", "n", "p50", "p90", "max"]);
        for (what, all) in self.rows() {
            let mut row = vec![what.to_owned(), all.len().to_string()];
            row.extend([0.5, 0.9, 1.0].map(|part| format!("{:.1}", quantile(all, part))));
            table.row(row);
        }
        table
    }

    /// Every figure.
    pub fn to_json(&self) -> Value {
        let all = self.rows().map(|(what, all)| {
            let [p50, p90, max] = [0.5, 0.9, 1.0].map(|part| quantile(all, part));
            json!({"what": what, "p50": p50, "p90": p90, "max": max, "ms": all})
        });
        json!(all)
    }
}

/// The least of which so many are no greater; 1.0 is the greatest.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}
