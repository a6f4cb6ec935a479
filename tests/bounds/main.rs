//! What lies in the backing has bounds: idle users go, who was here longest ago first, and come back without a write to NFS.
//! Users with open files never go, and no call fails.
#[path = "../support/mod.rs"]
mod support;

mod full;
mod plain;
mod quota;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use plain::{USUAL, how_many, users};
use rustix::process::Signal;
use support::model::Op;
use support::mount::Options;
use support::tiny::Tiny;
use support::{Config, DOVECOT, FUSE, Lab, Model, ROOT, Site, eventually, lacks, process};

/// Sessions at a time.
const CLIENTS: usize = 4;

#[test]
fn ten_thousand_users_pass_through_the_room_of_a_thousand() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let tiny = Tiny::mount(&lab.ram("backing-a"), "256m", 500_000);
    let most = 1000 * USUAL;
    let options = Options::new(&lab, "a").option(&format!("max_bytes={most}"));
    let site = Site::with(options, Config::new(&lab, "a"));
    let mut model = Model::new();
    site.settle("alice");
    let mut imap = site.login("alice");
    (0..10).for_each(|n| model.apply(&Op::Create(format!("box{n}")), &mut imap));
    imap.logout();
    site.wait_no_sessions();

    let all = users(&lab, &site.mount, 0..10_000);
    // They are in the midst of a session all the time.
    let (busy, passing) = all.split_at(10);
    let held: Vec<fs::File> = busy
        .iter()
        .map(|user| user.open().expect("opens"))
        .collect();
    let (next, peak, done) = (
        AtomicUsize::new(0),
        AtomicU64::new(0),
        AtomicBool::new(false),
    );
    let mut sessions = 0;
    thread::scope(|scope| {
        let (next, peak, done, tiny) = (&next, &peak, &done, &tiny);
        let client = move || {
            while let Some(user) = passing.get(next.fetch_add(1, Ordering::Relaxed)) {
                user.session()
                    .unwrap_or_else(|e| panic!("{:?}: {e}", user.dir));
                peak.fetch_max(tiny.used(), Ordering::Relaxed);
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let watch = scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(tiny.used(), Ordering::Relaxed);
                thread::yield_now();
            }
        });
        while clients.iter().any(|client| !client.is_finished()) {
            let mut imap = site.login("alice");
            model.assert_matches(&imap.list_status(), "while others come and go");
            let n = sessions % 10;
            model.apply(&Op::Append(format!("box{n}"), false), &mut imap);
            imap.logout();
            sessions += 1;
            // The machine is theirs meanwhile: each is one of a hundred.
            let more = next.load(Ordering::Relaxed) + 100;
            while next.load(Ordering::Relaxed) < more.min(passing.len()) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        done.store(true, Ordering::Relaxed);
        watch.join().expect("the watch");
        clients
            .into_iter()
            .for_each(|client| client.join().expect("a client"));
    });
    let (peak, here) = (peak.into_inner(), how_many(&all));
    println!("{peak} bytes at most of {most}; {here} users are here, {sessions} sessions of alice");
    // What is being written by each client, and by alice, counts before it is seen; nothing else may come on top.
    let slack = (CLIENTS as u64 + 1) * USUAL;
    assert!(peak <= most + slack, "{peak} bytes of {most}");
    assert!(here > 500, "many more went than had to: {here} are left");
    for (user, file) in busy.iter().zip(&held) {
        let (there, open) = (
            fs::metadata(user.dir.join(support::site::LOG)),
            file.metadata(),
        );
        let ino = |found: std::io::Result<fs::Metadata>| {
            std::os::unix::fs::MetadataExt::ino(&found.expect("stat"))
        };
        assert_eq!(ino(there), ino(open), "{:?} was in use", user.dir);
    }
    // The first who came have gone, and come back as they left.
    let gone = passing.iter().take(200).filter(|user| !user.is_here());
    let mut back = 0;
    for user in gone {
        let claim = user.claim();
        user.session().expect("he comes back");
        assert_eq!(
            user.claim(),
            claim,
            "{:?}: nothing is written to NFS",
            user.dir
        );
        back += 1;
    }
    assert!(back > 100, "only {back} of the first 200 had gone");
    let mut imap = site.login("alice");
    model.assert_matches(&imap.list_status(), "in the end");
    imap.logout();
    drop(held);
    site.wait_no_sessions();
    let log = site.mount.log();
    assert!(!log.contains("refused") && !log.contains("cannot"), "{log}");
    let why = ": list index evicted: max_bytes= or max_users= is near";
    assert!(log.matches(why).count() >= 60, "{log}");
}

