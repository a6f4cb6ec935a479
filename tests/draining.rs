//! `listindexctl drain` beside real Dovecots: who is idle goes, who is here is waited for, and with `--stock` a stock Dovecot
//! goes on with the list index that was here.
mod support;

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use support::dovecot::hashed;
use support::model::Op;
use support::mount::Options;
use support::site::{LOG, list_index};
use support::{
    Config, DOVECOT, FUSE, Format, Imap, Lab, Model, ROOT, Site, eventually, finish, lacks,
};

const FOLDERS: u64 = 30;

fn folders(imap: &mut Imap) -> Model {
    let mut model = Model::new();
    for n in 0..FOLDERS {
        model.apply(&Op::Create(format!("box{n:02}")), imap);
        for seen in [false, true].into_iter().take(n as usize % 3) {
            model.apply(&Op::Append(format!("box{n:02}"), seen), imap);
        }
    }
    model.assert_matches(&imap.list_status(), "when all is new");
    model
}

/// A user with folders whose list index is here, and whose session has ended.
fn settled(site: &Site, user: &str) -> Model {
    site.settle(user);
    let mut imap = site.login(user);
    let model = folders(&mut imap);
    imap.logout();
    site.wait_no_sessions();
    site.wait_idle(user);
    assert!(list_index(&site.backing_of(user)).contains_key(LOG));
    model
}

/// Who opens anything below a directory.
struct Watched(OwnedFd);

impl Watched {
    fn below(dir: &Path) -> Self {
        let watched = Watched(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("inotify"));
        watched.add(dir);
        watched
    }

    fn add(&self, dir: &Path) {
        add_watch(&self.0, dir, WatchFlags::OPEN).expect("inotify");
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.add(&path);
            }
        }
    }

    /// How often a folder's index log has been opened since the last time.
    fn folders_opened(&self) -> u64 {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1 << 16];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut opened = 0;
        while let Ok(event) = reader.next() {
            opened += u64::from(event.file_name() == Some(c"dovecot.index.log"));
        }
        opened
    }
}

/// What a file is, whatever is written to it.
fn owner_and_mode(file: PathBuf) -> (u32, u32, u32) {
    let stat = fs::metadata(file).expect("stat");
    (stat.uid(), stat.gid(), stat.mode())
}

fn goes_back(format: Format, migrate: bool) {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mut options = Options::new(&lab, "a");
    if migrate {
        options = options.migrate();
    }
    let mut site = Site::with(options, Config::new(&lab, "a").format(format));
    let mut model = settled(&site, "alice");
    let (index, here) = (hashed(&lab.index(), "alice"), site.backing_of("alice"));
    let (before, looks) = (list_index(&here), owner_and_mode(here.join(LOG)));

    let (code, report) = site.drain(&["--stock", "--dry-run"]);
    let told = ["given_back", "dropped", "left"].map(|key| report[key].as_u64());
    assert_eq!((code, told), (Some(0), [1, 0, 0].map(Some)), "{report}");
    assert_eq!(list_index(&here), before, "nothing has gone yet");
    let (code, report) = site.drain(&["--stock"]);
    let told = ["due", "given_back", "dropped", "lost", "kept", "left"];
    let told = told.map(|key| report[key].as_u64());
    assert_eq!(
        (code, told),
        (Some(0), [1, 1, 0, 0, 0, 0].map(Some)),
        "{report}"
    );
    assert_eq!(list_index(&index), before, "not what was here");
    assert_eq!(owner_and_mode(index.join(LOG)), looks);
    assert!(list_index(&here).is_empty() && !here.join(".lasthost").exists());
    let names = fs::read_dir(&index).expect("INDEX").flatten();
    let left: Vec<_> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".tmp") || name.ends_with(".lock"))
        .collect();
    assert_eq!(left, Vec::<String>::new());

    site.dovecot.stop();
    site.mount.unmount();
    let stock = Config::new(&lab, "stock").format(format).start();
    let ino = || fs::metadata(index.join(LOG)).expect("stat").ino();
    let (was, watched) = (ino(), Watched::below(&index));
    let mut imap = stock.login("alice");
    model.assert_matches(&imap.list_status(), "on the stock backend");
    let opened = watched.folders_opened();
    assert!(opened <= 1, "{opened} folders were opened: INBOX may be");
    assert_eq!(ino(), was, "made anew");
    model.apply(&Op::Append("box03".to_owned(), false), &mut imap);
    model.apply(&Op::Create("later".to_owned()), &mut imap);
    imap.logout();
    stock.wait_no_sessions();
    let mut imap = stock.login("alice");
    model.assert_matches(&imap.list_status(), "and again");
    imap.logout();
    stock.wait_no_sessions();
    // What would have been seen without it.
    list_index(&index)
        .keys()
        .for_each(|name| fs::remove_file(index.join(name)).expect("unlink"));
    watched.folders_opened();
    let mut imap = stock.login("alice");
    model.assert_matches(&imap.list_status(), "without it");
    let opened = watched.folders_opened();
    assert!(opened >= FOLDERS, "{opened}");
    imap.logout();
    finish([stock, site.dovecot]);
}

