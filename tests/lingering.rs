//! Sessions that outlive their list index: their user has moved away, or they were refused. What they write
//! reaches no list index, so as long as they live later sessions are refused too, and are right.
mod support;

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use support::dovecot::hashed;
use support::model::Op;
use support::mount::Options;
use support::site::LOG;
use support::{
    Config, DOVECOT, FUSE, Imap, Lab, Model, ROOT, Site, eventually, lacks, message, process,
};

fn op(text: &str) -> Op {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    match (words[0].as_str(), &words[1..]) {
        ("create", [name]) => Op::Create(name.clone()),
        ("delete", [name]) => Op::Delete(name.clone()),
        ("append", [name]) => Op::Append(name.clone(), false),
        ("rename", [from, to]) => Op::Rename(from.clone(), to.clone()),
        _ => panic!("no such change: {text}"),
    }
}

/// A new session here is right at its first LIST.
fn assert_right(site: &Site, model: &mut Model, when: &str) {
    let mut imap = site.login("alice");
    model.assert_matches(&imap.list_status(), when);
    imap.logout();
}

/// Once nothing lingers, a session is given a list index in the mount again, and a right one.
fn assert_served_again(site: &Site, model: &mut Model) {
    site.wait_no_sessions();
    // The daemon may learn of the end of the last process a moment later than we do.
    eventually("a new session is served", || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "after all others have ended");
        let served = site.is_served("alice");
        imap.logout();
        site.wait_no_sessions();
        served.then_some(())
    });
    assert_right(site, model, "in the session after that");
}

/// Two hosts, and a session on the first that has made two folders.
fn begin(lab: &Lab) -> ([Site; 2], Model, Imap) {
    begin_with(lab, |config| config)
}

/// The same with other settings of Dovecot's.
fn begin_with(lab: &Lab, change: impl Fn(Config) -> Config) -> ([Site; 2], Model, Imap) {
    let sites =
        ["a", "b"].map(|host| Site::with(Options::new(lab, host), change(Config::new(lab, host))));
    // The first session makes INDEX, the second the log. What was made by way of links bears no name in /proc for who
    // made it, so that only the third can be seen to have it open.
    (0..2).for_each(|_| sites[0].settle("alice"));
    let mut model = Model::new();
    let mut imap = sites[0].login("alice");
    for text in ["create one", "create two", "append one"] {
        model.apply(&op(text), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "in the first session");
    assert!(sites[0].is_served("alice"));
    (sites, model, imap)
}

const CHANGES: [&str; 6] = [
    "append one",
    "create three",
    "append three",
    "delete two",
    "rename three two",
    "append two",
];

#[test]
fn a_session_left_open_on_a_host_the_user_comes_back_to() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    come_back(begin(&lab));
}

/// With `dotlock_use_excl=no` a dotlock is made under another name and linked, and a new log comes out of it.
#[test]
fn a_session_left_open_where_dotlocks_are_links() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    come_back(begin_with(&lab, |config| {
        config.lock_method("dotlock").set("dotlock_use_excl", "no")
    }));
}

/// The user goes to the second host and back, while his session on the first stays open and writes.
fn come_back((sites, mut model, mut old): ([Site; 2], Model, Imap)) {
    let [a, b] = &sites;

    let mut moved = b.login("alice");
    model.assert_matches(&moved.list_status(), "after the move to B");
    model.apply(&op("create four"), &mut moved);
    model.apply(&op("append one"), &mut moved);
    moved.logout();

    for change in CHANGES {
        // The user is back on A, so what the old session does there counts.
        assert_right(a, &mut model, &format!("back on A before: {change}"));
        model.apply(&op(change), &mut old);
        assert_right(a, &mut model, &format!("on A after: {change}"));
        assert_right(b, &mut model, &format!("on B after: {change}"));
    }
    assert_right(a, &mut model, "back on A");
    old.logout();
    assert_served_again(a, &mut model);
    assert_served_again(b, &mut model);
}

