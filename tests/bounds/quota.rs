//! One user has so much and no more: `max_user_bytes=`. Others do not notice, and his mail goes on.
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::plain::{Plain, sizes};
use crate::support::model::Op;
use crate::support::mount::Options;
use crate::support::site::{LOG, PREFIX};
use crate::support::{Config, DOVECOT, FUSE, Lab, Model, ROOT, Site, eventually, lacks};

/// What a file can be made as large as, in pages of its own.
fn fill(path: &Path) -> (u64, io::Error) {
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
        .expect("made");
    let mut size = 0;
    loop {
        match file.write_at(&[7; 4096], size) {
            Ok(n) => size += n as u64,
            Err(e) => return (size, e),
        }
    }
}

fn is_quota(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::EDQUOT)
}

#[test]
fn a_runaway_file_ends_at_the_bound() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let most = 1 << 20;
    let mount = Options::new(&lab, "a").option("max_user_bytes=1m").mount();
    let [runaway, other] = ["runaway", "other"].map(|name| Plain::new(&lab, &mount, name));
    other.session().expect("a session");
    runaway.session().expect("a session");
    let had: u64 = sizes(&runaway.backing)
        .iter()
        .map(|(_, size)| size.div_ceil(4096) * 4096)
        .sum();

    // Whatever its name is, and whether it is written or only said to be so large.
    for name in ["dovecot.list.index.runaway", "anything"] {
        let path = runaway.dir.join(name);
        let (size, e) = fill(&path);
        assert!(is_quota(&e), "{name}: {e}");
        assert_eq!(size + had, most, "{name}");
        fs::remove_file(&path).expect("unlink");
        let file = fs::File::create(&path).expect("there is room again");
        let e = file.set_len(2 << 20).expect_err("too large");
        assert!(is_quota(&e), "{name}: {e}");
        let e = file.write_at(b"x", 1 << 40).expect_err("too large");
        assert!(is_quota(&e), "{name}: {e}");
        file.set_len(most - had).expect("just as large");
        fs::remove_file(&path).expect("unlink");
    }
    let path = runaway.dir.join("unlinked");
    let file = fs::File::create(&path).expect("made");
    fs::remove_file(&path).expect("unlink");
    let e = file.set_len((1 << 20) + 1).expect_err("nor without a name");
    assert!(is_quota(&e), "{e}");
    let deep = runaway.dir.join("below/below");
    fs::create_dir_all(&deep).expect("directories");
    let (size, e) = fill(&deep.join("file"));
    assert!(is_quota(&e) && size < most - had, "{size}: {e}");

    other.session().expect("another user's session");
    assert!(other.is_here());
}

/// Dovecot keeps its list index in memory, answers rightly, and has it on disk again once it has become small.
#[test]
fn dovecot_goes_on_in_memory() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let options = Options::new(&lab, "a").option("max_user_bytes=64k");
    let site = Site::with(options, Config::new(&lab, "a"));
    let mut model = Model::new();
    site.settle("alice");
    let name = |n: usize| format!("{n:03}-{}", "long".repeat(40));
    let mut imap = site.login("alice");
    for n in 0..150 {
        model.apply(&Op::Create(name(n)), &mut imap);
        model.apply(&Op::Append(name(n), false), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "beyond the bound");
    imap.logout();
    site.wait_no_sessions();
    let log = site.mount.log();
    assert!(
        log.contains("alice: list index not written: Disk quota exceeded"),
        "{log}"
    );
    let all: u64 = sizes(&site.backing_of("alice"))
        .iter()
        .map(|(_, size)| size)
        .sum();
    assert!(all <= 64 << 10, "{all} bytes");
    for _ in 0..3 {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "in later sessions");
        model.apply(&Op::Append(name(1), true), &mut imap);
        imap.logout();
        site.wait_no_sessions();
    }
    let mut imap = site.login("alice");
    (20..150).for_each(|n| model.apply(&Op::Delete(name(n)), &mut imap));
    imap.logout();
    site.wait_no_sessions();
    eventually("her list index is in use again", || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "with fewer folders");
        let served = site.is_served("alice");
        imap.logout();
        site.wait_no_sessions();
        (served && site.backing_of("alice").join(LOG).exists()).then_some(())
    });
    let panics = site
        .dovecot
        .log()
        .into_iter()
        .filter(|line| line.contains("Panic:"));
    assert_eq!(panics.count(), 0);
    assert!(site.backing_of("alice").join(PREFIX).exists());
}