#[test]
fn stock_dovecot_goes_on_at_once_in_sdbox() {
    goes_back(Format::Sdbox, false);
}

#[test]
fn stock_dovecot_goes_on_at_once_in_mdbox() {
    goes_back(Format::Mdbox, true);
}

#[test]
fn stock_dovecot_goes_on_at_once_in_maildir() {
    goes_back(Format::Maildir, false);
}

/// One with `migrate` fetches it, one without drops it, the host that gave it back too; all are right.
#[test]
fn what_was_given_back_is_fetched_or_dropped_by_the_next_host() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let index = hashed(&lab.index(), "alice");
    let [a, b] = [
        Site::new(&lab, "a"),
        Site::with(Options::new(&lab, "b").migrate(), Config::new(&lab, "b")),
    ];
    let mut model = settled(&a, "alice");
    let hosts = [(&a, &b), (&b, &a), (&a, &a), (&b, &b)];
    for (at, (from, to)) in hosts.into_iter().enumerate() {
        let mut imap = from.login("alice");
        model.apply(&Op::Create(format!("new{at}")), &mut imap);
        imap.logout();
        from.wait_no_sessions();
        let (code, report) = from.drain(&["--stock"]);
        assert_eq!(
            (code, &report["given_back"]),
            (Some(0), &1.into()),
            "{report}"
        );
        let given = list_index(&index);
        assert!(given.contains_key(LOG));
        let mut imap = to.login("alice");
        model.assert_matches(&imap.list_status(), &format!("on the next host, {at}"));
        assert!(to.is_served("alice"));
        assert!(list_index(&index).is_empty(), "left in INDEX, {at}");
        model.apply(&Op::Append(format!("new{at}"), false), &mut imap);
        imap.logout();
        to.wait_no_sessions();
    }
    let said = |site: &Site, words: &str| site.mount.log().matches(words).count();
    assert_eq!(
        said(&b, "list index pulled from INDEX"),
        2,
        "a's and its own"
    );
    assert_eq!(
        said(&a, "list index dropped on INDEX"),
        2,
        "b's and its own"
    );
    finish([a.dovecot, b.dovecot]);
}

/// Who is here is waited for and named, who comes back meanwhile is served.
#[test]
fn who_is_here_is_waited_for_and_named() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    for user in ["alice", "bob"] {
        (0..2).for_each(|_| site.settle(user));
    }
    let mut bobs = site.login("bob");
    bobs.list_status();
    site.wait_idle("alice");
    let here = |user: &str| !list_index(&site.backing_of(user)).is_empty();
    for (stock, gone) in [
        (&["--within", "0s"][..], "dropped"),
        (&["--within", "0s", "--stock"], "given_back"),
    ] {
        let (code, report) = site.drain(stock);
        assert_eq!(code, Some(75), "{report}");
        assert_eq!([&report[gone], &report["left"]], [1, 1], "{report}");
        assert_eq!(
            report["users"].as_array().map(Vec::len),
            Some(1),
            "{report}"
        );
        let who = &report["users"][0];
        assert_eq!([&who["user"], &who["outcome"]], ["bob", "busy"], "{report}");
        let process = &who["open"][0];
        let pids = site.dovecot.process_pids_of("bob");
        assert!(pids.contains(&(process["pid"].as_u64().expect("a pid") as u32)));
        assert_eq!(process["name"], "imap", "{report}");
        assert!(!here("alice") && here("bob"));
        site.dovecot.login("alice").logout();
        let mut imap = site.login("alice");
        Model::new().assert_matches(&imap.list_status(), "she comes back");
        imap.logout();
        eventually("her session has ended", || {
            site.dovecot
                .process_pids_of("alice")
                .is_empty()
                .then_some(())
        });
        site.wait_idle("alice");
    }
    let report = std::thread::scope(|scope| {
        let draining = scope.spawn(|| site.drain(&["--within", "1h"]));
        eventually("it has begun", || (!here("alice")).then_some(()));
        assert!(site.is_served("bob"));
        bobs.logout();
        draining.join().expect("joined")
    });
    assert_eq!(report.0, Some(0), "{report:?}");
    assert_eq!(
        [&report.1["dropped"], &report.1["left"]],
        [2, 0],
        "{report:?}"
    );
    assert!(!here("bob"));
    assert_eq!(site.dovecot.errors(), Vec::<String>::new());
}

