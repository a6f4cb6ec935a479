//! The worker dies under load, over and over, and no mail session notices.
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::dovecot::Dovecot;
use support::mount::{Mount, Options};
use support::ops::Random;
use support::rounds::Rounds;
use support::{Config, DOVECOT, FUSE, Lab, ROOT, Site, eventually, lacks, message, process};

/// How long each load lasts, unless `LISTINDEXFS_TAKEOVER_SECONDS` says otherwise.
const LOAD: Duration = Duration::from_secs(20);
/// Users who log in, list and change their folders without a pause.
const USERS: usize = 8;

fn load() -> Duration {
    let given = std::env::var("LISTINDEXFS_TAKEOVER_SECONDS").ok();
    let seconds = given.map(|text| {
        text.parse()
            .expect("LISTINDEXFS_TAKEOVER_SECONDS is a number")
    });
    seconds.map_or(LOAD, Duration::from_secs)
}

/// Who is doing what to the worker meanwhile.
struct Harm<'a> {
    mount: &'a Mount,
    random: Random,
    done: usize,
}

impl Harm<'_> {
    /// After 300 to 1000 ms, as in life: at any moment.
    fn again(&mut self, harm: impl FnOnce(u32)) {
        thread::sleep(Duration::from_millis(300 + self.random.below(700) as u64));
        let worker = eventually("there is a worker", || self.mount.worker());
        harm(worker);
        self.done += 1;
    }
}

/// One user's sessions: each is told the truth before and after its changes, and no command fails.
fn sessions(dovecot: &Dovecot, user: &str, stop: &AtomicBool) -> usize {
    let hosts = [dovecot];
    let done = Rounds::new(&hosts, user).run_while(|_| !stop.load(Ordering::Relaxed));
    done.unwrap_or_else(|wrong| panic!("{user}: {}", wrong.story))
}

/// Messages delivered to one user; none may be lost and none be there twice.
fn deliveries(dovecot: &Dovecot, user: &str, stop: &AtomicBool) -> usize {
    let mut delivered = 0;
    while !stop.load(Ordering::Relaxed) {
        dovecot.deliver_lmtp(user, &message(&format!("m{delivered}")));
        delivered += 1;
    }
    delivered
}

/// Sessions that wait for mail, and are told of it.
fn idling(dovecot: &Dovecot, user: &str, stop: &AtomicBool) -> usize {
    let mut told = 0;
    let mut imap = dovecot.login(user);
    imap.select("INBOX");
    while !stop.load(Ordering::Relaxed) {
        imap.idle_start();
        dovecot.deliver_lmtp(user, &message(&format!("i{told}")));
        imap.wait_line("EXISTS");
        imap.idle_stop();
        told += 1;
    }
    imap.logout();
    told
}

fn count(dovecot: &Dovecot, user: &str) -> usize {
    let mut imap = dovecot.login(user);
    let counts = imap.status("INBOX").expect("INBOX");
    imap.logout();
    counts.messages as usize
}

/// Mail goes on while `harm` is done to one worker after the other.
fn nobody_notices(harm: impl Fn(u32)) {
    let lab = Lab::new();
    let options = Options::new(&lab, "a").option("watchdog=1s");
    let site = Site::with(options, Config::new(&lab, "a"));
    let users: Vec<String> = (0..USERS).map(|n| format!("u{n}")).collect();
    for user in users.iter().map(String::as_str).chain(["lmtp", "idle"]) {
        site.settle(user);
    }
    let Site { dovecot, mount } = site;
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = AtomicUsize::new(0);
    let (lmtp, idle, harmed) = thread::scope(|scope| {
        let (dovecot, stop, rounds) = (&dovecot, &*stop, &rounds);
        for user in &users {
            scope.spawn(move || {
                let ending = Ending(stop);
                let done = sessions(dovecot, user, stop);
                rounds.fetch_add(done, Ordering::Relaxed);
                drop(ending);
            });
        }
        let lmtp = scope.spawn(|| deliveries(dovecot, "lmtp", stop));
        let idle = scope.spawn(|| idling(dovecot, "idle", stop));
        let mut harming = Harm {
            mount: &mount,
            random: Random::new(),
            done: 0,
        };
        let until = Instant::now() + load();
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            harming.again(&harm);
        }
        stop.store(true, Ordering::Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, usize>| thread.join().expect("a client");
        (join(lmtp), join(idle), harming.done)
    });
    assert_eq!(count(&dovecot, "lmtp"), lmtp, "messages delivered");
    assert_eq!(count(&dovecot, "idle"), idle, "messages told of");
    let errors = dovecot.errors();
    assert!(errors.is_empty(), "{}\n{}", errors.join("\n"), mount.log());
    println!(
        "{harmed} workers harmed, {} sessions, {} deliveries: nobody noticed",
        rounds.load(Ordering::Relaxed),
        lmtp + idle
    );
    dovecot.finish();
}

/// The first to fail ends the others: they would run on for ever.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_worker_is_killed() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    nobody_notices(|worker| process::signal(worker, Signal::KILL));
}

/// Stopped, it would hang for ever: the watchdog kills it.
#[test]
fn a_worker_is_stopped() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    nobody_notices(|worker| {
        process::signal(worker, Signal::STOP);
        eventually("it is killed", || {
            let alive = process::Family::of(std::process::id())
                .alive()
                .any(|pid| pid == worker);
            (!alive).then_some(())
        });
    });
}

#[test]
fn a_worker_crashes() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let mut signals = [Signal::SEGV, Signal::ABORT].into_iter().cycle();
    let signals = std::cell::RefCell::new(&mut signals);
    nobody_notices(|worker| {
        let signal = signals.borrow_mut().next().expect("for ever");
        process::signal(worker, signal);
    });
}
