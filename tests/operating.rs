//! What docs/operating.md tells operators to do, where no other test does it.
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use support::site::LOG;
use support::{DOVECOT, FUSE, Lab, Model, ROOT, Site, lacks};

/// A list index that is doubted: without its record it is made anew.
#[test]
fn a_removed_record_makes_the_list_index_anew() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    site.settle("alice");
    let mut model = Model::new();
    let mut after_login = || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "at login");
        imap.logout();
        site.wait_no_sessions();
        // Held open, so that its inode is not used again.
        fs::File::open(site.backing_of("alice").join(LOG)).expect("the log")
    };
    let inode = |log: &fs::File| log.metadata().expect("stat").ino();
    let [first, second] = [after_login(), after_login()];
    assert_eq!(inode(&first), inode(&second), "it is kept");
    fs::remove_file(site.dir_of("alice").join(".lasthost")).expect("the record");
    assert_ne!(inode(&first), inode(&after_login()), "it is made anew");
}
