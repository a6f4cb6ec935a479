//! `listindexctl clean` beside real sessions: who is idle goes and comes back right, who is there keeps what he has.
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use support::dovecot::hashed;
use support::process;
use support::site::list_index;
use support::{DOVECOT, FUSE, Lab, Model, ROOT, Site, lacks};

fn clean(site: &Site, args: &[&str]) -> (Option<i32>, serde_json::Value) {
    let mut tool = Command::new(support::mount::tool());
    tool.arg("clean").args(args).arg("--json");
    tool.arg("--mount").arg(site.mount.path());
    let output = process::output(&mut tool, support::LIMIT).expect("it ends");
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|e| panic!("{e}: {}", process::said(&output)));
    (output.status.code(), report)
}

/// Whatever a write would change of it.
fn identity(file: &Path) -> (u64, i64, i64, u64) {
    let found = fs::metadata(file).expect("stat");
    (found.ino(), found.ctime(), found.ctime_nsec(), found.size())
}

#[test]
fn who_is_idle_comes_back_right_and_who_is_there_keeps_what_he_has() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    for user in ["alice", "bob"] {
        site.settle(user);
        site.settle(user); // INDEX is there now: claimed
        assert!(!list_index(&site.backing_of(user)).is_empty(), "{user}");
    }
    let mut bobs = site.login("bob");
    bobs.list_status();
    let claim = hashed(&lab.index(), "alice").join(".lasthost");
    let before = identity(&claim);

    let (code, report) = clean(&site, &["0s", "--dry-run"]);
    assert_eq!(
        (code, &report["dropped"], &report["busy"]),
        (Some(0), &1.into(), &1.into())
    );
    assert!(!list_index(&site.backing_of("alice")).is_empty());
    let (code, report) = clean(&site, &["1h"]);
    assert_eq!(
        (code, &report["dropped"]),
        (Some(0), &0.into()),
        "nobody is old enough"
    );
    let (code, report) = clean(&site, &["0s"]);
    assert_eq!(
        (code, &report["dropped"], &report["busy"]),
        (Some(0), &1.into(), &1.into())
    );
    assert!(list_index(&site.backing_of("alice")).is_empty());
    assert!(!site.backing_of("alice").join(".lasthost").exists());
    let (code, report) = clean(&site, &["0s", "bob"]);
    assert_eq!(
        (code, &report["users"][0]["outcome"]),
        (Some(75), &"busy".into())
    );
    assert!(site.is_served("bob"), "he has noticed nothing");
    Model::new().assert_matches(&bobs.list_status(), "his session goes on");

    let mut imap = site.login("alice");
    Model::new().assert_matches(&imap.list_status(), "after she was dropped");
    assert!(site.is_served("alice"));
    assert_eq!(
        identity(&claim),
        before,
        "adopted: nothing is written to NFS"
    );
    imap.create("later");
    imap.logout();
    bobs.logout();
    site.wait_no_sessions();
    ["alice", "bob"]
        .iter()
        .for_each(|user| site.wait_idle(user));

    // By path.
    let (code, report) = clean(
        &site,
        &["0s", site.dir_of("alice").to_str().expect("UTF-8"), "bob"],
    );
    assert_eq!((code, &report["dropped"]), (Some(0), &2.into()), "{report}");
    let mut imap = site.login("alice");
    assert!(imap.list().contains(&"later".to_owned()));
    assert!(site.is_served("alice"));
    imap.logout();
    site.wait_no_sessions();
    assert_eq!(site.dovecot.errors(), Vec::<String>::new());
}