/// The old session is the last to write, and the user has not been back on its host before.
#[test]
fn what_a_session_wrote_before_its_user_moved_back() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (sites, mut model, mut old) = begin(&lab);
    let [a, b] = &sites;
    for change in CHANGES {
        assert_right(b, &mut model, &format!("on B before: {change}"));
        model.apply(&op(change), &mut old);
        assert_right(a, &mut model, &format!("on A after: {change}"));
    }
    old.logout();
    assert_served_again(b, &mut model);
    assert_served_again(a, &mut model);
}

/// INDEX is a symlink for a while: Dovecot does not mind, but we do not follow it.
struct Trouble<'a>(&'a Path);

impl<'a> Trouble<'a> {
    fn begin(index: &'a Path) -> Self {
        let aside = index.with_extension("aside");
        fs::rename(index, &aside).expect("INDEX aside");
        std::os::unix::fs::symlink(&aside, index).expect("a symlink");
        Self(index)
    }

    fn end(self) {
        fs::remove_file(self.0).expect("the symlink");
        fs::rename(self.0.with_extension("aside"), self.0).expect("INDEX back");
    }
}

#[test]
fn a_refused_session_goes_on_writing() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (sites, mut model, first) = begin(&lab);
    let [a, b] = &sites;
    first.logout();
    a.wait_no_sessions();

    let index = hashed(&lab.index(), "alice");
    let trouble = Trouble::begin(&index);
    let mut refused = a.login("alice");
    model.assert_matches(&refused.list_status(), "in the refused session");
    assert!(!a.is_served("alice"), "a symlinked INDEX was followed");
    model.apply(&op("append one"), &mut refused);
    assert_right(a, &mut model, "refused as well");
    trouble.end();

    for change in CHANGES {
        assert_right(a, &mut model, &format!("on A before: {change}"));
        model.apply(&op(change), &mut refused);
        assert_right(a, &mut model, &format!("on A after: {change}"));
        assert_right(b, &mut model, &format!("on B after: {change}"));
    }
    assert_right(a, &mut model, "back on A");
    refused.logout();
    assert_served_again(a, &mut model);
    assert_served_again(b, &mut model);
}

/// So many files a mount's process may have open; `None`: as many as it had of us.
fn limit_files(pid: u32, files: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = files.or(maximum);
    let of = Pid::from_raw(pid as i32);
    prlimit(of, Resource::Nofile, Rlimit { current, maximum }).expect("limited");
}

/// The worker has no descriptor left, so that a session cannot open its list index and keeps it in memory.
#[test]
fn a_session_for_whose_list_index_there_was_no_descriptor() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let ([a, _], mut model, first) = begin(&lab);
    let before = a.mount.worker().expect("a worker");
    process::signal(before, Signal::KILL);
    let worker = eventually("the next worker, which has to look for each file", || {
        let worker = a.mount.worker_after(before)?;
        rustix::fs::statvfs(a.mount.path()).ok()?; // it serves
        Some(worker)
    });
    limit_files(worker, Some(3)); // which it has
    let mut without = a.login("alice");
    model.assert_matches(&without.list_status(), "without a list index");
    for change in CHANGES {
        model.apply(&op(change), &mut without);
    }
    limit_files(worker, None);
    assert_eq!(a.mount.worker(), Some(worker), "it has lived on");
    assert_right(&a, &mut model, "beside it");
    first.logout();
    eventually("nobody has it open", || {
        let alice = a.mount.about("alice")?;
        alice["holders"].as_array()?.is_empty().then_some(())
    });
    assert_right(&a, &mut model, "beside it, later");
    model.apply(&op("create last"), &mut without);
    assert_right(&a, &mut model, "beside it, later still");
    let log = a.mount.log();
    assert!(log.contains("alice: list index not opened: "), "{log}");
    without.logout();
    assert_served_again(&a, &mut model);
}

