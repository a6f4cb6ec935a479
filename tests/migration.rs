//! Users come from backends that know nothing of us, and go back to them: their list index is fetched from
//! INDEX, bit for bit, and is never stale.
mod support;

use std::fs;
use std::path::Path;

use support::dovecot::hashed;
use support::model::Op;
use support::mount::Options;
use support::site::{LOG, list_index};
use support::{Config, DOVECOT, FUSE, Format, GID, Lab, Model, ROOT, Site, UID, finish, lacks};

/// A user with 30 folders and some mail, made by a session of stock Dovecot.
fn settle(imap: &mut support::Imap) -> Model {
    let mut model = Model::new();
    for n in 0..30 {
        model.apply(&Op::Create(format!("box{n:02}")), imap);
        for seen in [false, true].into_iter().take(n % 3) {
            model.apply(&Op::Append(format!("box{n:02}"), seen), imap);
        }
    }
    model.assert_matches(&imap.list_status(), "on the stock backend");
    model
}

/// Opening the log is all it takes, and what was in INDEX is then here, byte for byte, and nowhere else.
fn assert_pulled_by_a_plain_open(site: &Site, index: &Path) {
    let before = list_index(index);
    assert!(
        before.contains_key(LOG),
        "stock Dovecot left no list index in {index:?}"
    );
    let read = site.open_log("alice").expect("the open hangs");
    assert!(read.status.success(), "{read:?}");
    assert_eq!(
        read.stdout, before[LOG],
        "what was read through the mount is not what was in INDEX"
    );
    assert_eq!(
        list_index(&site.backing_of("alice")),
        before,
        "what was pulled is not what was in INDEX"
    );
    assert_eq!(
        list_index(index).keys().collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "left in INDEX"
    );
    for dir in [index, &site.backing_of("alice")] {
        assert!(dir.join(".lasthost").exists(), "no .lasthost in {dir:?}");
    }
}

fn migrates(format: Format) {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let index = hashed(&lab.index(), "alice");
    let stock = Config::new(&lab, "stock").format(format).start();
    let mut imap = stock.login("alice");
    let mut model = settle(&mut imap);
    imap.logout();
    stock.wait_no_sessions();

    let site = Site::with(
        Options::new(&lab, "a").migrate(),
        Config::new(&lab, "a").format(format),
    );
    assert_pulled_by_a_plain_open(&site, &index);
    for round in 0..3 {
        let mut imap = site.login("alice");
        model.assert_matches(
            &imap.list_status(),
            "in the first session through the mount",
        );
        assert!(site.is_served("alice"), "round {round}: refused");
        model.apply(&Op::Append("box03".to_owned(), false), &mut imap);
        imap.logout();
        site.wait_no_sessions();
        assert!(
            list_index(&index).is_empty(),
            "round {round}: left in INDEX: {:?}",
            list_index(&index).keys()
        );

        // Back on a backend without us, which makes a list index in INDEX anew.
        let mut imap = stock.login("alice");
        model.assert_matches(&imap.list_status(), "back on the stock backend");
        model.apply(&Op::Create(format!("back{round}")), &mut imap);
        model.apply(&Op::Append(format!("back{round}"), false), &mut imap);
        model.apply(&Op::Delete(format!("box1{round}")), &mut imap);
        imap.logout();
        stock.wait_no_sessions();
    }
    assert_pulled_by_a_plain_open(&site, &index);
    finish([stock, site.dovecot]);
}

#[test]
fn sdbox_migrates_and_comes_back() {
    migrates(Format::Sdbox);
}

#[test]
fn mdbox_migrates_and_comes_back() {
    migrates(Format::Mdbox);
}

#[test]
fn maildir_migrates_and_comes_back() {
    migrates(Format::Maildir);
}

