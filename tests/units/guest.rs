//! A systemd of a test's own, with the programs and files of this machine, or of another Debian, as they are and what it changes
//! of them in memory.
//!
//! It is pid 1 of namespaces, over an overlay. Killing it ends all that it has started.
#![allow(dead_code, reason = "every test program uses another part")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::process;
use crate::support::{LIMIT, eventually};

const BOOT: &str = include_str!("boot.sh");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mount");

/// A booted systemd.
pub struct Guest {
    dir: PathBuf,
    cgroup: PathBuf,
    unshare: Child,
    init: Pid,
}

/// Where cgroup2 is: a hybrid hierarchy has it beside the old ones.
fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mut points = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next()? == "cgroup2").then_some(point)
    });
    points.next().expect("cgroup2 is mounted").into()
}

impl Guest {
    /// Boots this machine with both programs, the units, and a Dovecot whose list index is in the mount.
    pub fn boot() -> Self {
        Self::boot_over("/".as_ref(), set_up)
    }

    /// Boots what is in the directory `lower`, with the files over it that `set_up` puts into a directory.
    pub fn boot_over(lower: &Path, set_up: impl FnOnce(&Path)) -> Self {
        Self::boot_with(lower, &[], set_up)
    }

    /// The same with directories of this machine, read-only, at places of theirs.
    pub fn boot_with(
        lower: &Path,
        borrowed: &[(PathBuf, &str)],
        set_up: impl FnOnce(&Path),
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("lidx-guest-").tempdir();
        let dir = dir.expect("a directory").keep();
        process::run(
            Command::new("mount")
                .args(["-t", "tmpfs", "guest"])
                .arg(&dir),
        );
        let over = dir.join("over");
        fs::create_dir(&over).expect("mkdir");
        set_up(&over);
        let enter = ["-type", "d", "-exec", "chmod", "755", "{}", "+"];
        process::run(Command::new("find").arg(&over).args(enter));
        let name = dir.file_name().expect("a name");
        let cgroup = cgroup2().join(name);
        fs::create_dir(&cgroup).expect("a cgroup");
        fs::write(dir.join("boot.sh"), BOOT).expect("boot.sh");
        let lines = borrowed.iter();
        let lines: String = lines
            .map(|(from, to)| format!("{} {to}\n", from.display()))
            .collect();
        fs::write(dir.join("borrowed"), lines).expect("written");
        let unshare = start(&dir, &cgroup, lower);
        let init = eventually("it has begun", || {
            let children = format!("/proc/{0}/task/{0}/children", unshare.id());
            let pid = fs::read_to_string(children).ok()?.trim().parse().ok()?;
            Pid::from_raw(pid)
        });
        let guest = Self {
            dir,
            cgroup,
            unshare,
            init,
        };
        guest.await_boot();
        guest
    }

    fn await_boot(&self) {
        eventually("systemd is up", || {
            assert!(!process_is_gone(self.init), "{}", self.boot_log());
            let said = self.try_run(&["systemctl", "is-active", "basic.target"])?;
            (said.trim() == "active").then_some(())
        });
    }

    fn boot_log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A command that runs within.
    pub fn command(&self, args: &[&str]) -> Command {
        self.enter(&["-n"], args)
    }

    /// The same with the network of this machine, as the guest has none.
    pub fn command_with_network(&self, args: &[&str]) -> Command {
        self.enter(&[], args)
    }

    fn enter(&self, also: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.init.to_string();
        command.args(["-t", &pid, "-m", "-p", "-u", "-i", "-C"]);
        command.args(also).arg("--").args(args);
        command
    }

    /// Runs a command, which must succeed, and gives what it prints.
    pub fn run(&self, args: &[&str]) -> String {
        process::run(&mut self.command(args))
    }

    /// The same of one that may fail.
    pub fn try_run(&self, args: &[&str]) -> Option<String> {
        let output = process::output(&mut self.command(args), LIMIT).expect("it hangs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        let said = self.run(&["systemctl", "show", "--value", "-p", name, unit]);
        said.trim().to_owned()
    }

    /// The main process of a unit, as it is numbered within.
    pub fn main_pid(&self, unit: &str) -> String {
        self.property(unit, "MainPID")
    }

    /// Waits until a unit is active with another main process than this one.
    pub fn wait_restarted(&self, unit: &str, before: &str) {
        eventually(&format!("{unit} was restarted"), || {
            let active = self.property(unit, "ActiveState") == "active";
            let pid = self.main_pid(unit);
            (active && pid != before && pid != "0").then_some(())
        });
    }

    /// All that was logged.
    pub fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "-o", "short-monotonic"])
    }

    /// Puts a copy of a program in the place of the installed one.
    pub fn install(&self, program: &str) {
        let script = "cp \"$1\" \"$1.new\" && mv \"$1.new\" \"$1\"";
        self.run(&["sh", "-c", script, "sh", program]);
    }

    /// An IMAP session.
    pub fn imap(&self) -> Session {
        self.imap_of("alice")
    }

    /// An IMAP session of this user.
    pub fn imap_of(&self, user: &str) -> Session {
        let bridge = "exec 3<>/dev/tcp/127.0.0.1/143 4<&0; cat <&4 >&3 & timeout 300 cat <&3; kill $! 2>/dev/null";
        let mut command = self.command(&["bash", "-c", bridge]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bridge = process::spawn(command).expect("a connection");
        let to = bridge.stdin.take().expect("stdin");
        let from = BufReader::new(bridge.stdout.take().expect("stdout"));
        let mut session = Session { bridge, to, from };
        session.line("* OK");
        session.ok(&format!("LOGIN {user} pass"));
        session
    }
}

