//! Whatever is wrong with INDEX, mail goes on, is right, and our log tells it in one line. Nothing outside the
//! user's directories is read, written or made.
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use listindexfs::index::creds::Creds;
use listindexfs::index::dir::{Base, IndexDir, IndexPath};
use listindexfs::index::guard::MountTable;
use listindexfs::options::{IndexFs, LockMethod};
use support::dovecot::hashed;
use support::lab::{dir_of, mail_dir};
use support::model::Op;
use support::mount::Options;
use support::process::run;
use support::site::LOG;
use support::{Config, DOVECOT, FUSE, Format, GID, Lab, Model, ROOT, Site, UID, lacks};

/// One host with `migrate`, and what is not to be touched. Maildir keeps all that counts out of INDEX.
struct World {
    site: Site,
    outside: PathBuf,
    // Last, as fields are dropped in their order.
    lab: Lab,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new();
        let config = Config::new(&lab, "a").format(Format::Maildir);
        let site = Site::with(Options::new(&lab, "a").migrate(), config);
        let outside = lab.host("outside");
        mail_dir(&outside);
        Self { site, outside, lab }
    }

    fn index(&self, user: &str) -> PathBuf {
        hashed(&self.lab.index(), user)
    }

    /// A user with some folders, whose sessions have ended; he has been served.
    fn settle(&self, user: &str) -> Model {
        self.site.settle(user);
        let mut model = Model::new();
        let mut imap = self.site.login(user);
        for n in 0..3 {
            model.apply(&Op::Create(format!("box{n}")), &mut imap);
            model.apply(&Op::Append(format!("box{n}"), false), &mut imap);
        }
        model.assert_matches(&imap.list_status(), user);
        assert!(
            self.site.is_served(user),
            "{user} is refused before there is any trouble"
        );
        imap.logout();
        self.site.wait_no_sessions();
        model
    }

    /// A file that nobody may read or change through us.
    fn secret(&self, name: &str) -> PathBuf {
        let file = self.outside.join(name);
        fs::write(&file, "a secret").expect("a secret");
        chown(&file, Some(UID), Some(GID)).expect("chown");
        file
    }
}

/// Two sessions that change something: right from their first LIST on.
fn right(site: &Site, user: &str, model: &mut Model) {
    for _ in 0..2 {
        let mut imap = site.login(user);
        model.assert_matches(&imap.list_status(), &format!("{user} at login"));
        model.apply(&Op::Append("box1".to_owned(), false), &mut imap);
        model.assert_matches(&imap.list_status(), &format!("{user} after a change"));
        imap.logout();
        site.wait_no_sessions();
    }
}

/// Lines of our log that complain about this user.
fn complaints(site: &Site, user: &str) -> Vec<String> {
    let log = site.mount.log();
    let bad =
        |line: &&str| (line.contains("WARN") || line.contains("ERROR")) && line.contains(user);
    log.lines().filter(bad).map(str::to_owned).collect()
}

/// Those of them that tell of a refusal. That no fence could be set may be told as well.
fn refusals(site: &Site, user: &str) -> Vec<String> {
    let mut lines = complaints(site, user);
    lines.retain(|line| line.contains("refused"));
    lines
}

/// A session that has no list index and is right all the same. One line of our log tells why; if such a line was
/// written a moment ago, none may be.
fn refused(site: &Site, user: &str, model: &mut Model) {
    let before = refusals(site, user).len();
    let mut imap = site.login(user);
    model.assert_matches(&imap.list_status(), &format!("{user}, refused"));
    assert!(
        !site.is_served(user),
        "{user} is served in spite of the trouble"
    );
    imap.logout();
    site.wait_no_sessions();
    let after = refusals(site, user);
    let lines = before.max(1)..=before + 1;
    assert!(
        lines.contains(&after.len()),
        "not one line, or none so soon again, for a refused session of {user}: {after:#?}\n{}",
        site.mount.log()
    );
    right(site, user, model);
}

/// Once the trouble is over the user is served again.
fn served(site: &Site, user: &str, model: &mut Model) {
    support::eventually(&format!("{user} is served again"), || {
        let mut imap = site.login(user);
        model.assert_matches(&imap.list_status(), &format!("{user}, after the trouble"));
        let served = site.is_served(user);
        imap.logout();
        site.wait_no_sessions();
        served.then_some(())
    });
    right(site, user, model);
}

