//! `listindexctl clean`, with users made up in the backing: a worker takes what it finds for what it is.

use std::fs::{self, File, FileTimes};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use listindexfs::options::DEFAULT_LAYOUT;
use listindexfs::template::Layout;
use rustix::process::Signal;
use serde_json::Value;

use crate::ctl::{CTL, Said, run};
use crate::rig::{Daemon, Rig, finish, wait_until};

pub const DAY: u64 = 24 * 3600;
/// Enough that a clean is still under way when something happens to it.
pub const MANY: usize = 3000;
/// When most of them were last here, seconds: not so long ago that the keeper takes their directories away.
pub const AGO: u64 = 1000;

fn clean(args: &[&str]) -> Said {
    let mut tool = Command::new(CTL);
    tool.arg("clean").args(args);
    run(tool)
}

fn json(args: &[&str]) -> (Option<i32>, Value) {
    let said = clean(&[args, &["--json"]].concat());
    let report = serde_json::from_str(&said.out);
    (
        said.code,
        report.unwrap_or_else(|error| panic!("{error}: {said:?}")),
    )
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Where the user is, below mount point and backing.
pub fn place_of(user: &str) -> String {
    static LAYOUT: LazyLock<Layout> =
        LazyLock::new(|| Layout::parse(DEFAULT_LAYOUT).expect("a layout"));
    let user = LAYOUT.user_named(user.as_bytes()).expect("a user");
    String::from_utf8(user.dir().to_vec()).expect("UTF-8")
}

/// A list index of somebody who was last here so many seconds ago.
pub fn make(rig: &Rig, user: &str, ago: u64) -> PathBuf {
    let dir = rig.backing.join(place_of(user));
    fs::create_dir_all(&dir).expect("mkdir");
    let then = SystemTime::now() - Duration::from_secs(ago);
    for name in ["dovecot.list.index", "dovecot.list.index.log", ".lasthost"] {
        let mut file = File::create(dir.join(name)).expect("a file");
        file.write_all(name.as_bytes()).expect("written");
        file.set_times(FileTimes::new().set_modified(then))
            .expect("utimensat");
    }
    dir
}

fn has_files(dir: &Path) -> bool {
    dir.join("dovecot.list.index").exists() || dir.join(".lasthost").exists()
}

/// A mount whose worker has counted these users.
pub fn mounted(rig: &Rig, users: &[(&str, u64)]) -> (Daemon, Vec<PathBuf>) {
    found(rig, rig.mount(), users)
}

fn found(rig: &Rig, daemon: Daemon, users: &[(&str, u64)]) -> (Daemon, Vec<PathBuf>) {
    // Else the worker takes what it finds for what an earlier mount has left.
    let (code, _) = json(&["0s", "--mount", text(&rig.mountpoint)]);
    assert_eq!(code, Some(0));
    let dirs = users.iter().map(|(user, ago)| make(rig, user, *ago));
    let dirs = dirs.collect();
    next_worker(&daemon);
    (daemon, dirs)
}

pub fn next_worker(daemon: &Daemon) {
    let worker = daemon.worker();
    worker.signal(Signal::KILL);
    wait_until("the next worker", || {
        worker.has_ended() && daemon.worker() != worker
    });
}

#[test]
fn who_was_here_long_ago_goes_and_nobody_else() {
    let Some(rig) = Rig::new() else { return };
    let ages = [("old", 3 * DAY), ("young", DAY), ("today", 0)];
    let (_daemon, dirs) = mounted(&rig, &ages);
    let place = ["--mount", text(&rig.mountpoint)];
    let left = || dirs.iter().map(|dir| has_files(dir)).collect::<Vec<_>>();

    let (code, report) = json(&[&["2days", "--dry-run"], &place[..]].concat());
    assert_eq!(code, Some(0));
    let counts =
        ["looked_at", "dropped", "busy", "failed", "bytes"].map(|key| report[key].as_u64());
    assert_eq!(counts, [1, 1, 0, 0, 3 * 4096].map(Some), "{report}");
    assert_eq!(left(), [true; 3], "nothing has gone yet");

    let said = clean(&[&["2days"], &place[..]].concat());
    let line = format!("{}: dropped 1 user, 12.0 KiB\n", rig.mountpoint.display());
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (Some(0), line.as_str(), "")
    );
    assert_eq!(left(), [false, true, true]);

    let said = clean(&[&["2days", "young"], &place[..]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("\nyoung: stays: was here 1day"),
        "{said:?}"
    );
    let (code, report) = json(&[&["0s"], &place[..]].concat());
    assert_eq!((code, &report["dropped"]), (Some(0), &Value::from(2)));
    assert_eq!(left(), [false; 3]);
    let (code, report) = json(&[&["0s"], &place[..]].concat());
    assert_eq!(
        (code, &report["looked_at"]),
        (Some(0), &Value::from(0)),
        "all have gone"
    );
}

#[test]
fn users_are_named_by_name_or_by_path() {
    let Some(rig) = Rig::new() else { return };
    let (_daemon, dirs) = mounted(&rig, &[("a", 0), ("b", 0), ("c", 0), ("d", 0)]);
    let in_mount = rig.mountpoint.join(place_of("b"));
    let outcome = |report: &Value, at: usize| report["users"][at]["outcome"].clone();

    // The path tells which mount is meant.
    let (code, report) = json(&["0s", text(&in_mount), "a", text(&dirs[2])]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["mountpoint"], text(&rig.mountpoint));
    for (at, name) in [(0, "b"), (2, "c")] {
        assert_eq!(report["users"][at]["name"], name);
        assert_eq!(report["users"][at]["bytes"], 3 * 4096);
    }
    assert_eq!(report["users"][1]["user"], "a");
    assert_eq!(
        [0, 1, 2].map(|at| outcome(&report, at)),
        ["dropped"; 3].map(Value::from)
    );
    let left: Vec<bool> = dirs.iter().map(|dir| has_files(dir)).collect();
    assert_eq!(left, [false, false, false, true]);

    let place = ["--mount", text(&rig.mountpoint)];
    let not_his = rig.mountpoint.join("00/d");
    let nobody = [&["0s", "nobody", "d", text(&not_his), "a"], &place[..]].concat();
    let (code, report) = json(&nobody);
    let outcomes = [0, 1, 2, 3].map(|at| outcome(&report, at));
    assert_eq!(
        outcomes,
        ["unknown", "dropped", "unknown", "nothing"].map(Value::from)
    );
    assert_eq!(code, Some(67));
    let said = clean(&nobody);
    assert!(said.err.contains("not known here: nobody, "), "{said:?}");
    let said = clean(&[&["0s", "/etc/passwd"], &place[..]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("/etc/passwd is not below"), "{said:?}");
    let said = clean(&["0s", "/etc/passwd"]);
    assert_eq!(said.code, Some(32), "{said:?}");
}

#[test]
fn who_has_files_open_or_ghosts_stays() {
    let Some(rig) = Rig::new() else { return };
    let (_daemon, dirs) = mounted(&rig, &[("open", 0), ("haunted", 0), ("idle", 0)]);
    fs::write(dirs[1].join(".lasthost"), "haunted\n").expect("word of ghosts");
    let file = rig
        .mountpoint
        .join(place_of("open"))
        .join("dovecot.list.index");
    let open = File::open(&file).expect("open");
    let place = ["--mount", text(&rig.mountpoint)];
    for dry_run in [&["--dry-run"][..], &[]] {
        let (code, report) = json(&[&["0s", "open", "haunted"], &place[..], dry_run].concat());
        assert_eq!(
            (code, &report["busy"]),
            (Some(75), &Value::from(2)),
            "{report}"
        );
        let (code, report) = json(&[&["0s"], &place[..], dry_run].concat());
        assert_eq!(code, Some(0), "nobody was named: {report}");
        assert_eq!([&report["dropped"], &report["busy"]], [1, 2]);
    }
    assert_eq!(
        dirs.iter().map(|dir| has_files(dir)).collect::<Vec<_>>(),
        [true, true, false]
    );
    drop(open);
    wait_until("he has gone when he has closed it", || {
        json(&[&["0s", "open"], &place[..]].concat()).0 == Some(0)
    });
    assert!(!has_files(&dirs[0]));
}

pub fn many(rig: &Rig) -> (Daemon, Vec<PathBuf>) {
    let names: Vec<String> = (0..MANY).map(|n| format!("u{n}")).collect();
    let ago = |n: usize| if n == 0 { 2 * AGO } else { AGO };
    let users = names
        .iter()
        .enumerate()
        .map(|(n, name)| (name.as_str(), ago(n)));
    mounted(rig, &users.collect::<Vec<_>>())
}

fn left(dirs: &[PathBuf]) -> usize {
    dirs.iter().filter(|dir| has_files(dir)).count()
}

#[test]
fn a_worker_that_is_killed_is_followed_by_one_that_goes_on() {
    let Some(rig) = Rig::new() else { return };
    let (daemon, dirs) = many(&rig);
    let report = std::thread::scope(|scope| {
        let cleaning = scope.spawn(|| json(&["10m", "--mount", text(&rig.mountpoint)]));
        wait_until("it has begun", || !has_files(&dirs[0]));
        let worker = daemon.worker();
        worker.signal(Signal::KILL);
        wait_until("the worker has ended", || worker.has_ended());
        assert!(left(&dirs) > 0, "it was under way");
        cleaning.join().expect("joined")
    });
    assert_eq!(report.0, Some(0), "{report:?}");
    let dropped = report.1["dropped"].as_u64().expect("a number");
    // What the first had done last nobody has heard of.
    assert!((1..=MANY as u64).contains(&dropped), "{report:?}");
    assert_eq!(left(&dirs), 0);
    // The same where each is named, and each is told of.
    for n in 0..MANY {
        make(&rig, &format!("u{n}"), AGO);
    }
    next_worker(&daemon);
    let names: Vec<String> = (0..MANY).map(|n| format!("u{n}")).collect();
    let args: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .chain(["--mount", text(&rig.mountpoint)])
        .collect();
    let report = std::thread::scope(|scope| {
        let cleaning = scope.spawn(|| json(&[&["0s"], &args[..]].concat()));
        wait_until("it has begun", || !has_files(&dirs[0]));
        daemon.worker().signal(Signal::KILL);
        cleaning.join().expect("joined")
    });
    assert_eq!(report.0, Some(0), "{}", report.1["dropped"]);
    assert_eq!(report.1["users"].as_array().map(Vec::len), Some(MANY));
    assert_eq!(left(&dirs), 0);
}

#[test]
fn two_at_once_drop_each_user_once() {
    let Some(rig) = Rig::new() else { return };
    let (_daemon, dirs) = many(&rig);
    let clean = || json(&["10m", "--mount", text(&rig.mountpoint)]);
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(clean);
        (clean(), other.join().expect("joined"))
    });
    let dropped = |report: &(Option<i32>, Value)| report.1["dropped"].as_u64().expect("a number");
    assert_eq!([one.0, other.0], [Some(0); 2]);
    assert_eq!(
        dropped(&one) + dropped(&other),
        MANY as u64,
        "{one:?} {other:?}"
    );
    assert_eq!(left(&dirs), 0);
}