/// Everybody else is idle, and the order in which they were here is known to the next worker too.
#[test]
fn who_was_here_longest_ago_goes_first() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").option("max_users=16").mount();
    let all = users(&lab, &mount, 0..12);
    let session = |n: usize| {
        all[n].session().expect("a session");
        // Times of files have the clock's last tick.
        thread::sleep(Duration::from_millis(20));
    };
    (0..12).for_each(session);
    let now = SystemTime::now();
    for (n, user) in all.iter().enumerate() {
        // As if they had been here hours ago, the last first.
        let at = now - Duration::from_secs(3600 * (n as u64 + 1));
        let record = fs::File::open(user.backing.join(".lasthost")).expect("a record");
        record.set_modified(at).expect("utimensat");
    }
    let worker = mount.worker().expect("a worker");
    process::signal(worker, Signal::KILL);
    eventually("there is another worker", || mount.worker_after(worker));
    // He was here longest ago, and is now.
    all[11].session().expect("a session");
    let more = users(&lab, &mount, 12..19);
    for user in &more {
        user.session().expect("a session");
    }
    eventually("it is below the bound", || {
        let here = how_many(&all) + how_many(&more);
        (here <= 16).then_some(())
    });
    let here: Vec<usize> = (0..12).filter(|n| all[*n].is_here()).collect();
    let gone = 12 - here.len();
    assert!(gone > 2, "{here:?}");
    let mut expected: Vec<usize> = (0..11 - gone).collect();
    expected.push(11);
    assert_eq!(here, expected);
    assert_eq!(how_many(&more), more.len(), "none of those who came last");
}

/// A user comes again and again for as long as an age, and stays; another does not, and goes, as does his directory.
#[test]
fn who_has_not_been_here_for_an_age_goes() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").option("max_age=4s").mount();
    let all = users(&lab, &mount, 0..3);
    all.iter()
        .for_each(|user| user.session().expect("a session"));
    let held = all[2].open().expect("opens");
    let claim = all[1].claim();
    eventually("who does not come goes, with his directory", || {
        all[0].session().expect("a session");
        (!all[1].backing.exists()).then_some(())
    });
    assert!(all[0].is_here() && all[2].is_here());
    all[1].session().expect("he comes back");
    assert!(all[1].is_here());
    assert_eq!(all[1].claim(), claim, "nothing is written to NFS");
    drop(held);
    eventually("nor does who had it open, once it is closed", || {
        (!all[2].backing.exists()).then_some(())
    });
}

/// Age is told by the record, of which a later worker knows.
#[test]
fn a_new_worker_knows_the_age() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").option("max_age=1h").mount();
    let all = users(&lab, &mount, 0..2);
    all.iter()
        .for_each(|user| user.session().expect("a session"));
    let record = fs::File::open(all[0].backing.join(".lasthost")).expect("a record");
    record
        .set_modified(SystemTime::now() - Duration::from_secs(2 * 3600))
        .expect("utimensat");
    process::signal(mount.worker().expect("a worker"), Signal::KILL);
    eventually("who was here two hours ago has gone", || {
        (!all[0].is_here()).then_some(())
    });
    assert!(all[1].is_here());
}

/// The bound holds from the first moment of a worker, which has counted nothing yet.
#[test]
fn it_holds_while_workers_die() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let tiny = Tiny::mount(&lab.ram("backing-a"), "64m", 100_000);
    let most = 200 * USUAL;
    let mount = Options::new(&lab, "a")
        .option(&format!("max_bytes={most}"))
        .mount();
    let all = users(&lab, &mount, 0..2000);
    let mut peak = 0;
    for (n, user) in all.iter().enumerate() {
        if n % 100 == 99 {
            let worker = eventually("a worker", || mount.worker());
            process::signal(worker, Signal::KILL);
        }
        user.session()
            .unwrap_or_else(|e| panic!("{:?}: {e}", user.dir));
        peak = peak.max(tiny.used());
    }
    println!("{peak} bytes at most of {most}");
    // What a worker wrote in its last second it may not have told the next.
    assert!(peak <= most + 100 * USUAL, "{peak} bytes of {most}");
    assert!(how_many(&all) > 50);
}
