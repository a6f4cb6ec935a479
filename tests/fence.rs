//! A session lingers on a host its user has left, and writes. Once it has ended the present host learns of it.
mod support;

use std::io::Write as _;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;
use support::mount::Options;
use support::{DOVECOT, FUSE, Lab, Light, Mount, ROOT, Site, eventually, lacks, process, stories};

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

/// Two hosts, and one user on both: his INDEX/.lasthost is the last one's.
fn two_mounts(lab: &Lab) -> ([Mount; 2], [Light; 2]) {
    // Who asks the mount whether it answers has it in use.
    let mounts = ["a", "b"].map(|host| Options::new(lab, host).option("watchdog=1h").mount());
    let users = [0, 1].map(|n: usize| Light::new(mounts[n].path(), &lab.index(), "alice"));
    (mounts, users)
}

fn is_nobodys(user: &Light) -> bool {
    let lasthost = std::fs::read_to_string(user.index.join(".lasthost"));
    lasthost.is_ok_and(|text| text.contains("nobody"))
}

/// The kernel drops a RELEASE that nobody has read when the mount ends.
#[test]
fn a_writer_is_fenced_though_the_mount_ends_before_its_release_is_read() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let ([mut a, _b], [on_a, on_b]) = two_mounts(&lab);
    let mut lingers = on_a.first().expect("a session on a");
    drop(on_b.first().expect("a session on b"));
    lingers.log.write_all(b"unseen by b").expect("written");
    assert!(!is_nobodys(&on_b));
    let worker = eventually("there is a worker", || a.worker());
    process::signal(worker, Signal::STOP);
    eventually("no thread of it runs", || {
        process::is_stopped(worker).then_some(())
    });
    drop(lingers);
    unmount(a.path(), UnmountFlags::empty()).expect("nobody uses it");
    process::signal(worker, Signal::CONT);
    eventually("the daemon has ended", || a.has_died().then_some(()));
    assert!(is_nobodys(&on_b), "{}", a.log());
}
