//! `listindexctl users`, `user` and `evict` beside real sessions: who is there, with which process, and why the gate decided so.
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::Value;
use support::dovecot::hashed;
use support::process;
use support::site::list_index;
use support::{DOVECOT, FUSE, Lab, ROOT, Site, UID, eventually, lacks};

fn tool(site: &Site, args: &[&str]) -> Output {
    let mut tool = Command::new(support::mount::tool());
    tool.args(args).env("COLUMNS", "80").env_remove("NO_COLOR");
    match args[0] {
        "users" => tool.arg(site.mount.path()),
        _ => tool.arg("--mount").arg(site.mount.path()),
    };
    process::output(&mut tool, support::LIMIT).expect("it ends")
}

fn json(site: &Site, args: &[&str]) -> (Option<i32>, Value) {
    let output = tool(site, &[args, &["--json"]].concat());
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|e| panic!("{e}: {}", process::said(&output)));
    (output.status.code(), report)
}

fn about(site: &Site, user: &str) -> Value {
    let (code, about) = json(site, &["user", user]);
    assert_eq!(code, Some(0), "{about}");
    about
}

/// The words for what was decided, the first first.
fn decided(about: &Value) -> Vec<&str> {
    let all = about["decisions"].as_array().expect("decisions").iter();
    let words = all.map(|decision| decision["decision"].as_str().expect("a word"));
    let mut words: Vec<_> = words.collect();
    words.reverse();
    words
}

#[test]
fn who_is_there_is_shown_with_his_process_and_the_reasons_of_the_gate() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    for user in ["alice", "bob"] {
        site.settle(user);
        site.settle(user); // INDEX is there now: claimed
    }
    let mut bobs = site.login("bob");
    bobs.list_status();

    let (code, users) = json(&site, &["users", "--sort", "opens"]);
    assert_eq!((code, &users["total"]), (Some(0), &2.into()), "{users}");
    let shown = |at: usize| (&users["users"][at]["name"], &users["users"][at]["state"]);
    assert_eq!(shown(0), (&"bob".into(), &"in-use".into()));
    assert_eq!(shown(1), (&"alice".into(), &"idle".into()));
    assert!(users["users"][0]["handles"].as_u64() > Some(0), "{users}");
    eventually("what alice has is counted", || {
        let (_, users) = json(&site, &["users", "--sort", "name"]);
        (users["users"][0]["bytes"].as_u64() >= Some(2 * 4096)).then_some(())
    });

    let bob = about(&site, "bob");
    let pids = site.dovecot.process_pids_of("bob");
    let holder = &bob["holders"][0];
    assert_eq!(holder["pid"], pids[0], "{bob}");
    assert_eq!(
        (&holder["program"], &holder["uid"]),
        (&"imap".into(), &UID.into())
    );
    assert_eq!(
        bob["directory"],
        site.dir_of("bob").to_str().expect("UTF-8")
    );
    assert_eq!(
        bob["backing_directory"],
        site.backing_of("bob").to_str().expect("UTF-8")
    );
    assert_eq!(
        bob["index"]["path"],
        hashed(&lab.index(), "bob").to_str().expect("UTF-8")
    );
    assert_eq!(bob["record"]["kind"], "accepted");
    let claim = &bob["lasthost"];
    assert_eq!(
        (&claim["kind"], &claim["host"]),
        (&"claim".into(), &"a".into())
    );
    assert_eq!(
        (&claim["ours"], &claim["recorded"]),
        (&true.into(), &true.into())
    );
    // He had no INDEX at first; then it was there; now all is as he left it.
    let words = decided(&bob);
    assert_eq!(words.first(), Some(&"unclaimed"), "{bob}");
    assert!(words.contains(&"claim"), "{bob}");
    assert_eq!(words.last(), Some(&"keep"), "{bob}");
    let by_path = about(&site, site.backing_of("bob").to_str().expect("UTF-8"));
    assert_eq!(by_path["name"], "bob");
    assert_eq!(json_of_nobody(&site), Some(67));

    // People see the same.
    let said = tool(&site, &["user", "bob"]);
    let text = String::from_utf8(said.stdout).expect("UTF-8");
    assert!(
        text.contains(&format!("pid {} (imap), uid {UID}: ", pids[0])),
        "{text}"
    );
    assert!(text.contains("a: this mount's, and the record's"), "{text}");
    let said = tool(&site, &["users"]);
    let table = String::from_utf8(said.stdout).expect("UTF-8");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.contains(": 2 users, ") && table.contains("1 in use"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "no terminal: {table:?}");

    evicted(&site);
    bobs.logout();
    site.wait_no_sessions();
    eventually("he is idle", || {
        (about(&site, "bob")["state"] == "idle").then_some(())
    });
    assert_eq!(about(&site, "bob")["holders"], Value::Array(vec![]));
    assert_eq!(site.dovecot.errors(), Vec::<String>::new());
}

