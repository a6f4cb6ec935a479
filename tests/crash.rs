//! The daemon is killed at each step of its gate, and mounted again: nothing is stale, and while a user migrates
//! his list index is always whole on one side at least. Where only its worker is, nobody notices at all.
mod support;

use std::path::Path;

use listindexfs::supervise::worker::CRASH_AT;
use listindexfs::user::steps::Step;

use rustix::process::Signal;
use support::dovecot::hashed;
use support::model::Op;
use support::mount::Options;
use support::site::{LOG, list_index};
use support::{Config, DOVECOT, FUSE, Lab, Model, ROOT, Site, eventually, lacks, process};

fn right(site: &Site, user: &str, model: &mut Model, change: &str, when: &str) {
    let mut imap = site.login(user);
    model.assert_matches(&imap.list_status(), &format!("{user} {when}"));
    model.apply(&Op::Create(change.to_owned()), &mut imap);
    model.apply(&Op::Append("box".to_owned(), false), &mut imap);
    model.assert_matches(
        &imap.list_status(),
        &format!("{user} {when}, after a change"),
    );
    imap.logout();
    site.wait_no_sessions();
}

/// The user's list index is not in INDEX any more. He was refused, and is right all the same, where the machine stood still for as
/// long as a lock is waited for: then he comes again.
fn assert_nothing_left(site: &Site, user: &str, model: &mut Model, index: &Path) {
    for _ in 0..3 {
        if list_index(index).is_empty() {
            return;
        }
        let mut imap = site.login(user);
        model.assert_matches(&imap.list_status(), &format!("{user} once more"));
        imap.logout();
        site.wait_no_sessions();
    }
    panic!("{user}: left in INDEX: {}", site.mount.log());
}

/// Mounts anew with a daemon that dies at `step`, and lets it come there by opening the user's log.
/// Tells whether it came there.
fn die_at(site: &mut Site, step: &str, user: &str) -> bool {
    let before = site.mount.log().len();
    site.mount
        .remount(|options| options.env("LISTINDEXFS_CRASH_AT", step));
    let opened = site.open_log(user);
    let dies = format!("dies after step {step}");
    if opened.is_some() && !site.mount.log()[before..].contains(&dies) {
        return false;
    }
    eventually("the daemon is dead", || site.mount.has_died().then_some(()));
    assert!(
        opened.is_some(),
        "{step}: the daemon is dead, and who waits for it hangs for ever"
    );
    true
}

fn mount_again(site: &mut Site) {
    site.mount
        .remount(|options| options.without_env("LISTINDEXFS_CRASH_AT"));
}

/// A user's list index is in INDEX when the daemon dies at a step of fetching it.
#[test]
fn killed_while_migrating() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let [mut a, b] = ["a", "b"]
        .map(|host| Site::with(Options::new(&lab, host).migrate(), Config::new(&lab, host)));
    for step in Step::ALL.map(Step::name) {
        let user = format!("at-{step}");
        let index = hashed(&lab.index(), &user);
        let mut model = Model::new();
        let mut imap = stock.login(&user);
        for name in ["box", "other"] {
            model.apply(&Op::Create(name.to_owned()), &mut imap);
            model.apply(&Op::Append(name.to_owned(), false), &mut imap);
        }
        imap.logout();
        stock.wait_no_sessions();
        let whole = list_index(&index);
        assert!(whole.contains_key(LOG), "stock Dovecot left no list index");

        assert!(
            die_at(&mut a, step, &user),
            "migrating did not come to step {step}:\n{}",
            a.mount.log()
        );
        let sides = [list_index(&index), list_index(&a.backing_of(&user))];
        let kept = |side: &std::collections::BTreeMap<String, Vec<u8>>| {
            whole
                .iter()
                .all(|(name, bytes)| side.get(name) == Some(bytes))
        };
        assert!(
            sides.iter().any(kept),
            "{step}: the list index is whole on neither side: {:?}",
            sides.map(|s| s.into_keys().collect::<Vec<_>>())
        );

        mount_again(&mut a);
        right(&a, &user, &mut model, "first", "mounted again");
        assert_nothing_left(&a, &user, &mut model, &index);
        right(&b, &user, &mut model, "second", "on the other host");
        right(&a, &user, &mut model, "third", "back");
    }
}

/// Mounts anew with a worker that dies at `step`; those after it do not.
fn worker_dies_at(site: &mut Site, step: &str) {
    site.mount.remount(|options| options.env(CRASH_AT, step));
}

