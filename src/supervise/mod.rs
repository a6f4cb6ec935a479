//! The supervisor's side: it holds what must not be lost, and starts a worker whenever there is none.
//!
//! It keeps `/dev/fuse`, the journal and the backing's lock, and hands them to each worker. It looks into none of them; what is
//! counted it keeps too, and reads.

mod orphan;
pub mod watchdog;
pub mod worker;

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::{FdFlags, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::journal::Journal;
use crate::logging;
use crate::stats::{self, Cell, Stats};
use crate::user::claim::random_u128;
use crate::user::steps;

/// This very program, also when another has been installed in its place.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How long a new program's worker may take to say that it could serve.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// A worker that lived as long as this did not die of its start.
const SOON: Duration = Duration::from_millis(200);
/// The first pause before a worker is started after one that died soon, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

/// What a worker is started with: the command line that the mount was made with.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The backing, absolute.
    pub backing: PathBuf,
    /// The mount point, without symbolic links.
    pub mountpoint: PathBuf,
    /// What stood behind each `-o`.
    pub options: Vec<String>,
    /// The host's name when the mount was made, for where no `host=` is given.
    pub host_name: String,
    /// Log to standard error.
    pub foreground: bool,
    /// Log every request.
    pub debug: bool,
}

/// What outlives workers.
#[derive(Debug)]
pub struct Supervisor {
    invocation: Invocation,
    /// `/dev/fuse`, the two journals, the readers' memory, the backing's lock: in the order of [`worker::Inherited`].
    kept: [OwnedFd; 5],
    /// Where all that is counted is: handed over apart from the others, since not every version knows of it.
    counted: OwnedFd,
    /// What workers are to log, where that was said while the mount stood.
    log: Mutex<Option<String>>,
    stats: Arc<Stats>,
    /// While it is open the supervisor lives.
    life: (OwnedFd, OwnedFd),
    /// A worker that is started while another is would inherit what that speaks through.
    starting: Mutex<()>,
    /// How many workers in a row died soon.
    soon: Mutex<u32>,
    /// What workers are started from: it stays what it was when another is installed in its place.
    program: Mutex<Program>,
    /// What they were started from before the last upgrade.
    previous: Mutex<Option<Program>>,
    /// Where this program was installed when the mount was made.
    installed: PathBuf,
}

/// A program that workers are started from.
#[derive(Debug)]
struct Program {
    file: OwnedFd,
    version: String,
}

/// A worker that was started.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    started: Instant,
    /// What it says, and hears when it may begin.
    told: UnixStream,
    /// What it was started from.
    program: Program,
}

/// How a worker ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: io::Result<ExitStatus>,
    /// Why it could not serve, if it said so.
    pub report: String,
    /// It died before it had served for long.
    soon: bool,
}

impl Supervisor {
    /// Keeps what a mount made on `dev_fuse` needs. `lock` is the backing's, which lasts as long as any of us.
    ///
    /// # Errors
    /// When there is no memory or no descriptor.
    pub fn new(invocation: Invocation, dev_fuse: OwnedFd, lock: OwnedFd) -> anyhow::Result<Self> {
        let [a, b] = Journal::make(random_u128())?;
        let slots = rustix::fs::memfd_create("listindexfs-readers", MemfdFlags::CLOEXEC)?;
        let kept = [dev_fuse, a, b, slots, lock];
        let life = pipe_with(PipeFlags::CLOEXEC)?;
        let counted = Stats::make()?;
        let stats = Stats::open(counted.try_clone()?)?;
        stats.set(Cell::MountStart, stats::now());
        for fd in kept.iter().chain([&life.0, &counted]) {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?; // workers inherit them
        }
        Ok(Supervisor {
            invocation,
            kept,
            counted,
            log: Mutex::default(),
            stats: Arc::new(stats),
            life,
            starting: Mutex::default(),
            soon: Mutex::default(),
            program: Mutex::new(Program::open(Path::new(THIS_PROGRAM))?),
            previous: Mutex::default(),
            installed: std::fs::read_link(THIS_PROGRAM)?,
        })
    }

    /// The mount's connection to the kernel.
    pub fn dev_fuse(&self) -> &OwnedFd {
        &self.kept[0]
    }

    /// What is counted.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What workers log from the next one on; `None`: what is usual.
    pub fn set_log(&self, filter: Option<String>) {
        *self.log.lock() = filter;
    }

    /// What they are to log, where that was said.
    pub fn log(&self) -> Option<String> {
        self.log.lock().clone()
    }

    /// Starts a worker, which serves when it is told to. `first`: a test's crash points are for the first one only.
    ///
    /// # Errors
    /// As `fork(2)` and `execve(2)`.
    pub fn start_worker(&self, first: bool) -> io::Result<Worker> {
        let program = self.program.lock().try_clone()?;
        self.start(program, first, &[])
    }

    /// Starts a worker of the program that is installed now, which serves only when it is told to. Waits until it says
    /// that it could.
    ///
    /// # Errors
    /// When it could not; it has ended then.
    pub fn start_successor(&self) -> anyhow::Result<Worker> {
        let name = self.installed.display();
        let program = Program::open(&self.installed).with_context(|| format!("{name}"))?;
        let mut worker = self
            .start(program, false, &["--standby"])
            .with_context(|| format!("{name}"))?;
        let said = worker.said_first();
        let ready = said.as_deref().ok().and_then(worker::version_of_ready);
        if let Some(version) = ready {
            worker.program.version = version.to_owned();
            return Ok(worker);
        }
        worker.pid().into_iter().for_each(kill);
        let said = said.context("it does not say that it could serve");
        let ended = worker.wait();
        match said?.as_str() {
            "" => bail!("{name}: {ended}"),
            said => bail!("{name}: {said}"),
        }
    }

