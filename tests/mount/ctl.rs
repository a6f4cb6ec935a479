//! `listindexctl` and the supervisor's control socket.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::mount::MountFlags;
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::{INDEX, Namespace, PATIENCE, PROGRAM, Rig, finish, skip, wait_until};

pub const CTL: &str = env!("CARGO_BIN_EXE_listindexctl");

/// What the tool left: exit code, standard output, standard error.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn run(command: Command) -> Said {
    let mut command = assert_cmd::Command::from_std(command);
    let output = command.timeout(PATIENCE).output().expect("run");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn ctl(command: &str, args: &[&Path]) -> Said {
    let mut tool = Command::new(CTL);
    tool.args(command.split(' ')).args(args);
    run(tool)
}

/// What it prints as JSON, whatever its exit code.
fn json(command: &str, rig: &Rig) -> Value {
    let said = ctl(&format!("{command} --json"), &[&rig.mountpoint]);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn status_tells_who_serves() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let worker = daemon.worker();
    let status = json("status", &rig);
    let pid = |who: &str| status[who]["pid"].as_i64();
    assert_eq!(
        pid("supervisor"),
        Some(daemon.0.as_raw_nonzero().get().into())
    );
    assert_eq!(pid("worker"), Some(worker.0.as_raw_nonzero().get().into()));
    assert_eq!(status["workers_started"], 1);
    assert_eq!(status["state"], "serving");
    assert_eq!(status["worker"]["version"], env!("CARGO_PKG_VERSION"));

    worker.signal(Signal::KILL);
    wait_until("the next worker is told of", || {
        let status = json("status", &rig);
        status["workers_started"] == 2 && status["worker"]["pid"].is_i64()
    });
    let said = ctl("status", &[&rig.backing]);
    let first = format!("{}: serving\n", rig.mountpoint.display());
    assert!(said.out.starts_with(&first), "{said:?}");
}

/// One that hangs answers nothing, and one that was killed is not there for a moment: what is known is told all the same.
#[test]
fn status_without_a_worker_tells_what_the_supervisor_knows() {
    let Some(rig) = Rig::new() else { return };
    let done = finish(rig.command().args(["-o", "watchdog=1h,host=mail1"]));
    assert_eq!((done.code, done.said.as_str()), (Some(0), ""));
    let worker = rig.daemon().worker();
    let status = json("status", &rig);
    assert_eq!(
        (&status["worker_answers"], &status["host"]),
        (&true.into(), &"mail1".into())
    );
    worker.signal(Signal::STOP);
    let status = json("status", &rig);
    assert_eq!(status["worker_answers"], false, "{status}");
    assert!(status["figures"]["outcomes"].is_array(), "{status}");
    let said = ctl("status", &[&rig.mountpoint]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("it gives no answer: what follows"),
        "{said:?}"
    );
    worker.signal(Signal::KILL);
    wait_until("the next worker answers", || {
        let status = json("status", &rig);
        status["worker_answers"] == true && status["figures"]["worker_deaths"] == 1
    });
}

#[test]
fn what_is_logged_can_be_changed_and_the_next_worker_logs_the_same() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.foreground();
    // A line at debug level, written before who asked is answered.
    let lines_of_a_lookup = || {
        let lines = |log: String| log.matches("lookup by pid ").count();
        let before = lines(rig.log());
        fs::metadata(rig.mountpoint.join("missing")).expect_err("not there");
        lines(rig.log()) - before
    };
    let log = |level: &str| ctl(&format!("log {level}"), &[&rig.mountpoint]);
    assert_eq!(lines_of_a_lookup(), 0);
    let said = log("debugg");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("no such level: `debugg`"), "{said:?}");
    for (level, now, lines) in [
        ("debug", "debug", 1),
        ("default", "info", 0),
        ("listindexfs::fuse=debug", "info,listindexfs::fuse=debug", 1),
        (
            "debug,listindexfs::fuse=info",
            "debug,listindexfs::fuse=info",
            0,
        ),
        ("debug", "debug", 1),
    ] {
        let said = log(level);
        let expected = format!("{}: {now} is logged\n", rig.mountpoint.display());
        assert_eq!((said.code, said.out), (Some(0), expected), "{}", said.err);
        assert_eq!(lines_of_a_lookup(), lines, "{level}");
    }
    assert!(
        rig.log().contains("from now on debug is logged"),
        "the supervisor too"
    );

    let worker = rig.daemon().worker();
    worker.signal(Signal::KILL);
    wait_until("there is another worker", || {
        rig.daemon().worker() != worker
    });
    assert_eq!(lines_of_a_lookup(), 1, "it logs what the one before did");
    assert_eq!(json("status", &rig)["log"], "debug");
    assert_eq!(log("default").code, Some(0));
    assert_eq!(lines_of_a_lookup(), 0);
    assert!(json("status", &rig)["log"].is_null());
    drop(daemon);
}

