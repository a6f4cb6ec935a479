//! A mount from its beginning to each of its ends.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rstest::rstest;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal};

use crate::rig::{Daemon, INDEX, PROGRAM, Rig, finish, wait_until};

#[test]
fn a_mount_in_the_background_answers_when_the_program_returns() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    // No waiting here: exit 0 says that it answers.
    let found = rustix::fs::statfs(&rig.mountpoint).unwrap();
    assert_eq!(u64::try_from(found.f_type), Ok(0x6573_5546));
    assert_eq!(fs::read_dir(&rig.mountpoint).unwrap().count(), 0);
    assert!(!daemon.has_ended());
    assert!(!rig.is_unlocked());

    let line = rig.mounts_line().unwrap();
    let fields: Vec<_> = line.split(' ').collect();
    assert_eq!(fields[0], rig.backing.to_str().unwrap());
    assert_eq!(fields[2], "fuse.listindexfs");
    let flags: Vec<_> = fields[3].split(',').collect();
    for flag in [
        "rw",
        "nosuid",
        "nodev",
        "noatime",
        "allow_other",
        "default_permissions",
    ] {
        assert!(flags.contains(&flag), "{flag} is not in {line}");
    }

    rig.umount();
    daemon.wait_for_end();
    assert!(rig.is_unlocked());
    let again = rig.mount();
    assert_ne!(again, daemon);
}

#[test]
fn flags_are_as_asked() {
    let Some(rig) = Rig::new() else { return };
    let done = finish(rig.command().args(["-o", "ro,noexec,relatime,dev,suid"]));
    assert_eq!((done.code, done.said.as_str()), (Some(0), ""));
    let line = rig.mounts_line().unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec,relatime,"), "{line}");
}

#[test]
fn umount_and_mount_can_follow_at_once() {
    let Some(rig) = Rig::new() else { return };
    for _ in 0..5 {
        rig.mount();
        rig.umount();
    }
}

#[test]
fn relative_paths_are_those_of_the_caller() {
    let Some(rig) = Rig::new() else { return };
    let mut command = Command::new(PROGRAM);
    command
        .args(["b", "m", "-o", "index=/nfs/%u"])
        .current_dir(rig.path(""));
    let done = finish(&mut command);
    assert_eq!((done.code, done.said.as_str()), (Some(0), ""));
    let line = rig.mounts_line().unwrap();
    assert!(line.starts_with(rig.backing.to_str().unwrap()), "{line}");
}

#[test]
fn a_daemon_keeps_nothing_of_its_caller() {
    let Some(rig) = Rig::new() else { return };
    let kept = rig.path("kept");
    let script = "exec 8>\"$0\"; umask 077; ulimit -S -n 256; ulimit -S -f 1; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(&kept).arg(PROGRAM);
    command
        .args([&rig.backing, &rig.mountpoint])
        .args(["-o", "index=/nfs/%u"]);
    assert_eq!(finish(&mut command).code, Some(0));

    let daemon = rig.daemon();
    assert_eq!(
        fs::read_link(daemon.proc("cwd")).unwrap(),
        std::path::Path::new("/")
    );
    for fd in 0..3 {
        let file = fs::read_link(daemon.proc(&format!("fd/{fd}"))).unwrap();
        assert_eq!(file, std::path::Path::new("/dev/null"));
    }
    for fd in fs::read_dir(daemon.proc("fd")).unwrap() {
        let file = fs::read_link(fd.unwrap().path());
        assert_ne!(file.ok().as_ref(), Some(&kept));
    }
    let status = fs::read_to_string(daemon.proc("status")).unwrap();
    assert!(status.contains("Umask:\t0000"), "{status}");
    let session = rustix::process::getsid(Some(daemon.0)).unwrap();
    assert_eq!(session, daemon.0);
    let limits = fs::read_to_string(daemon.proc("limits")).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let files: Vec<_> = files.split_whitespace().collect();
    assert_eq!(files[3], files[4], "soft and hard limit");
    fs::write(rig.mountpoint.join("large"), [0; 1 << 16]).expect("its worker may write that");
}

#[rstest]
fn a_signal_unmounts(#[values(Signal::TERM, Signal::INT)] signal: Signal) {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    daemon.signal(signal);
    daemon.wait_for_end();
    assert_eq!(rig.mounts_line(), None);
    assert!(rig.is_unlocked());

    let mut foreground = rig.foreground();
    foreground.signal(signal);
    assert_eq!(foreground.code(), Some(0), "{}", rig.log());
    assert_eq!(rig.mounts_line(), None);
}

