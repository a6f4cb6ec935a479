//! A backing and a mount point of a test's own, and what is seen of a mount from outside.
//!
//! Dropping a [`Rig`] unmounts and ends the daemon, whatever became of the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_listindexfs");
/// An `index=` that every mount here is given; nothing asks for it.
pub const INDEX: &str = "index=/nfs/idx/%2.256Nu/%u";
/// Long enough for a busy machine: it only ends tests that fail.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a condition, and fails naming it.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// What a finished program left: exit code (none: a signal) and standard error.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub said: String,
}

/// Runs to the end of the program *and* of its standard error, which a daemon has to let go of.
pub fn finish(command: &mut Command) -> Finished {
    let mut command = assert_cmd::Command::from_std(std::mem::replace(command, Command::new("")));
    let output = command.timeout(PATIENCE).output().expect("run");
    Finished {
        code: output.status.code(),
        said: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Prints why a test is not run; with `LISTINDEXFS_NO_SKIP` set, that fails it.
pub fn skip<T>(why: &str) -> Option<T> {
    let may = std::env::var_os("LISTINDEXFS_NO_SKIP").is_none();
    assert!(may, "this test is not to be skipped: {why}");
    eprintln!("skipped: {why}");
    None
}

pub struct Rig {
    top: TempDir,
    pub backing: PathBuf,
    pub mountpoint: PathBuf,
}

impl Rig {
    /// None, with the reason printed, where nothing can be mounted.
    pub fn new() -> Option<Self> {
        let missing = match fs::metadata("/dev/fuse") {
            _ if !rustix::process::geteuid().is_root() => "root is needed",
            Err(_) => "there is no /dev/fuse",
            Ok(_) => {
                let top = tempfile::tempdir_in("/dev/shm").expect("directory on /dev/shm");
                // Other users are to get as far as the mount point.
                let open = fs::Permissions::from_mode(0o755);
                fs::set_permissions(top.path(), open).expect("chmod");
                let (backing, mountpoint) = (top.path().join("b"), top.path().join("m"));
                fs::create_dir(&mountpoint).expect("mount point");
                return Some(Self {
                    top,
                    backing,
                    mountpoint,
                });
            }
        };
        skip(missing)
    }

    /// A path beside backing and mount point.
    pub fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// `listindexfs BACKING MOUNTPOINT -o index=…`, to be added to.
    pub fn command(&self) -> Command {
        let mut command = self.bare_command();
        command.args(["-o", INDEX]);
        command
    }

    /// `listindexfs BACKING MOUNTPOINT`, to be added to.
    pub fn bare_command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg(&self.backing).arg(&self.mountpoint);
        command.env_remove("RUST_LOG");
        command
    }

    /// Mounts in the background and gives the daemon.
    pub fn mount(&self) -> Daemon {
        let done = finish(&mut self.command());
        assert_eq!((done.code, done.said.as_str()), (Some(0), ""));
        self.daemon()
    }

    /// Mounts in the foreground and gives the process, once the mount answers.
    pub fn foreground(&self) -> Foreground {
        let log = fs::File::create(self.path("log")).expect("log");
        let child = self.command().arg("-f").stderr(log).spawn().expect("spawn");
        let mut foreground = Foreground(child);
        wait_until("mounted in the foreground", || {
            assert_eq!(
                foreground.0.try_wait().expect("wait"),
                None,
                "{}",
                self.log()
            );
            self.log().contains("mounted")
        });
        foreground
    }

    /// What the foreground process has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("log")
    }

    /// The daemon that the lock file names.
    pub fn daemon(&self) -> Daemon {
        let text = fs::read_to_string(self.backing.join(".listindexfs/lock")).expect("lock file");
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("pid "));
        let pid = pid.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        Daemon(pid.expect("pid in the lock file"))
    }

    /// The line of `/proc/mounts`, if the mount stands.
    pub fn mounts_line(&self) -> Option<String> {
        mounts_line("/proc/self/mounts", &self.mountpoint)
    }

    /// umount(2).
    pub fn try_umount(&self, flags: UnmountFlags) -> rustix::io::Result<()> {
        rustix::mount::unmount(&self.mountpoint, flags)
    }

    /// Unmounts what this test has let go of. A child that another test's thread has forked may hold
    /// a copy of our files until it runs its program.
    pub fn umount(&self) {
        wait_until("unmounted", || {
            match self.try_umount(UnmountFlags::empty()) {
                Ok(()) => true,
                Err(Errno::BUSY) => false,
                Err(error) => panic!("umount: {error}"),
            }
        });
    }

    /// Whether another listindexfs could take the backing now.
    pub fn is_unlocked(&self) -> bool {
        let lock = fs::File::open(self.backing.join(".listindexfs/lock")).expect("lock file");
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let daemon = self
            .backing
            .join(".listindexfs/lock")
            .exists()
            .then(|| self.daemon());
        while self.mounts_line().is_some() && self.try_umount(UnmountFlags::DETACH).is_ok() {}
        if let Some(daemon) = daemon.filter(Daemon::is_ours) {
            let _ = kill_process(daemon.0, Signal::KILL);
        }
    }
}

