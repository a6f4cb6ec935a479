//! What docs/operating.md tells operators to do, where no other test does it.
mod support;

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::model::Op;
use support::mount::Options;
use support::process::run;
use support::{Config, DOVECOT, FUSE, Lab, Model, ROOT, Site, lacks};

/// A tmpfs of 256 KiB.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(at: &Path) -> Self {
        let options = ["-t", "tmpfs", "-o", "size=256k,mode=0700", "tiny"];
        run(Command::new("mount").args(options).arg(at));
        chown(at, Some(0), Some(0)).expect("chown");
        Self(at.to_owned())
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// The backing was full, so the list index may lack changes: without its record it is made anew.
#[test]
fn a_removed_record_makes_the_list_index_anew() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let options = Options::new(&lab, "a");
    let backing = lab.ram("backing-a");
    let _tiny = Tiny::mount(&backing);
    let site = Site::with(options, Config::new(&lab, "a"));
    let mut model = Model::new();
    let mut imap = site.login("alice");
    for n in 0..10 {
        model.apply(&Op::Create(format!("box{n}")), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "in the first session");
    imap.logout();
    site.wait_no_sessions();

    let ballast = backing.join("ballast");
    let fill = "cat /dev/zero >\"$1\" 2>/dev/null; test -s \"$1\"";
    run(Command::new("sh").args(["-c", fill, "sh"]).arg(&ballast));
    let mut imap = site.login("alice");
    for n in 0..40 {
        model.apply(&Op::Append(format!("box{}", n % 10), false), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "in the session that filled it up");
    imap.logout();
    site.wait_no_sessions();
    let log = site.mount.log();
    assert!(log.contains("No space left on device"), "{log}");

    fs::remove_file(ballast).expect("room again");
    let _ = fs::remove_file(site.dir_of("alice").join(".lasthost"));
    for login in ["first", "second"] {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), &format!("at the {login} login after"));
        imap.logout();
        site.wait_no_sessions();
    }
}