/// Whom an earlier mount has left as one whose session was refused has no process that could be named, and no check either.
#[test]
fn who_is_haunted_from_before_the_mount_is_named_as_that() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mut site = Site::new(&lab, "a");
    site.settle("alice");
    site.wait_no_sessions();
    site.mount.unmount();
    let word = site.backing_of("alice").join(".lasthost");
    fs::write(&word, "haunted\n").expect("word of ghosts");
    site.mount.mount_again();
    for dry_run in [&[][..], &["--dry-run"]] {
        let (code, report) = site.drain(&[&["--within", "0s"], dry_run].concat());
        let left = [&report["users"][0]["user"], &report["users"][0]["outcome"]];
        assert_eq!(left, ["alice", "haunted"], "{report}");
        assert_eq!([&report["dropped"], &report["left"]], [0, 1], "{report}");
        assert_eq!(code, Some(if dry_run.is_empty() { 75 } else { 0 }));
    }
    assert!(word.exists(), "it is for his next login");
    finish([site.dovecot]);
}

/// Where INDEX cannot be written to, the list index stays where it is, and is used.
#[test]
fn who_cannot_be_given_back_keeps_what_he_has() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    let mut model = settled(&site, "alice");
    (0..2).for_each(|_| site.settle("bob"));
    let (index, here) = (hashed(&lab.index(), "alice"), site.backing_of("alice"));
    let before = list_index(&here);
    fs::set_permissions(&index, Permissions::from_mode(0o500)).expect("chmod");
    let (code, report) = site.drain(&["--stock", "--within", "1h"]);
    assert_eq!(code, Some(2), "{report}");
    let told = ["given_back", "lost", "kept", "left"].map(|key| report[key].as_u64());
    assert_eq!(told, [1, 0, 1, 0].map(Some), "{report}");
    let who = &report["users"][0];
    assert_eq!(
        [&who["user"], &who["outcome"]],
        ["alice", "kept"],
        "{report}"
    );
    let why = who["why"].as_str().expect("a reason");
    assert!(why.contains("give the mail user access to it"), "{why}");
    assert_eq!(list_index(&here), before);
    let ino = |dir: &Path| fs::metadata(dir.join(LOG)).expect("stat").ino();
    let was = ino(&here);
    let mut imap = site.login("alice");
    model.assert_matches(&imap.list_status(), "as if nothing had been");
    assert!(site.is_served("alice"));
    imap.logout();
    site.wait_no_sessions();
    assert_eq!(ino(&here), was);
    fs::set_permissions(&index, Permissions::from_mode(0o700)).expect("chmod");
    let (code, report) = site.drain(&["--stock"]);
    assert_eq!(
        (code, &report["given_back"]),
        (Some(0), &1.into()),
        "{report}"
    );
}

/// Anybody makes as many files in his directory as he likes, and each takes some RPCs.
#[test]
fn who_has_files_without_number_is_not_given_back() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    settled(&site, "alice");
    let (index, here) = (hashed(&lab.index(), "alice"), site.backing_of("alice"));
    for number in 0..40 {
        fs::write(here.join(format!("dovecot.list.index.{number}")), "").expect("made");
    }
    let (code, report) = site.drain(&["--stock"]);
    assert_eq!((code, &report["kept"]), (Some(2), &1.into()), "{report}");
    let why = report["users"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("more than the 32"), "{why}");
    assert!(list_index(&index).is_empty());
}

/// A stock backend has been used meanwhile: what it has made stays, and ours goes. Without `migrate` nobody knows which of
/// them is right, and both go.
#[test]
fn what_a_stock_backend_has_made_is_never_replaced() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    for migrate in [true, false] {
        let lab = Lab::new();
        let mut options = Options::new(&lab, "a");
        if migrate {
            options = options.migrate();
        }
        let site = Site::with(options, Config::new(&lab, "a"));
        let stock = Config::new(&lab, "stock").start();
        let mut model = settled(&site, "alice");
        let mut imap = stock.login("alice");
        model.apply(&Op::Create("elsewhere".to_owned()), &mut imap);
        model.assert_matches(&imap.list_status(), "on the stock backend");
        imap.logout();
        stock.wait_no_sessions();
        let index = hashed(&lab.index(), "alice");
        let made = list_index(&index);
        assert!(made.contains_key(LOG));
        let (code, report) = site.drain(&["--stock"]);
        assert_eq!((code, &report["dropped"]), (Some(0), &1.into()), "{report}");
        assert!(list_index(&site.backing_of("alice")).is_empty());
        match migrate {
            true => assert_eq!(list_index(&index), made),
            false => assert!(list_index(&index).is_empty()),
        }
        for dovecot in [&stock, &site.dovecot] {
            let mut imap = dovecot.login("alice");
            model.assert_matches(&imap.list_status(), "afterwards");
            imap.logout();
            dovecot.wait_no_sessions();
        }
    }
}
