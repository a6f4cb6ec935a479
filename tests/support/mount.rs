//! Our filesystem, mounted by the built program in the foreground, unmounted in Drop; no step waits for ever.
use super::lab::Lab;
use super::process;
use super::{LIMIT, eventually, within};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long the daemon has to unmount and end: it takes some twenty seconds where users and NFS hold it up.
const GRACE: Duration = Duration::from_secs(60);

/// The program under test: the one Cargo built, or what `LISTINDEXFS_BIN` names.
pub fn program() -> OsString {
    let built = option_env!("CARGO_BIN_EXE_listindexfs").map(OsString::from);
    std::env::var_os("LISTINDEXFS_BIN")
        .or(built)
        .expect("LISTINDEXFS_BIN or a build by Cargo")
}

/// The tool under test: the one Cargo built, or what `LISTINDEXFS_CTL` names.
pub fn tool() -> OsString {
    let built = option_env!("CARGO_BIN_EXE_listindexctl").map(OsString::from);
    std::env::var_os("LISTINDEXFS_CTL")
        .or(built)
        .expect("LISTINDEXFS_CTL or a build by Cargo")
}

/// How to mount.
#[derive(Clone)]
pub struct Options {
    backing: PathBuf,
    point: PathBuf,
    log: PathBuf,
    options: Vec<String>,
    debug: bool,
    env: Vec<(String, String)>,
    program: OsString,
}

/// A mount, or what a daemon that was killed has left of it.
pub struct Mount {
    how: Options,
    daemon: Option<Child>,
}

impl Options {
    /// A host of this name in the lab: its INDEX tree on the store, any filesystem, layouts as documented.
    pub fn new(lab: &Lab, host: &str) -> Self {
        let dir = lab.host(host);
        let how = Self {
            backing: lab.ram(&format!("backing-{host}")),
            point: dir.join("listindex"),
            log: dir.join("listindexfs.log"),
            options: Vec::new(),
            debug: false,
            env: Vec::new(),
            program: program(),
        };
        // Root's: who mounts has a mount point that mail processes cannot write to.
        super::lab::dir_of(&how.backing, 0, 0, 0o755);
        super::lab::dir_of(&how.point, 0, 0, 0o755);
        how.option("index_fs=any")
            .option(&format!("host={host}"))
            .index(&format!(
                "{}/{}",
                lab.index().display(),
                super::config::HASHED
            ))
    }

    /// `index=`, given with Dovecot's variables.
    pub fn index(self, template: &str) -> Self {
        self.option(&format!("index={}", template.replace(',', "\\,")))
    }

    /// `layout=`, given with Dovecot's variables.
    pub fn layout(self, template: &str) -> Self {
        self.option(&format!("layout={}", template.replace(',', "\\,")))
    }

    /// `migrate`.
    pub fn migrate(self) -> Self {
        self.option("migrate")
    }

    /// Any option; it replaces one of the same name.
    pub fn option(mut self, option: &str) -> Self {
        let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
        self.options.retain(|old| name(old) != name(option));
        self.options.push(option.to_owned());
        self
    }

    /// Without this option.
    pub fn without(mut self, name: &str) -> Self {
        self.options
            .retain(|old| old.split('=').next() != Some(name));
        self
    }

    /// Every request in the log.
    pub fn debug(mut self) -> Self {
        self.debug = true;
        self
    }

    /// An environment variable for the daemon.
    pub fn env(self, key: &str, value: &str) -> Self {
        let mut how = self.without_env(key);
        how.env.push((key.to_owned(), value.to_owned()));
        how
    }

    /// Without this environment variable.
    pub fn without_env(mut self, key: &str) -> Self {
        self.env.retain(|(old, _)| old != key);
        self
    }

    /// With another program than the one that Cargo built.
    pub fn program(mut self, path: &Path) -> Self {
        self.program = path.into();
        self
    }

    /// Mounts, and waits until the mount answers.
    pub fn mount(self) -> Mount {
        let mut mount = Mount {
            how: self,
            daemon: None,
        };
        mount.start();
        mount
    }
}

impl Mount {
    /// A host of this name, mounted as [`Options::new`] says.
    pub fn new(lab: &Lab, host: &str) -> Self {
        Options::new(lab, host).mount()
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.how.point
    }

    /// The directory below it, where the files are.
    pub fn backing(&self) -> &Path {
        &self.how.backing
    }

