//! A user over his quota on INDEX, on an export of XFS, which has quotas of its own: what he has is kept, what is new is refused.
use std::process::Command;

use crate::guest::EXPORT;
use crate::refusals::Story;
use crate::support::UID;

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