/// The last line for this mount point in a mount table.
pub fn mounts_line(table: impl AsRef<Path>, mountpoint: &Path) -> Option<String> {
    let table = fs::read_to_string(table).expect("mount table");
    let mountpoint = mountpoint.to_str().expect("UTF-8");
    let mut lines = table
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some(mountpoint));
    lines.next_back().map(str::to_owned)
}

/// A process that is not our child.
#[derive(Debug, PartialEq, Eq)]
pub struct Daemon(pub Pid);

impl Daemon {
    /// A file of it in /proc.
    pub fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0.as_raw_nonzero()))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).expect("kill");
    }

    /// The process that serves for it, its only child.
    pub fn worker(&self) -> Self {
        let mut found = None;
        wait_until("there is a worker", || {
            let children = fs::read_to_string(self.proc(&format!("task/{}/children", self.0)));
            let pid = children.ok().and_then(|pids| pids.trim().parse().ok());
            found = pid.and_then(Pid::from_raw).map(Self);
            found.is_some()
        });
        found.expect("found")
    }

    /// Kills it and its worker, so that nobody is left to start another.
    pub fn kill_all(&self) {
        let worker = self.worker();
        self.signal(Signal::KILL);
        worker.signal(Signal::KILL);
        self.wait_for_end();
        worker.wait_for_end();
    }

    pub fn has_ended(&self) -> bool {
        // Where nobody collects orphans, it stays on as a zombie.
        match fs::read_to_string(self.proc("stat")) {
            Err(_) => true,
            Ok(stat) => stat
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('Z')),
        }
    }

    pub fn wait_for_end(&self) {
        // The last thread lets go of files and locks, the first may be a zombie before that.
        wait_until("the daemon has ended", || {
            let threads = fs::read_dir(self.proc("task")).map_or(0, Iterator::count);
            self.has_ended() && threads <= 1
        });
    }

    /// Not some other process that has come to the same number.
    fn is_ours(&self) -> bool {
        fs::read_link(self.proc("exe")).is_ok_and(|exe| exe == Path::new(PROGRAM))
    }
}

/// A process that is our child.
pub struct Foreground(pub Child);

impl Foreground {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("kill");
    }

    /// Its exit code, once it ends.
    pub fn code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the foreground process has ended", || {
            status = self.0.try_wait().expect("wait");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A mount namespace of a test's own, held by a process that waits.
pub struct Namespace(Child);

impl Namespace {
    /// Runs `setup` with `$1…` in a new namespace, then keeps that.
    pub fn new(setup: &str, args: &[&Path]) -> Self {
        // Mounts of other tests would live on in here after their umount.
        let others = r"sed -n 's/^[^ ]* \([^ ]*\) fuse.listindexfs .*/\1/p' /proc/self/mounts |
                       while read -r at; do umount -l $at || :; done";
        let script = format!("set -e; {others}; {setup}\necho; read -r never");
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
                "sh",
            ])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut ready = [0];
        let mut said = holder.stdout.take().expect("stdout");
        std::io::Read::read_exact(&mut said, &mut ready).expect("the namespace is set up");
        Self(holder)
    }

    /// A command that runs within.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.0.id());
        command.args([&namespace, "--", program]);
        command.env_remove("RUST_LOG");
        command
    }

    pub fn mounts_line(&self, mountpoint: &Path) -> Option<String> {
        mounts_line(format!("/proc/{}/mounts", self.0.id()), mountpoint)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end closes the namespace, and that takes every mount within away.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