/// Whether a worker has died on this mount, of all that were made of it.
fn workers_died(site: &Site) -> usize {
    site.mount.log().matches("the worker has died").count()
}

/// The worker dies at a step of fetching a list index, and of dropping one after its user was elsewhere: the session
/// that it did it for is answered by the next, and rightly.
#[test]
fn a_worker_is_killed_at_each_step_and_the_next_goes_on() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let [mut a, b] = ["a", "b"]
        .map(|host| Site::with(Options::new(&lab, host).migrate(), Config::new(&lab, host)));
    for step in Step::ALL.map(Step::name) {
        let user = format!("at-{step}");
        let index = hashed(&lab.index(), &user);
        let mut model = Model::new();
        let mut imap = stock.login(&user);
        model.apply(&Op::Create("box".to_owned()), &mut imap);
        model.apply(&Op::Append("box".to_owned(), false), &mut imap);
        imap.logout();
        stock.wait_no_sessions();
        worker_dies_at(&mut a, step);
        let died = workers_died(&a);
        right(&a, &user, &mut model, "first", "while the worker dies");
        assert_eq!(workers_died(&a), died + 1, "{step}:\n{}", a.mount.log());
        assert_nothing_left(&a, &user, &mut model, &index);
        let dotlock = index.join(format!("{LOG}.lock"));
        assert!(
            !dotlock.exists(),
            "{step}: the dead worker's dotlock is left"
        );
        right(&b, &user, &mut model, "second", "on the other host");
        worker_dies_at(&mut a, step);
        right(
            &a,
            &user,
            &mut model,
            "third",
            "back, while the worker dies",
        );
        right(&b, &user, &mut model, "fourth", "on the other host again");
    }
    let (a_errors, b_errors) = (a.dovecot.errors(), b.dovecot.errors());
    assert!(
        a_errors.is_empty() && b_errors.is_empty(),
        "{a_errors:?} {b_errors:?}"
    );
}

/// Who waits for a lock on NFS while somebody kills one worker after the other is not taken for the cause of it.
#[test]
fn who_waits_while_workers_are_killed_is_not_blamed() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    assert!(
        (0..3).any(|_| is_not_blamed()),
        "each time it took too long"
    );
}

/// False where the machine stood still for longer than a lock is waited for, so that he was refused for that.
fn is_not_blamed() -> bool {
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let site = Site::with(Options::new(&lab, "a").migrate(), Config::new(&lab, "a"));
    let took_too_long = || site.mount.log().contains("stayed locked for");
    let mut model = Model::new();
    let mut imap = stock.login("alice");
    model.apply(&Op::Create("box".to_owned()), &mut imap);
    imap.logout();
    stock.wait_no_sessions();
    let index = hashed(&lab.index(), "alice");
    let (log, dotlock) = (index.join(LOG), index.join(format!("{LOG}.lock")));
    // Held by somebody who lives.
    let host = rustix::system::uname();
    let owner = format!(
        "{}:{}",
        std::process::id(),
        host.nodename().to_string_lossy()
    );
    std::fs::write(&dotlock, owner).expect("a dotlock");
    std::thread::scope(|scope| {
        let session = scope.spawn(|| {
            let mut imap = site.login("alice");
            model.assert_matches(&imap.list_status(), "after all those workers");
            let served = site.is_served("alice");
            imap.logout();
            served
        });
        let mut before = 0;
        for _ in 0..5 {
            let worker = eventually("a worker waits for the lock", || {
                let worker = site.mount.worker_after(before)?;
                let waits = process::open_files(worker).contains(&log);
                (waits || took_too_long()).then_some(worker)
            });
            process::signal(worker, Signal::KILL);
            before = worker;
        }
        std::fs::remove_file(&dotlock).expect("let go of");
        let served = session.join().expect("a session");
        assert!(served || took_too_long(), "{}", site.mount.log());
    });
    if took_too_long() {
        return false;
    }
    let said = site.mount.log();
    assert_eq!(workers_died(&site), 5, "{said}");
    assert!(!said.contains("refused"), "{said}");
    true
}

