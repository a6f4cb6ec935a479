//! The worker dies under load, over and over, and no mail session notices.
mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::dovecot::Dovecot;
use support::mount::{Mount, Options, program, tool};
use support::ops::Random;
use support::rounds::Rounds;
use support::vm::Guest;
use support::{
    Config, DOVECOT, FUSE, LIMIT, Lab, ROOT, Site, VM, eventually, lacks, message, process,
};

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
    nobody_notices_with(|_, options| options, |_, worker| harm(worker));
}

/// The same with other options; `harm` is told of the mount too.
fn nobody_notices_with(change: impl FnOnce(&Lab, Options) -> Options, harm: impl Fn(&Mount, u32)) {
    let lab = Lab::new();
    let options = change(&lab, Options::new(&lab, "a").option("watchdog=1s"));
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
            harming.again(|worker| harm(&mount, worker));
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

#[test]
fn a_worker_is_killed_before_linux_6_9() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    nobody_notices_with(
        |_, options| options.env("LISTINDEXFS_NO_RESEND", "1"),
        |_, worker| process::signal(worker, Signal::KILL),
    );
}

/// On the kernel of Debian 12, which does not send again what was not answered.
#[test]
fn a_worker_is_killed_on_linux_6_1() {
    if lacks(&[ROOT, VM]) {
        return;
    }
    let guest = Guest {
        options: &["--kernel", "bookworm", "--no-mount"],
        env: &["LISTINDEXFS_TAKEOVER_SECONDS=10"],
        args: &["--exact", "--nocapture", "a_worker_is_killed"],
    };
    println!("{}", guest.run());
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

/// Puts a copy of the program under test in the place of the one that is installed there.
fn install(place: &Path) {
    let new = place.with_extension("new");
    // Not by this process: a child that another test forks meanwhile would have it open for writing.
    process::run(Command::new("cp").arg(program()).arg(&new));
    fs::rename(&new, place).expect("installed");
}

/// `listindexctl upgrade`: its exit code and what it complains of.
fn upgrade(mount: &Mount) -> (Option<i32>, String) {
    let mut tool = Command::new(tool());
    tool.arg("upgrade").arg(mount.path());
    let done = process::output(&mut tool, LIMIT).expect("it does not hang");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code(), said)
}

fn assert_upgraded(mount: &Mount, place: &Path) {
    let installed = fs::metadata(place).expect("a program").ino();
    let (code, said) = upgrade(mount);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{}", mount.log());
    // No waiting here: exit 0 says that it serves.
    let worker = mount.worker().expect("a worker");
    assert_eq!(inode_of_program(worker), Some(installed));
}

fn inode_of_program(worker: u32) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{worker}/exe")).ok()?.ino())
}

/// Waits until the worker is one of the program installed at `place`.
fn wait_upgraded(mount: &Mount, place: &Path) {
    let installed = fs::metadata(place).expect("a program").ino();
    eventually("the new program's worker serves", || {
        let worker = mount.worker()?;
        (inode_of_program(worker)? == installed).then_some(())
    });
}

#[test]
fn a_worker_is_upgraded() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let place = std::cell::OnceCell::new();
    nobody_notices_with(
        |lab, options| {
            let path = lab.host("a").join("listindexfs");
            install(&path);
            let options = options.program(&path);
            place.set(path).expect("set once");
            options
        },
        |mount, _| {
            let place = place.get().expect("set");
            install(place);
            assert_upgraded(mount, place);
        },
    );
}

/// A program that cannot serve is refused; the worker before serves on, and one that dies is replaced by its like.
#[test]
fn a_broken_upgrade_is_refused() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let place = lab.host("a").join("listindexfs");
    install(&place);
    let mount = Options::new(&lab, "a").program(&place).mount();
    let worker = mount.worker().expect("a worker");
    let good = inode_of_program(worker);
    for (broken, says) in [
        ("/bin/false", "exit status: 1"),
        ("/etc/passwd", "ermission denied"),
    ] {
        fs::remove_file(&place).expect("removed");
        fs::copy(broken, &place).expect("a copy");
        let (code, said) = upgrade(&mount);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("not upgraded, the worker before serves on") && said.contains(says),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(mount.worker(), Some(worker), "{}", mount.log());
    }
    process::signal(worker, Signal::KILL);
    fs::metadata(mount.path().join("plain")).expect_err("answered: there is none");
    let next = eventually("there is a worker", || mount.worker());
    assert_eq!(inode_of_program(next), good);
}

/// SIGHUP does the same, without an answer.
#[test]
fn a_hangup_upgrades() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let place = lab.host("a").join("listindexfs");
    install(&place);
    let mount = Options::new(&lab, "a").program(&place).mount();
    install(&place);
    process::signal(mount.pid().expect("a supervisor"), Signal::HUP);
    wait_upgraded(&mount, &place);
}