/// INDEX itself is a symlink, or absent: refused, or served without a claim.
#[test]
fn trouble_with_index_itself() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let world = World::new();

    let mut model = world.settle("symlinked");
    let index = world.index("symlinked");
    let elsewhere = world.outside.join("elsewhere");
    fs::rename(&index, &elsewhere).expect("INDEX elsewhere");
    fs::remove_file(elsewhere.join(".lasthost")).expect("a claim");
    symlink(&elsewhere, &index).expect("a symlink");
    refused(&world.site, "symlinked", &mut model);
    assert!(
        !elsewhere.join(".lasthost").exists(),
        "something was made behind a symlink"
    );
    fs::remove_file(&index).expect("the symlink");
    fs::rename(&elsewhere, &index).expect("INDEX back");
    served(&world.site, "symlinked", &mut model);

    let mut model = world.settle("missing");
    fs::remove_dir_all(world.index("missing")).expect("INDEX gone");
    let mut imap = world.site.login("missing");
    model.assert_matches(&imap.list_status(), "without INDEX");
    imap.logout();
    world.site.wait_no_sessions();
    right(&world.site, "missing", &mut model);
    served(&world.site, "missing", &mut model);
}

/// What lies in INDEX under the names we look for is not what it should be.
#[test]
fn trouble_with_what_is_in_index() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let world = World::new();
    let secret = world.secret("secret");

    type Case = (&'static str, fn(&Path, &Path));
    let cases: [Case; 9] = [
        ("log-is-a-symlink", |index, secret| {
            symlink(secret, index.join(LOG)).expect("a symlink")
        }),
        ("index-is-a-symlink", |index, secret| {
            symlink(secret, index.join("dovecot.list.index")).expect("a symlink")
        }),
        ("log-is-a-fifo", |index, _| fifo(&index.join(LOG))),
        ("log-is-a-directory", |index, _| mail_dir(&index.join(LOG))),
        ("lasthost-is-a-symlink", |index, secret| {
            replace(index);
            symlink(secret, index.join(".lasthost")).expect("a symlink");
        }),
        ("lasthost-is-a-fifo", |index, _| {
            replace(index);
            fifo(&index.join(".lasthost"));
        }),
        ("lasthost-is-unreadable", |index, _| {
            let file = index.join(".lasthost");
            chown(&file, Some(0), Some(0)).expect("chown");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("chmod");
        }),
        ("lasthost-is-garbage", |index, _| {
            fs::write(
                index.join(".lasthost"),
                b"\xff\0\n\ninstance \x01\ninstance 5\n",
            )
            .expect("garbage")
        }),
        ("lasthost-is-huge", |index, _| {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(index.join(".lasthost"))
                .expect(".lasthost");
            file.set_len(1 << 30).expect("a sparse file of 1 GiB");
        }),
    ];
    for (user, spoil) in cases {
        let mut model = world.settle(user);
        spoil(&world.index(user), &secret);
        right(&world.site, user, &mut model);
        let backing = world.site.backing_of(user);
        for name in [LOG, "dovecot.list.index", ".lasthost"] {
            let found = fs::read(backing.join(name)).unwrap_or_default();
            assert!(
                !found.windows(8).any(|w| w == b"a secret"),
                "{user}: a symlink was followed to {name}"
            );
        }
        assert_eq!(
            fs::read(&secret).expect("the secret"),
            b"a secret",
            "{user}: written through a symlink"
        );
        let lines = complaints(&world.site, user);
        assert!(
            lines.len() <= 4,
            "{user}: more than a line a session: {lines:#?}"
        );
    }
    assert_eq!(
        fs::read_dir(&world.outside).expect("outside").count(),
        1,
        "something was made outside"
    );
}

fn replace(index: &Path) {
    fs::remove_file(index.join(".lasthost")).expect(".lasthost");
}

fn fifo(path: &Path) {
    run(Command::new("mkfifo").arg(path));
    chown(path, Some(UID), Some(GID)).expect("chown");
}

/// INDEX is on a local filesystem, where the default wants one from the network: the NFS mount is missing.
#[test]
fn index_on_the_wrong_filesystem() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let config = Config::new(&lab, "a").format(Format::Maildir);
    let site = Site::with(Options::new(&lab, "a").without("index_fs"), config);
    let mut model = Model::new();
    let mut imap = site.login("alice");
    for n in 0..3 {
        model.apply(&Op::Create(format!("box{n}")), &mut imap);
    }
    imap.logout();
    site.wait_no_sessions();
    refused(&site, "alice", &mut model);
    assert!(
        !hashed(&lab.index(), "alice").join(".lasthost").exists(),
        "a claim on the wrong filesystem"
    );
}

