//! What is not mounted: exit code as mount(8) has it, one line, nothing left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rstest::rstest;

use crate::rig::{INDEX, Namespace, PROGRAM, Rig, finish};

const NOBODY: u32 = 65534;

#[track_caller]
fn refused(command: &mut Command, code: i32, line: &str) {
    let done = finish(command);
    assert_eq!(done.code, Some(code), "{}", done.said);
    assert_eq!(done.said.lines().count(), 1, "{}", done.said);
    assert!(done.said.starts_with("listindexfs: "), "{}", done.said);
    assert!(
        done.said.contains(line),
        "{line:?} is not in {:?}",
        done.said
    );
}

#[rstest]
#[case("index=/nfs/%u,migarte", "did you mean `migrate`?")]
#[case("index=/nfs/%u,remount", "unmount it and mount it again")]
#[case("index=/nfs/%u,check_timeout=0s", "check_timeout=0s: ")]
#[case("index=nfs/%u", "index=nfs/%u: ")]
#[case("ro", "option `index` is missing")]
#[case("index=/nfs/%l/%u", "`%l` (column 6) is the local IP address")]
#[case(
    "index=/nfs/%u,layout=%h",
    "layout=%h: `%h` (column 1) is the home directory"
)]
#[case(
    "index=/nfs/%{local_ip}/%u",
    "`%{local_ip}` (column 6) needs %{local_ip}"
)]
#[case("index=/nfs/%{usr}", "did you mean %{user}?")]
#[case("index=/nfs/%u,layout=%Mu", "layout=%Mu: `%Mu` (column 1) is a hash")]
#[case(
    "index=/nfs/%u,layout=%2.256Nu/%n",
    "`%2.256Nu` (column 1) needs the domain"
)]
#[case("index=/nfs/%u,layout=%n-%d", "one path may come from two users")]
fn a_bad_option_is_named(#[case] options: &str, #[case] line: &str) {
    let Some(rig) = Rig::new() else { return };
    refused(rig.bare_command().args(["-o", options]), 1, line);
    refused(rig.bare_command().args(["-f", "-o", options]), 1, line);
    assert_eq!(rig.mounts_line(), None);
    assert!(!rig.backing.exists(), "made for nothing");
}

#[test]
fn a_bad_command_line_is_named() {
    refused(&mut Command::new(PROGRAM), 1, "<BACKING> <MOUNTPOINT>");
    refused(Command::new(PROGRAM).args(["/b", "/m", "-x"]), 1, "'-x'");
    refused(
        Command::new(PROGRAM).args(["", "/m", "-o", INDEX]),
        1,
        "BACKING",
    );
}

#[test]
fn help_and_version_are_no_failures() {
    for arg in ["-h", "--help", "-V", "--version"] {
        let output = Command::new(PROGRAM).arg(arg).output().unwrap();
        assert!(output.status.success(), "{arg}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("listindexfs"), "{said}");
    }
}

#[test]
fn only_root_can_mount() {
    let Some(rig) = Rig::new() else { return };
    // A copy, for nobody may not get as far as the build's directory.
    let program = rig.path("listindexfs");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args([&rig.backing, &rig.mountpoint])
        .args(["-o", INDEX]);
    refused(command.uid(NOBODY).gid(NOBODY), 1, "only root can mount");
}

/// A socket cannot be opened, and what can be opened need not be FUSE.
#[test]
fn a_host_without_fuse_is_named() {
    let Some(rig) = Rig::new() else { return };
    let socket = rig.path("socket");
    let _socket = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    for (instead, code, line) in [
        (socket.as_path(), 2, "cannot open /dev/fuse"),
        (Path::new("/dev/null"), 32, "mount(2): "),
    ] {
        let namespace = Namespace::new("mount --bind \"$1\" /dev/fuse", &[instead]);
        let mut command = namespace.command(PROGRAM);
        command
            .args([&rig.backing, &rig.mountpoint])
            .args(["-o", INDEX]);
        refused(&mut command, code, line);
    }
}

#[test]
fn a_backing_in_use_is_refused() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let other = rig.path("other");
    fs::create_dir(&other).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args([&rig.backing, &other]).args(["-o", INDEX]);
    let holder = format!(
        "process {}, mounted on {}",
        daemon.0.as_raw_nonzero(),
        rig.mountpoint.display()
    );
    refused(&mut command, 32, &holder);
    assert!(!daemon.has_ended());
    assert!(rig.mounts_line().is_some());
}