/// A host without `migrate` takes a user over with nothing, and leaves nothing that a host with `migrate`
/// could take for fresh later.
#[test]
fn without_migrate_the_list_index_in_index_is_dropped() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let index = hashed(&lab.index(), "alice");
    let stock = Config::new(&lab, "stock").start();
    let mut imap = stock.login("alice");
    let mut model = settle(&mut imap);
    imap.logout();
    stock.wait_no_sessions();

    let sites = [
        Site::new(&lab, "a"),
        Site::with(Options::new(&lab, "b").migrate(), Config::new(&lab, "b")),
    ];
    for site in sites.iter().chain(&sites) {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "at login");
        assert!(
            list_index(&index).is_empty(),
            "left in INDEX: {:?}",
            list_index(&index).keys()
        );
        model.apply(&Op::Append("box05".to_owned(), false), &mut imap);
        imap.logout();
        site.wait_no_sessions();
    }
}

/// What Dovecot keeps only for a moment must not come along: a `.newlock` without its log stalls a login for
/// minutes.
#[test]
fn locks_and_temporary_files_are_not_pulled() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let index = hashed(&lab.index(), "alice");
    let stock = Config::new(&lab, "stock").start();
    let mut imap = stock.login("alice");
    let mut model = settle(&mut imap);
    imap.logout();
    stock.wait_no_sessions();
    for name in [
        "dovecot.list.index.log.newlock",
        "dovecot.list.index.tmp",
        "foreign",
    ] {
        let file = index.join(name);
        fs::write(&file, "left over").expect("a left-over");
        std::os::unix::fs::chown(&file, Some(UID), Some(GID)).expect("chown");
    }
    let site = Site::with(Options::new(&lab, "a").migrate(), Config::new(&lab, "a"));
    let mut imap = site.login("alice");
    model.assert_matches(&imap.list_status(), "at login");
    for name in [
        "dovecot.list.index.log.newlock",
        "dovecot.list.index.tmp",
        "foreign",
    ] {
        assert!(
            !site.backing_of("alice").join(name).exists(),
            "{name} was pulled"
        );
    }
    assert!(
        index.join("foreign").exists(),
        "a file that is none of ours was deleted in INDEX"
    );
    imap.logout();
}

/// A session stays open here while its user is changed on a stock backend, and writes after that. What the stock
/// backend leaves lacks it, and is fetched: so without very_dirty_syncs, as long as there are stock backends.
#[test]
fn a_session_lingers_while_a_stock_backend_is_used_without_very_dirty_syncs() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    for format in Format::ALL {
        let lab = Lab::new();
        let config = |host| {
            let config = Config::new(&lab, host).format(format);
            config.very_dirty_syncs(false)
        };
        let stock = config("stock").start();
        let site = Site::with(Options::new(&lab, "a").migrate(), config("a"));
        site.settle("alice");
        let mut model = Model::new();
        let mut old = site.login("alice");
        for n in 0..3 {
            model.apply(&Op::Create(format!("box{n}")), &mut old);
        }
        let mut imap = stock.login("alice");
        model.assert_matches(&imap.list_status(), "on the stock backend");
        model.apply(&Op::Append("box0".to_owned(), false), &mut imap);
        imap.logout();
        model.apply(&Op::Append("box1".to_owned(), false), &mut old);
        model.apply(&Op::Create("late".to_owned()), &mut old);
        old.logout();
        site.wait_no_sessions();
        for _ in 0..2 {
            let mut imap = site.login("alice");
            model.assert_matches(&imap.list_status(), &format!("back, {format:?}"));
            imap.logout();
            site.wait_no_sessions();
        }
    }
}

/// Who makes a dotlock and dies before he has written into it who he is leaves one that nobody can know to be dead. So
/// did a worker that was killed there: its user was refused everywhere for ten minutes.
#[test]
fn a_dotlock_that_nobody_has_signed_is_overridden() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let index = hashed(&lab.index(), "alice");
    let stock = Config::new(&lab, "stock").start();
    let mut imap = stock.login("alice");
    settle(&mut imap);
    imap.logout();
    stock.wait_no_sessions();
    let site = Site::with(Options::new(&lab, "a").migrate(), Config::new(&lab, "a"));
    let dotlock = index.join(format!("{LOG}.lock"));
    fs::write(&dotlock, "").expect("a dotlock");
    std::os::unix::fs::chown(&dotlock, Some(UID), Some(GID)).expect("chown");
    assert_pulled_by_a_plain_open(&site, &index);
    assert!(!dotlock.exists());
}