#[test]
fn a_hangup_ends_nothing() {
    let Some(rig) = Rig::new() else { return };
    let mut foreground = rig.foreground();
    foreground.signal(Signal::HUP);
    fs::metadata(&rig.mountpoint).unwrap();
    assert!(rig.mounts_line().is_some());
    // Killed by the hangup it would have no exit code.
    foreground.signal(Signal::TERM);
    assert_eq!(foreground.code(), Some(0), "{}", rig.log());
}

#[test]
fn a_signal_detaches_what_is_in_use_and_waits_for_its_users() {
    let Some(rig) = Rig::new() else { return };
    let mut foreground = rig.foreground();
    let user = File::open(&rig.mountpoint).unwrap();
    foreground.signal(Signal::TERM);
    wait_until("detached", || rig.mounts_line().is_none());
    drop(user);
    assert_eq!(foreground.code(), Some(0), "{}", rig.log());
}

#[test]
fn but_it_waits_for_them_only_so_long() {
    let Some(rig) = Rig::new() else { return };
    let mut foreground = rig.foreground();
    let user = File::open(&rig.mountpoint).unwrap();
    foreground.signal(Signal::TERM);
    assert_eq!(foreground.code(), Some(0), "{}", rig.log());
    assert!(
        rig.log().contains("ending without their users"),
        "{}",
        rig.log()
    );
    assert!(
        !rig.log().contains("without the last fences"),
        "{}",
        rig.log()
    );
    assert_eq!(rig.mounts_line(), None);
    wait_until("its worker is gone", || rig.is_unlocked());
    drop(user);
}

/// What they have left is told to other hosts then, which takes as long as NFS does.
#[test]
fn its_worker_has_its_time_after_users_that_went_late() {
    let Some(rig) = Rig::new() else { return };
    let mut foreground = rig.foreground();
    let worker = Daemon(Pid::from_child(&foreground.0)).worker();
    let user = File::open(&rig.mountpoint).unwrap();
    foreground.signal(Signal::TERM);
    wait_until("detached", || rig.mounts_line().is_none());
    worker.signal(Signal::STOP);
    drop(user);
    wait_until("the users' time is over", || {
        rig.log().contains("waiting for the last fences")
    });
    worker.signal(Signal::CONT);
    assert_eq!(foreground.code(), Some(0), "{}", rig.log());
    assert!(!rig.log().contains("ending without"), "{}", rig.log());
}

#[test]
fn and_a_second_signal_waits_for_nobody() {
    // Where the machine stands still for so long, that is no waiting.
    let waits = (0..3).all(|_| {
        let Some(rig) = Rig::new() else { return false };
        let mut foreground = rig.foreground();
        let _user = File::open(&rig.mountpoint).unwrap();
        foreground.signal(Signal::TERM);
        wait_until("detached", || rig.mounts_line().is_none());
        foreground.signal(Signal::TERM);
        let asked = std::time::Instant::now();
        assert_eq!(foreground.code(), Some(0), "{}", rig.log());
        asked.elapsed().as_secs() >= 8
    });
    assert!(!waits, "it waited for its user");
}

#[test]
fn a_lazy_umount_ends_the_daemon_with_its_last_user() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let user = File::open(&rig.mountpoint).unwrap();
    rig.try_umount(UnmountFlags::DETACH).unwrap();
    assert_eq!(rig.mounts_line(), None);
    assert!(
        !rig.is_unlocked(),
        "its user would lose its files to a second mount"
    );
    drop(user);
    daemon.wait_for_end();
    rig.mount();
}

#[test]
fn a_mount_that_is_broken_off_is_taken_away_and_said() {
    let Some(rig) = Rig::new() else { return };
    let mut foreground = rig.foreground();
    let _user = File::open(&rig.mountpoint).unwrap();
    rig.try_umount(UnmountFlags::FORCE).unwrap_err();
    assert_eq!(foreground.code(), Some(2), "{}", rig.log());
    assert!(rig.log().contains("mount it again"), "{}", rig.log());
    assert_eq!(rig.mounts_line(), None);
}

/// Writes to an open file until that fails or `stop` says so, and tells whether it failed. Each call comes back.
fn write_on(mut file: File, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        if file.write_all(b"x").is_err() {
            return true;
        }
    }
    false
}

