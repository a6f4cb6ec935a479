//! What docs/operating.md tells operators to do, where no other test does it.
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;

use support::dovecot::hashed;
use support::lab::mail_dir;
use support::mount::{Options, tool};
use support::process;
use support::site::{LOG, open_log_as};
use support::{DOVECOT, FUSE, GID, Lab, Light, Model, Mount, ROOT, Site, UID, eventually, lacks};

/// A list index that is doubted: without its record it is made anew.
#[test]
fn a_removed_record_makes_the_list_index_anew() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    site.settle("alice");
    let mut model = Model::new();
    let mut after_login = || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "at login");
        imap.logout();
        site.wait_no_sessions();
        // Held open, so that its inode is not used again.
        fs::File::open(site.backing_of("alice").join(LOG)).expect("the log")
    };
    let inode = |log: &fs::File| log.metadata().expect("stat").ino();
    let [first, second] = [after_login(), after_login()];
    assert_eq!(inode(&first), inode(&second), "it is kept");
    fs::remove_file(site.dir_of("alice").join(".lasthost")).expect("the record");
    assert_ne!(inode(&first), inode(&after_login()), "it is made anew");
}

/// The lines of the log that have these words in them.
fn lines(mount: &Mount, words: &str) -> Vec<String> {
    let log = mount.log();
    let found = log.lines().filter(|line| line.contains(words));
    found.map(str::to_owned).collect()
}

/// A list index that a stock backend has left. Gives the log's inode number.
fn leave_log(index: &Path) -> u64 {
    let log = index.join(LOG);
    fs::write(&log, "of a stock backend").expect("written");
    chown(&log, Some(UID), Some(GID)).expect("the user's");
    fs::metadata(&log).expect("stat").ino()
}

/// Whose a user was, what became of the list index that was in INDEX, and who had him dropped.
#[test]
fn the_log_has_a_line_for_each_event_with_user_and_reason() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let migrating = Options::new(&lab, "a").migrate().mount();
    let other = Mount::new(&lab, "c");
    let comes = |mount: &Mount, user: &str| {
        open_log_as(&hashed(mount.path(), user), UID, GID).expect("no answer");
    };
    let index = |user: &str| {
        let index = hashed(&lab.index(), user);
        mail_dir(&index);
        index
    };
    for user in ["pulled", "stale", "unread"] {
        index(user);
    }
    leave_log(&index("pulled"));
    let stale = leave_log(&index("stale"));
    let warns = format!("b\nstale {stale}\n");
    fs::write(index("stale").join(".lasthost"), warns).expect("a claim");
    fs::write(index("unread").join(".lasthost"), "none of ours").expect("a file");
    for user in ["pulled", "stale", "unread"] {
        comes(&migrating, user);
    }
    leave_log(&index("unread"));
    for user in ["pulled", "unread", "stale"] {
        comes(&other, user);
    }
    let clean = ["evict", "pulled", "--mount"];
    eventually("nobody is busy with him", || {
        let mut evict = Command::new(tool());
        let evict = process::output(evict.args(clean).arg(migrating.path()), support::LIMIT);
        evict.expect("it ends").status.success().then_some(())
    });
    for (mount, line) in [
        (&migrating, "pulled: claimed for a, was nobody's"),
        (&migrating, "stale: claimed for a, was b's"),
        (&migrating, "unread: claimed for a, was of unknown owner"),
        (&other, "pulled: claimed for c, was a's"),
        (&migrating, "pulled: list index pulled from INDEX"),
        (
            &migrating,
            "stale: list index dropped on INDEX: it lacks what a refused session changed",
        ),
        (
            &other,
            "unread: list index dropped on INDEX: it is not wanted without migrate",
        ),
        (
            &migrating,
            "pulled: list index evicted: listindexctl clean or evict",
        ),
    ] {
        let found = lines(mount, line);
        assert_eq!(found.len(), 1, "{line}: {}", mount.log());
        assert!(found[0].ends_with(line), "{line}: {}", found[0]);
    }
    assert!(!migrating.log().contains("stale: list index pulled"));
}

/// A sweep may let a hundred thousand go.
#[test]
fn so_many_who_go_are_named_and_the_others_counted() {
    const USERS: usize = 75;
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mut mount = Options::new(&lab, "a").option("max_age=1s").mount();
    let users: Vec<Light> = (0..USERS)
        .map(|n| Light::new(mount.path(), &lab.index(), &format!("user{n}")))
        .collect();
    for user in &users {
        user.first().expect("a session");
    }
    let here = |n| {
        hashed(mount.backing(), &format!("user{n}"))
            .join(LOG)
            .exists()
    };
    eventually("they go", || (!(0..USERS).any(here)).then_some(()));
    let named = lines(&mount, ": list index evicted: not used for 1s").len();
    assert!((60..USERS).contains(&named), "{named} of {USERS}");
    mount.unmount();
    let counted = lines(&mount, " more such line");
    let others = counted.iter().map(|line| {
        let (_, rest) = line.rsplit_once(" (").expect("a count");
        let (count, _) = rest.split_once(' ').expect("a number");
        count.parse::<usize>().expect("a number")
    });
    let others: usize = others.sum();
    let named = lines(&mount, ": list index evicted: not used for 1s").len();
    assert_eq!(named + others, USERS, "{}", mount.log());
}