    /// All the daemon said, from the first mount on.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.how.log).unwrap_or_default()).into_owned()
    }

    /// The pid of the program that was started.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// The pid of the worker that serves now; `None` while one takes over from another.
    pub fn worker(&self) -> Option<u32> {
        let supervisor = self.pid()?;
        process::Family::of(supervisor).alive().next()
    }

    /// Another than `before`, which was killed and is taken for alive until it has ended.
    pub fn worker_after(&self, before: u32) -> Option<u32> {
        self.worker().filter(|worker| *worker != before)
    }

    /// What `listindexctl user` tells of a user.
    pub fn about(&self, user: &str) -> Option<serde_json::Value> {
        let mut tool = Command::new(tool());
        tool.args(["user", user, "--json", "--mount"]);
        let said = process::output(tool.arg(self.path()), LIMIT)?.stdout;
        serde_json::from_slice(&said).ok()
    }

    /// Has everybody go, as `listindexctl drain` with these arguments and `--json` does; its exit code and report.
    pub fn drain(&self, args: &[&str]) -> (Option<i32>, serde_json::Value) {
        let mut command = Command::new(tool());
        command.arg("drain").args(args).arg("--json");
        let output = process::output(command.arg(self.path()), LIMIT).expect("it ends");
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|e| panic!("{e}: {}", process::said(&output)));
        (output.status.code(), report)
    }

    /// Whether the daemon has ended, by itself or killed.
    pub fn has_died(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(process::has_died)
    }

    /// Kills the daemon, all its processes at once. The mount stays, dead.
    pub fn kill9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            process::kill9(&mut daemon);
        }
    }

    /// Clears what is left of the mount, and mounts the same backing again, with other options perhaps.
    pub fn remount(&mut self, change: impl FnOnce(Options) -> Options) {
        self.unmount();
        self.how = change(self.how.clone());
        self.start();
    }

    /// Mounts the same backing again as an operator would whose mount is dead: without clearing it away first.
    pub fn mount_again(&mut self) {
        self.kill9();
        self.start();
    }

    /// Ends the daemon and sees to it that nothing is mounted.
    pub fn unmount(&mut self) {
        let mut daemon = self.daemon.take().map(|mut daemon| {
            process::end(&mut daemon, GRACE);
            daemon
        });
        // A daemon that did its work has unmounted. -f frees whoever waits for one that did not.
        for flag in ["-f", "-l"] {
            if self.is_mounted() {
                process::output(Command::new("umount").arg(flag).arg(&self.how.point), GRACE);
            }
        }
        daemon.iter_mut().for_each(process::reap);
    }

    /// What `listindexctl metrics` prints of it.
    pub fn metrics(&self) -> String {
        let mut command = Command::new(tool());
        let done = process::output(command.arg("metrics").arg(self.path()), LIMIT);
        let done = done.expect("it does not hang");
        assert!(done.status.success(), "{}", process::said(&done));
        String::from_utf8(done.stdout).expect("text")
    }

    /// `umount` as an operator gives it, who does not wait for the daemon's end.
    pub fn umount(&self, flag: &str) {
        let mut command = Command::new("umount");
        let done = process::output(command.arg(flag).arg(&self.how.point), GRACE);
        assert!(done.is_some(), "umount {flag} hangs");
    }

    fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.how.log)
            .expect("the daemon's log");
        let mut command = process::confined(&self.how.program);
        command.arg(&self.how.backing).arg(&self.how.point).args([
            "-f",
            "-o",
            &self.how.options.join(","),
        ]);
        if self.how.debug {
            command.arg("-d");
        }
        command.envs(self.how.env.iter().map(|(k, v)| (k, v)));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log);
        self.daemon = Some(process::spawn(command).expect("the daemon"));
        let up = eventually("the mount answers", || match self.has_died() {
            true => Some(false),
            false => (self.is_mounted() && answers(&self.how.point)).then_some(true),
        });
        assert!(
            up,
            "listindexfs does not mount with -o {}:\n{}",
            self.how.options.join(","),
            self.log()
        );
    }

    /// Whether anything is mounted here, alive or dead.
    pub fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts
            .lines()
            .any(|line| line.split(' ').nth(1) == self.how.point.to_str())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log
                .lines()
                .filter(|line| !line.contains("the worker has died (signal"))
                .collect();
            eprintln!(
                "--- end of the log of {}:\n{}",
                self.how.point.display(),
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}

/// A stat that a hung daemon cannot hold up.
fn answers(path: &Path) -> bool {
    let (done, wait) = channel();
    let path = path.to_owned();
    std::thread::spawn(move || done.send(fs::metadata(path).is_ok()));
    wait.recv_timeout(LIMIT).unwrap_or(false)
}