#[test]
fn what_goes_for_its_age_meanwhile_is_not_in_the_way() {
    let Some(rig) = Rig::new() else { return };
    let mut command = rig.command();
    command.args(["-o", "max_age=500s"]);
    let done = finish(&mut command);
    assert_eq!((done.code, done.said.as_str()), (Some(0), ""));
    let names: Vec<String> = (0..MANY).map(|n| format!("u{n}")).collect();
    let users = names.iter().map(|name| (name.as_str(), AGO));
    let (_daemon, dirs) = found(&rig, rig.daemon(), &users.collect::<Vec<_>>());
    let (code, report) = json(&["0s", "--mount", text(&rig.mountpoint)]);
    assert_eq!(code, Some(0), "{report}");
    wait_until("all have gone", || left(&dirs) == 0);
}

#[test]
fn a_client_that_goes_away_ends_its_clean() {
    let Some(rig) = Rig::new() else { return };
    let (_daemon, dirs) = many(&rig);
    let socket = rig.backing.join(".listindexfs/worker");
    let mut connected = None;
    wait_until("the next worker listens", || {
        connected = UnixStream::connect(&socket).ok();
        connected.is_some()
    });
    let worker = connected.expect("connected");
    (&worker)
        .write_all(b"{\"protocol\":1,\"command\":\"clean\",\"age\":1000}\n")
        .expect("written");
    let mut lines = BufReader::new(worker).lines();
    wait_until("it has begun", || {
        let line = lines.next().expect("a step").expect("read");
        line.contains("\"due\":")
    });
    drop(lines);
    let mut before = (MANY, 0);
    wait_until("it has ended", || {
        let now = left(&dirs);
        before = if now == before.0 {
            (now, before.1 + 1)
        } else {
            (now, 0)
        };
        before.1 > 20
    });
    assert!(before.0 > 0, "the others are still there");
}