    /// From now on workers are started from what this one was.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn follow(&self, worker: &Worker) -> io::Result<()> {
        let before = std::mem::replace(&mut *self.program.lock(), worker.program.try_clone()?);
        *self.previous.lock() = Some(before);
        Ok(())
    }

    /// From now on workers are started from the program before the last upgrade again.
    pub fn go_back(&self) {
        if let Some(before) = self.previous.lock().take() {
            *self.program.lock() = before;
        }
    }

    fn start(&self, program: Program, first: bool, more: &[&str]) -> io::Result<Worker> {
        let _alone = self.starting.lock();
        let (told, theirs) = UnixStream::pair()?;
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
        let fds = self
            .kept
            .iter()
            .chain([&self.life.0])
            .map(AsRawFd::as_raw_fd);
        let fds = fds.chain([theirs.as_raw_fd()]);
        let fds: Vec<_> = fds.map(|fd| fd.to_string()).collect();
        let of = &self.invocation;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.file.as_raw_fd()));
        command.args(more);
        command.arg0("listindexfs");
        command.arg(&of.backing).arg(&of.mountpoint);
        of.options.iter().for_each(|options| {
            command.arg("-o").arg(options);
        });
        command.arg(format!("--worker={}", fds.join(",")));
        command.arg(format!("--host-name={}", of.host_name));
        match self.log() {
            Some(filter) => command.env(logging::TOLD, filter),
            None => command.env_remove(logging::TOLD),
        };
        command.env(worker::COUNTED, self.counted.as_raw_fd().to_string());
        if of.debug {
            command.arg("-d");
        } else if of.foreground {
            command.arg("-f");
        } else {
            // Who waits for the end of what our caller prints is not to wait for us.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        if !first {
            command.env_remove(worker::CRASH_AT);
            command.env_remove(steps::LOSES);
        }
        // A signal from the terminal is for the supervisor alone.
        command.process_group(0).stdin(Stdio::null());
        Ok(Worker {
            child: command.spawn()?,
            started: Instant::now(),
            told,
            program,
        })
    }

    /// How long to wait before the next worker is started: not at all, unless one after the other dies at once.
    pub fn pause_after(&self, ended: &Ended) -> Duration {
        let mut soon = self.soon.lock();
        if !ended.soon {
            *soon = 0;
            return Duration::ZERO;
        }
        *soon += 1;
        // Whoever kills workers one by one is not to be punished: only many in a row are a pattern.
        match soon.checked_sub(8) {
            None => Duration::ZERO,
            Some(more) => (PAUSES.0 * 2_u32.saturating_pow(more)).min(PAUSES.1),
        }
    }
}

impl Worker {
    /// Its process.
    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// The version of its program.
    pub fn version(&self) -> &str {
        &self.program.version
    }

    /// Lets it serve. `killed`: the worker before was killed by somebody, and no request is to blame.
    ///
    /// # Errors
    /// When it has died.
    pub fn go(&self, killed: bool) -> io::Result<()> {
        let go = if killed { worker::GO_ON } else { worker::GO };
        match (&self.told).write_all(go) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()), // its end tells
            told => told,
        }
    }

    /// What a worker in waiting says first.
    fn said_first(&mut self) -> io::Result<String> {
        let mut said = [0; 4096];
        self.told.set_read_timeout(Some(READY_WITHIN))?;
        let len = self.told.read(&mut said)?;
        self.told.set_read_timeout(None)?;
        Ok(String::from_utf8_lossy(&said[..len]).into_owned())
    }

    /// Waits for its end and leaves it a zombie until [`Self::wait`]: its number is nobody else's before that, so whoever has
    /// not heard of the end kills nobody else.
    pub fn await_end(&mut self) {
        let ends = |pid| {
            waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )
        };
        let ended = self.pid().map(|pid| retry_on_intr(|| ends(pid)));
        if let Some(Err(error)) = ended {
            log::error!("waitid: {error}");
            let _ = self.child.wait(); // what came of it `wait` tells
        }
    }

    /// Waits for its end, and not for that of what it says: should anybody else have that open, nobody would take over.
    pub fn wait(mut self) -> Ended {
        let status = self.child.wait();
        Ended {
            status,
            report: self.said_last(),
            soon: self.started.elapsed() < SOON,
        }
    }

    /// What a worker that has ended said last.
    fn said_last(&mut self) -> String {
        let mut said = Vec::new();
        let read =
            (self.told.set_nonblocking(true)).and_then(|()| self.told.read_to_end(&mut said));
        match read.map_err(|e| (e.kind(), e)) {
            // Or it died before it heard that it may serve.
            Ok(_) | Err((io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset, _)) => {}
            Err((_, e)) => log::warn!("cannot read what the worker said last: {e}"),
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Ended {
    /// Whether somebody killed it, rather than that it died of itself.
    pub fn was_killed(&self) -> bool {
        let status = self.status.as_ref().ok();
        status.and_then(ExitStatus::signal) == Some(Signal::KILL.as_raw())
    }
}

impl Program {
    /// Its version is this one's until it says otherwise.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(Program {
            file: rustix::fs::open(path, flags, Mode::empty())?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Program {
            file: self.file.try_clone()?,
            version: self.version.clone(),
        })
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.status, self.report.as_str()) {
            (Ok(status), "") => write!(f, "{status}"),
            (Ok(_), report) => write!(f, "{report}"),
            (Err(e), _) => write!(f, "cannot be waited for: {e}"),
        }
    }
}

/// Kills a worker that is not to be waited for, and whose end has not been waited for: else its number could be another's.
pub fn kill(worker: Pid) {
    if let Err(e) = kill_process(worker, Signal::KILL) {
        log::debug!("the worker: {e}");
    }
}

#[cfg(test)]
mod tests;
