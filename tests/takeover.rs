//! The worker dies under load, over and over, and no mail session notices.
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::dovecot::Dovecot;
use support::mount::{Mount, Options, program, tool};
use support::ops::Random;
use support::rounds::Rounds;
use support::vm::Guest;
use support::{
    Config, DOVECOT, FUSE, LIMIT, Lab, ROOT, Site, VM, eventually, lacks, lasting, message, process,
};

/// How long each load lasts, unless `LISTINDEXFS_TAKEOVER_SECONDS` says otherwise.
const LOAD: Duration = Duration::from_secs(20);
/// Users who log in, list and change their folders without a pause.
const USERS: usize = 8;

fn load() -> Duration {
    lasting("LISTINDEXFS_TAKEOVER_SECONDS", LOAD)
}

/// How many changes of each kind.
type Changes = BTreeMap<&'static str, usize>;

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

/// The kinds of changes that there must have been.
const KINDS: [&str; 3] = ["APPEND", "CREATE", "DELETE"];

/// One user's sessions: each is told the truth before and after its changes, and no command fails. Each counts in `all`:
/// how many there were, and how many changes of each kind.
fn sessions(dovecot: &Dovecot, user: &str, stop: &AtomicBool, all: &Mutex<(usize, Changes)>) {
    let hosts = [dovecot];
    let mut rounds = Rounds::new(&hosts, user);
    let mut before = Changes::new();
    let mut go = |times: usize| {
        let done = rounds.run_while(|round| round < times);
        let done = done.unwrap_or_else(|wrong| panic!("{user}: {}", wrong.story));
        let mut all = all.lock().expect("counted");
        all.0 += done;
        for (name, times) in rounds.done() {
            *all.1.entry(name).or_default() += times - before.get(name).unwrap_or(&0);
        }
        before.clone_from(rounds.done());
    };
    while !stop.load(Ordering::Relaxed) {
        go(1);
    }
    // Right at the end too, with all workers alive.
    go(2);
}

/// Messages delivered to one user; the list index tells of each at once.
fn deliveries(dovecot: &Dovecot, user: &str, stop: &AtomicBool) -> usize {
    let mut delivered = 0;
    while !stop.load(Ordering::Relaxed) {
        dovecot.deliver_lmtp(user, &message(&subject(user, delivered)));
        delivered += 1;
        if delivered % 8 == 0 {
            assert_counted(dovecot, user, delivered);
        }
    }
    delivered
}

fn subject(user: &str, number: usize) -> String {
    format!("{user}-{number:06}")
}

/// LIST-STATUS of a new session tells of so many messages.
fn assert_counted(dovecot: &Dovecot, user: &str, delivered: usize) {
    let mut imap = dovecot.login(user);
    let told = imap.list_status();
    let told = told["INBOX"].expect("counts");
    let (messages, next) = (told.messages as usize, told.uidnext as usize);
    assert_eq!((messages, next), (delivered, delivered + 1), "{user}");
    imap.logout();
}

