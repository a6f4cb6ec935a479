//! What the kernel has cached of users who are idle is given back, and nobody notices: files that are open, those that are
//! opened meanwhile, and sessions later on.
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use support::light::SIZE;
use support::mount::Options;
use support::{FUSE, LIMIT, Lab, Light, Mount, ROOT, eventually, lacks, process, within};

/// A mount with every request in its log.
fn talking(lab: &Lab) -> Options {
    Options::new(lab, "a").debug()
}

/// The same, whose users are idle as soon as they have gone.
fn hasty(lab: &Lab) -> Options {
    talking(lab).env("LISTINDEXFS_IDLE_MS", "1")
}

fn users(lab: &Lab, mount: &Mount, names: impl IntoIterator<Item = usize>) -> Vec<Light> {
    let light = |n| Light::new(mount.path(), &lab.index(), &format!("user{n}"));
    names.into_iter().map(light).collect()
}

/// The nodes of a user's directory and of his files, which are their inode numbers too.
fn nodes(user: &Light) -> [u64; 3] {
    let paths = [user.dir.clone(), user.log(), user.list()];
    paths.map(|path| fs::symlink_metadata(path).expect("a file").ino())
}

/// The nodes of which the kernel has told that it has forgotten them, from that place of the log on.
fn forgotten(mount: &Mount, from: usize) -> BTreeSet<u64> {
    let log = mount.log();
    let lines = log[from..].lines().filter_map(|line| {
        let (ino, rest) = line
            .split_once("FUSE(")?
            .1
            .split_once(" ino ")?
            .1
            .split_once(' ')?;
        match rest.split(' ').next()? {
            "FORGET" => Some(vec![hex(ino)]),
            "BATCHFORGET" => Some(rest.split("nodeid: ").skip(1).map(decimal).collect()),
            _ => None,
        }
    });
    lines.flatten().collect()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a node")
}

fn decimal(text: &str) -> u64 {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().expect("a node")
}

/// How many times the kernel has told that it has forgotten a node.
fn forgets(mount: &Mount) -> usize {
    let log = mount.log();
    let times = log
        .lines()
        .map(|line| match line.contains(" BATCHFORGET ") {
            true => line.matches("nodeid: ").count(),
            false => usize::from(line.contains(" FORGET ")),
        });
    times.sum()
}

/// How many requests of this kind there have been since that place of the log.
fn asked(mount: &Mount, from: usize, kind: &str) -> usize {
    let word = format!(" {kind}");
    let log = mount.log();
    let lines = log[from..].lines().filter(|line| line.contains("FUSE("));
    lines.filter(|line| line.contains(&word)).count()
}

#[test]
fn idle_users_cost_the_kernel_nothing() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = hasty(&lab).mount();
    let users = users(&lab, &mount, 0..100);
    let mut cached = BTreeSet::new();
    for user in &users {
        let session = user.first().expect("a first session");
        cached.extend(nodes(user));
        drop(session);
    }
    assert_eq!(cached.len(), 300);
    eventually("everything is given back", || {
        forgotten(&mount, 0).is_superset(&cached).then_some(())
    });
    for user in &users {
        user.again().expect("a later session");
    }
}

#[test]
#[allow(unsafe_code, reason = "a mapping")]
fn who_has_files_open_keeps_them() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = hasty(&lab).mount();
    let users = users(&lab, &mount, 0..20);
    let (open, others) = users.split_first().expect("users");
    let mut session = open.first().expect("a session");
    // SAFETY: nobody shortens the file.
    let mapped = unsafe { memmap2::Mmap::map(&session.list) }.expect("mmap");
    let mine = nodes(open);
    let mut cached = BTreeSet::new();
    for user in others {
        let session = user.first().expect("a session");
        cached.extend(nodes(user));
        drop(session);
    }
    eventually("the others are given back", || {
        forgotten(&mount, 0).is_superset(&cached).then_some(())
    });
    let told = forgotten(&mount, 0);
    assert!(mine.iter().all(|node| !told.contains(node)), "{told:?}");
    let mut bytes = Vec::new();
    session.log.rewind().expect("seek");
    session.log.read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes, [b'x'; SIZE]);
    assert_eq!(mapped[..], [b'x'; SIZE]);
    assert_eq!(nodes(open), mine);
    drop((session, mapped));
    eventually("his are given back once they are closed", || {
        let told = forgotten(&mount, 0);
        mine.iter().all(|node| told.contains(node)).then_some(())
    });
}