/// Starts it in a cgroup. It is killed when this program dies; unshare(1) takes no notice of SIGTERM.
fn start(dir: &Path, cgroup: &Path, lower: &Path) -> Child {
    let enter = "echo $$ >\"$1/cgroup.procs\"; dir=$2; lower=$3; exec unshare --mount --propagation private --pid --fork --kill-child \
                 --uts --ipc --net --cgroup sh \"$dir/boot.sh\" \"$dir\" \"$lower\"";
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "sh", "-c", enter, "sh"]);
    command.args([cgroup, dir, lower]);
    let log = fs::File::create(dir.join("log")).expect("log");
    let also = log.try_clone().expect("dup");
    command.stdin(Stdio::null()).stdout(log).stderr(also);
    process::spawn(command).expect("unshare")
}

fn process_is_gone(pid: Pid) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.try_run(&["journalctl", "--no-pager", "-n", "80"]);
            eprintln!("--- the guest's journal:\n{}", log.unwrap_or_default());
        }
        let _ = kill_process(self.init, Signal::KILL);
        let _ = self.unshare.wait();
        let _ = rustix::mount::unmount(&self.dir, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.dir);
        // Its processes are gone when the last cgroup is.
        let left = Command::new("find")
            .arg(&self.cgroup)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .output();
        drop(left);
    }
}

/// One IMAP session in the guest.
pub struct Session {
    bridge: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Session {
    /// Reads until a line begins so; `None` at the end.
    pub fn line(&mut self, begins: &str) -> Option<String> {
        let mut line = String::new();
        while self.from.read_line(&mut line).expect("a line") > 0 {
            if line.starts_with(begins) {
                return Some(line);
            }
            line.clear();
        }
        None
    }

    /// A command that must succeed.
    pub fn ok(&mut self, command: &str) {
        assert!(self.ok_or_end(command), "{command}: the session has ended");
    }

    /// Each folder with its counts, as LIST with STATUS tells them.
    pub fn list_status(&mut self) -> Vec<String> {
        let command = "a LIST \"\" \"*\" RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))\r\n";
        self.to.write_all(command.as_bytes()).expect("written");
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            let length = self.from.read_line(&mut line).expect("a line");
            assert!(length > 0, "the session has ended after {said:?}");
            if let Some(end) = line.strip_prefix("a ") {
                assert!(end.starts_with("OK"), "{line}");
                said.sort();
                return said;
            }
            said.extend(
                line.strip_prefix("* STATUS ")
                    .map(|line| line.trim_end().to_owned()),
            );
        }
    }

    /// A command that must succeed if the session lives: whether it does.
    pub fn ok_or_end(&mut self, command: &str) -> bool {
        let written = self.to.write_all(format!("a {command}\r\n").as_bytes());
        let answer = written.ok().and_then(|()| self.line("a "));
        let right = answer
            .as_ref()
            .is_none_or(|answer| answer.starts_with("a OK"));
        assert!(right, "{command}: {answer:?}");
        answer.is_some()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.bridge.kill();
        let _ = self.bridge.wait();
    }
}

/// Writes a file below a directory.
pub fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().expect("above")).expect("mkdir");
    fs::write(path, text).expect("written");
}

/// Copies the programs that the tests were built with into a directory, which is made.
pub fn put_programs(dir: &Path) {
    fs::create_dir_all(dir).expect("mkdir");
    for program in [
        env!("CARGO_BIN_EXE_listindexfs"),
        env!("CARGO_BIN_EXE_listindexctl"),
    ] {
        let name = Path::new(program).file_name().expect("a name");
        fs::copy(program, dir.join(name)).expect("a copy");
    }
}

/// What is put over this machine's files.
fn set_up(over: &Path) {
    let put = |path: &str, text: &str| put(&over.join("etc"), path, text);
    let shared = |name: &str| fs::read_to_string(Path::new(SHARED).join(name)).expect(name);
    put_programs(&over.join("usr/local/sbin"));
    let unit = "systemd/system/listindexfs@.service";
    put(unit, &shared("listindexfs@.service"));
    put(
        &format!("{unit}.d/dovecot.conf"),
        &shared("listindexfs@.service.d-dovecot.conf"),
    );
    put(
        "systemd/system/dovecot.service.d/listindexfs.conf",
        &shared("dovecot.service.d-listindexfs.conf"),
    );
    let sample = shared("listindexfs.conf.sample");
    put(
        "listindexfs/main.conf",
        &sample.replace(
            "index=/nfs/idx/%2.256Nu/%u",
            "index=/srv/idx/%u,index_fs=any",
        ),
    );
    let backing = "tmpfs /var/lib/listindexfs tmpfs size=64m,nr_inodes=16k,mode=0700 0 0\n";
    put("fstab", backing);
    put("dovecot/dovecot.conf", include_str!("dovecot.conf"));
}