/// The user moves to the other host while this one is dead, and comes back.
#[test]
fn killed_while_migrating_and_the_user_moves_on() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let [mut a, b] = ["a", "b"]
        .map(|host| Site::with(Options::new(&lab, host).migrate(), Config::new(&lab, host)));
    for step in Step::ALL.map(Step::name) {
        let user = format!("at-{step}");
        let mut model = Model::new();
        let mut imap = stock.login(&user);
        model.apply(&Op::Create("box".to_owned()), &mut imap);
        imap.logout();
        stock.wait_no_sessions();
        assert!(
            die_at(&mut a, step, &user),
            "migrating did not come to step {step}:\n{}",
            a.mount.log()
        );
        right(&b, &user, &mut model, "first", "on the other host");
        mount_again(&mut a);
        right(&a, &user, &mut model, "second", "mounted again");
        right(&b, &user, &mut model, "third", "on the other host again");
    }
}

/// A user comes back from the other host, and what is here is to be purged when the daemon dies.
#[test]
fn killed_while_taking_a_user_over() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let [mut a, b] = ["a", "b"].map(|host| Site::new(&lab, host));
    let mut died = Vec::new();
    for step in Step::ALL.map(Step::name) {
        let user = format!("at-{step}");
        let mut model = Model::new();
        let mut imap = a.login(&user);
        model.apply(&Op::Create("box".to_owned()), &mut imap);
        imap.logout();
        a.wait_no_sessions();
        right(&b, &user, &mut model, "first", "on the other host");
        if die_at(&mut a, step, &user) {
            died.push(step);
        }
        mount_again(&mut a);
        right(&a, &user, &mut model, "second", "mounted again");
        right(&b, &user, &mut model, "third", "on the other host again");
    }
    for step in ["taken", "purged", "claimed", "recorded"] {
        assert!(
            died.contains(&step),
            "taking a user over did not come to step {step}"
        );
    }
}

/// Has everybody given back to INDEX. Tells whether the tool says that all have gone.
fn gives_back(site: &Site) -> bool {
    let mut tool = std::process::Command::new(support::mount::tool());
    tool.args(["drain", "--stock", "--within", "1m"]); // that files are closed the worker hears a moment later
    let ended = process::output(tool.arg(site.mount.path()), support::LIMIT);
    ended.expect("it ends").status.success()
}

/// All processes are killed while a list index is given back. Whoever has the user then is right: a stock backend, which may
/// find it in INDEX, the other host, and this one.
#[test]
fn killed_while_giving_back() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    // It overrides what dotlocks the dead have left.
    let stock = Config::new(&lab, "stock").lock_method("dotlock").start();
    let mut a = Site::new(&lab, "a");
    let b = Site::with(Options::new(&lab, "b").migrate(), Config::new(&lab, "b"));
    let cases = Step::BACK.map(Step::name).into_iter();
    let cases = cases.flat_map(|step| ["stock", "other", "here"].map(|next| (step, next)));
    for (step, next) in cases {
        let user = format!("{next}-{step}");
        a.settle(&user);
        a.mount
            .remount(|options| options.env("LISTINDEXFS_CRASH_AT", step));
        let mut model = Model::new();
        let mut imap = a.login(&user);
        model.apply(&Op::Create("box".to_owned()), &mut imap);
        model.apply(&Op::Append("box".to_owned(), false), &mut imap);
        imap.logout();
        a.wait_no_sessions();
        assert!(!gives_back(&a), "{step}");
        eventually("the daemon is dead", || a.mount.has_died().then_some(()));
        let dovecot = match next {
            "stock" => Some(&stock),
            "other" => Some(&b.dovecot),
            _ => None,
        };
        if let Some(dovecot) = dovecot {
            let mut imap = dovecot.login(&user);
            model.assert_matches(&imap.list_status(), &format!("{user}, killed"));
            model.apply(&Op::Create("next".to_owned()), &mut imap);
            imap.logout();
            dovecot.wait_no_sessions();
        }
        mount_again(&mut a);
        right(&a, &user, &mut model, "back", "mounted again");
        right(&b, &user, &mut model, "elsewhere", "on the other host");
    }
}