#[test]
fn where_the_worker_cannot_clean_it_is_said_what_to_do() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let place = ["0s", "--mount", text(&rig.mountpoint)];
    fs::remove_file(rig.backing.join(".listindexfs/worker")).expect("as of an older version");
    let said = clean(&place);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("listindexctl upgrade"), "{said:?}");
    let mut upgrade = Command::new(CTL);
    upgrade.arg("upgrade").arg(&rig.mountpoint);
    assert_eq!(run(upgrade).code, Some(0));
    assert_eq!(clean(&place).code, Some(0));
    // The supervisor alone has died: the worker cleans.
    let worker = daemon.worker();
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    assert_eq!(clean(&place).code, Some(0));
    worker.signal(Signal::KILL);
    worker.wait_for_end();
    let said = clean(&place);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("is dead: mount it again"), "{said:?}");
}

#[test]
fn a_backing_that_is_not_mounted_is_cleaned_too() {
    let Some(rig) = Rig::new() else { return };
    let backing = text(&rig.backing);
    let said = clean(&["0s", "--backing", backing]);
    assert_eq!(said.code, Some(32), "{said:?}");
    assert!(!rig.backing.exists());
    fs::create_dir(&rig.backing).expect("mkdir");
    let said = clean(&["0s", "--backing", backing]);
    assert_eq!(said.code, Some(32), "{said:?}");
    assert!(said.err.contains("it is no BACKING"), "{said:?}");
    assert_eq!(fs::read_dir(&rig.backing).expect("list").count(), 0);

    let (daemon, dirs) = mounted(
        &rig,
        &[
            ("old", 3 * DAY),
            ("plain", 3 * DAY),
            ("young", 0),
            ("haunted", 3 * DAY),
        ],
    );
    let (code, report) = json(&["30days", "--backing", backing]);
    assert_eq!(
        (code, &report["mountpoint"]),
        (Some(0), &Value::from(text(&rig.mountpoint)))
    );
    rig.umount();
    daemon.wait_for_end();
    fs::write(dirs[1].join("plain"), "stays").expect("a file");
    let record = File::create(dirs[3].join(".lasthost")).expect("open");
    (&record).write_all(b"haunted\n").expect("word of ghosts");
    let then = SystemTime::now() - Duration::from_secs(3 * DAY);
    record
        .set_times(FileTimes::new().set_modified(then))
        .expect("utimensat");
    let elsewhere = rig.path("elsewhere");
    fs::create_dir(&elsewhere).expect("mkdir");
    fs::write(elsewhere.join("dovecot.list.index"), "").expect("a file");
    let link = rig.backing.join(place_of("linked"));
    fs::create_dir_all(link.parent().expect("a level")).expect("mkdir");
    std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");

    let (code, report) = json(&["2days", "--dry-run", "--backing", backing]);
    assert_eq!(
        (code, &report["dropped"]),
        (Some(0), &Value::from(2)),
        "{report}"
    );
    assert_eq!(left(&dirs), 4);
    let (code, report) = json(&["2days", "--backing", backing]);
    assert_eq!(code, Some(0));
    assert_eq!([&report["dropped"], &report["busy"]], [2, 1], "{report}");
    assert_eq!(report["mountpoint"], Value::Null);
    assert!(!dirs[0].exists(), "nothing lay in it any more");
    assert!(!has_files(&dirs[1]) && dirs[1].join("plain").exists());
    assert!(has_files(&dirs[2]) && has_files(&dirs[3]));

    let in_mount = rig.mountpoint.join(place_of("young"));
    let users = [text(&in_mount), "linked", "old", "haunted"];
    let (code, report) = json(&[&["0s", "--backing", backing], &users[..]].concat());
    let outcomes = [0, 1, 2, 3].map(|at| report["users"][at]["outcome"].clone());
    assert_eq!(
        outcomes,
        ["dropped", "failed", "unknown", "busy"].map(Value::from),
        "{report}"
    );
    assert_eq!(code, Some(2), "a link is not followed");
    assert!(elsewhere.join("dovecot.list.index").exists());

    let config = rig.backing.join(".listindexfs/options");
    fs::write(&config, "{}").expect("write");
    let said = clean(&["0s", "--backing", backing]);
    assert_eq!(said.code, Some(32), "{said:?}");
    assert!(
        said.err.contains("another version has written it"),
        "{said:?}"
    );
}

#[test]
fn two_at_once_clean_what_is_not_mounted_one_after_the_other() {
    let Some(rig) = Rig::new() else { return };
    let (daemon, dirs) = many(&rig);
    rig.umount();
    daemon.wait_for_end();
    let clean = || json(&["10m", "--backing", text(&rig.backing)]);
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(clean);
        (clean(), other.join().expect("joined"))
    });
    assert_eq!([one.0, other.0], [Some(0); 2], "{one:?} {other:?}");
    let dropped = [&one.1["dropped"], &other.1["dropped"]];
    let dropped = dropped.map(|number| number.as_u64().expect("a number"));
    assert_eq!(dropped.iter().sum::<u64>(), MANY as u64);
    assert!(
        dropped.contains(&0),
        "one of them had the lock: {dropped:?}"
    );
    assert_eq!(left(&dirs), 0);
    rig.mount();
}
