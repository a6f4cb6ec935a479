//! What a real server answers when it will not: the session is refused, right all the same, and told of in one line.
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::guest::{EXPORT, World, changed};
use crate::support::dovecot::hashed;
use crate::support::model::Op;
use crate::support::stories::{assert_right, assert_served_again};
use crate::support::{Model, Site};

const OPEN: &str = "rw,sync,no_subtree_check,no_root_squash";

pub struct Story {
    world: World,
    sites: [Site; 2],
    model: Model,
}

impl Story {
    /// A user with a folder whom host B has just had: A's next check finds that it has to claim.
    pub fn new() -> Self {
        Self::within(World::new())
    }

    fn within(world: World) -> Self {
        let sites = world.sites();
        let mut model = Model::new();
        let mut imap = sites[0].login("alice");
        model.apply(&Op::Create("one".to_owned()), &mut imap);
        imap.logout();
        sites[0].wait_no_sessions();
        for site in sites.iter().chain(&sites) {
            assert_right(site, &mut model, "before");
        }
        Self {
            world,
            sites,
            model,
        }
    }

    /// INDEX as the server sees it.
    fn index(&self) -> PathBuf {
        hashed(&self.world.on_server.join("index"), "alice")
    }

    /// A session on A is right, has no list index, and the log says so once, with these words.
    pub fn refused(&mut self, words: &str) {
        let (site, began) = (&self.sites[0], Instant::now());
        for _ in 0..2 {
            let mut imap = site.login("alice");
            self.model.assert_matches(&imap.list_status(), "refused");
            assert!(!site.is_served("alice"), "served in spite of: {words}");
            imap.logout();
            site.wait_no_sessions();
        }
        let log = site.mount.log();
        let told: Vec<_> = log
            .lines()
            .filter(|line| line.contains("alice: list index refused") && line.contains(words))
            .collect();
        // A minute later it is told again, and how often it was not.
        let most = 1 + 2 * (began.elapsed().as_secs() / 60) as usize;
        assert!(
            (1..=most).contains(&told.len()),
            "one line with {words:?}:\n{log}"
        );
    }

    /// Once the trouble is over, A serves again.
    pub fn over(&mut self) {
        assert_served_again(&self.sites[0], &mut self.model);
    }
}

#[test]
#[ignore = "runs in the NFS guest"]
fn permission_denied() {
    let mut story = Story::new();
    let index = story.index();
    let mode = fs::metadata(&index).expect("INDEX").permissions();
    // Dovecot itself needs INDEX for its mailboxes: the claim alone is what is denied.
    fs::set_permissions(&index, Permissions::from_mode(0o500)).expect("chmod");
    story.refused("Permission denied");
    fs::set_permissions(&index, mode).expect("chmod");
    story.over();
}

#[test]
#[ignore = "runs in the NFS guest"]
fn read_only_file_system() {
    // Dovecot has a mount of its own, which stays writable.
    let mut story = Story::within(World::coherent("alice"));
    let back = changed(&["remount", "a", "ro"], &["remount", "a", "rw"]);
    story.refused("Read-only file system");
    drop(back);
    story.over();
}

#[test]
#[ignore = "runs in the NFS guest"]
fn no_space_left() {
    let mut story = Story::new();
    let ballast = Path::new(EXPORT).join("ballast");
    // root's reserve is not for the mail user.
    let filled = Command::new("sh")
        .args([
            "-c",
            "dd if=/dev/zero bs=1M of=\"$1\" 2>/dev/null; sync -f \"$1\"",
            "sh",
        ])
        .arg(&ballast)
        .status();
    assert!(filled.is_ok());
    story.refused("No space left on device");
    fs::remove_file(ballast).expect("make room");
    story.over();
}

/// The server drops INDEX and it is made anew: the client has a handle of what is gone. Retried as Dovecot does.
#[test]
#[ignore = "runs in the NFS guest"]
fn a_stale_handle_is_looked_up_again() {
    let mut story = Story::new();
    let index = story.index();
    let copy = index.with_file_name("copy");
    let copied = Command::new("cp").arg("-a").arg(&index).arg(&copy).status();
    assert!(copied.is_ok_and(|status| status.success()));
    fs::remove_dir_all(&index).expect("rm");
    fs::rename(copy, &index).expect("mv");
    story.over();
    let log = story.sites[0].mount.log();
    assert!(!log.contains("Stale file handle"), "{log}");
}

/// The server withdraws the export: nothing is answered any more but an errno.
#[test]
#[ignore = "runs in the NFS guest"]
fn an_export_that_is_withdrawn() {
    let story = Story::new();
    let back = changed(&["withdraw"], &["export", OPEN]);
    let read = story.sites[0].open_log("alice");
    assert!(
        read.is_none_or(|read| !read.status.success()),
        "served without an export"
    );
    drop(back);
    let mut story = story;
    story.over();
}
