//! What an earlier mount or a process that died left in the backing goes by itself, and nobody's session notices.
mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use listindexfs::supervise::worker::CRASH_AT;
use support::dovecot::{as_user, hashed};
use support::model::Op;
use support::mount::Options;
use support::process::{output, said};
use support::site::{LOG, PREFIX, list_index};
use support::{
    Config, DOVECOT, FUSE, GID, LIMIT, Lab, Model, ROOT, Site, UID, eventually, finish, lacks,
};

/// Supervisor and worker die; of those who come back the files are made anew, of the others they are removed.
#[test]
fn they_are_removed_in_the_background() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mut a = Site::new(&lab, "a");
    let users: Vec<String> = (0..20).map(|n| format!("u{n}")).collect();
    for user in users.iter().map(String::as_str).chain(["alice"]) {
        a.settle(user);
        a.settle(user); // INDEX is there now: claimed
        assert!(!list_index(&a.backing_of(user)).is_empty(), "{user}");
    }
    let haunted = a.backing_of("u0").join(".lasthost");
    a.mount.kill9();
    // As it is found when the daemon died while u0 had a session that was refused.
    fs::write(&haunted, "haunted\n").expect("word of ghosts");
    a.mount.remount(|options| options);
    let mut imap = a.login("alice");
    Model::new().assert_matches(&imap.list_status(), "after everything died");
    for user in users.iter().filter(|user| *user != "u0") {
        eventually("what is left is removed", || {
            let dir = a.backing_of(user);
            (list_index(&dir).is_empty() && !dir.join(".lasthost").exists()).then_some(())
        });
    }
    assert!(a.is_served("alice"), "her session keeps what it has");
    assert_eq!(
        fs::read_to_string(&haunted).expect("word of ghosts"),
        "haunted\n",
        "it stays until they are laid"
    );
    imap.logout();
    a.wait_no_sessions();
}

/// What a mail process of any kind does.
fn mail(script: &str, dir: &Path) -> Output {
    let mut command = as_user(UID, GID, "sh");
    let command = command.args(["-c", script, "sh"]).arg(dir);
    output(command, LIMIT).unwrap_or_else(|| panic!("hangs: {script}"))
}

fn succeeds(script: &str, dir: &Path) {
    let done = mail(script, dir);
    assert!(done.status.success(), "{script}: {}", said(&done));
}

/// A process that makes the list index dies before it has renamed the log: Dovecot would wait three minutes for it.
#[test]
fn a_newlock_without_its_log_holds_nobody_up() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let a = Site::new(&lab, "a");
    (0..2).for_each(|_| a.settle("alice"));
    let (dir, backing) = (a.dir_of("alice"), a.backing_of("alice"));
    let newlock = format!("{LOG}.newlock");
    let left = format!("cd \"$1\" && rm -f {PREFIX}* && : >{newlock}");
    let mut model = Model::new();
    // Once it is so young that it may be somebody's still, then when it is old.
    for age in ["young", "old"] {
        succeeds(&left, &dir);
        if age == "old" {
            let made = fs::metadata(backing.join(&newlock)).expect("the newlock");
            let made = made.modified().expect("a time");
            eventually("it is old", || {
                let age = made.elapsed().unwrap_or_default();
                (age > std::time::Duration::from_secs(6)).then_some(())
            });
            assert!(backing.join(&newlock).exists(), "nobody has asked");
        }
        let mut imap = a.login("alice");
        model.assert_matches(&imap.list_status(), age);
        assert!(a.is_served("alice"), "{age}: {}", a.mount.log());
        imap.logout();
        a.wait_no_sessions();
        assert!(backing.join(LOG).exists() && !backing.join(&newlock).exists());
    }
    // Where there is a log it is the rotation's, which is slow at times.
    succeeds(&format!("cd \"$1\" && : >{newlock}"), &dir);
    assert!(
        a.open_log("alice")
            .is_some_and(|read| read.status.success())
    );
    assert!(backing.join(&newlock).exists());
}

