//! What is counted, as operators see it: it rises with real sessions, goes on when workers die, and is to be had over HTTP and in a
//! file, whatever the worker does.
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;

use rustix::process::Signal;
use support::lab::dir_of;
use support::mount::{Options, tool};
use support::{FUSE, GID, LIMIT, Lab, Light, Mount, ROOT, UID, eventually, lacks, process};

/// What the tool prints and its exit code.
fn ctl(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(tool());
    command.args(args);
    let output = process::output(&mut command, LIMIT).expect("it ends");
    (output.status.code(), process::said(&output))
}

/// The number of a sample of this mount, as its name and its further labels.
fn sample(text: &str, name: &str, labels: &str) -> f64 {
    let of = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, with) = series.split_once('{')?;
        let with = with
            .strip_suffix('}')?
            .split_once("\",")
            .map_or("", |(_, rest)| rest);
        (found == name && with == labels).then(|| value.parse::<f64>().expect(line))
    };
    let found = text.lines().find_map(of);
    found.unwrap_or_else(|| panic!("no {name}{{{labels}}} in:\n{text}"))
}

fn count(mount: &Mount, name: &str, labels: &str) -> f64 {
    sample(&mount.metrics(), &format!("listindexfs_{name}"), labels)
}

fn users(lab: &Lab, mount: &Mount, many: usize) -> Vec<Light> {
    let light = |n| Light::new(mount.path(), &lab.index(), &format!("user{n}"));
    (0..many).map(light).collect()
}

fn kill_worker(mount: &Mount) {
    let worker = mount.worker().expect("a worker");
    process::signal(worker, Signal::KILL);
    eventually("the next worker", || mount.worker_after(worker));
}

#[test]
fn what_is_counted_rises_with_sessions_and_goes_on_when_the_worker_dies() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    let users = users(&lab, &mount, 5);
    let sessions: Vec<_> = users
        .iter()
        .map(|user| user.first().expect("a session"))
        .collect();
    let text = mount.metrics();
    let now = |name: &str, labels: &str| sample(&text, &format!("listindexfs_{name}"), labels);
    assert_eq!(
        now("gate_checks_total", "outcome=\"claim\""),
        5.0,
        "each once"
    );
    assert_eq!(now("worker_starts_total", ""), 1.0);
    assert_eq!(
        now("fuse_requests_total", "op=\"create\""),
        10.0,
        "two files each"
    );
    let served = now("gate_answers_total", "answer=\"serve\"");
    assert!(served >= 5.0, "{text}");
    assert_eq!(now("gate_answers_total", "answer=\"refuse\""), 0.0);
    assert_eq!(
        now("gate_wait_seconds_count", ""),
        served,
        "each has waited"
    );
    assert!(now("gate_wait_seconds_sum", "") > 0.0);
    assert!(
        now("gate_shared_verdicts_total", "") > 0.0,
        "L was made by who had looked it up"
    );
    eventually("how much is here is told", || {
        let text = mount.metrics();
        let now = |name: &str| sample(&text, &format!("listindexfs_{name}"), "");
        (now("users") == 5.0 && now("open_files") == 10.0).then_some(())
    });
    assert!(count(&mount, "bytes", "") >= 5.0 * 2.0 * 4096.0);
    assert!(count(&mount, "max_bytes", "") > count(&mount, "bytes", ""));

    kill_worker(&mount);
    for user in &users {
        user.again().expect("a session");
    }
    let text = mount.metrics();
    let now = |name: &str, labels: &str| sample(&text, &format!("listindexfs_{name}"), labels);
    assert_eq!(
        now("gate_checks_total", "outcome=\"claim\""),
        5.0,
        "not lost"
    );
    assert!(
        now("gate_checks_total", "outcome=\"keep\"") >= 5.0,
        "the next worker counts on"
    );
    assert!(now("gate_answers_total", "answer=\"serve\"") >= served + 5.0);
    assert_eq!(now("worker_deaths_total", "cause=\"killed\""), 1.0);
    assert_eq!(now("takeovers_total", ""), 1.0);
    assert_eq!(
        (now("worker_starts_total", ""), now("worker_up", "")),
        (2.0, 1.0)
    );

    let point = mount.path().to_str().expect("UTF-8");
    let (code, said) = ctl(&["upgrade", point]);
    assert_eq!(code, Some(0), "{said}");
    let text = mount.metrics();
    let now = |name: &str, labels: &str| sample(&text, &format!("listindexfs_{name}"), labels);
    assert_eq!(now("gate_checks_total", "outcome=\"claim\""), 5.0);
    assert_eq!(now("upgrades_total", "result=\"done\""), 1.0);
    assert_eq!(now("takeovers_total", ""), 2.0);
    assert_eq!(
        now("worker_deaths_total", "cause=\"killed\""),
        1.0,
        "that was no death"
    );
    drop(sessions);
    eventually("nothing is open any more", || {
        (count(&mount, "open_files", "") == 0.0).then_some(())
    });
}

#[test]
fn refusals_ghosts_and_evictions_are_counted_by_their_reason() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    let users = users(&lab, &mount, 3);
    users
        .iter()
        .for_each(|user| drop(user.first().expect("a session")));
    kill_worker(&mount); // forgets the verdicts
    let index = &users[0].index;
    fs::remove_dir_all(index).expect("removed");
    symlink("/", index).expect("a link in its place");
    users[0].again().map(drop).expect_err("refused");
    let refused = |reason: &str| count(&mount, "refused_total", &format!("reason=\"{reason}\""));
    assert_eq!((refused("symlink"), refused("io")), (1.0, 0.0));
    assert_eq!(
        count(&mount, "gate_checks_total", "outcome=\"refuse\""),
        1.0
    );
    assert_eq!(
        count(&mount, "gate_answers_total", "answer=\"refuse\""),
        1.0
    );
    assert_eq!(count(&mount, "ghosts", ""), 0.0, "root changes no mail");

    let point = mount.path().to_str().expect("UTF-8");
    let names = ["user1", "user2"];
    let clean = |name: &str| ctl(&["clean", "0s", name, "--mount", point]);
    for name in names {
        eventually("nobody is busy with him", || {
            (clean(name).0 == Some(0)).then_some(())
        });
    }
    assert_eq!(count(&mount, "evictions_total", "reason=\"clean\""), 2.0);
    assert_eq!(count(&mount, "evictions_total", "reason=\"age\""), 0.0);
}