#[test]
fn top_shows_a_second_where_there_is_no_terminal() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let said = ctl("top", &[&rig.mountpoint]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let first = format!("{} on ", rig.mountpoint.display());
    assert!(said.out.starts_with(&first), "{said:?}");
    assert!(
        said.out
            .contains("\nsessions  0.0/s served, 0.0/s refused\n"),
        "{said:?}"
    );
    assert!(
        said.out.contains("\nusers     0, 0 here just now"),
        "{said:?}"
    );
    assert!(
        !said.out.contains('\u{1b}'),
        "no colours, no cursor: {said:?}"
    );
}

/// On a terminal of script(1)'s.
#[test]
fn top_goes_on_until_q_and_leaves_the_terminal_as_it_was() {
    let Some(rig) = Rig::new() else { return };
    if !Path::new("/usr/bin/script").exists() {
        return skip("there is no script").unwrap_or(());
    }
    rig.mount();
    let shell = format!("{CTL} top {}; stty -a", rig.mountpoint.display());
    let mut script = Command::new("script");
    script
        .args(["-q", "-e", "-c", &shell, "/dev/null"])
        .env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().expect("script");
    let (mut keys, mut screen) = (
        script.stdin.take().expect("keys"),
        script.stdout.take().expect("a screen"),
    );
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    let frames = |seen: &[u8]| String::from_utf8_lossy(seen).matches("sessions").count();
    let until = Instant::now() + PATIENCE;
    while frames(&seen) < 3 {
        assert!(Instant::now() < until, "{}", String::from_utf8_lossy(&seen));
        let read = screen.read(&mut bytes).expect("more of it");
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..read]);
    }
    keys.write_all(b"q").expect("pressed");
    screen.read_to_end(&mut seen).expect("its end");
    let seen = String::from_utf8_lossy(&seen);
    let (_, after) = seen
        .split_once("\u{1b}[?25h\u{1b}[?1049l")
        .expect("the screen is given back");
    assert!(seen.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{seen}");
    for mode in [" icanon", " echo ", "susp = ^Z"] {
        assert!(after.contains(mode), "{mode}: {after}");
    }
    assert!(script.wait().expect("waited for").success(), "{after}");
}

fn control(rig: &Rig) -> PathBuf {
    rig.backing.join(".listindexfs/control")
}

#[test]
fn the_sockets_are_roots_and_not_seen_in_the_mount() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let sockets = ["control", "worker"].map(|name| rig.backing.join(".listindexfs").join(name));
    for socket in &sockets {
        let mode = fs::metadata(socket).expect("stat").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(&rig.mountpoint).expect("list").count(), 0);
    rig.umount();
    daemon.wait_for_end();
    assert!(!sockets.iter().any(|socket| socket.exists()));
}

/// However many clients hang, talk nonsense or do not read: the mount serves, and others are answered in the end.
#[test]
fn clients_that_misbehave_harm_nobody() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let connect = || UnixStream::connect(control(&rig)).expect("connected");
    let silent: Vec<_> = (0..30).map(|_| connect()).collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 100_000],
        b"\n",
        b"{}",
    ] {
        let mut client = connect();
        // Refused halfway where it is too long or one too many.
        let _ = client.write_all(garbage);
    }
    fs::create_dir(rig.mountpoint.join("plain")).expect("the mount serves");
    wait_until("others are answered", || {
        ctl("status", &[&rig.mountpoint]).code == Some(0)
    });
    assert!(!daemon.has_ended());
    drop(silent);
    let mut client = connect();
    client
        .write_all(b"{\"protocol\":1,\"command\":\"dance\"}\n")
        .expect("written");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("answered");
    assert!(answer.contains("unknown variant `dance`"), "{answer}");
    rig.umount();
    daemon.wait_for_end();
}