#[test]
fn a_mountpoint_in_use_is_refused() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let mut command = Command::new(PROGRAM);
    command
        .args([&rig.path("b2"), &rig.mountpoint])
        .args(["-o", INDEX]);
    refused(&mut command, 32, "mounted already");
}

#[test]
fn a_mountpoint_must_be_an_empty_directory() {
    let Some(rig) = Rig::new() else { return };
    fs::write(rig.mountpoint.join("file"), "").unwrap();
    refused(&mut rig.command(), 32, "is not empty");
    fs::remove_dir_all(&rig.mountpoint).unwrap();
    refused(&mut rig.command(), 32, "does not exist");
    fs::write(&rig.mountpoint, "").unwrap();
    refused(&mut rig.command(), 32, "is not a directory");
    assert!(!rig.backing.exists(), "made for nothing");
}

#[test]
fn backing_and_mountpoint_lie_apart() {
    let Some(mut rig) = Rig::new() else { return };
    rig.mountpoint = rig.backing.join("m");
    fs::create_dir_all(&rig.mountpoint).unwrap();
    refused(&mut rig.command(), 32, "lie within each other");
}

#[test]
fn a_backing_is_on_tmpfs_unless_said_otherwise() {
    let Some(mut rig) = Rig::new() else { return };
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let found = rustix::fs::statfs(elsewhere.path()).unwrap();
    if u64::try_from(found.f_type) == Ok(0x0102_1994) {
        eprintln!("skipped: the build's directory is on tmpfs");
        return;
    }
    rig.backing = elsewhere.path().join("b");
    refused(&mut rig.command(), 32, "is not on tmpfs");
    assert!(!rig.backing.exists(), "made for nothing");
    let done = finish(rig.command().args(["-o", "backing_fs=any"]));
    assert_eq!((done.code, done.said.as_str()), (Some(0), ""));
}

#[test]
fn a_backing_is_roots_alone() {
    let Some(rig) = Rig::new() else { return };
    let mode = |mode| fs::set_permissions(&rig.backing, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(&rig.backing).unwrap();
    mode(0o770);
    refused(&mut rig.command(), 32, "can be written to by others");
    mode(0o700);
    chown(&rig.backing, Some(NOBODY), None).unwrap();
    refused(&mut rig.command(), 32, "belongs to user 65534");
    fs::remove_dir(&rig.backing).unwrap();

    std::os::unix::fs::symlink(rig.path(""), &rig.backing).unwrap();
    refused(&mut rig.command(), 32, "no symbolic link");
    fs::remove_file(&rig.backing).unwrap();

    fs::create_dir(&rig.backing).unwrap();
    mode(0o755);
    rig.mount();
    let mode = fs::metadata(&rig.backing).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "others could read it");
}

#[test]
fn a_missing_backing_is_made_but_not_what_is_above() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let mode = fs::metadata(&rig.backing).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let Some(mut rig) = Rig::new() else { return };
    rig.backing = rig.path("no/b");
    refused(&mut rig.command(), 32, "does not exist");
}

#[test]
fn a_failure_in_the_background_leaves_no_process() {
    let Some(rig) = Rig::new() else { return };
    fs::write(&rig.backing, "").unwrap();
    refused(&mut rig.command(), 32, "is not a directory");
    assert!(Path::new(&rig.backing).is_file());
}