/// An LMTP process lives on after its delivery, and goes from user to user.
#[test]
fn a_refused_delivery() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let sites = ["a", "b"].map(|host| {
        Site::with(
            Options::new(&lab, host),
            Config::new(&lab, host).include_inbox(true),
        )
    });
    let [a, b] = &sites;
    let mut model = Model::new();
    a.settle("alice");

    let index = hashed(&lab.index(), "alice");
    let trouble = Trouble::begin(&index);
    let mut lmtp = a.dovecot.lmtp();
    lmtp.deliver("alice", &message("while refused"));
    model.delivered("INBOX");
    assert_right(a, &mut model, "after a refused delivery");
    trouble.end();

    assert_right(a, &mut model, "after the trouble");
    lmtp.deliver("alice", &message("again"));
    model.delivered("INBOX");
    assert_right(a, &mut model, "after a second delivery by the same process");
    assert_right(b, &mut model, "on B");
    assert_right(a, &mut model, "back on A");
    lmtp.deliver("bob", &message("another user"));
    lmtp.deliver("alice", &message("and back"));
    model.delivered("INBOX");
    assert_right(a, &mut model, "after a third delivery by the same process");
    lmtp.deliver("bob", &message("another user"));
    lmtp.quit();
    assert_served_again(a, &mut model);
    assert_served_again(b, &mut model);
}

/// Nobody comes back to `a`, so nobody hears of what a session left behind there writes, until it ends.
fn assert_heard_of_at_the_end(a: &Site, b: &Site, model: &mut Model, left: Imap) {
    left.logout();
    a.wait_no_sessions();
    // Nobody waits for the daemon to tell the other host, so it may be a moment late.
    eventually("the other host hears of what was written", || {
        let mut imap = b.login("alice");
        let right = model.check(&imap.list_status());
        imap.logout();
        b.wait_no_sessions();
        right.ok()
    });
    assert_right(b, model, "on B from then on");
    assert_served_again(b, model);
}

/// A host where a session is refused while INDEX cannot be used, and another that the user moves to.
fn refuse_and_move(lab: &Lab) -> ([Site; 2], Model, Imap) {
    let (sites, mut model, first) = begin(lab);
    let [a, b] = &sites;
    first.logout();
    a.wait_no_sessions();
    let index = hashed(&lab.index(), "alice");
    let trouble = Trouble::begin(&index);
    let mut refused = a.login("alice");
    model.assert_matches(&refused.list_status(), "in the refused session");
    trouble.end();
    assert_right(b, &mut model, "after the move to B");
    (sites, model, refused)
}

/// A session on a host that its user has left for another.
fn leave_behind(lab: &Lab) -> ([Site; 2], Model, Imap) {
    let (sites, mut model, left) = begin(lab);
    assert_right(&sites[1], &mut model, "after the move to B");
    (sites, model, left)
}

#[test]
fn what_a_session_left_behind_wrote_is_heard_of_when_it_ends() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let ([a, b], mut model, mut left) = leave_behind(&lab);
    for change in CHANGES {
        model.apply(&op(change), &mut left);
    }
    assert_heard_of_at_the_end(&a, &b, &mut model, left);
}

#[test]
fn what_a_refused_session_left_behind_wrote_is_heard_of_when_it_ends() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let ([a, b], mut model, mut left) = refuse_and_move(&lab);
    for change in CHANGES {
        model.apply(&op(change), &mut left);
    }
    assert_heard_of_at_the_end(&a, &b, &mut model, left);
}

/// A session on a host whose user goes to another: how it comes to that.
type Begin = fn(&Lab) -> ([Site; 2], Model, Imap);

/// What a session on A changes is known on B when A's mount has ended. `end` ends that, and gives the session back where it lives on.
fn assert_told_of(begin: Begin, end: fn(&mut Site, Imap) -> Option<Imap>) {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let ([mut a, b], mut model, mut session) = begin(&lab);
    for change in CHANGES {
        model.apply(&op(change), &mut session);
    }
    let lives = end(&mut a, session);
    eventually("the daemon has ended", || a.mount.has_died().then_some(()));
    assert_right(&b, &mut model, "on B when A has ended");
    if let Some(session) = lives {
        session.logout();
    }
    assert_served_again(&b, &mut model);
}