/// Only the worker is: the next goes on, and what the first had under way is neither believed nor lost for the user.
#[test]
fn a_worker_is_killed_at_each_step_of_giving_back_and_the_next_goes_on() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let stock = Config::new(&lab, "stock").start();
    let [mut a, b] = ["a", "b"]
        .map(|host| Site::with(Options::new(&lab, host).migrate(), Config::new(&lab, host)));
    for step in Step::BACK.map(Step::name) {
        let user = format!("at-{step}");
        a.settle(&user);
        worker_dies_at(&mut a, step);
        let mut model = Model::new();
        let mut imap = a.login(&user);
        model.apply(&Op::Create("box".to_owned()), &mut imap);
        model.apply(&Op::Append("box".to_owned(), false), &mut imap);
        imap.logout();
        a.wait_no_sessions();
        let died = workers_died(&a);
        assert!(gives_back(&a), "{step}:\n{}", a.mount.log());
        assert_eq!(workers_died(&a), died + 1, "{step}:\n{}", a.mount.log());
        assert!(list_index(&a.backing_of(&user)).is_empty(), "{step}");
        let index = hashed(&lab.index(), &user);
        let dotlock = index.join(format!("{LOG}.lock"));
        assert!(
            !dotlock.exists(),
            "{step}: the dead worker's dotlock is left"
        );
        let mut imap = stock.login(&user);
        model.assert_matches(&imap.list_status(), &format!("stock, after {step}"));
        model.apply(&Op::Create("next".to_owned()), &mut imap);
        imap.logout();
        stock.wait_no_sessions();
        right(&b, &user, &mut model, "other", "on the other host");
        right(&a, &user, &mut model, "back", "and back");
    }
}

/// A user whose list index is on a host when all its processes are killed, and what he does about it.
struct Struck {
    name: String,
    model: Model,
    /// A session of his is open then.
    open: bool,
    /// He goes to the other host until it is mounted again.
    goes: bool,
}

/// What the gate decided about a user from a place in the log on; a second session is not worth a word.
fn decisions(log: &str, user: &str) -> Vec<String> {
    let mine = |line: &str| {
        let (_, said) = line.split_once(&format!("{user}: Index {{"))?;
        Some(said.rsplit_once(" -> ")?.1.to_owned())
    };
    let all = log.lines().filter_map(mine);
    all.filter(|decision| decision != "keep").collect()
}

/// Supervisor and worker die at once, with sessions open. Mounted again and Dovecot restarted, as the unit would, each
/// user is right at his first LIST, also who was elsewhere meanwhile; his gate decides once and nobody waits for another's.
#[test]
fn all_are_killed_and_everybody_is_right_at_his_first_login() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mut a = Site::with(Options::new(&lab, "a").debug(), Config::new(&lab, "a"));
    let b = Site::new(&lab, "b");
    let kinds = [(false, false), (false, true), (true, false), (true, true)];
    let users = kinds.into_iter().cycle().take(8).enumerate();
    let mut users: Vec<Struck> = users
        .map(|(number, (open, goes))| Struck {
            name: format!("user{number}"),
            model: Model::new(),
            open,
            goes,
        })
        .collect();
    let mut open = Vec::new();
    for user in &users {
        a.settle(&user.name);
    }
    for user in &mut users {
        let mut imap = a.login(&user.name);
        user.model.apply(&Op::Create("box".to_owned()), &mut imap);
        user.model
            .apply(&Op::Append("box".to_owned(), false), &mut imap);
        user.model.assert_matches(&imap.list_status(), "before");
        match user.open {
            true => open.push(imap),
            false => imap.logout(),
        }
    }
    a.mount.kill9();
    for user in users.iter_mut().filter(|user| user.goes) {
        right(
            &b,
            &user.name,
            &mut user.model,
            "elsewhere",
            "on the other host",
        );
    }
    let before = a.mount.log().len();
    a.mount.mount_again();
    drop(open);
    a.dovecot.restart(|config| config);
    std::thread::scope(|scope| {
        for user in &mut users {
            let a = &a;
            scope.spawn(move || {
                let mut imap = a.login(&user.name);
                let told = imap.list_status();
                user.model
                    .assert_matches(&told, &format!("{} mounted again", user.name));
                user.model.apply(&Op::Create("after".to_owned()), &mut imap);
                user.model
                    .assert_matches(&imap.list_status(), "after a change");
                assert!(a.is_served(&user.name), "{} has no list index", user.name);
                imap.logout();
            });
        }
    });
    let log = a.mount.log()[before..].to_owned();
    for user in &users {
        assert_eq!(decisions(&log, &user.name), ["claim"], "{}", user.name);
    }
    assert!(!log.contains("refused"), "{log}");
    a.wait_no_sessions();
    for user in &mut users {
        right(
            &b,
            &user.name,
            &mut user.model,
            "last",
            "on the other host at last",
        );
    }
}