/// Each message that was delivered is there once.
fn assert_whole(dovecot: &Dovecot, user: &str, delivered: usize) {
    assert_counted(dovecot, user, delivered);
    let mut imap = dovecot.login(user);
    imap.select("INBOX");
    let lines = imap.ok("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
    let mut there: Vec<String> = lines
        .iter()
        .filter_map(|line| Some(line.split_once("Subject: ")?.1.lines().next()?.to_owned()))
        .collect();
    there.sort();
    let all: Vec<String> = (0..delivered).map(|number| subject(user, number)).collect();
    assert!(
        there == all,
        "{user} has {there:?}, of {delivered} messages"
    );
    imap.logout();
}

/// Sessions that wait for mail, and are told of it.
fn idling(dovecot: &Dovecot, user: &str, stop: &AtomicBool) -> usize {
    let mut told = 0;
    let mut imap = dovecot.login(user);
    imap.select("INBOX");
    while !stop.load(Ordering::Relaxed) {
        imap.idle_start();
        dovecot.deliver_lmtp(user, &message(&subject(user, told)));
        imap.wait_line("EXISTS");
        imap.idle_stop();
        told += 1;
    }
    imap.logout();
    told
}

/// Mail goes on while `harm` is done to one worker after the other.
fn nobody_notices(harm: impl Fn(u32)) {
    nobody_notices_with(|_, options| options, |_, worker| harm(worker));
}

/// The same with other options; `harm` is told of the mount too.
fn nobody_notices_with(change: impl FnOnce(&Lab, Options) -> Options, harm: impl Fn(&Mount, u32)) {
    let lab = Lab::new();
    let options = change(&lab, Options::new(&lab, "a"));
    // STATUS of INBOX is told from the list index too, so that deliveries matter to it.
    let site = Site::with(options, Config::new(&lab, "a").include_inbox(true));
    let users: Vec<String> = (0..USERS).map(|n| format!("u{n}")).collect();
    for user in users.iter().map(String::as_str).chain(["lmtp", "idle"]) {
        site.settle(user);
    }
    let Site { dovecot, mount } = site;
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Mutex::new((0, Changes::new()));
    let (lmtp, idle, harmed) = thread::scope(|scope| {
        let (dovecot, stop, rounds) = (&dovecot, &*stop, &rounds);
        for user in &users {
            scope.spawn(move || {
                let ending = Ending(stop);
                sessions(dovecot, user, stop, rounds);
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
        // On a slow machine until there has been everything; what is changed is left to chance.
        let until = Instant::now() + load();
        let all_kinds = || {
            let made = &rounds.lock().expect("counted").1;
            KINDS.iter().all(|kind| made.contains_key(kind))
        };
        while (Instant::now() < until || !all_kinds()) && !stop.load(Ordering::Relaxed) {
            harming.again(|worker| harm(&mount, worker));
        }
        stop.store(true, Ordering::Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, usize>| thread.join().expect("a client");
        (join(lmtp), join(idle), harming.done)
    });
    assert_whole(&dovecot, "lmtp", lmtp);
    assert_whole(&dovecot, "idle", idle);
    let errors = dovecot.errors();
    assert!(errors.is_empty(), "{}\n{}", errors.join("\n"), mount.log());
    let (rounds, changes) = rounds.into_inner().expect("counted");
    println!(
        "{harmed} workers harmed, {rounds} sessions with {changes:?}, {} deliveries: nobody noticed",
        lmtp + idle
    );
    for name in KINDS {
        assert!(changes.contains_key(name), "no {name}: {changes:?}");
    }
    assert!(lmtp > 0 && idle > 0 && harmed > 0);
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
        env: &["LISTINDEXFS_TAKEOVER_SECONDS=60"], // emulated, it is slow
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
    let impatient = |_: &Lab, options: Options| options.option("watchdog=1s");
    nobody_notices_with(impatient, |_, worker| {
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

/// As often as can be; every five seconds where the load is to last.
fn between_upgrades() -> Duration {
    Duration::from_secs(if load() > LOAD { 4 } else { 0 })
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
            thread::sleep(between_upgrades());
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

/// What the kernel is told of a process for when memory runs out: the greater, the sooner it is killed.
fn oom_score_adj(pid: u32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a process");
    text.trim().parse().expect("a number")
}

/// Whether this process may lower that: `CAP_SYS_RESOURCE`.
fn may_spare() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.expect("capabilities").trim(), 16);
    effective.expect("a number") & 1 << 24 != 0
}

/// When memory runs out the kernel takes a worker, which is replaced, also one that was started later; never the supervisor.
#[test]
fn the_supervisor_is_spared_when_memory_runs_out() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    let (supervisor, own) = (mount.pid().expect("a supervisor"), std::process::id());
    let (spared, usual) = match may_spare() {
        true => (-1000, 0),
        false => (oom_score_adj(own), oom_score_adj(own).max(0)),
    };
    let mut before = 0;
    for _ in 0..2 {
        let worker = eventually("there is another worker", || mount.worker_after(before));
        eventually("it has said so", || {
            let scores = [supervisor, worker].map(oom_score_adj);
            (scores == [spared, usual]).then_some(())
        });
        process::signal(worker, Signal::KILL);
        before = worker;
    }
}
