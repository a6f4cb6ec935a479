//! A user who moves between two hosts, each with its list index in RAM: every session on either is right at
//! its first LIST. With nobody at the gate the same rounds must fail.
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::dovecot::hashed;
use support::mount::Options;
use support::process::run;
use support::rounds::Rounds;
use support::site::list_index;
use support::{
    Config, DOVECOT, FUSE, Format, Lab, Model, ROOT, Site, eventually, finish, lacks, message,
};

const ROUNDS: usize = 50;

fn two_sites(lab: &Lab, format: Format, options: impl Fn(Options) -> Options) -> [Site; 2] {
    ["a", "b"].map(|host| {
        Site::with(
            options(Options::new(lab, host)),
            Config::new(lab, host).format(format),
        )
    })
}

/// Sessions that overlap now and then: right all the same.
fn moves(format: Format, options: impl Fn(Options) -> Options) {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let sites = two_sites(&lab, format, options);
    let hosts = sites.each_ref().map(|site| &site.dovecot);
    if let Err(stale) = Rounds::new(&hosts, "alice").run(ROUNDS) {
        panic!("{}", stale.story);
    }
}

#[test]
fn a_user_who_moves_is_never_told_what_was() {
    moves(Format::Sdbox, |options| options);
}

#[test]
fn a_user_who_moves_is_never_told_what_was_while_migrating() {
    moves(Format::Mdbox, Options::migrate);
}

#[test]
fn a_user_who_moves_is_never_told_what_was_in_maildir() {
    moves(Format::Maildir, |options| options);
}

/// One session after the other, as most users have them: nothing is refused and Dovecot has nothing to say.
#[test]
fn a_user_who_moves_has_a_list_index_at_once_and_no_error_is_logged() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let sites = two_sites(&lab, Format::Sdbox, |options| options);
    let hosts = sites.each_ref().map(|site| &site.dovecot);
    let mut model = match Rounds::new(&hosts, "alice").tidy().run(12) {
        Ok(model) => model,
        Err(stale) => panic!("{}", stale.story),
    };
    for site in sites.iter().chain(&sites) {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "at login");
        assert!(
            site.is_served("alice"),
            "the session has no list index in the mount"
        );
        imap.logout();
        site.wait_no_sessions();
    }
    let (dovecots, mounts): (Vec<_>, Vec<_>) = sites
        .into_iter()
        .map(|site| (site.dovecot, site.mount))
        .unzip();
    finish(dovecots);
    drop(mounts);
}

/// The control: the same rounds over the same store, the list indexes in the same RAM, only no gate.
#[test]
fn without_the_gate_the_same_rounds_fail() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let lab = Lab::new();
    let hosts = ["a", "b"].map(|host| Config::new(&lab, host).listindex(&lab.ram(host)).start());
    let Err(stale) = Rounds::new(&hosts.each_ref(), "alice").run(ROUNDS) else {
        panic!("{ROUNDS} rounds without a gate were all right: these rounds prove nothing")
    };
    eprintln!("found in round {}", stale.round);
}

/// A host that looks for users who have moved away without sparing the server, and tells in its log at whom it has looked.
fn that_looks(options: Options) -> Options {
    options.option("moved_rate=10000").env("RUST_LOG", "debug")
}

/// The user is claimed here, and has a list index.
fn claimed(site: &Site, user: &str) {
    // The first session makes INDEX, the second claims.
    (0..2).for_each(|_| site.settle(user));
    assert!(has_something(site, user), "{}", site.mount.log());
}

fn has_something(site: &Site, user: &str) -> bool {
    let dir = site.backing_of(user);
    !list_index(&dir).is_empty() && dir.join(".lasthost").exists()
}

fn has_nothing(site: &Site, user: &str) -> bool {
    let dir = site.backing_of(user);
    list_index(&dir).is_empty() && !dir.join(".lasthost").exists()
}

fn log_lines(site: &Site, what: &str) -> usize {
    let log = site.mount.log();
    log.lines().filter(|line| line.contains(what)).count()
}

