//! `listindexctl check` where INDEX is on real NFS: what it says of the mount, and of its server.
use std::process::Command;

use serde_json::Value;

use crate::guest::{Client, World, changed, is_v3, version};
use crate::support::mount::tool;
use crate::support::process::output;
use crate::support::{LIMIT, Site};

/// Each finding: level, about, text.
fn check(args: &[&str]) -> Vec<[String; 3]> {
    let mut command = Command::new(tool());
    command.args(["check", "--json"]).args(args);
    let ran = output(&mut command, LIMIT).expect("check hangs");
    let report: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let all = report["findings"].as_array().expect("findings").iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().expect(key).to_owned();
    all.map(|finding| ["level", "about", "text"].map(|key| text(finding, key)))
        .collect()
}

#[track_caller]
fn assert_found(all: &[[String; 3]], level: &str, about: &str, piece: &str) {
    let fits =
        |found: &[String; 3]| found[0] == level && found[1] == about && found[2].contains(piece);
    assert!(all.iter().any(fits), "{level} {about} {piece}: {all:#?}");
}

/// A site, as check sees it once these have logged in.
fn said_of(world: &World, users: &[&str]) -> (Site, Vec<[String; 3]>) {
    let site = world.site(Client::A);
    for user in users {
        (0..2).for_each(|_| site.settle(user));
    }
    let conf = world.lab(Client::A).host("a").join("dovecot.conf");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let all = check(&[&path(site.mount.path()), "--dovecot", &path(&conf)]);
    (site, all)
}

#[test]
#[ignore = "runs in the NFS guest"]
fn the_mount_its_server_and_dovecot_are_looked_at() {
    let world = World::new();
    let (site, all) = said_of(&world, &["ann", "bob", "cid"]);
    let fs = if is_v3() {
        "is on nfs ("
    } else {
        "is on nfs4 ("
    };
    assert_found(&all, "ok", "index base", fs);
    assert_found(&all, "ok", "nfs", &format!("vers={}", version()));
    assert_found(&all, "ok", "nfs", "(no_root_squash)");
    assert_found(&all, "ok", "clock", "go together");
    assert_found(&all, "ok", "layout", "as layout=");
    assert_found(&all, "ok", "index", "as index=");
    assert_found(&all, "ok", "namespaces", "see each other");
    // These tests' Dovecot does not care what a crash would cost.
    assert_found(&all, "warning", "settings", "mail_fsync=never");
    assert!(!all.iter().any(|[level, ..]| level == "error"), "{all:#?}");
    drop(site);
}

#[test]
#[ignore = "runs in the NFS guest"]
fn that_root_is_nobody_is_seen() {
    let open = "rw,sync,no_subtree_check,no_root_squash";
    let squashed = "rw,sync,no_subtree_check,root_squash";
    let _squashed = changed(&["export", squashed], &["export", open]);
    let world = World::new();
    let (_site, all) = said_of(&world, &["ann", "bob", "cid"]);
    assert_found(&all, "ok", "nfs", "(root_squash)");
    assert_found(&all, "ok", "clock", "go together");
}

/// With these mount options of server 2, and before anything of ours is mounted.
fn said_with(options: &str, ours: &str) -> Vec<[String; 3]> {
    let options = format!("vers={},{options}", version());
    let _second = changed(&["mount", "a", "2", &options], &["umount", "a", "2", "-l"]);
    let ours = format!("index=/mnt/nfs2-a/%u{ours}");
    check(&["/run/listindex", "--options", &ours])
}

#[test]
#[ignore = "runs in the NFS guest"]
fn mount_options_that_hurt_are_found() {
    let all = said_with("softerr", "");
    assert_found(&all, "error", "nfs", "mount it hard, or soft");
    let all = said_with("soft,softreval", "");
    assert_found(&all, "error", "nfs", "mounted with softreval");
    let all = said_with("noac", "");
    assert_found(&all, "warning", "nfs", "actimeo=60");
    let all = said_with("actimeo=60", "");
    assert_found(&all, "ok", "nfs", "kept for 60 s");
    let all = said_with("lookupcache=none", "");
    assert_found(&all, "warning", "nfs", "leave it out");
    let all = said_with("ro", "");
    assert_found(&all, "error", "index base", "mount /mnt/nfs2-a read-write");
    if is_v3() {
        let all = said_with("nolock", ",migrate");
        assert_found(&all, "warning", "nfs", "does not see the lock");
        let all = said_with("nolock", ",migrate,lock_method=dotlock");
        assert!(
            !all.iter().any(|[.., text]| text.contains("see the lock")),
            "{all:#?}"
        );
    }
}

#[test]
#[ignore = "runs in the NFS guest"]
fn a_server_that_is_silent_holds_nobody_up() {
    let options = format!("vers={}", version());
    let _second = changed(&["mount", "a", "2", &options], &["umount", "a", "2", "-l"]);
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let all = check(&["/run/listindex", "--options", "index=/mnt/nfs2-a/%u"]);
    assert_found(&all, "error", "index base", "/mnt/nfs2-a gives no answer");
    assert_found(&all, "ok", "nfs", "/mnt/nfs2-a: vers=");
    drop(cut);
}
