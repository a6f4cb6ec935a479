//! NFS is touched with the caller's rights only: on an export where root is nobody, and for users with uids of their own.
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::guest::{Changed, Client, World, changed};
use crate::support::dovecot::{as_user, hashed};
use crate::support::lab::dir_of;
use crate::support::mount::Options;
use crate::support::process::output;
use crate::support::site::{LOG, list_index, open_log_as};
use crate::support::{Config, GID, LIMIT, Site, UID, Users, eventually, message};

fn root_is_nobody() -> Changed {
    let open = "rw,sync,no_subtree_check,no_root_squash";
    changed(
        &["export", "rw,sync,no_subtree_check,root_squash"],
        &["export", open],
    )
}

/// A site whose users have their own uids, INDEX and mail of each in a directory of his own.
fn site(world: &World, users: &[(&str, u32, u32)]) -> Site {
    site_with(world, users, |options| options)
}

/// The same, mounted with other options.
fn site_with(
    world: &World,
    users: &[(&str, u32, u32)],
    change: impl Fn(Options) -> Options,
) -> Site {
    for root in ["mail", "index"] {
        let root = world.on_server.join(root);
        dir_of(&root, 0, 0, 0o755);
        for (name, uid, gid) in users {
            dir_of(&root.join(name), *uid, *gid, 0o700);
        }
    }
    let index = format!("{}/%u", world.lab(Client::A).index().display());
    let all = users
        .iter()
        .map(|(name, uid, gid)| ((*name).to_owned(), *uid, *gid));
    let options = world.options(Client::A).layout("%u").index(&index);
    Site::with_layout(
        change(options.migrate()),
        world
            .config(Client::A)
            .users(Users::Each(all.collect()))
            .index_at(&index),
        "%u",
    )
}

fn assert_not_refused(site: &Site) {
    let log = site.mount.log();
    assert!(!log.contains("refused"), "{log}");
}

/// Everything below belongs to this user.
fn assert_owned(dir: &Path, uid: u32, gid: u32, but: &[&str]) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if but.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let is = fs::symlink_metadata(&path).expect("stat");
        assert_eq!((is.uid(), is.gid()), (uid, gid), "{path:?}");
    }
}

#[test]
#[ignore = "runs in the NFS guest"]
fn claim_pull_and_delete_where_root_is_nobody() {
    let _squashed = root_is_nobody();
    let world = World::new();
    let users = [("ann", 2001, 2001), ("bob", 2002, 2002)];
    let on_server = |name: &str| world.on_server.join("index").join(name);
    // Stock first, so that there is something to pull and to delete.
    let index = format!("{}/%u", world.lab(Client::A).index().display());
    let site = site(&world, &users);
    let all = users
        .map(|(name, uid, gid)| (name.to_owned(), uid, gid))
        .to_vec();
    let stock: Config = world
        .config(Client::B)
        .users(Users::Each(all))
        .index_at(&index.replace("/mnt/nfs-a", "/mnt/nfs-b"));
    let stock = stock.start();
    for (name, uid, gid) in users {
        let mut imap = stock.login(name);
        imap.create("box");
        imap.append("box", "", &message("one"));
        imap.list_status();
        imap.logout();
        stock.wait_no_sessions();
        assert!(
            !list_index(&on_server(name)).is_empty(),
            "stock Dovecot made no list index"
        );
        let mut imap = site.login(name);
        assert_eq!(
            imap.list_status()["box"].as_ref().map(|box_| box_.messages),
            Some(1)
        );
        assert_not_refused(&site);
        imap.logout();
        site.wait_no_sessions();
        assert!(
            list_index(&on_server(name)).is_empty(),
            "still there after the pull"
        );
        assert!(on_server(name).join(".lasthost").exists(), "no claim");
        assert_owned(&on_server(name), uid, gid, &[]);
        // The record alone is ours.
        assert_owned(&site.mount.path().join(name), uid, gid, &[".lasthost"]);
    }
    // doveadm runs as root and takes on the user.
    let listed = site.dovecot.doveadm(&["mailbox", "list", "-u", "ann"]);
    assert!(listed.lines().any(|line| line == "box"), "{listed}");
}

/// Nobody asks when it is looked for users who have moved away: it is done with the rights of whose files they are.
#[test]
#[ignore = "runs in the NFS guest"]
fn who_has_moved_is_found_where_root_is_nobody() {
    let _squashed = root_is_nobody();
    let world = World::new();
    let users = [("ann", 2001, 2001), ("bob", 2002, 2002)];
    let site = site_with(&world, &users, |options| {
        options.option("moved_rate=1000").env("RUST_LOG", "debug")
    });
    let kept = |name: &str| site.mount.backing().join(name).join(LOG).exists();
    for (name, ..) in users {
        (0..2).for_each(|_| site.settle(name));
        assert!(kept(name), "{}", site.mount.log());
    }
    let ann = world.on_server.join("index/ann");
    fs::write(ann.join("new"), "another\n").expect("a claim");
    fs::rename(ann.join("new"), ann.join(".lasthost")).expect("a claim");
    eventually("she is dropped", || (!kept("ann")).then_some(()));
    eventually("he is found to be here still", || {
        site.mount
            .log()
            .contains("bob: compared: Ours")
            .then_some(())
    });
    assert!(kept("bob"));
}