/// alice moves to host B and never logs in on A again; bob moves, but a session of his is still open on A; carol stays. Host C
/// does not look.
#[test]
fn who_has_moved_away_is_dropped_without_a_login() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let [a, b, c] = ["a", "b", "c"].map(|host| {
        let options = Options::new(&lab, host);
        let options = match host {
            "a" => that_looks(options),
            _ => options.option("moved_rate=off").env("RUST_LOG", "debug"),
        };
        Site::with(options, Config::new(&lab, host))
    });
    claimed(&c, "alice");
    for user in ["carol", "bob", "alice"] {
        claimed(&a, user);
    }
    let mut bob = a.login("bob");
    bob.list_status();
    assert!(a.is_served("bob"));

    let mut model = Model::new();
    let mut alice = b.login("alice");
    let there = support::model::Op::Create("there".to_owned());
    model.apply(&there, &mut alice);
    alice.append("there", "", &message("unknown on a"));
    alice.logout();
    b.settle("bob");

    eventually("alice is dropped on the host she has left", || {
        has_nothing(&a, "alice").then_some(())
    });
    let said = "alice: list index evicted: another host has had him since";
    eventually("it is said", || (log_lines(&a, said) == 1).then_some(()));
    // All others are looked at between two looks at carol, who is the one unused for longest.
    let rounds = log_lines(&a, "carol: compared: Ours");
    eventually("a whole round", || {
        (log_lines(&a, "carol: compared: Ours") >= rounds + 2).then_some(())
    });
    assert!(has_something(&a, "carol"), "she has not moved");
    assert!(has_something(&a, "bob"), "a session of his is open");
    assert!(has_something(&c, "alice"), "that host does not look");
    assert_eq!(log_lines(&c, "compared"), 0);

    bob.logout();
    a.wait_no_sessions();
    eventually("bob is dropped after his session", || {
        has_nothing(&a, "bob").then_some(())
    });
    let mut alice = a.login("alice");
    let seen = alice.list_status();
    let messages = seen["there"].map(|counts| counts.messages);
    assert_eq!(messages, Some(1), "{seen:?}");
    assert!(a.is_served("alice"));
    alice.logout();
    a.wait_no_sessions();
    assert!(has_something(&a, "alice"));
    finish([a.dovecot, b.dovecot, c.dovecot]);
}

/// A file system over another, taken away on Drop.
struct Covered<'a>(&'a Path);

impl<'a> Covered<'a> {
    fn with_tmpfs(point: &'a Path) -> Self {
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "tmpfs"]).arg(point));
        Self(point)
    }
}

impl Drop for Covered<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Where INDEX cannot be seen for what it is nobody has moved, whatever is seen.
#[test]
fn nobody_is_dropped_where_index_tells_nothing() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    // The type as the mount table has it: what is mounted over it later is another.
    let mut stat = Command::new("findmnt");
    stat.args(["-n", "-o", "FSTYPE", "-T"]).arg(lab.index());
    let fs = run(&mut stat).trim().to_owned();
    assert_ne!(fs, "tmpfs", "another file system is to be mounted over it");
    let options = that_looks(Options::new(&lab, "a")).option(&format!("index_fs={fs}"));
    let a = Site::with(options, Config::new(&lab, "a"));
    claimed(&a, "alice");
    let index = lab.index();
    let (alice, aside) = (hashed(&index, "alice"), index.join("aside"));
    let compared = |word: &str| {
        let line = format!("alice: {word}");
        let before = log_lines(&a, &line);
        eventually(&line, || (log_lines(&a, &line) > before).then_some(()));
        assert!(has_something(&a, "alice"), "dropped though {word}");
    };
    compared("compared: Ours");

    fs::rename(&alice, &aside).expect("her INDEX away");
    compared("compared: NoIndex");
    fs::write(&alice, "").expect("a file in its place");
    compared("not compared: ");
    fs::remove_file(&alice).expect("it away");
    std::os::unix::fs::symlink(&aside, &alice).expect("a link in its place");
    compared("not compared: ");
    fs::remove_file(&alice).expect("it away");
    fs::rename(&aside, &alice).expect("her INDEX back");

    let away = index.with_file_name("away");
    fs::rename(&index, &away).expect("all of INDEX away");
    compared("not compared: ");
    fs::rename(&away, &index).expect("all of INDEX back");
    let covered = Covered::with_tmpfs(&index);
    compared("not compared: ");
    drop(covered);

    let mode = |mode| {
        fs::set_permissions(&alice, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("chmod")
    };
    mode(0);
    compared("not compared: ");
    mode(0o700);

    fs::write(alice.join(".lasthost"), "another\n").expect("a claim of another host");
    eventually("she has moved at last", || {
        has_nothing(&a, "alice").then_some(())
    });
}