#[test]
fn two_upgrades_at_once_are_both_answered() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    thread::scope(|scope| {
        let asking: Vec<_> = (0..2).map(|_| scope.spawn(|| upgrade(&mount))).collect();
        for answer in asking {
            let (code, said) = answer.join().expect("answered");
            assert_eq!(code, Some(0), "{said}\n{}", mount.log());
        }
    });
}

/// A later version whose journal is another cannot know what the worker leaves to it, and says so.
#[test]
fn an_upgrade_to_another_journal_is_refused() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let options = Options::new(&lab, "a").env("LISTINDEXFS_NEXT_JOURNAL", "1");
    let mount = options.mount();
    let worker = mount.worker();
    let kept = mount.path().join("kept");
    let mut open = fs::File::create(&kept).expect("a file");
    for _ in 0..2 {
        let (code, said) = upgrade(&mount);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("does not understand the journal"), "{said}");
        assert_eq!(mount.worker(), worker, "{}", mount.log());
        open.write_all(b"x").expect("the worker before serves on");
    }
    assert_eq!(fs::read(&kept).expect("read"), b"xx");
}

/// One that says it could serve and dies when it shall is followed by the program before it.
#[test]
fn a_program_that_dies_as_it_takes_over_is_given_up() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let place = lab.host("a").join("listindexfs");
    install(&place);
    let options = Options::new(&lab, "a").program(&place);
    let mount = options.env("LISTINDEXFS_NEXT_DIES", "1").mount();
    let good = inode_of_program(mount.worker().expect("a worker"));
    let mut open = fs::File::create(mount.path().join("kept")).expect("a file");
    install(&place);
    let (code, said) = upgrade(&mount);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the program before serves again"), "{said}");
    open.write_all(b"x")
        .expect("it serves, and the file is open");
    let next = eventually("there is a worker", || mount.worker());
    assert_eq!(inode_of_program(next), good);
}

/// Makes, writes, reads, renames and removes files until it is told to stop. Each call must succeed. Gives how long the longest
/// round of them took: to be told only, as a machine may be slow.
fn calls(dir: &Path, stop: &AtomicBool, done: &AtomicUsize) -> Duration {
    fs::create_dir(dir).expect("mkdir");
    let (one, two) = (dir.join("one"), dir.join("two"));
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut file = fs::File::create_new(&one).expect("create");
        file.write_all(b"text").expect("write");
        fs::hard_link(&one, dir.join("link")).expect("link");
        fs::rename(&one, &two).expect("rename");
        assert_eq!(fs::read(&two).expect("read"), b"text");
        assert_eq!(fs::read_dir(dir).expect("readdir").count(), 2);
        fs::remove_file(dir.join("link")).expect("unlink");
        fs::remove_file(&two).expect("unlink");
        file.write_all(b"more").expect("write to what is unlinked");
        assert_eq!(file.metadata().expect("fstat").len(), 8);
        longest = longest.max(begun.elapsed());
        done.fetch_add(1, Ordering::Relaxed);
    }
    fs::remove_dir(dir).expect("rmdir: nothing is left in it");
    longest
}

#[test]
fn no_call_fails_during_upgrades() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    upgrades_under_calls(|options| options);
}

/// As where the kernel does not send again what was not answered.
#[test]
fn no_call_fails_during_upgrades_before_linux_6_9() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    upgrades_under_calls(|options| options.env("LISTINDEXFS_NO_RESEND", "1"));
}

fn upgrades_under_calls(change: impl FnOnce(Options) -> Options) {
    const UPGRADES: usize = 20;
    let lab = Lab::new();
    let place = lab.host("a").join("listindexfs");
    install(&place);
    let mount = change(Options::new(&lab, "a").program(&place)).mount();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (mount, stop, done) = (&mount, &stop, &done);
        for n in 0..4 {
            scope.spawn(move || {
                let ending = Ending(stop);
                let longest = calls(&mount.path().join(format!("dir{n}")), stop, done);
                println!("longest round of calls: {longest:?}");
                drop(ending);
            });
        }
        let ending = Ending(stop);
        for _ in 0..UPGRADES {
            let before = done.load(Ordering::Relaxed);
            eventually("calls are made", || {
                let failed = stop.load(Ordering::Relaxed);
                (failed || done.load(Ordering::Relaxed) > before).then_some(())
            });
            install(&place);
            assert_upgraded(mount, &place);
        }
        drop(ending);
    });
    println!(
        "{UPGRADES} upgrades under {} rounds of calls",
        done.into_inner()
    );
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
