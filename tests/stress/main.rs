//! Four processes work on files through the mount while its worker is killed over and over: whatever they do ends as if
//! nothing had happened. Each knows what every result must be; the same four on plain tmpfs show that they know it
//! rightly, and on a mount left alone that the kills make no difference.

mod alone;
mod crew;
mod shared;

#[path = "../support/mod.rs"]
mod support;

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use crew::{Crew, MEMBERS, Orders, Tally};
use rustix::process::Signal;
use support::mount::Options;
use support::ops::Random;
use support::{FUSE, Lab, Mount, ROOT, eventually, lacks, lasting, process};

/// How long workers are killed, unless `LISTINDEXFS_STRESS_SECONDS` says otherwise.
const KILLING: Duration = Duration::from_secs(20);
/// How long nothing happens to anybody, for comparison.
const QUIET: Duration = Duration::from_secs(3);
/// What is left undone shows only if much is done: so many operations for each kill at least, and so many kills a second.
const OPERATIONS_PER_KILL: u64 = 20;
const KILLS_PER_SECOND: u64 = 1;

/// A slow machine takes some rounds for what there must have been; so many at most.
const ROUNDS: usize = 20;

/// Does `round` until what was done in all of them is `enough`.
fn rounds(mut round: impl FnMut() -> Tally, enough: impl Fn(&Tally) -> bool) -> Tally {
    let mut all = Tally::default();
    for _ in 0..ROUNDS {
        all += round();
        if enough(&all) {
            return all;
        }
    }
    panic!("{ROUNDS} rounds, and only {all:?}");
}

fn killing() -> Duration {
    lasting("LISTINDEXFS_STRESS_SECONDS", KILLING)
}

/// One process of the four, when [`Crew`] runs this program again; by itself, that process alone on plain tmpfs.
#[test]
fn one_process_on_tmpfs() {
    if let Some(orders) = Orders::given() {
        let tally = orders.carry_out();
        return println!("{}{}", crew::TALLY, tally.to_json());
    }
    if lacks(&[ROOT]) {
        return;
    }
    let round = || {
        let lab = Lab::new();
        let root = lab.ram("plain");
        crew::make_dirs(&root);
        let seed = Random::new().seed;
        Orders::new(0, &root, seed, Duration::from_millis(500)).carry_out()
    };
    rounds(round, |tally| tally.operations() > 1000);
}

/// Nothing of ours: what the processes expect is what tmpfs does.
#[test]
fn four_processes_on_tmpfs() {
    if lacks(&[ROOT]) {
        return;
    }
    let round = || {
        let lab = Lab::new();
        let root = lab.ram("plain");
        crew::make_dirs(&root);
        left_alone(&root)
    };
    let tally = rounds(round, |tally| tally.is_enough(MEMBERS as u64 * 1000));
    assert_eq!(tally.of(shared::REPLACED_TWICE), 0);
}

fn left_alone(root: &Path) -> Tally {
    let mut crew = Crew::start(root, QUIET);
    while crew.works() {
        std::thread::sleep(Duration::from_millis(10));
    }
    crew.finish(root)
}

#[test]
fn four_processes_on_a_mount_that_is_left_alone() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let round = || {
        let lab = Lab::new();
        let mount = crew::mount(&lab, |options| options);
        let tally = left_alone(mount.path());
        assert_nothing_is_left(&mount);
        tally
    };
    rounds(round, |tally| tally.is_enough(1000));
}

#[test]
fn four_processes_whose_worker_is_killed() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    whose_worker_is_killed(|options| options, killing());
}

/// The same where the kernel does not send again what a worker has not answered.
#[test]
fn four_processes_whose_worker_is_killed_before_linux_6_9() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let before = |options: Options| options.env("LISTINDEXFS_NO_RESEND", "1");
    whose_worker_is_killed(before, killing() / 2);
}

fn whose_worker_is_killed(change: impl Fn(Options) -> Options, time: Duration) {
    let kills = Cell::new(0);
    let round = || {
        let lab = Lab::new();
        let mount = crew::mount(&lab, &change);
        let (tally, more) = workers_killed(&mount, time);
        kills.set(kills.get() + more);
        assert_nothing_is_left(&mount);
        tally
    };
    let tally = rounds(round, |tally| {
        let kills = kills.get();
        kills >= KILLS_PER_SECOND * time.as_secs() && tally.is_enough(OPERATIONS_PER_KILL * kills)
    });
    println!("{} workers killed: {tally:?}", kills.get());
}

/// What was done meanwhile, and how many were killed.
fn workers_killed(mount: &Mount, time: Duration) -> (Tally, u64) {
    let mut random = Random::new();
    let mut crew = Crew::start(mount.path(), time);
    let mut kills = 0;
    while crew.works() {
        let worker = eventually("there is a worker", || mount.worker());
        // From its start: one that never lived for long would be taken for a program that cannot.
        std::thread::sleep(Duration::from_millis(20 + random.below(280) as u64));
        process::signal(worker, Signal::KILL);
        kills += 1;
    }
    (crew.finish(mount.path()), kills)
}

/// No file is kept for somebody who has closed it, and nobody was refused or told of an error of ours.
fn assert_nothing_is_left(mount: &Mount) {
    let orphans = mount.backing().join(".listindexfs/orphans");
    eventually("no orphan is left", || {
        (std::fs::read_dir(&orphans).map_or(0, Iterator::count) == 0).then_some(())
    });
    let log = mount.log();
    let bad = |line: &&str| {
        let harmless = ["the worker has died", "workers die again and again"];
        (line.contains("ERROR") || line.contains("WARN"))
            && !harmless.iter().any(|words| line.contains(words))
    };
    let bad: Vec<&str> = log.lines().filter(bad).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