/// Who writes meanwhile is never held up, and the program ends within a bound.
#[rstest]
#[case::sigterm(None, true, Some(0))]
#[case::umount(Some(UnmountFlags::empty()), false, Some(0))]
#[case::lazy(Some(UnmountFlags::DETACH), false, Some(0))]
#[case::forced(Some(UnmountFlags::FORCE), true, Some(2))]
fn however_it_ends_files_may_be_open(
    #[case] flags: Option<UnmountFlags>,
    #[case] breaks_off: bool,
    #[case] code: Option<i32>,
) {
    let Some(rig) = Rig::new() else { return };
    let mut foreground = rig.foreground();
    let file = File::create(rig.mountpoint.join("file")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_on(file, &stop));
        let outcome = match flags {
            None => {
                foreground.signal(Signal::TERM);
                Ok(())
            }
            Some(flags) => rig.try_umount(flags),
        };
        let busy = flags.is_some_and(|flags| !flags.contains(UnmountFlags::DETACH));
        assert_eq!(outcome.is_err(), busy, "{outcome:?}");
        if !breaks_off {
            assert!(!writing.is_finished(), "its files are its own");
            stop.store(true, Ordering::Relaxed);
        }
        wait_until("the writer is answered", || writing.is_finished());
        assert_eq!(writing.join().unwrap(), breaks_off);
    });
    if rig.mounts_line().is_some() && !breaks_off {
        rig.umount();
    }
    assert_eq!(foreground.code(), code, "{}", rig.log());
    wait_until("its worker is gone", || rig.is_unlocked());
}

#[test]
fn a_dead_mount_is_cleared_away_by_the_next() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    daemon.kill_all();
    wait_until("dead", || {
        fs::metadata(&rig.mountpoint).is_err_and(|error| {
            rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::NOTCONN)
        })
    });
    rig.mount();
    fs::create_dir(rig.mountpoint.join("plain")).expect("a directory in the mount");
    rig.umount();
    assert_eq!(rig.mounts_line(), None, "the dead one is not below");
}

/// The supervisor asks the mount now and then whether it answers: that must not keep a mount from being dead.
#[test]
fn killed_while_it_waits_for_an_answer_the_mount_is_dead_all_the_same() {
    let Some(rig) = Rig::new() else { return };
    assert_eq!(
        finish(rig.command().args(["-o", "watchdog=4s"])).code,
        Some(0)
    );
    let daemon = rig.daemon();
    let worker = daemon.worker();
    worker.signal(Signal::STOP);
    let statfs = format!("{} ", libc::SYS_statfs);
    wait_until("the supervisor asks", || {
        let threads = fs::read_dir(daemon.proc("task")).unwrap().flatten();
        let mut calls = threads.filter_map(|t| fs::read_to_string(t.path().join("syscall")).ok());
        calls.any(|call| call.starts_with(&statfs))
    });
    daemon.signal(Signal::KILL);
    worker.signal(Signal::KILL);
    daemon.wait_for_end();
    worker.wait_for_end();
    rig.mount();
    fs::create_dir(rig.mountpoint.join("plain")).expect("it serves");
}

#[test]
fn a_dead_mount_of_another_backing_is_left_alone() {
    let Some(rig) = Rig::new() else { return };
    rig.mount().kill_all();
    let mut other = Command::new(PROGRAM);
    other.arg(rig.path("other")).arg(&rig.mountpoint);
    let done = finish(other.args(["-o", INDEX]));
    assert_eq!(done.code, Some(32));
    let advice = format!("run umount {}", rig.mountpoint.display());
    assert!(done.said.contains(&advice), "{}", done.said);
}

#[test]
fn without_its_supervisor_a_worker_serves_on_and_ends_with_the_mount() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let worker = daemon.worker();
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    fs::create_dir(rig.mountpoint.join("plain")).expect("a directory in the mount");
    let done = finish(&mut rig.command());
    assert_eq!(done.code, Some(32), "its backing is in use: {}", done.said);
    rig.umount();
    worker.wait_for_end();
    assert!(rig.is_unlocked());
}

#[test]
fn an_orphaned_worker_that_is_told_to_end_serves_its_users_to_the_last() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let worker = daemon.worker();
    let mut file = File::create(rig.mountpoint.join("file")).unwrap();
    worker.signal(Signal::TERM);
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    file.write_all(b"x").expect("it serves on");
    assert!(rig.mounts_line().is_some());
    drop(file);
    worker.wait_for_end();
    assert_eq!(rig.mounts_line(), None);
    assert!(rig.is_unlocked());
}

#[test]
fn but_those_that_stay_only_so_long() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let worker = daemon.worker();
    let user = File::open(&rig.mountpoint).unwrap();
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    worker.signal(Signal::TERM);
    worker.wait_for_end();
    assert_eq!(rig.mounts_line(), None);
    assert!(rig.is_unlocked());
    drop(user);
}

#[test]
fn the_foreground_logs_to_standard_error() {
    let Some(rig) = Rig::new() else { return };
    let mut foreground = rig.foreground();
    rig.umount();
    assert_eq!(foreground.code(), Some(0));
    let log = rig.log();
    let place = rig.mountpoint.display();
    assert!(
        log.contains(&format!("mounted {} on {place}", rig.backing.display())),
        "{log}"
    );
    assert!(log.contains(&format!("unmounted {place}")), "{log}");
}