/// His session died, or made nothing. What others have in theirs keeps it.
#[test]
fn a_directory_in_which_nothing_was_ever_made_goes() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").option("max_age=2s").mount();
    let dirs = |user| {
        let (shown, kept) = (mount.path(), mount.backing());
        (hashed(shown, user), hashed(kept, user))
    };
    let (bob, alice) = (dirs("bob"), dirs("alice"));
    succeeds("mkdir \"$1\" && : >\"$1/plain\"", &bob.0);
    succeeds("mkdir \"$1\"", &alice.0);
    eventually("it is removed", || (!alice.1.exists()).then_some(()));
    assert!(bob.1.join("plain").exists());
}

/// A session that was told that its directory is there opens its list index in it next.
#[test]
fn a_directory_that_somebody_asks_for_stays() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let options = Options::new(&lab, "a").option("max_age=2s");
    let mount = options.env("RUST_LOG", "listindexfs=debug").mount();
    let dir = hashed(mount.path(), "alice");
    succeeds("mkdir \"$1\"", &dir);
    eventually("it was to go three times", || {
        fs::metadata(&dir).expect("it is there"); // from the kernel's memory, mostly
        let spared = mount.log().matches("was to go is asked for").count();
        (spared >= 3).then_some(())
    });
}

/// The kernel has been told that the directory is there, and that this is good for ever.
#[test]
fn who_comes_back_after_his_directory_was_removed_finds_none() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let options = Options::new(&lab, "a").option("max_age=2s");
    let a = Site::with(options, Config::new(&lab, "a"));
    let removed = |user: &str| {
        let dir = a.backing_of(user);
        eventually("it is removed", || (!dir.exists()).then_some(()));
    };
    a.settle("alice");
    let absent = [
        "stat \"$1\"",
        "ls \"$1\"",
        "cat \"$1/dovecot.list.index.log\"",
        "set -C; : >\"$1/dovecot.list.index.log.newlock\"",
        "rmdir \"$1\"",
        ": >\"$1/plain\"",
    ];
    let made = [
        "mkdir \"$1\" && : >\"$1/plain\"",
        "mkdir -p \"$1\" && set -C && : >\"$1/dovecot.list.index.log.newlock\"",
    ];
    let users: Vec<String> = (0..absent.len() + made.len())
        .map(|n| format!("u{n}"))
        .collect();
    for user in &users {
        succeeds("mkdir \"$1\" && ls \"$1\" && stat \"$1\"", &a.dir_of(user));
    }
    users.iter().for_each(|user| removed(user));
    for (user, script) in users.iter().zip(absent) {
        let done = mail(script, &a.dir_of(user));
        let error = said(&done).to_lowercase();
        let absent = ["no such file", "nonexistent"]; // as sh says it
        let absent = absent.iter().any(|words| error.contains(words));
        assert!(absent, "{script}: {error}");
    }
    for (user, script) in users[absent.len()..].iter().zip(made) {
        succeeds(script, &a.dir_of(user));
    }
    let mut model = Model::new();
    for _ in 0..2 {
        removed("alice");
        let mut imap = a.login("alice");
        model.assert_matches(&imap.list_status(), "after her directory was removed");
        model.apply(&Op::Append("INBOX".to_owned(), false), &mut imap);
        assert!(a.is_served("alice"), "{}", a.mount.log());
        imap.logout();
        a.wait_no_sessions();
    }
    finish([a.dovecot]);
}

/// Copies of INDEX on their way to a user's directory.
#[test]
fn what_a_pull_left_that_died_is_removed_by_the_next_worker() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let mut model = Model::new();
    let mut imap = stock.login("alice");
    model.apply(&Op::Create("box".to_owned()), &mut imap);
    imap.logout();
    stock.wait_no_sessions();
    let options = Options::new(&lab, "a").migrate().env(CRASH_AT, "copied");
    let a = Site::with(options, Config::new(&lab, "a"));
    let tmp = a.mount.backing().join(".listindexfs/tmp");
    fs::write(tmp.join("unfinished"), "copy").expect("what an earlier one left");
    let mut imap = a.login("alice");
    model.assert_matches(&imap.list_status(), "while the worker dies");
    assert!(a.is_served("alice"));
    assert!(a.mount.log().contains("the worker has died"));
    let left: Vec<_> = fs::read_dir(&tmp).expect("a directory").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    imap.logout();
}
