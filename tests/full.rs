//! The backing is full: Dovecot goes on in memory and says nothing. No session is given a list index that lacks
//! what another could not write, and once there is room list indexes are used again.
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use support::model::Op;
use support::mount::Options;
use support::site::LOG;
use support::tiny::Tiny;
use support::{Config, DOVECOT, FUSE, Lab, Model, ROOT, Site, eventually, lacks};

/// A host over a tmpfs that alice's first session has not filled, with ten folders and mail in them.
fn begin(lab: &Lab) -> (Tiny, Site, Model) {
    let options = Options::new(lab, "a");
    let tiny = Tiny::mount(&lab.ram("backing-a"), "256k", 1000);
    let site = Site::with(options, Config::new(lab, "a"));
    let mut model = Model::new();
    let mut imap = site.login("alice");
    for n in 0..10 {
        model.apply(&Op::Create(format!("box{n}")), &mut imap);
        model.apply(&Op::Append(format!("box{n}"), false), &mut imap);
    }
    imap.logout();
    site.wait_no_sessions();
    assert_right(&site, &mut model, "before it is full");
    (tiny, site, model)
}

fn assert_right(site: &Site, model: &mut Model, when: &str) {
    let mut imap = site.login("alice");
    model.assert_matches(&imap.list_status(), when);
    imap.logout();
}

/// More than fits into what is left of the last page, folder names among it.
fn changes(name: &str) -> impl Iterator<Item = Op> {
    let append = |n: usize| Op::Append(format!("box{}", n % 10), n % 3 == 0);
    let created = (0..20).map({
        let name = name.to_owned();
        move |n| Op::Create(format!("{name}{n}"))
    });
    (0..60).map(append).chain(created)
}

fn assert_served_again(site: &Site, model: &mut Model) {
    site.wait_no_sessions();
    eventually("a new session is served", || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "once there is room");
        let served = site.is_served("alice");
        imap.logout();
        site.wait_no_sessions();
        served.then_some(())
    });
    let inode = || {
        let log = site.backing_of("alice").join(LOG);
        fs::metadata(log).expect("the list index").ino()
    };
    let made = inode();
    for _ in 0..3 {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "in the sessions after that");
        assert!(site.is_served("alice"));
        model.apply(&Op::Append("box1".to_owned(), true), &mut imap);
        imap.logout();
        site.wait_no_sessions();
    }
    assert_eq!(inode(), made, "it is kept now");
}

fn assert_no_panic(site: &Site) {
    let panics: Vec<String> = site.dovecot.log();
    let panics: Vec<&String> = panics.iter().filter(|l| l.contains("Panic:")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
}

fn assert_said(site: &Site) {
    let log = site.mount.log();
    assert!(
        log.contains("alice: list index not written: No space left on device"),
        "{log}"
    );
}

/// Fills it up under an open session, or before that session logs in.
fn fills_up(under_the_session: bool) {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (tiny, site, mut model) = begin(&lab);
    if !under_the_session {
        tiny.fill();
    }
    let mut old = site.login("alice");
    model.assert_matches(&old.list_status(), "in the session that is to fill it up");
    assert!(site.is_served("alice"));
    if under_the_session {
        tiny.fill();
    }
    for change in changes("old") {
        model.apply(&change, &mut old);
    }
    assert_said(&site);
    for _ in 0..3 {
        assert_right(&site, &mut model, "while it is full");
    }
    let mut other = site.login("alice");
    for change in changes("other") {
        model.apply(&change, &mut other);
    }
    assert_right(&site, &mut model, "while it is full, after a second writer");
    other.logout();
    assert_right(
        &site,
        &mut model,
        "while it is full, and the second writer gone",
    );

    tiny.make_room();
    assert_right(&site, &mut model, "with room, while the first writer lives");
    model.apply(&Op::Append("old1".to_owned(), false), &mut old);
    assert_right(&site, &mut model, "after the first writer wrote again");
    old.logout();
    assert_served_again(&site, &mut model);
    assert_no_panic(&site);
}

#[test]
fn it_fills_up_under_an_open_session() {
    fills_up(true);
}

#[test]
fn it_is_full_when_a_session_comes() {
    fills_up(false);
}

/// It is still full when the session that could not write has ended: the list index cannot be made anew either.
#[test]
fn it_stays_full_after_the_session_has_ended() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (tiny, site, mut model) = begin(&lab);
    tiny.fill();
    for round in ["one", "two"] {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "while it is full");
        for change in changes(round) {
            model.apply(&change, &mut imap);
        }
        imap.logout();
        site.wait_no_sessions();
        for _ in 0..3 {
            assert_right(&site, &mut model, "after the writer");
            site.wait_no_sessions();
        }
    }
    assert_said(&site);
    tiny.make_room();
    assert_served_again(&site, &mut model);
    assert_no_panic(&site);
}

/// A user who has no directory yet gets one, and works in memory.
#[test]
fn a_user_comes_for_the_first_time_while_it_is_full() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (tiny, site, _) = begin(&lab);
    tiny.fill();
    let mut model = Model::new();
    let mut imap = site.login("bob");
    for change in (0..10).map(|n| Op::Create(format!("box{n}"))) {
        model.apply(&change, &mut imap);
    }
    for change in changes("new") {
        model.apply(&change, &mut imap);
    }
    model.assert_matches(&imap.list_status(), "in his first session");
    imap.logout();
    site.wait_no_sessions();
    for _ in 0..3 {
        let mut imap = site.login("bob");
        model.assert_matches(&imap.list_status(), "in a later one");
        imap.logout();
        site.wait_no_sessions();
    }
    tiny.make_room();
    for _ in 0..3 {
        let mut imap = site.login("bob");
        model.assert_matches(&imap.list_status(), "with room");
        imap.logout();
        site.wait_no_sessions();
    }
    assert_no_panic(&site);
}

/// No inode is left: files cannot be made, though there is room in those there are. For users who have no directory
/// yet that is an outage.
#[test]
fn it_runs_out_of_inodes() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (tiny, site, mut model) = begin(&lab);
    let mut old = site.login("alice");
    model.assert_matches(&old.list_status(), "in the first session");
    let spare = tiny.path().join("spare");
    fs::create_dir(&spare).expect("a directory");
    let made = (0..).take_while(|n| fs::File::create(spare.join(n.to_string())).is_ok());
    assert!(made.count() > 0);
    for change in changes("old") {
        model.apply(&change, &mut old);
    }
    for _ in 0..3 {
        assert_right(&site, &mut model, "without inodes");
    }
    old.logout();
    site.wait_no_sessions();
    let mut imap = site.login("alice");
    for change in changes("other") {
        model.apply(&change, &mut imap);
    }
    assert_right(&site, &mut model, "without inodes, after a second writer");
    imap.logout();
    fs::remove_dir_all(spare).expect("inodes again");
    assert_served_again(&site, &mut model);
    assert_no_panic(&site);
}
