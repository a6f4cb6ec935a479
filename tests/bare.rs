//! What Dovecot does where nothing is mounted: over a mount point that `listindexctl prepare` has made harmless, and over
//! others.
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};
use support::dovecot::{Dovecot, hashed};
use support::model::Op;
use support::process::run;
use support::{Config, DOVECOT, GID, Lab, Model, ROOT, Users, eventually, lacks, message};

/// A mount point on which nothing is mounted; what `prepare` puts there goes with it.
struct Bare(PathBuf);

impl Bare {
    fn new(lab: &Lab) -> Self {
        let above = lab.ram("run");
        chown(&above, Some(0), Some(0)).expect("chown");
        fs::set_permissions(&above, Permissions::from_mode(0o755)).expect("chmod");
        Self(above.join("listindex"))
    }

    fn prepare(&self) {
        run(Command::new(support::mount::tool())
            .arg("prepare")
            .arg(&self.0));
    }

    /// Files in it, but for what fills it.
    fn files(&self) -> Vec<PathBuf> {
        let said = run(Command::new("find")
            .arg(&self.0)
            .args(["-type", "f", "!", "-name", ".full"]));
        said.lines().map(PathBuf::from).collect()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        while unmount(&self.0, UnmountFlags::DETACH).is_ok() {}
    }
}

fn change(dovecot: &Dovecot, user: &str, model: &mut Model, ops: &[Op]) {
    let mut imap = dovecot.login(user);
    model.assert_matches(&imap.list_status(), "at login");
    for op in ops {
        model.apply(op, &mut imap);
    }
    model.assert_matches(&imap.list_status(), "after changes");
    imap.logout();
}

fn create(name: &str) -> Op {
    Op::Create(name.to_owned())
}

fn append(name: &str) -> Op {
    Op::Append(name.to_owned(), false)
}

/// Two users of one hash directory, each with a uid of his own.
fn neighbours() -> Vec<(String, u32, u32)> {
    let bucket = |name: &str| hashed(Path::new(""), name).parent().map(Path::to_owned);
    let first = "u0".to_owned();
    let other = (1..).map(|n| format!("u{n}"));
    let mut other = other.filter(|name| bucket(name) == bucket(&first));
    let second = other.next().expect("another in its bucket");
    vec![(first, 64_201, GID), (second, 64_202, 64_202)]
}

#[test]
fn over_a_prepared_mount_point_mail_goes_on_and_nothing_goes_stale() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let lab = Lab::new();
    let bare = Bare::new(&lab);
    bare.prepare();
    let users = neighbours();
    // Each user's own directories, as a site with such users has them.
    for root in [lab.mail(), lab.index()] {
        fs::set_permissions(&root, Permissions::from_mode(0o1777)).expect("chmod");
    }
    for (name, uid, gid) in &users {
        support::lab::dir_of(&lab.mail().join(name), *uid, *gid, 0o700);
    }
    let host = |name: &str| {
        let index = format!("{}/%u", lab.index().display());
        Config::new(&lab, name)
            .users(Users::Each(users.clone()))
            .index_at(&index)
    };
    let here = host("a").listindex(&bare.0).start();
    let elsewhere = host("b").set("mailbox_list_index", "no").start();
    for (user, _, _) in &users {
        let mut model = Model::new();
        change(&here, user, &mut model, &[create("x"), append("x")]);
        here.deliver_lmtp(user, &message("lmtp"));
        here.deliver_lda(user, &message("lda"));
        model.delivered("INBOX");
        model.delivered("INBOX");
        change(&here, user, &mut model, &[create("y"), append("x")]);
        change(&elsewhere, user, &mut model, &[create("z"), append("x")]);
        change(&here, user, &mut model, &[append("z")]);
    }
    here.wait_no_sessions();
    assert_eq!(bare.files(), Vec::<PathBuf>::new());
    here.finish();
    elsewhere.finish();
}

/// Of 2.3 and 2.4: LIST shows INBOX only, and imap aborts. So the advice to prepare it.
#[test]
fn over_any_that_dovecot_cannot_write_to_it_aborts() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    for mode in [None, Some(0o755), Some(0o000)] {
        let lab = Lab::new();
        let bare = Bare::new(&lab);
        if let Some(mode) = mode {
            fs::create_dir(&bare.0).expect("mkdir");
            fs::set_permissions(&bare.0, Permissions::from_mode(mode)).expect("chmod");
        }
        let dovecot = Config::new(&lab, "a").listindex(&bare.0).start();
        std::thread::scope(|scope| {
            let session = scope.spawn(|| dovecot.login("alice").list_status());
            assert!(session.join().is_err(), "{mode:?}: the session lives");
        });
        eventually("imap aborts", || {
            let errors = dovecot.errors();
            errors.iter().any(|e| e.contains("Panic:")).then_some(())
        });
    }
}

/// It makes a list index there, which no other host's changes reach.
#[test]
fn over_one_that_it_can_write_to_it_is_told_something_old() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let lab = Lab::new();
    let bare = Bare::new(&lab);
    fs::create_dir(&bare.0).expect("mkdir");
    fs::set_permissions(&bare.0, Permissions::from_mode(0o1777)).expect("chmod");
    let here = Config::new(&lab, "a").listindex(&bare.0).start();
    let elsewhere = Config::new(&lab, "b")
        .set("mailbox_list_index", "no")
        .start();
    let mut model = Model::new();
    change(&here, "alice", &mut model, &[create("x"), append("x")]);
    here.wait_no_sessions();
    change(&elsewhere, "alice", &mut model, &[create("z"), append("x")]);
    let told = here.login("alice").list_status();
    model.check(&told).expect_err("nothing has told it");
    assert_ne!(bare.files(), Vec::<PathBuf>::new());
}