/// The user's L is looked for by a process of its own, as a session does that has no list index here.
fn comes(mount: &Mount, user: &str) {
    let dir = support::dovecot::hashed(mount.path(), user);
    support::site::open_log_as(&dir, UID, GID).expect("no answer");
}

#[test]
fn who_is_on_several_hosts_at_once_is_told_of_by_name() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let hosts = ["a", "b"].map(|host| Mount::new(&lab, host));
    for user in ["alice", "bob"] {
        let index = support::dovecot::hashed(&lab.index(), user);
        let bucket = index.parent().expect("a bucket");
        [bucket, &index]
            .iter()
            .for_each(|dir| dir_of(dir, UID, GID, 0o700));
    }
    let [a, b] = &hosts;
    let claims = |mount| count(mount, "gate_checks_total", "outcome=\"claim\"");
    for (at, mount) in [a, b, a].into_iter().enumerate() {
        comes(mount, "alice");
        comes(mount, "bob");
        assert_eq!(claims(mount), [2.0, 2.0, 4.0][at]);
    }
    let claimed = |mount: &Mount| {
        let log = mount.log();
        let lines = log.lines().filter_map(|line| line.split_once("] "));
        let alices = lines.filter(|(_, line)| line.starts_with("alice: claimed"));
        alices.map(|(_, line)| line.to_owned()).collect::<Vec<_>>()
    };
    // Where a record tells that another host has had her, .lasthost is not read; it may be gone, as she has moved.
    let alices = claimed(a);
    assert_eq!(alices[0], "alice: claimed for a, was nobody's");
    let was = [
        "alice: claimed for a, was another host's",
        "alice: claimed for a, was b's",
    ];
    assert!(was.contains(&alices[1].as_str()), "{alices:?}");
    assert_eq!(claimed(b), ["alice: claimed for b, was a's"]);
    assert_eq!(count(a, "host_flaps_total", ""), 2.0);
    assert_eq!(count(b, "host_flaps_total", ""), 0.0);
    let told = |mount: &Mount, user: &str| {
        let line = format!("{user} is on several hosts at once");
        let log = mount.log();
        log.lines()
            .find(|found| found.contains(&line))
            .map(str::to_owned)
    };
    assert_eq!(told(a, "alice"), None, "there and back may be a move");
    comes(b, "alice");
    comes(a, "alice");
    let line = told(a, "alice").expect("told of");
    assert!(
        line.contains("(claimed 3 times in 5 minutes; last owner b): send users"),
        "{line}"
    );
    assert_eq!(
        claimed(a).last().map(String::as_str),
        Some("alice: claimed for a, was b's")
    );
    assert_eq!((told(a, "bob"), told(b, "alice")), (None, None));
    assert_eq!(count(a, "host_flaps_total", ""), 3.0);
    comes(a, "alice");
    assert_eq!(count(a, "host_flaps_total", ""), 3.0, "he has stayed");
}

/// What HTTP answers, head and body.
fn get(port: u16, path: &str) -> Option<(String, String)> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut said = String::new();
    client.read_to_string(&mut said).ok()?;
    let (head, body) = said.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// A port that nobody listens on, and that is nobody's until the mount has it, but for bad luck.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn http_and_the_file_have_an_answer_whatever_the_worker_does() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (port, file) = (free_port(), lab.ram("textfile").join("listindexfs.prom"));
    let mut mount = Options::new(&lab, "a")
        .option(&format!("metrics={port}"))
        .option(&format!("metrics_file={}", file.display()))
        .option("watchdog=1h")
        .mount();
    eventually("the file is written", || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("listindexfs_worker_up"))
    });
    let user = Light::new(mount.path(), &lab.index(), "alice");
    drop(user.first().expect("a session"));
    let (head, body) = eventually("HTTP answers", || get(port, "/metrics"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    let claims = |body: &str| sample(body, "listindexfs_gate_checks_total", "outcome=\"claim\"");
    assert_eq!(claims(&body), 1.0);
    let (head, _) = eventually("an answer", || get(port, "/"));
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");

    // Clients that say nothing, or nonsense, keep nobody from an answer for long.
    let silent: Vec<_> = (0..10)
        .map(|_| TcpStream::connect(("127.0.0.1", port)))
        .collect();
    eventually("others are answered", || get(port, "/metrics"));
    drop(silent);

    let worker = mount.worker().expect("a worker");
    process::signal(worker, Signal::STOP);
    let (_, body) = eventually("an answer while the worker hangs", || get(port, "/metrics"));
    assert_eq!(claims(&body), 1.0);
    assert_eq!(claims(&mount.metrics()), 1.0, "and the tool has one");
    process::signal(worker, Signal::KILL);
    let (_, body) = eventually("HTTP goes on", || {
        get(port, "/metrics")
            .filter(|(_, body)| sample(body, "listindexfs_takeovers_total", "") == 1.0)
    });
    assert_eq!(claims(&body), 1.0);
    mount.unmount();
    assert!(!file.exists(), "it does not tell of a mount that has ended");
    assert_eq!(get(port, "/metrics"), None);
}
