//! What each step of the gate costs in RPCs, asserted.
use std::fs;
use std::path::PathBuf;

use crate::guest::{Client, Rpcs, World, cost, is_v3};
use crate::support::dovecot::{as_user, hashed};
use crate::support::mount::Options;
use crate::support::site::{LOG, list_index, open_log_as};
use crate::support::{GID, LIMIT, Site, UID, eventually, message, process};

/// A user whose list index is on host A, in the mount and claimed.
fn settled(world: &World, options: impl Fn(Options) -> Options) -> Site {
    let site = Site::with(options(world.options(Client::A)), world.config(Client::A));
    for _ in 0..2 {
        site.settle("alice");
    }
    assert!(
        index(world).join(".lasthost").exists(),
        "not claimed:\n{}",
        site.mount.log()
    );
    site
}

/// alice's INDEX as the server sees it.
fn index(world: &World) -> PathBuf {
    hashed(&world.on_server.join("index"), "alice")
}

/// What one more check costs.
fn check(site: &Site) -> Rpcs {
    cost(&Client::A.mount(), || {
        let read = site.open_log("alice").expect("no answer");
        assert!(read.status.success(), "refused: {read:?}");
    })
}

/// 2 GETATTR; NFSv4.2 may do with fewer RPCs, never with more.
fn assert_steady(site: &Site) {
    check(site); // the names on the way are known now
    for _ in 0..5 {
        let rpcs = check(site);
        if is_v3() {
            assert_eq!((rpcs.count("GETATTR"), rpcs.all()), (2, 2), "{rpcs:?}");
        } else {
            assert!(rpcs.all() <= 2, "{rpcs:?}");
        }
    }
}

/// No more RPCs than these, v3 and v4.2.
fn assert_at_most(what: &str, rpcs: &Rpcs, v3: u64, v4_2: u64) {
    eprintln!("{what}: {} RPCs: {rpcs:?}", rpcs.all());
    let limit = if is_v3() { v3 } else { v4_2 };
    assert!(
        rpcs.all() <= limit,
        "{what}: {} > {limit}: {rpcs:?}",
        rpcs.all()
    );
}

#[test]
#[ignore = "runs in the NFS guest"]
fn a_check_costs_two_getattr() {
    let world = World::new();
    assert_steady(&settled(&world, |options| options));
}

#[test]
#[ignore = "runs in the NFS guest"]
fn a_check_costs_no_more_with_migrate() {
    let world = World::new();
    assert_steady(&settled(&world, Options::migrate));
}

/// Another host has had the user: purge and claim.
#[test]
#[ignore = "runs in the NFS guest"]
fn a_claim() {
    let world = World::new();
    let site = settled(&world, |options| options);
    check(&site);
    fs::write(index(&world).join(".lasthost"), "another\n").expect("a claim of another host");
    let rpcs = cost(&Client::A.mount(), || {
        // The purge leaves nothing to open: that is what an opener is told.
        open_log_as(&site.dir_of("alice"), UID, GID).expect("no answer");
    });
    assert!(
        site.mount.log().matches("claimed for a").count() >= 2,
        "{}",
        site.mount.log()
    );
    assert_at_most("claim", &rpcs, 9, 10);
}

/// A stock backend's list index moves here.
#[test]
#[ignore = "runs in the NFS guest"]
fn a_pull() {
    let world = World::new();
    let stock = world.config(Client::B).start();
    let mut imap = stock.login("alice");
    imap.create("box");
    imap.append("box", "", &message("one"));
    imap.list_status();
    imap.logout();
    stock.wait_no_sessions();
    let files = list_index(&index(&world));
    assert!(!files.is_empty(), "stock Dovecot made no list index");
    let mount = world.options(Client::A).migrate().mount();
    let dir = hashed(mount.path(), "alice");
    let rpcs = cost(&Client::A.mount(), || {
        let read = open_log_as(&dir, UID, GID).expect("no answer");
        assert!(read.status.success(), "{}", mount.log());
    });
    assert_eq!(list_index(&hashed(mount.backing(), "alice")), files);
    assert!(list_index(&index(&world)).is_empty(), "still in INDEX");
    assert_at_most("pull", &rpcs, 41, 52);
}

/// Evicted, that is without a record, and not claimed by anybody since: nothing is written to NFS.
#[test]
#[ignore = "runs in the NFS guest"]
fn an_adoption() {
    let world = World::new();
    let site = settled(&world, |options| options);
    check(&site);
    let claim = fs::read(index(&world).join(".lasthost")).expect("a claim");
    fs::remove_file(site.backing_of("alice").join(".lasthost")).expect("a record");
    let rpcs = cost(&Client::A.mount(), || {
        open_log_as(&site.dir_of("alice"), UID, GID).expect("no answer");
    });
    assert!(
        site.backing_of("alice").join(".lasthost").exists(),
        "not adopted"
    );
    assert_eq!(
        fs::read(index(&world).join(".lasthost")).expect("a claim"),
        claim
    );
    for write in [
        "WRITE", "CREATE", "RENAME", "SETATTR", "REMOVE", "COMMIT", "OPEN",
    ] {
        let writes = rpcs.count(write);
        assert!(writes == 0 || write == "OPEN", "{writes} {write}: {rpcs:?}");
    }
    assert_at_most("adoption", &rpcs, 6, 7);
}

/// After the last close of a process that wrote: 2 GETATTR more, which nobody waits for.
#[test]
#[ignore = "runs in the NFS guest"]
fn a_fence() {
    let world = World::new();
    let site = settled(&world, |options| options);
    check(&site);
    let before = Rpcs::of(&Client::A.mount());
    let mut writer = as_user(UID, GID, "sh");
    writer
        .args(["-c", "printf x >>\"$1\"", "sh"])
        .arg(site.dir_of("alice").join(LOG));
    let wrote = process::output(&mut writer, LIMIT).expect("no answer");
    assert!(wrote.status.success(), "{wrote:?}");
    if is_v3() {
        let done = eventually("the fence is set", || {
            let rpcs = Rpcs::of(&Client::A.mount()).since(&before);
            (rpcs.count("GETATTR") >= 4).then_some(rpcs)
        });
        assert_eq!(
            (done.count("GETATTR"), done.all()),
            (4, 4),
            "check and fence: {done:?}"
        );
    }
    check(&site); // comes after the fence
    let rpcs = Rpcs::of(&Client::A.mount()).since(&before);
    assert_at_most("check, fence, check", &rpcs, 6, 6);
}