/// Its mount ends in order, and it is still there: what it has written by then is known.
#[test]
fn what_a_refused_session_wrote_is_heard_of_when_its_mount_ends() {
    assert_told_of(refuse_and_move, |a, refused| {
        a.mount.unmount();
        Some(refused)
    });
}

/// It ends a moment before, as where Dovecot is stopped first, so that nobody has looked whether it lives.
#[test]
fn what_it_wrote_that_ends_just_before_its_mount_is_heard_of() {
    assert_told_of(refuse_and_move, |a, refused| {
        refused.logout();
        a.wait_no_sessions();
        a.mount.unmount();
        None
    });
}

/// The last user of a mount that has been detached closes its files, and with that the mount ends: the kernel may not say any more
/// that they are closed.
#[test]
fn what_a_session_left_behind_wrote_is_heard_of_when_it_ends_its_mount() {
    assert_told_of(leave_behind, |a, left| {
        a.mount.umount("-l");
        left.logout();
        a.wait_no_sessions();
        None
    });
}

/// `umount -f` takes its files away, and it goes on.
#[test]
fn what_a_session_left_behind_wrote_is_heard_of_when_its_mount_is_broken_off() {
    assert_told_of(leave_behind, |a, left| {
        a.mount.umount("-f");
        Some(left)
    });
}

/// The daemon is told to end and its user stays: he has ten seconds, and then his files go.
#[test]
fn what_a_session_left_behind_wrote_is_heard_of_though_it_outlives_its_mount() {
    assert_told_of(leave_behind, |a, left| {
        let daemon = a.mount.pid().expect("a daemon");
        process::signal(daemon, Signal::TERM);
        Some(left)
    });
}

/// The list index of a user who has not migrated yet lies in INDEX. A refused session does not keep it up to date, so
/// it must not be pulled afterwards.
#[test]
fn what_a_refused_session_wrote_before_its_user_migrated() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let mut model = Model::new();
    let mut imap = stock.login("alice");
    for text in ["create one", "create two", "append one"] {
        model.apply(&op(text), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "on the stock backend");
    imap.logout();
    stock.wait_no_sessions();

    let index = hashed(&lab.index(), "alice");
    let a = Site::with(Options::new(&lab, "a").migrate(), Config::new(&lab, "a"));
    let trouble = Trouble::begin(&index);
    let mut refused = a.login("alice");
    model.assert_matches(&refused.list_status(), "in the refused session");
    assert!(!a.is_served("alice"), "a symlinked INDEX was followed");
    for change in CHANGES {
        model.apply(&op(change), &mut refused);
    }
    trouble.end();
    refused.logout();
    a.wait_no_sessions();
    assert_right(&a, &mut model, "after a refused session that wrote");
    assert_served_again(&a, &mut model);
}

/// A host that cannot pull refuses. What its sessions write then is not in INDEX, and once that is known, no host must
/// be left with what it pulled from there.
#[test]
fn what_a_refused_session_wrote_before_another_host_pulled() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let mut model = Model::new();
    let mut imap = stock.login("alice");
    for text in ["create one", "create two", "append one"] {
        model.apply(&op(text), &mut imap);
    }
    imap.logout();
    stock.wait_no_sessions();

    let sites = ["a", "b"]
        .map(|host| Site::with(Options::new(&lab, host).migrate(), Config::new(&lab, host)));
    let [a, b] = &sites;
    let log = hashed(&lab.index(), "alice").join(LOG);
    let aside = log.with_extension("aside");
    fs::rename(&log, &aside).expect("the log aside");
    fs::create_dir(&log).expect("a directory in its place");
    let mut refused = b.login("alice");
    model.assert_matches(&refused.list_status(), "in the refused session");
    assert!(!b.is_served("alice"), "served without a list index");
    for change in CHANGES {
        model.apply(&op(change), &mut refused);
    }
    fs::remove_dir(&log).expect("the directory");
    fs::rename(&aside, &log).expect("the log back");
    assert_heard_of_at_the_end(b, a, &mut model, refused);
}