#[test]
fn where_nobody_answers_it_is_said_what_to_do() {
    let Some(rig) = Rig::new() else { return };
    let said = ctl("status", &[&rig.mountpoint]);
    assert_eq!(said.code, Some(32), "{said:?}");
    assert!(
        said.err.contains("no listindexfs is mounted on"),
        "{said:?}"
    );

    let daemon = rig.mount();
    let worker = daemon.worker();
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    for command in ["status", "upgrade"] {
        let said = ctl(command, &[&rig.mountpoint]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("its worker serves on"), "{said:?}");
    }
    worker.signal(Signal::KILL);
    worker.wait_for_end();
    let said = ctl("status", &[&rig.mountpoint]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("is dead: mount it again"), "{said:?}");
    let said = ctl("check", &[&rig.mountpoint]);
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn it_is_for_root() {
    let Some(rig) = Rig::new() else { return };
    let tool = rig.path("listindexctl");
    // Not copied by this process: a child that another test forks meanwhile would have it open for writing.
    let copied = finish(Command::new("cp").arg(CTL).arg(&tool));
    assert_eq!(copied.code, Some(0), "a copy that others can run");
    for args in [&["status"][..], &["clean", "0s"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--clear-groups", "--"]);
        command.arg(&tool).args(args);
        let said = run(command);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("only root"), "{said:?}");
    }
}

/// In a mount namespace without the mounts of other tests.
#[test]
fn the_only_mount_need_not_be_named() {
    let Some(rig) = Rig::new() else { return };
    if !Path::new("/usr/bin/nsenter").exists() {
        return skip("there is no nsenter").unwrap_or(());
    }
    let namespace = Namespace::new("true", &[]);
    let ctl = |args: &[&str]| {
        let mut command = namespace.command(CTL);
        command.args(args);
        run(command)
    };
    let mount = |backing: &Path, point: &Path| {
        let mut command = namespace.command(PROGRAM);
        command.arg(backing).arg(point).args(["-o", INDEX]);
        assert_eq!(finish(&mut command).code, Some(0));
    };
    let said = ctl(&["status"]);
    assert_eq!(said.code, Some(32), "{said:?}");
    let said = ctl(&["check"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let said = ctl(&["clean", "0s"]);
    assert_eq!(said.code, Some(32), "{said:?}");
    mount(&rig.backing, &rig.mountpoint);
    for args in [&["status"][..], &["clean", "0s"]] {
        let said = ctl(args);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    let other = rig.path("m2");
    fs::create_dir(&other).expect("mkdir");
    mount(&rig.path("b2"), &other);
    let said = ctl(&["status"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for point in [&rig.mountpoint, &other] {
        let line = format!("{}: serving\n", point.display());
        assert!(said.out.contains(&line), "{said:?}");
    }
    let said = ctl(&["status", "--json"]);
    let one = |line| serde_json::from_str::<Value>(line).expect("JSON")["figures"]["users"].clone();
    let users: Vec<_> = said.out.lines().map(one).collect();
    assert_eq!(users, [0, 0], "a line for each: {said:?}");
    let said = ctl(&["metrics"]);
    let up = "listindexfs_worker_up{mountpoint=";
    assert_eq!(said.out.matches(up).count(), 2, "{said:?}");
    assert_eq!(said.out.matches("# TYPE listindexfs_worker_up ").count(), 1);
    let said = ctl(&["upgrade"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let both = format!("{}, {}", rig.mountpoint.display(), other.display());
    assert!(said.err.contains(&both), "{said:?}");
    let point = other.to_str().expect("UTF-8");
    let said = ctl(&["clean", "0s"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let said = ctl(&["clean", "0s", "--mount", point]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = ctl(&["clean", "0s", &format!("{point}/d0/alice")]);
    let not_here = format!("{point}: dropped 0 users, 0 B\n{point}/d0/alice: is not known here\n");
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(67), not_here.as_str())
    );
    for point in [&rig.mountpoint, &other] {
        let said = ctl(&["unmount", point.to_str().expect("UTF-8")]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    }
}

#[test]
fn unmount_waits_for_its_users_but_only_so_long() {
    let Some(rig) = Rig::new() else { return };
    let daemon = rig.mount();
    let user = File::open(&rig.mountpoint).expect("open");
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ctl("unmount --within 30s", &[&rig.mountpoint]));
        drop(user);
        waiting.join().expect("joined")
    });
    assert_eq!((waiting.code, waiting.err.as_str()), (Some(0), ""));
    daemon.wait_for_end();

    let daemon = rig.mount();
    let user = File::open(&rig.mountpoint).expect("open");
    let said = ctl("unmount --within 100ms", &[&rig.mountpoint]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("it is unmounted with files open"),
        "{said:?}"
    );
    assert_eq!(rig.mounts_line(), None);
    drop(user);
    daemon.wait_for_end();

    rig.mount().kill_all();
    let said = ctl("unmount --within 1h", &[&rig.mountpoint]);
    assert_eq!(said.code, Some(0), "a dead one goes at once: {said:?}");
    assert_eq!(rig.mounts_line(), None);
}

/// What `check` says of one thing.
fn found(report: &Value, about: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let all = report["findings"].as_array().expect("findings").iter();
    let about = all.filter(|finding| finding["about"] == about);
    about
        .map(|finding| (text(&finding["level"]), text(&finding["text"])))
        .collect()
}

#[test]
fn check_looks_below_the_mount() {
    let Some(rig) = Rig::new() else { return };
    let bare = |report: &Value| found(report, "bare mount point");
    rig.mount();
    let report = json("check", &rig);
    assert_eq!(found(&report, "mount")[0].0, "ok", "{report}");
    assert_eq!(found(&report, "processes")[0].0, "ok", "{report}");
    let [(level, text)] = &bare(&report)[..] else {
        panic!("{report}")
    };
    assert_eq!(level, "warning");
    assert!(text.contains("listindexctl prepare"), "{text}");
    rig.umount();

    fs::set_permissions(&rig.mountpoint, Permissions::from_mode(0o777)).expect("chmod");
    rig.mount();
    let report = json("check", &rig);
    assert_eq!(bare(&report)[0].0, "error", "{report}");
    rig.umount();
    fs::create_dir(rig.mountpoint.join("d0")).expect("mkdir");
    let report = json("check", &rig);
    let text = bare(&report).into_iter().map(|(_, text)| text);
    assert!(text.collect::<String>().contains("not empty"), "{report}");
    assert_eq!(found(&report, "mount")[0].0, "error", "{report}");
}

/// Others can make directories there, but write nothing; a mount goes over it, what others have left or not.
#[test]
fn a_prepared_mount_point_is_full() {
    let Some(rig) = Rig::new() else { return };
    fs::remove_dir(&rig.mountpoint).expect("rmdir");
    for _ in 0..2 {
        let said = ctl("prepare", &[&rig.mountpoint]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        let mode = fs::metadata(&rig.mountpoint).expect("stat").permissions();
        assert_eq!(mode.mode() & 0o7777, 0o3777);
        fs::create_dir(rig.mountpoint.join("d0")).expect("a directory");
        let file = rig.mountpoint.join("d0/file");
        let error = fs::write(&file, "x").expect_err("it is full");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        fs::remove_file(&file).expect("removed");

        let daemon = rig.mount();
        assert!(!rig.mountpoint.join("d0/..").join(".full").exists());
        let report = json("check", &rig);
        assert_eq!(found(&report, "bare mount point")[0].0, "ok", "{report}");
        let said = ctl("prepare", &[&rig.mountpoint]);
        assert_eq!(said.code, Some(0), "nothing is done: {said:?}");
        let said = ctl("unmount", &[&rig.mountpoint]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        daemon.wait_for_end();
        assert!(
            rig.mounts_line()
                .expect("below")
                .contains("listindexfs-bare")
        );
    }
}

/// Whoever may use fusermount3 makes a mount of any type and source: root asks nobody there.
#[test]
fn a_mount_that_is_not_roots_is_none_of_ours() {
    let Some(rig) = Rig::new() else { return };
    let socket = rig.path("b/.listindexfs/control");
    fs::create_dir_all(socket.parent().expect("above")).expect("mkdir");
    let listener = UnixListener::bind(&socket).expect("a socket");
    listener.set_nonblocking(true).expect("at once");
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.expect("the device");
    let of_nobody = format!(
        "fd={},rootmode=40000,user_id=65534,group_id=65534",
        device.as_raw_fd()
    );
    let data = CString::new(of_nobody).expect("no NUL");
    let (flags, kind) = (MountFlags::NOSUID | MountFlags::NODEV, "fuse.listindexfs");
    rustix::mount::mount(&rig.backing, &rig.mountpoint, kind, flags, data.as_c_str())
        .expect("mounted");
    for place in [&rig.mountpoint, &rig.backing] {
        for command in ["status", "upgrade", "metrics", "log debug"] {
            let said = ctl(command, &[place]);
            assert_eq!(said.code, Some(32), "{command}: {said:?}");
            assert!(
                said.err.contains("no listindexfs is mounted on"),
                "{said:?}"
            );
        }
    }
    let said = ctl("check --options index=/nfs/%u", &[&rig.mountpoint]);
    for expected in [
        "no listindexfs is mounted on",
        "has fuse.listindexfs below the mount",
    ] {
        assert!(said.out.contains(expected), "{said:?}");
    }
    let asked = listener.accept().expect_err("nobody is asked");
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
}

/// `| head -1`: who reads has seen enough, and there is nobody to tell.
#[test]
fn nobody_panics_where_nobody_reads() {
    for (program, arg, to_stderr) in [
        (PROGRAM, "--help", false),
        (PROGRAM, "--version", false),
        (PROGRAM, "--nonsense", true),
        (CTL, "--help", false),
        (CTL, "completions bash", false),
        (CTL, "nonsense", true),
    ] {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(program);
        command.args(arg.split(' '));
        match to_stderr {
            true => command.stderr(writer).stdout(Stdio::null()),
            false => command.stdout(writer).stderr(Stdio::piped()),
        };
        let child = command.spawn().expect("run");
        drop(command);
        let output = child.wait_with_output().expect("ended");
        assert_eq!(
            output.status.code(),
            Some(to_stderr.into()),
            "{program} {arg}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "",
            "{program} {arg}"
        );
    }
}
