//! A user over his quota on INDEX, on an export of XFS, which has quotas of its own: what he has is kept, what is new is refused.
use std::process::Command;

use crate::guest::{Client, EXPORT, World};
use crate::refusals::Story;
use crate::support::UID;
use crate::support::site::list_index;

/// Sets the mail user's hard limit; 0 is none.
fn limit(what: &str) {
    let command = format!("limit -u {what} {UID}");
    let set = Command::new("xfs_quota")
        .args(["-x", "-c", &command, EXPORT])
        .output();
    let set = set.expect("xfs_quota");
    assert!(set.status.success(), "{command}: {set:?}");
}

#[test]
#[ignore = "runs in the NFS guest"]
fn quota_exceeded() {
    let mut story = Story::new();
    limit("bhard=4k");
    story.refused("Disk quota exceeded");
    limit("bhard=0");
    story.over();
}

/// What does not fit is not given back: it stays, and nothing of it is left in INDEX.
#[test]
#[ignore = "runs in the NFS guest"]
fn quota_exceeded_while_list_indexes_are_given_back() {
    let world = World::new();
    let site = world.site(Client::A);
    (0..2).for_each(|_| site.settle("alice"));
    let here = || list_index(&site.backing_of("alice"));
    let before = here();
    assert!(!before.is_empty(), "{}", site.mount.log());
    limit("bhard=4k");
    let (code, report) = site.drain(&["--stock", "--within", "1h"]);
    assert_eq!((code, &report["kept"]), (Some(2), &1.into()), "{report}");
    let why = report["users"][0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("raise the user's quota on INDEX"), "{report}");
    assert_eq!(here(), before);
    limit("bhard=0");
    let index = crate::support::dovecot::hashed(&world.on_server.join("index"), "alice");
    let names = std::fs::read_dir(&index).expect("INDEX").flatten();
    let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    let ours =
        |name: &&std::ffi::OsString| name.to_string_lossy().starts_with("dovecot.list.index");
    assert_eq!(names.iter().filter(ours).count(), 0, "{names:?}");
    let (code, report) = site.drain(&["--stock"]);
    assert_eq!(
        (code, &report["given_back"]),
        (Some(0), &1.into()),
        "{report}"
    );
    assert_eq!(list_index(&index), before);
    assert!(here().is_empty());
}
