//! Where NFS should be mounted and is not, nothing is believed and nothing is made; and we never hold NFS busy.
use std::path::Path;
use std::process::Command;

use crate::guest::{Changed, Client, World, changed};
use crate::support::model::Op;
use crate::support::stories::{assert_right, assert_served_again};
use crate::support::{Model, Site};

/// Takes host A's NFS away until Drop.
fn unmounted() -> Changed {
    changed(&["umount", "a"], &["mount", "a"])
}

/// What lies below a directory, names only.
fn below(dir: &Path) -> Vec<String> {
    let found = Command::new("find").arg(dir).output().expect("find");
    String::from_utf8_lossy(&found.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// An opener is refused with EIO, and nothing changes, neither here nor in the backing.
fn assert_refused_and_nothing_changes(site: &Site) {
    let (bare, backing) = (below(&Client::A.mount()), below(site.mount.backing()));
    let read = site.open_log("alice").expect("no answer");
    assert!(!read.status.success(), "served without NFS");
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(said.contains("Input/output error"), "{said}");
    assert_eq!(
        below(&Client::A.mount()),
        bare,
        "something was made where NFS should be"
    );
    let logs = |all: &[String]| {
        all.iter()
            .filter(|path| path.contains("dovecot.list.index"))
            .count()
    };
    assert_eq!(
        logs(&below(site.mount.backing())),
        logs(&backing),
        "something was purged"
    );
}

fn begin(world: &World) -> (Site, Model) {
    let site = world.site(Client::A);
    let mut model = Model::new();
    let mut imap = site.login("alice");
    model.apply(&Op::Create("one".to_owned()), &mut imap);
    imap.logout();
    site.wait_no_sessions();
    assert_right(&site, &mut model, "before");
    (site, model)
}

#[test]
#[ignore = "runs in the NFS guest"]
fn unmounted_and_mounted_again() {
    let world = World::new();
    let (site, mut model) = begin(&world);
    let back = unmounted(); // while we serve: no descriptor of ours is in the way
    for _ in 0..3 {
        assert_refused_and_nothing_changes(&site);
    }
    drop(back);
    assert_served_again(&site, &mut model);
    let told = site.mount.log();
    let lines = told
        .lines()
        .filter(|line| line.contains("index_fs="))
        .count();
    assert_eq!(lines, 1, "one clear line:\n{told}");
}

#[test]
#[ignore = "runs in the NFS guest"]
fn mounted_late() {
    let world = World::new();
    let back = unmounted();
    let late = world.options(Client::A).mount();
    let dir = crate::support::dovecot::hashed(late.path(), "alice");
    let read = crate::support::site::open_log_as(&dir, crate::support::UID, crate::support::GID);
    let read = read.expect("no answer");
    assert!(!read.status.success(), "served without NFS");
    assert!(
        below(&Client::A.mount()).len() == 1,
        "something was made where NFS should be"
    );
    drop(late);
    drop(back);
    let (site, mut model) = begin(&world);
    assert_served_again(&site, &mut model);
}

#[test]
#[ignore = "runs in the NFS guest"]
fn the_server_exports_an_empty_directory() {
    let world = World::new();
    let (site, mut model) = begin(&world);
    let before = below(site.mount.backing());
    let back = changed(&["hide"], &["show"]);
    let read = site.open_log("alice").expect("no answer");
    assert!(!read.status.success(), "served from an empty export");
    assert!(
        below(Path::new("/srv/nfs")).len() <= 1,
        "something was made on the empty export"
    );
    let kept = |all: &[String]| {
        all.iter()
            .any(|path| path.ends_with("dovecot.list.index.log"))
    };
    assert_eq!(kept(&below(site.mount.backing())), kept(&before), "purged");
    drop(back);
    assert_served_again(&site, &mut model);
}