/// Users come and go while everything is given back all the time: each of their calls finds what it should.
fn hammered(options: Options, lab: &Lab, given_back: impl Fn(&Mount) -> bool) {
    let mount = options.mount();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3 {
            let users = users(lab, &mount, thread * 10..thread * 10 + 10);
            let stop = &stop;
            scope.spawn(move || {
                let open = users[0].first().expect("a first session");
                for user in &users[1..] {
                    user.first().expect("a first session");
                }
                while !stop.load(Ordering::Relaxed) {
                    for user in &users {
                        let session = user.again().expect("a session");
                        user.rewrite().expect("a file written anew");
                        drop(session);
                    }
                }
                assert_eq!(open.log.metadata().expect("stat").len(), SIZE as u64);
            });
        }
        let given = within(LIMIT, || given_back(&mount).then_some(()));
        stop.store(true, Ordering::Relaxed);
        assert!(given.is_some(), "nothing is given back");
    });
}

#[test]
fn sessions_notice_nothing() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    hammered(hasty(&lab), &lab, |mount| {
        forgets(mount) > 2000 && asked(mount, 0, "OPEN") > 500
    });
}

/// Where the worker stands between the kernel and its session (before Linux 6.9) the thread that passes answers must not wait.
#[test]
fn sessions_notice_nothing_where_answers_are_passed_on() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let options = hasty(&lab).env("LISTINDEXFS_NO_RESEND", "1");
    hammered(options, &lab, |mount| forgets(mount) > 1000);
}

/// A kernel before 6.18: pages are given back, and read again.
#[test]
fn older_kernels_give_pages_back() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    for old in [
        &["LISTINDEXFS_NO_PRUNE"][..],
        &["LISTINDEXFS_NO_PRUNE", "LISTINDEXFS_NO_RESEND"],
    ] {
        let lab = Lab::new();
        let options = hasty(&lab);
        let options = old.iter().fold(options, |all, name| all.env(name, "1"));
        hammered(options, &lab, |mount| asked(mount, 0, "READ ") > 200);
    }
}

/// What eviction removes the kernel forgets at once, though its users have been here just now.
#[test]
fn what_is_evicted_is_given_back() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = talking(&lab).option("max_users=16").mount();
    let users = users(&lab, &mount, 0..64);
    let mut files = Vec::new();
    for user in &users {
        let session = user.first().expect("a session");
        let [_, log, list] = nodes(user);
        files.push([log, list]);
        drop(session);
    }
    eventually("who went is forgotten", || {
        let told = forgotten(&mount, 0);
        let gone = files
            .iter()
            .filter(|files| files.iter().all(|node| told.contains(node)));
        (gone.count() >= 48).then_some(())
    });
    users[63].again().expect("the last one's session");
    users[0]
        .first()
        .map(drop)
        .unwrap_or_else(|e| assert_eq!(e.raw_os_error(), Some(17), "{e}"));
}

/// The kernel has cached what it had been told by the worker before.
#[test]
fn the_next_worker_gives_back_too() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = talking(&lab).env("LISTINDEXFS_IDLE_MS", "3000").mount();
    let users = users(&lab, &mount, 0..20);
    let open = users[0].first().expect("a session");
    let mut cached: BTreeSet<u64> = nodes(&users[0]).into();
    for user in &users[1..] {
        let session = user.first().expect("a session");
        cached.extend(nodes(user));
        drop(session);
    }
    process::signal(mount.worker().expect("a worker"), Signal::KILL);
    users[1].again().expect("a session with the next worker");
    drop(open);
    eventually("everything is given back", || {
        forgotten(&mount, 0).is_superset(&cached).then_some(())
    });
}

/// However many users there are, descriptors are not theirs.
#[test]
fn thousands_of_users_cost_few_descriptors() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").mount();
    let users = users(&lab, &mount, 0..3000);
    thread::scope(|scope| {
        for some in users.chunks(users.len() / 8) {
            scope.spawn(move || {
                for user in some {
                    user.first().expect("a session");
                }
            });
        }
    });
    let worker = mount.worker().expect("a worker");
    let most = process::open_files(worker).len();
    assert!((8..1024).contains(&most), "{most} descriptors");
}
