//! Users move between two hosts and a stock backend while the workers of both hosts die, at any moment and at the steps
//! of purge, claim and pull: nobody notices.
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use listindexfs::user::steps::Step;
use rustix::process::Signal;
use support::lab::mail_dir;
use support::mount::{Options, tool};
use support::ops::Random;
use support::rounds::Rounds;
use support::{
    Config, DOVECOT, Dovecot, FUSE, LIMIT, Lab, ROOT, Site, eventually, finish, lacks, lasting,
    process,
};

/// How long the load lasts at least, unless `LISTINDEXFS_TAKEOVER_SECONDS` says otherwise.
const LOAD: Duration = Duration::from_secs(15);
/// Users who move without a pause.
const USERS: usize = 8;

fn load() -> Duration {
    lasting("LISTINDEXFS_TAKEOVER_SECONDS", LOAD)
}

/// Where a worker must have died: while what is here is purged, while the user is claimed, while a list index is fetched.
const PARTS: [&[Step]; 3] = [
    &[Step::Taken, Step::RecordRemoved, Step::Purged],
    &[Step::ClaimWritten, Step::Claimed],
    &[
        Step::Locked,
        Step::Copied,
        Step::PartInstalled,
        Step::Installed,
        Step::Rechecked,
        Step::PartDeleted,
        Step::Deleted,
    ],
];

/// A host whose workers die.
struct Host {
    site: Site,
    /// While it is there a worker that comes to a step may die of it.
    token: PathBuf,
}

impl Host {
    fn new(lab: &Lab, name: &str, change: fn(Options) -> Options) -> Self {
        let dir = lab.ram(&format!("token-{name}"));
        mail_dir(&dir); // at some steps the worker acts as the mail user
        let token = dir.join("die");
        let env = token.to_str().expect("UTF-8");
        let options = change(Options::new(lab, name).migrate());
        let options = options.env("LISTINDEXFS_WORKER_CRASH_TOKEN", env);
        let config = Config::new(lab, name).include_inbox(true);
        Self {
            site: Site::with(options, config),
            token,
        }
    }

    /// Lets a worker die at the next step that it likes.
    fn at_a_step(&self) {
        fs::write(&self.token, "").expect("a token");
    }

    /// Kills it now.
    fn now(&self) {
        let worker = eventually("there is a worker", || self.site.mount.worker());
        process::signal(worker, Signal::KILL);
    }

    /// Drops whoever is idle.
    fn clean(&self) {
        let point = self.site.mount.path();
        let clean = ["clean", "0s", "--mount"];
        process::run(Command::new(tool()).args(clean).arg(point));
    }

    fn deaths(&self) -> usize {
        self.site.mount.log().matches("the worker has died").count()
    }
}

/// At which steps workers have died, and how often.
fn steps_of_death(hosts: &[Host]) -> BTreeMap<String, usize> {
    let mut steps = BTreeMap::new();
    for host in hosts {
        let log = host.site.mount.log();
        for line in log.lines() {
            if let Some((_, step)) = line.split_once("dies after step ") {
                *steps.entry(step.to_owned()).or_default() += 1;
            }
        }
    }
    steps
}

/// Whether workers have died in each part.
fn in_each_part(steps: &BTreeMap<String, usize>) -> bool {
    let died = |step: &Step| steps.contains_key(step.name());
    PARTS.iter().all(|part| part.iter().any(died))
}

/// One user moves; each session is told the truth at its first LIST and after its changes. Gives rounds and changes.
///
/// He leaves a host when that knows that his session has ended, as it does before it answers who opens his log. A stock
/// backend's list index that is there when it comes to know would go, under a session there perhaps.
fn moves(
    hosts: &[Host],
    stock: &Dovecot,
    user: &str,
    stop: &AtomicBool,
) -> (usize, BTreeMap<&'static str, usize>) {
    // The first to fail ends the others.
    let ending = Ending(stop);
    let ours = hosts.iter().map(|host| &host.site.dovecot);
    let dovecots: Vec<&Dovecot> = ours.chain([stock]).collect();
    let mut rounds = Rounds::new(&dovecots, user).tidy().after_each(|host| {
        let Some(host) = hosts.get(host) else { return };
        let read = host.site.open_log(user).expect("the open hangs");
        // It may not be there: a new user's first session makes INDEX, so that the next gate is the first to claim him.
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(!said.contains("Input/output error"), "{user}: {said}");
    });
    let mut go = |go_on: &dyn Fn(usize) -> bool| {
        let went = rounds.run_while(go_on);
        went.unwrap_or_else(|wrong| panic!("{user}: {}", wrong.story))
    };
    let done = go(&|_| !stop.load(Ordering::Relaxed));
    // On each host once more, with all workers alive.
    go(&|round| round < 2 * dovecots.len());
    drop(ending);
    (done, rounds.done().clone())
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn users_move_while_workers_die_at_each_step() {
    users_move(|options| options, false);
}

/// Whoever is idle for a moment goes: by number, by age, as soon as another host has claimed him, and when an operator cleans.
#[test]
fn and_are_evicted_wherever_they_are_idle() {
    let change = |options: Options| {
        let options = options.option("max_users=2").option("max_age=1s");
        options.option("moved_rate=10000")
    };
    users_move(change, true);
}

fn users_move(change: fn(Options) -> Options, cleans: bool) {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").include_inbox(true).start();
    let hosts = ["a", "b"].map(|name| Host::new(&lab, name, change));
    let stop = AtomicBool::new(false);
    let users: Vec<String> = (0..USERS).map(|n| format!("u{n}")).collect();
    let (rounds, changes) = thread::scope(|scope| {
        let (hosts, stock, stop) = (&hosts, &stock, &stop);
        let start = |user: &String| {
            let user = user.clone();
            scope.spawn(move || moves(hosts, stock, &user, stop))
        };
        let users: Vec<_> = users.iter().map(start).collect();
        let mut random = Random::new();
        let begun = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(300 + random.below(700) as u64));
            let host = &hosts[random.below(hosts.len())];
            match random.below(3) {
                0 => host.now(),
                1 if cleans => host.clean(),
                _ => host.at_a_step(),
            }
            let enough = begun.elapsed() >= load() && in_each_part(&steps_of_death(hosts));
            if enough || begun.elapsed() > load() + LIMIT {
                stop.store(true, Ordering::Relaxed);
            }
        }
        for host in hosts {
            let _ = fs::remove_file(&host.token); // taken, mostly
        }
        let mut all = (0, BTreeMap::new());
        for user in users {
            let (rounds, changes) = user.join().expect("a user");
            all.0 += rounds;
            for (name, times) in changes {
                *all.1.entry(name).or_insert(0) += times;
            }
        }
        all
    });
    let steps = steps_of_death(&hosts);
    let deaths: usize = hosts.iter().map(Host::deaths).sum();
    println!(
        "{deaths} workers died, of them at {steps:?}; {rounds} sessions, {changes:?}: nobody noticed"
    );
    assert!(in_each_part(&steps), "{steps:?}");
    for name in ["CREATE", "DELETE", "APPEND"] {
        assert!(changes.contains_key(name), "no {name}: {changes:?}");
    }
    let refused = |host: &Host| host.site.mount.log().contains("list index refused");
    assert!(!hosts.iter().any(refused), "somebody was refused");
    let (dovecots, mounts): (Vec<_>, Vec<_>) = hosts
        .into_iter()
        .map(|host| (host.site.dovecot, host.site.mount))
        .unzip();
    finish(dovecots);
    drop(mounts);
    finish([stock]);
}