fn json_of_nobody(site: &Site) -> Option<i32> {
    let said = tool(site, &["user", "nobody", "--json"]);
    assert!(said.stdout.is_empty(), "{}", process::said(&said));
    said.status.code()
}

/// Bob is there, alice is not.
fn evicted(site: &Site) {
    let (code, report) = json(site, &["evict", "alice"]);
    assert_eq!((code, &report["dropped"]), (Some(0), &1.into()), "{report}");
    assert!(list_index(&site.backing_of("alice")).is_empty());
    let (code, report) = json(site, &["evict", "bob"]);
    assert_eq!(
        (code, &report["users"][0]["outcome"]),
        (Some(75), &"busy".into())
    );
    assert_eq!(json(site, &["evict", "nobody", "bob"]).0, Some(67));
    assert!(site.is_served("bob"));
    let (_, users) = json(site, &["users"]);
    assert_eq!(users["total"], 1, "{users}");
    let mut imap = site.login("alice");
    imap.list_status();
    assert!(decided(&about(site, "alice")).contains(&"adopt"));
    imap.logout();
}

#[test]
fn who_was_refused_or_has_moved_is_told_why() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let [a, b] = ["a", "b"].map(|host| Site::new(&lab, host));
    for user in ["alice", "bob"] {
        a.settle(user);
        a.settle(user);
    }
    // Alice goes to the other host.
    b.settle("alice");
    b.settle("alice");
    let claim = about(&a, "alice")["lasthost"].clone();
    assert_eq!(
        [&claim["host"], &claim["ours"], &claim["recorded"]],
        [&Value::from("b"), &false.into(), &false.into()]
    );
    // Bob's INDEX is closed to him.
    let index = hashed(&lab.index(), "bob");
    let mode = fs::metadata(&index).expect("stat").permissions();
    fs::set_permissions(&index, fs::Permissions::from_mode(0o000)).expect("chmod");
    let mut imap = a.login("bob");
    imap.list_status();
    let bob = about(&a, "bob");
    let last = &bob["decisions"][0];
    assert_eq!(
        (&last["decision"], &last["served"]),
        (&"refuse".into(), &false.into())
    );
    let why = last["why"].as_str().expect("a reason");
    assert!(why.contains("ermission denied"), "{why}");
    assert_eq!(bob["state"], "haunted", "{bob}");
    assert_eq!(bob["lasthost"]["kind"], "trouble", "{bob}");
    let pids = a.dovecot.process_pids_of("bob");
    assert_eq!(bob["ghosts"][0]["pid"], pids[0], "{bob}");
    let (_, users) = json(&a, &["users", "--sort", "name"]);
    assert_eq!(users["haunted"], 1, "{users}");
    let said = tool(&a, &["user", "bob"]);
    let text = String::from_utf8(said.stdout).expect("UTF-8");
    assert!(text.contains("refuse: cannot "), "{text}");
    fs::set_permissions(&index, mode).expect("chmod");
    imap.logout();
    a.wait_no_sessions();
    a.settle("bob");
    let bob = about(&a, "bob");
    assert!(
        ["keep", "claim", "adopt"].contains(decided(&bob).last().expect("one")),
        "{bob}"
    );
}
