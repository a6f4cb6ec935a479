//! What an earlier mount left in the backing goes by itself, and nobody's session notices.
mod support;

use std::fs;

use support::site::list_index;
use support::{DOVECOT, FUSE, Lab, Model, ROOT, Site, eventually, lacks};

/// Supervisor and worker die; of those who come back the files are made anew, of the others they are removed.
#[test]
fn they_are_removed_in_the_background() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mut a = Site::new(&lab, "a");
    let users: Vec<String> = (0..20).map(|n| format!("u{n}")).collect();
    for user in users.iter().map(String::as_str).chain(["alice"]) {
        a.settle(user);
        a.settle(user); // INDEX is there now: claimed
        assert!(!list_index(&a.backing_of(user)).is_empty(), "{user}");
    }
    let haunted = a.backing_of("u0").join(".lasthost");
    a.mount.kill9();
    // As it is found when the daemon died while u0 had a session that was refused.
    fs::write(&haunted, "haunted\n").expect("word of ghosts");
    a.mount.remount(|options| options);
    let mut imap = a.login("alice");
    Model::new().assert_matches(&imap.list_status(), "after everything died");
    for user in users.iter().filter(|user| *user != "u0") {
        eventually("what is left is removed", || {
            let dir = a.backing_of(user);
            (list_index(&dir).is_empty() && !dir.join(".lasthost").exists()).then_some(())
        });
    }
    assert!(a.is_served("alice"), "her session keeps what it has");
    assert_eq!(
        fs::read_to_string(&haunted).expect("word of ghosts"),
        "haunted\n",
        "it stays until they are laid"
    );
    imap.logout();
    a.wait_no_sessions();
}
