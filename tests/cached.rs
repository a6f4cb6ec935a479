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

/// The requests in the log, and of which nodes they are: FORGET for all that tell of it.
fn requests(log: &str) -> impl Iterator<Item = (&str, u64)> {
    log.lines().filter_map(parsed).flatten()
}

fn parsed(line: &str) -> Option<Vec<(&str, u64)>> {
    let (ino, rest) = line.split_once(" ino 0x")?.1.split_once(' ')?;
    match rest.split(' ').next()? {
        "BATCHFORGET" => {
            let nodes = rest.split("nodeid: ").skip(1);
            Some(nodes.map(|node| ("FORGET", decimal(node))).collect())
        }
        kind => Some(vec![(kind, u64::from_str_radix(ino, 16).ok()?)]),
    }
}

fn decimal(text: &str) -> u64 {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let number = &text[..end.unwrap_or(text.len())];
    number.parse().expect("a node")
}

/// The nodes of which the kernel has told that it has forgotten them, from that place of the log on.
fn forgotten(mount: &Mount, from: usize) -> BTreeSet<u64> {
    let log = mount.log();
    let all = requests(&log[from..]);
    all.filter(|(kind, _)| *kind == "FORGET")
        .map(|(_, node)| node)
        .collect()
}

/// Each user's first session, one after the other. Gives the nodes that the kernel has come to know.
fn come_and_go(users: &[Light]) -> BTreeSet<u64> {
    let mut cached = BTreeSet::new();
    for user in users {
        let session = user.first().expect("a first session");
        cached.extend(nodes(user));
        drop(session);
    }
    cached
}

/// Waits until the kernel has told of all of them that it has forgotten them, from that place of the log on.
fn are_given_back(mount: &Mount, from: usize, nodes: &BTreeSet<u64>) {
    eventually("what is cached is given back", || {
        forgotten(mount, from).is_superset(nodes).then_some(())
    });
}

/// How many requests of this kind there have been of these nodes.
fn asked(mount: &Mount, kind: &str, nodes: &BTreeSet<u64>) -> usize {
    let log = mount.log();
    requests(&log)
        .filter(|(of, node)| *of == kind && nodes.contains(node))
        .count()
}

#[test]
fn idle_users_cost_the_kernel_nothing() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = hasty(&lab).mount();
    let users = users(&lab, &mount, 0..100);
    let cached = come_and_go(&users);
    assert_eq!(cached.len(), 300);
    are_given_back(&mount, 0, &cached);
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
    // Once another is given back, the kernel has told of what was before he had his files open.
    let (first, others) = others.split_at(1);
    are_given_back(&mount, 0, &come_and_go(first));
    let from = mount.log().len();
    are_given_back(&mount, from, &come_and_go(others));
    let told = forgotten(&mount, from);
    assert!(mine.iter().all(|node| !told.contains(node)), "{told:?}");
    let mut bytes = Vec::new();
    session.log.rewind().expect("seek");
    session.log.read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes, [b'x'; SIZE]);
    assert_eq!(mapped[..], [b'x'; SIZE]);
    assert_eq!(nodes(open), mine);
    drop((session, mapped));
    are_given_back(&mount, from, &mine.into());
}

/// Users come and go while everything is given back all the time: each of their calls finds what it should, until so many times
/// the kernel has asked for a log anew, by requests of this kind.
fn hammered(options: Options, lab: &Lab, kind: &str, times: usize) {
    let mount = options.mount();
    let users = users(lab, &mount, 0..30);
    let logs = users.iter().map(|user| {
        let session = user.first().expect("a first session");
        let [_, log, _] = nodes(user);
        drop(session);
        log
    });
    let logs: BTreeSet<u64> = logs.collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for users in users.chunks(10) {
            let stop = &stop;
            scope.spawn(move || {
                let open = users[0].again().expect("a session");
                while !stop.load(Ordering::Relaxed) {
                    for user in users {
                        let session = user.again().expect("a session");
                        user.rewrite().expect("a file written anew");
                        drop(session);
                    }
                }
                assert_eq!(open.log.metadata().expect("stat").len(), SIZE as u64);
            });
        }
        let given = within(LIMIT, || {
            (asked(&mount, kind, &logs) >= times).then_some(())
        });
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
    hammered(hasty(&lab), &lab, "FORGET", 300);
}

/// Where the worker stands between the kernel and its session (before Linux 6.9) the thread that passes answers must not wait.
#[test]
fn sessions_notice_nothing_where_answers_are_passed_on() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let options = hasty(&lab).env("LISTINDEXFS_NO_RESEND", "1");
    hammered(options, &lab, "FORGET", 100);
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
        // A log is read once without that.
        hammered(options, &lab, "READ", 200);
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
    let mut open = Some(users[0].first().expect("a session"));
    let cached = come_and_go(&users[1..]);
    let mine = nodes(&users[0]);
    process::signal(mount.worker().expect("a worker"), Signal::KILL);
    let session = users[1].again().expect("a session with the next worker");
    let (from, last) = (mount.log().len(), nodes(&users[1]));
    drop(session);
    // First of who has gone, the one who was here last at the end; then of him whom the worker before had let in.
    for (from, nodes) in [(0, cached), (from, last.into()), (0, mine.into())] {
        if nodes.contains(&mine[0]) {
            drop(open.take());
        }
        are_given_back(&mount, from, &nodes);
    }
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
