//! A session lingers on a host its user has left, and writes. Once it has ended the present host learns of it.
mod support;

use support::{DOVECOT, FUSE, Lab, ROOT, Site, lacks, stories};

#[test]
fn what_was_written_after_the_user_had_left_is_known_once_the_writer_has_ended() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let [a, b] = ["a", "b"].map(|host| Site::new(&lab, host));
    stories::fence([&a, &b]);
}

#[test]
fn without_the_fence_the_present_host_stays_wrong() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let [a, b] = ["a", "b"].map(|host| Site::new(&lab, host));
    stories::no_fence(a, &b);
}
