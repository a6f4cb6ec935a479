//! `listindexctl path`: from a name to its directories and back, of a mount and of a backing that is not mounted any more.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::clean::{place_of, text};
use crate::ctl::{CTL, Said, run};
use crate::rig::Rig;

fn path(args: &[&str]) -> Said {
    let mut tool = Command::new(CTL);
    tool.arg("path").args(args);
    run(tool)
}

fn json(args: &[&str]) -> Value {
    let said = path(&[args, &["--json"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn in_rig(path: &Path, user: &str) -> String {
    text(&path.join(place_of(user))).to_owned()
}

#[test]
fn a_name_and_each_of_its_paths_tell_all_others_mounted_or_not() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let user = "alice@example.com";
    let [mount, backing] = [&rig.mountpoint, &rig.backing].map(|root| text(root));
    let [in_mount, in_backing] = [&rig.mountpoint, &rig.backing].map(|root| in_rig(root, user));
    let index = format!("/nfs/idx/{}", place_of(user));

    let named = json(&[user, "--mount", mount]);
    assert_eq!(
        (&named["name"], &named["mounted"]),
        (&user.into(), &true.into())
    );
    assert_eq!(
        [&named["directory"], &named["backing_directory"]],
        [&in_mount, &in_backing]
    );
    assert_eq!(named["index"], index);
    assert_eq!(
        named["listindex"][0],
        format!("{in_mount}/dovecot.list.index")
    );
    let log = format!("{in_mount}/dovecot.list.index.log");
    for (given, by) in [
        (&in_mount, "directory"),
        (&log, "directory"),
        (&in_backing, "backing"),
    ] {
        let mut found = json(&[given]);
        assert_eq!(found["by"], by);
        found["by"] = "name".into();
        assert_eq!(found, named, "{given}");
    }
    // Other mounts of these tests have the same INDEX.
    assert_eq!(json(&[&index, "--mount", backing])["by"], "index");
    let said = path(&[user, "--mount", backing]);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines[0], user);
    assert_eq!(lines[1], format!("directory  {in_mount}"));
    assert_eq!(lines.last(), Some(&format!("INDEX      {index}").as_str()));

    rig.umount();
    daemon.wait_for_end();
    let said = path(&[user, "--mount", mount]);
    assert_eq!(
        said.code,
        Some(32),
        "the mount point does not tell: {said:?}"
    );
    let mut unmounted = json(&[user, "--mount", backing]);
    assert_eq!(unmounted["mounted"], false);
    assert_eq!(json(&[&in_backing])["name"], user);
    unmounted["mounted"] = true.into();
    assert_eq!(unmounted, named);
}

#[test]
fn what_is_nobodys_is_not_known_and_others_files_are_no_options() {
    let Some(rig) = Rig::new() else { return };
    let _daemon = rig.mount();
    let place = ["--mount", text(&rig.mountpoint)];
    let misfit = text(&rig.mountpoint.join("00/alice")).to_owned();
    for nobody in [&misfit, "/nfs/idx/00/alice", "/elsewhere/alice"] {
        let said = path(&[&[nobody], &place[..]].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(67), ""), "{said:?}");
    }
    // Somebody else's word of a backing is not taken, nor what would hang.
    let theirs = rig.path("theirs");
    fs::create_dir_all(theirs.join(".listindexfs")).expect("mkdir");
    let options = theirs.join(".listindexfs/options");
    fs::copy(rig.backing.join(".listindexfs/options"), &options).expect("copied");
    let below = theirs.join(place_of("alice"));
    assert_eq!(
        path(&["alice", "--mount", text(&theirs)]).code,
        Some(0),
        "root's is"
    );
    chown(&options, Some(1), Some(1)).expect("chown");
    assert_eq!(path(&[text(&below)]).code, Some(67));
    assert_eq!(path(&["alice", "--mount", text(&theirs)]).code, Some(32));
    fs::remove_file(&options).expect("removed");
    mknodat(CWD, &options, FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
    assert_eq!(path(&[text(&below)]).code, Some(67));
}