/// LISTINDEX= and layout= disagree: served as files, but no list index, and both are in the log.
#[test]
fn a_layout_that_does_not_fit() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let config = Config::new(&lab, "a").format(Format::Maildir);
    let site = Site::with_layout(Options::new(&lab, "a"), config, "%1.16Nu/%u");
    let mut model = Model::new();
    let mut imap = site.login("alice");
    for n in 0..3 {
        model.apply(&Op::Create(format!("box{n}")), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "with a layout that does not fit");
    imap.logout();
    site.wait_no_sessions();
    right(&site, "alice", &mut model);
    let lines = complaints(&site, "alice");
    let both = lines
        .iter()
        .filter(|line| line.contains("%2.256Nu/%u") && line.contains("5/alice"))
        .count();
    assert!(
        (1..=4).contains(&both),
        "not a line a session with both layouts: {lines:#?}\n{}",
        site.mount.log()
    );
}

/// INDEX's filesystem is full when the user moves: no claim can be written, so .lasthost goes instead, and the
/// other host learns from that.
#[test]
fn a_full_index() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let _tiny = Tiny::mount(&lab.index());
    let sites = ["a", "b"].map(|host| {
        Site::with(
            Options::new(&lab, host),
            Config::new(&lab, host).format(Format::Maildir),
        )
    });
    let mut model = Model::new();
    let mut imap = sites[0].login("alice");
    for n in 0..3 {
        model.apply(&Op::Create(format!("box{n}")), &mut imap);
        model.apply(&Op::Append(format!("box{n}"), false), &mut imap);
    }
    imap.logout();
    sites[0].wait_no_sessions();

    let ballast = lab.index().join("ballast");
    let full = run(Command::new("sh")
        .args([
            "-c",
            "cat /dev/zero >\"$1\" 2>/dev/null; wc -c <\"$1\"",
            "sh",
        ])
        .arg(&ballast));
    assert_ne!(full.trim(), "0");
    for site in [&sites[1], &sites[0], &sites[1]] {
        refused(site, "alice", &mut model);
    }
    fs::remove_file(ballast).expect("room again");
    for site in sites.iter().chain(&sites) {
        served(site, "alice", &mut model);
    }
}

/// A dotlock of which nothing but the name could be written would hold up stock backends, and us for two seconds each time.
#[test]
fn what_cannot_be_written_into_a_full_index_is_not_left_there() {
    if lacks(&[ROOT]) {
        return;
    }
    let lab = Lab::new();
    let _tiny = Tiny::mount(&lab.index());
    let log = lab.index().join(LOG);
    fs::write(&log, "a stock backend's").expect("a log");
    chown(&log, Some(UID), Some(GID)).expect("chown");
    let ballast = lab.index().join("ballast");
    let mut zeroes = fs::File::open("/dev/zero").expect("zeroes");
    let mut full = fs::File::create(&ballast).expect("ballast");
    std::io::copy(&mut zeroes, &mut full).expect_err("it is full");

    let creds = Creds {
        uid: UID,
        gid: GID,
        groups: Vec::new(),
    };
    let at = IndexPath {
        base: lab.index(),
        rest: PathBuf::new(),
        base_is: Base::Fixed,
    };
    let mounts = MountTable::open().expect("mountinfo");
    let index = IndexDir::open(&at, &creds, &mounts, &IndexFs::Any);
    let index = index.expect("INDEX").expect("INDEX");
    let (log, other) = (LOG.as_ref(), "other.log".as_ref());
    let locked = index.lock_log(log, LockMethod::Dotlock, Duration::ZERO);
    let put = index.lock_to_put(other, 7, Duration::ZERO);
    let made = index.make(".lasthost.beside".as_ref(), b"a claim", None);
    for e in [locked.map(drop), put.map(drop), made.map(drop)] {
        let e = e.expect_err("there is no room").to_string();
        assert!(e.contains("No space left on device"), "{e}");
    }
    let mut names = index.names(|name| !name.to_string_lossy().starts_with('.'));
    let names = names.as_mut().expect("INDEX");
    names.sort();
    assert_eq!(*names, ["ballast", LOG]);
    let hidden = index.names(|name| name.to_string_lossy().starts_with(".lasthost"));
    assert_eq!(hidden.expect("INDEX").len(), 0);
}

/// A filesystem of 1 MiB.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(at: &Path) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0755", "tiny"])
            .arg(at));
        dir_of(at, UID, GID, 0o700);
        Self(at.to_owned())
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