/// Nobody asks when list indexes are given back: it is done with the rights of whose files they are, and on another client
/// stock Dovecot goes on with them.
#[test]
#[ignore = "runs in the NFS guest"]
fn what_is_given_back_where_root_is_nobody() {
    let _squashed = root_is_nobody();
    let world = World::new();
    let users = [("ann", 2001, 2001), ("bob", 2002, 2002)];
    let site = site(&world, &users);
    let (on_server, index) = (
        |name: &str| world.on_server.join("index").join(name),
        format!("{}/%u", world.lab(Client::A).index().display()),
    );
    for (name, ..) in users {
        site.settle(name); // INDEX is there from the next one on
        let mut imap = site.login(name);
        imap.create("box");
        imap.append("box", "", &message("one"));
        imap.list_status();
        imap.logout();
        site.wait_no_sessions();
    }
    assert_not_refused(&site);
    let before = users.map(|(name, ..)| list_index(&site.mount.backing().join(name)));
    let (code, report) = site.drain(&["--stock"]);
    assert_eq!(
        (code, &report["given_back"]),
        (Some(0), &2.into()),
        "{report}"
    );
    let all = users
        .map(|(name, uid, gid)| (name.to_owned(), uid, gid))
        .to_vec();
    let stock = world
        .config(Client::B)
        .users(Users::Each(all))
        .index_at(&index.replace("/mnt/nfs-a", "/mnt/nfs-b"))
        .start();
    for ((name, uid, gid), before) in users.into_iter().zip(before) {
        assert!(before.contains_key(LOG));
        assert_eq!(list_index(&on_server(name)), before, "not what was here");
        assert_owned(&on_server(name), uid, gid, &[]);
        let names = fs::read_dir(on_server(name)).expect("INDEX").flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        let left = |end: &str| names.iter().any(|n| n.to_string_lossy().ends_with(end));
        assert!(!left(".tmp") && !left(".lock"), "{names:?}");
        let log = || fs::metadata(on_server(name).join(LOG)).expect("stat").ino();
        let was = log();
        let mut imap = stock.login(name);
        let told = imap.list_status();
        assert_eq!(told["box"].as_ref().map(|box_| box_.messages), Some(1));
        imap.logout();
        stock.wait_no_sessions();
        assert_eq!(log(), was, "made anew");
    }
    // And they come back.
    for (name, ..) in users {
        let mut imap = site.login(name);
        let told = imap.list_status();
        assert_eq!(told["box"].as_ref().map(|box_| box_.messages), Some(1));
        imap.logout();
        site.wait_no_sessions();
        assert!(list_index(&on_server(name)).is_empty(), "not fetched");
    }
    assert_not_refused(&site);
}

#[test]
#[ignore = "runs in the NFS guest"]
fn one_vmail_uid_where_root_is_nobody() {
    let _squashed = root_is_nobody();
    let world = World::new();
    let site = world.site(Client::A);
    (0..2).for_each(|_| site.settle("alice"));
    assert_not_refused(&site);
    let claim = hashed(&world.on_server.join("index"), "alice").join(".lasthost");
    assert_eq!(fs::metadata(claim).expect("a claim").uid(), UID);
}

#[test]
#[ignore = "runs in the NFS guest"]
fn another_user_gets_what_the_mode_bits_say_and_no_more_is_done_for_him() {
    let _squashed = root_is_nobody();
    let world = World::new();
    let site = site(&world, &[("ann", 2001, 2001)]);
    (0..2).for_each(|_| site.settle("ann"));
    let (index, dir) = (
        world.on_server.join("index/ann"),
        site.mount.path().join("ann"),
    );
    let claim = fs::read(index.join(".lasthost")).expect("a claim");
    // The directory is closed to him.
    let denied = open_log_as(&dir, 2002, 2002).expect("no answer");
    assert!(!denied.status.success());
    assert!(
        String::from_utf8_lossy(&denied.stderr).contains("Permission denied"),
        "{denied:?}"
    );
    // It is open, but INDEX is not: the check fails with his rights, and the owner's are not lent to him.
    fs::set_permissions(
        site.mount.backing().join("ann"),
        Permissions::from_mode(0o755),
    )
    .expect("chmod");
    fs::set_permissions(
        site.mount.backing().join("ann").join(LOG),
        Permissions::from_mode(0o644),
    )
    .expect("chmod");
    let (log, shown) = (
        dir.join(LOG),
        output(as_user(0, 0, "ls").arg("-l").arg(&dir), LIMIT),
    );
    assert!(shown.is_some());
    let opened = output(as_user(2002, 2002, "cat").arg(&log), LIMIT).expect("no answer");
    assert!(
        !opened.status.success(),
        "given a list index that could not be checked with his rights"
    );
    assert_eq!(
        fs::read(index.join(".lasthost")).expect("a claim"),
        claim,
        "something was claimed for him"
    );
}

#[test]
#[ignore = "runs in the NFS guest"]
fn supplementary_groups_count() {
    let _squashed = root_is_nobody();
    let world = World::new();
    let site = world.site(Client::A);
    (0..2).for_each(|_| site.settle("alice"));
    // From now on the way to INDEX leads through a group that the caller has as a supplementary one.
    let root = world.on_server.join("index");
    chown(&root, Some(0), Some(4711)).expect("chown");
    fs::set_permissions(&root, Permissions::from_mode(0o750)).expect("chmod");
    let log = site.dir_of("alice").join(LOG);
    let with = |groups: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args([
            &format!("--reuid={UID}"),
            &format!("--regid={GID}"),
            groups,
            "cat",
        ]);
        output(command.arg(&log), LIMIT)
            .expect("no answer")
            .status
            .success()
    };
    assert!(with("--groups=4711"), "refused:\n{}", site.mount.log());
    assert!(!with("--clear-groups"), "served without the group");
}
