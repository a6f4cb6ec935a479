//! Processes of a test: they end with it, however it ends, and no wait for them is without limit.
//!
//! A parent-death signal is tied to the *thread* that started the child, and a test's threads come and go;
//! so all are started by one thread that lives as long as the program.
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// How long a process that was killed may take to be gone: only one that hangs in the kernel takes longer.
const SOON: Duration = Duration::from_secs(5);

type Order = (Command, Sender<io::Result<Child>>);

const SETPRIV: &str = "/usr/bin/setpriv";

/// A command that gets SIGTERM when this program dies, if the system has `setpriv`.
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    with_setpriv(&["--pdeathsig", "TERM"], program)
}

/// The same with no other capabilities than the unit leaves.
pub fn confined(program: impl AsRef<OsStr>) -> Command {
    let unit = include_str!("../../mount/listindexfs@.service");
    let mut settings = unit.lines();
    let names = settings.find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = names.expect("capabilities").to_lowercase();
    let bounds = names.replace("cap_", "+").replace(' ', ",");
    let bounds = format!("--bounding-set=-all,{bounds}");
    with_setpriv(
        &[
            "--pdeathsig",
            "TERM",
            "--no-new-privs",
            "--inh-caps=-all",
            &bounds,
        ],
        program,
    )
}

fn with_setpriv(options: &[&str], program: impl AsRef<OsStr>) -> Command {
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(options).arg("--").arg(program);
    command
}

/// Starts `command` from the thread that never ends.
pub fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, answer) = channel();
    let orders = spawner
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    orders.send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

/// Runs `command` for `limit` at most, then kills it and gives `None`: also when a filesystem that hangs holds it
/// where no signal reaches it. So its output goes through files, and nobody waits for its end.
pub fn output(command: &mut Command, limit: Duration) -> Option<Output> {
    let file = || tempfile::tempfile().expect("a temporary file");
    let (stdout, stderr) = (file(), file());
    let dup = |file: &File| file.try_clone().expect("dup");
    command.stdout(dup(&stdout)).stderr(dup(&stderr));
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let Some(status) = super::within(limit, || child.try_wait().ok().flatten()) else {
        let _ = child.kill();
        return None;
    };
    Some(Output {
        status,
        stdout: whole(stdout),
        stderr: whole(stderr),
    })
}

fn whole(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .expect("a command's output");
    bytes
}

/// Runs `command` and panics, with all it said, unless it succeeds in time.
pub fn run(command: &mut Command) -> String {
    let output = output(command, super::LIMIT).unwrap_or_else(|| panic!("{command:?} hangs"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit status and words of a command, for messages.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!(
        "{}: {} {}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// Sends a signal; a process that is gone already is no trouble.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether all threads of a process stand still after SIGSTOP.
pub fn is_stopped(pid: u32) -> bool {
    let stat =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("stat")).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    tasks.flatten().all(|task| stat(&task).contains(") T "))
}

/// Ends a child: SIGTERM, a bounded wait, SIGKILL; then whatever of its children it left behind.
pub fn end(child: &mut Child, grace: Duration) {
    let family = Family::of(child.id());
    signal(child.id(), Signal::TERM);
    if super::within(grace, || child.try_wait().ok().flatten()).is_none() {
        let _ = child.kill();
    }
    family.kill();
}

/// Kills a child and all its descendants at once, as a crash would.
pub fn kill9(child: &mut Child) {
    // Stopped, it starts no more children while they are looked for.
    signal(child.id(), Signal::STOP);
    let family = Family::of(child.id());
    let _ = child.kill();
    family.kill();
    reap(child);
    // What they still write must not turn up in a directory that is being removed.
    super::within(SOON, || family.alive().next().is_none().then_some(()));
}

/// Takes note of a child's end, if that is to be expected soon. A thread in a filesystem that hangs delays it.
pub fn reap(child: &mut Child) {
    super::within(SOON, || child.try_wait().ok().flatten());
}

/// Whether a child has died, even if some thread of it hangs in the kernel still. It is reaped if that is possible: a
/// zombie counts as a living holder of the dotlocks that bear its pid.
pub fn has_died(child: &mut Child) -> bool {
    if !matches!(child.try_wait(), Ok(None)) {
        return true;
    }
    let zombie = stat(child.id()).is_none_or(|stat| stat.state == "Z");
    if zombie {
        reap(child);
    }
    zombie
}

/// The descendants of a process, remembered with their start times: pids are used again.
pub struct Family(Vec<(u32, String)>);

impl Family {
    /// All descendants that `pid` has now.
    pub fn of(pid: u32) -> Self {
        let mut known = vec![pid];
        let all: Vec<_> = all_pids()
            .into_iter()
            .filter_map(|p| Some((p, stat(p)?)))
            .collect();
        let mut members = Vec::new();
        while let Some(parent) = known.pop() {
            for (child, stat) in all.iter().filter(|(_, s)| s.parent == parent) {
                known.push(*child);
                members.push((*child, stat.started.clone()));
            }
        }
        Self(members)
    }

    /// The pids.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().map(|(pid, _)| *pid)
    }

    /// Those that still are who they were, and have not exited.
    pub fn alive(&self) -> impl Iterator<Item = u32> + '_ {
        let is = |(pid, started): &&(u32, String)| {
            stat(*pid).is_some_and(|now| now.started == *started && now.state != "Z")
        };
        self.0.iter().filter(is).map(|(pid, _)| *pid)
    }

    /// SIGKILL to those that still are who they were.
    pub fn kill(&self) {
        for (pid, started) in &self.0 {
            if stat(*pid).is_some_and(|now| now.started == *started) {
                signal(*pid, Signal::KILL);
            }
        }
    }
}

/// The command line of a process as `ps` shows it; empty when it is gone.
pub fn title(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// The files a process has open, by the names they have now; a deleted one bears that word at its end.
pub fn open_files(pid: u32) -> Vec<PathBuf> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()).collect()
}

struct Stat {
    state: String,
    parent: u32,
    started: String,
}

/// The fields of /proc/PID/stat we use; the name in it may hold blanks and brackets.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: (*fields.first()?).to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        started: (*fields.get(19)?).to_owned(),
    })
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}
