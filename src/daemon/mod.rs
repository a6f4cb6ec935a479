//! One mount from its checks to its end.
//!
//! The session is served by a worker, a process of its own; this one supervises. Its main thread waits for what
//! happens: signals, the first answer, the end of a worker, the end of the mount. Everything it waits for has a bound except a mount that
//! serves.

pub mod background;
pub(crate) mod checks;
mod end;
pub(crate) mod kept;
pub(crate) mod lock;
pub(crate) mod mount;
mod mountinfo;
mod publish;
mod status;
mod upgrade;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::background::Caller;
use self::lock::Lock;
use self::mount::Standing;
use crate::control::protocol::Command;
use crate::exit::Failure;
use crate::fuse::{is_unmounted, shake_hands};
use crate::options::Config;
use crate::stats::Cell;
use crate::supervise::{self, Ended, Invocation, Supervisor, Worker, watchdog};
use crate::sys::process::forget_descriptors;

/// A new mount answers within milliseconds; after this it never will.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Checks, mounts and has workers serve until the mount ends.
pub fn serve(
    mut config: Config,
    mut invocation: Invocation,
    caller: &mut Caller,
) -> Result<(), Failure> {
    checks::host()?;
    config.mountpoint = checks::mountpoint(&config.mountpoint, &config.backing)?;
    let backing = checks::backing(&config.backing, config.backing_fs)?;
    checks::apart(&config.mountpoint, &config.backing)?;
    let lock = Lock::take(&backing, &config.backing, &config.mountpoint)?;
    let dev_fuse = checks::dev_fuse()?;
    prepare_process();
    let (events, happened) = mpsc::channel();
    watch_signals(events.clone())
        .map_err(|error| Failure::system(format!("cannot watch signals: {error}")))?;
    let config = Arc::new(config);
    let mount = Standing::new(&config, &dev_fuse)?;
    let cannot_serve = |error: &dyn std::fmt::Display| {
        let place = config.mountpoint.display();
        Failure::mount(format!("cannot serve {place}: {error}"))
    };
    shake_hands(&dev_fuse).map_err(|e| cannot_serve(&e))?;
    invocation.mountpoint.clone_from(&config.mountpoint);
    kept::write(&backing, &invocation);
    let supervisor =
        Supervisor::new(invocation, dev_fuse, lock.keep()).map_err(|e| cannot_serve(&e))?;
    let _control = status::listen(&backing, events.clone());
    let status = status::Known::begin();
    let told = publish::Told {
        mountpoint: config.mountpoint.to_string_lossy().into_owned(),
        stats: Arc::clone(supervisor.stats()),
        worker: status.worker_version(),
    };
    let _publishing = publish::start(&config, told);
    probe_in_thread(Arc::clone(&config), events.clone());
    let mut watch = Watch {
        mount,
        config,
        caller,
        phase: Phase::Starting(Instant::now() + ANSWER_WITHIN),
        supervisor: Arc::new(supervisor),
        events,
        worker: None,
        status,
        upgrade: upgrade::Upgrade::None,
        told: Vec::new(),
        killed: false,
        hangs: false,
    };
    watch.start_worker(true)?;
    watch.until_end(&happened)
}

/// Files get the modes they are given, and there may be as many open, and as large, as there can be; workers inherit that. When
/// memory runs out the kernel is to take a worker, which is replaced.
fn prepare_process() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let nofile = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = raise(Resource::Nofile, nofile) {
        log::warn!("cannot raise the limit of open files: {error}");
    }
    // A worker that writes beyond its caller's limit of a file's size would be killed. Raising the hard one takes CAP_SYS_RESOURCE.
    let fsize = getrlimit(Resource::Fsize).maximum;
    let raised = raise(Resource::Fsize, None).or_else(|_| raise(Resource::Fsize, fsize));
    if let Err(error) = raised {
        log::warn!("cannot raise the limit of a file's size: {error}");
    }
    const NEVER: &str = "-1000";
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", NEVER) {
        log::info!("not spared when memory runs out: /proc/self/oom_score_adj: {error}");
    }
}

fn raise(resource: Resource, limit: Option<u64>) -> rustix::io::Result<()> {
    let raised = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(resource, raised)
}

enum Event {
    /// The mount was looked at through the kernel.
    Answered(Result<(), String>),
    /// A worker is over; it is a zombie still.
    Ended(Worker),
    /// It is time to start the next one.
    Next,
    /// The worker has not answered for as long as it may.
    Hangs,
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP: the program that is installed now is to serve.
    Upgrade,
    /// Its worker could serve, or why it could not.
    Successor(anyhow::Result<Worker>),
    /// The mount answers, and this worker was to serve it after an upgrade.
    Serves(Option<Pid>),
    /// A client of the control socket asks.
    Asked(Command, status::Reply),
}

#[derive(Clone, Copy)]
enum Phase {
    /// Not known to answer yet; until when it must.
    Starting(Instant),
    Serving,
    /// Told to end; until when its users may stay.
    Stopping(Instant),
    /// They have gone; until when the worker may stay.
    Ending(Instant),
}

struct Watch<'a> {
    mount: Standing,
    config: Arc<Config>,
    caller: &'a mut Caller,
    phase: Phase,
    supervisor: Arc<Supervisor>,
    events: Sender<Event>,
    worker: Option<Pid>,
    status: status::Known,
    upgrade: upgrade::Upgrade,
    /// Who is to be told what became of the upgrade.
    told: Vec<status::Reply>,
    /// The last worker that ended was killed by somebody else.
    killed: bool,
    /// The worker is killed because it hangs.
    hangs: bool,
}

impl Watch<'_> {
    fn until_end(mut self, happened: &Receiver<Event>) -> Result<(), Failure> {
        loop {
            let event = match self.phase {
                Phase::Serving => happened.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Phase::Starting(until) | Phase::Stopping(until) | Phase::Ending(until) => {
                    happened.recv_timeout(until.saturating_duration_since(Instant::now()))
                }
            };
            let end = match event {
                Ok(Event::Answered(answer)) => self.answered(answer),
                Ok(Event::Ended(worker)) => self.ended(&worker.wait()),
                Ok(Event::Hangs) => {
                    self.replace_hanging();
                    None
                }
                Ok(Event::Next) if self.worker.is_some() => None,
                Ok(Event::Next) => self.start_worker(false).err().map(Err),
                Ok(Event::Stop) => self.stop(),
                Ok(Event::Upgrade) => {
                    self.upgrade();
                    None
                }
                Ok(Event::Successor(started)) => self.hand_over(started).err().map(Err),
                Ok(Event::Serves(worker)) => {
                    self.upgraded(worker);
                    None
                }
                Ok(Event::Asked(command, reply)) => {
                    self.asked(command, reply);
                    None
                }
                Err(_) if self.gives_time_for_last_fences() => None,
                Err(_) => Some(self.out_of_time()),
            };
            if let Some(outcome) = end {
                return outcome;
            }
        }
    }

    fn place(&self) -> std::path::Display<'_> {
        self.config.mountpoint.display()
    }

    fn answered(&mut self, answer: Result<(), String>) -> Option<Result<(), Failure>> {
        let Phase::Starting(_) = self.phase else {
            return None;
        };
        if let Err(error) = answer {
            let line = format!("the mount on {} does not answer: {error}", self.place());
            return Some(Err(Failure::mount(line)));
        }
        let backing = self.config.backing.display();
        log::info!("mounted {backing} on {}", self.place());
        self.phase = Phase::Serving;
        if let Err(error) = self.watch_worker() {
            return Some(Err(Failure::system(format!(
                "cannot start a thread: {error}"
            ))));
        }
        match self.caller.ready() {
            Ok(()) => {
                if !self.told.is_empty() {
                    self.upgrade(); // asked for before we knew that the mount answers
                }
                None
            }
            Err(error) => {
                let line = format!("unmounted {}: its caller is gone: {error}", self.place());
                Some(Err(Failure::mount(line)))
            }
        }
    }

    fn watch_worker(&self) -> std::io::Result<()> {
        let (mount, events) = (self.mount.mount(), self.events.clone());
        let hangs = move || {
            let _ = events.send(Event::Hangs); // fails only where the main thread has ended
        };
        let (place, limit) = (self.config.mountpoint.clone(), self.config.watchdog);
        watchdog::start(place, limit, move || mount.stands(), hangs)
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        Failure::system(format!(
            "cannot start a worker for {}: {error}",
            self.place()
        ))
    }

    /// Starts a worker.
    fn start_worker(&mut self, first: bool) -> Result<(), Failure> {
        let worker = self.supervisor.start_worker(first);
        let worker = worker.map_err(|error| self.cannot_start(&error))?;
        self.begin(worker)
    }

    /// Lets a worker serve, and waits for its end in a thread.
    fn begin(&mut self, worker: Worker) -> Result<(), Failure> {
        let begun = worker.go(self.killed).and_then(|()| self.await_end(worker));
        begun.map_err(|error| self.cannot_start(&error))
    }

    fn await_end(&mut self, mut worker: Worker) -> std::io::Result<()> {
        self.worker = worker.pid();
        self.status.started(&worker);
        self.supervisor.stats().count(Cell::WorkerStarts);
        self.supervisor.stats().set(Cell::WorkerUp, 1);
        let events = self.events.clone();
        let wait = move || {
            worker.await_end();
            let _ = events.send(Event::Ended(worker)); // fails only where the main thread has ended
        };
        let thread = thread::Builder::new().name("worker".to_owned()).spawn(wait);
        thread.map(drop)
    }

    /// A worker ends after its mount, or there will be another.
    fn ended(&mut self, ended: &Ended) -> Option<Result<(), Failure>> {
        self.worker = None;
        let hung = std::mem::take(&mut self.hangs);
        self.killed = ended.was_killed() && !hung;
        self.supervisor.stats().set(Cell::WorkerUp, 0);
        self.status.ended();
        if is_unmounted(self.supervisor.dev_fuse()) {
            return Some(self.unmounted());
        }
        if let Some(successor) = self.upgrade.take_successor() {
            return self.succeed(successor).err().map(Err);
        }
        self.supervisor.stats().count(match (hung, self.killed) {
            (true, _) => Cell::WorkerHung,
            (_, true) => Cell::WorkerKilled,
            _ => Cell::WorkerCrashed,
        });
        self.fall_back(ended);
        let place = self.place();
        if let (Phase::Starting(_), false) = (self.phase, ended.report.is_empty()) {
            return Some(Err(Failure::mount(format!(
                "cannot serve {place}: {ended}"
            ))));
        }
        log::error!("{place}: the worker has died ({ended}): the next one takes over");
        let pause = self.supervisor.pause_after(ended);
        if pause.is_zero() {
            return self.start_worker(false).err().map(Err);
        }
        log::error!(
            "{}: workers die again and again: the next one in {pause:?}",
            self.place()
        );
        let events = self.events.clone();
        let later = move || {
            thread::sleep(pause);
            let _ = events.send(Event::Next); // fails only where the main thread has ended
        };
        match thread::Builder::new().name("pause".to_owned()).spawn(later) {
            Ok(_) => None,
            Err(_) => self.start_worker(false).err().map(Err),
        }
    }

    fn replace_hanging(&mut self) {
        let (place, limit) = (self.place(), self.config.watchdog);
        log::error!("{place}: the worker has not answered for {limit:?}: it is killed");
        self.hangs = self.worker.is_some();
        self.worker.into_iter().for_each(supervise::kill);
    }
}

fn watch_signals(events: Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGHUP => Event::Upgrade,
                    _ => Event::Stop,
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        })
        .map(|_| ())
}

/// Looks at the mount as any program would.
fn probe_in_thread(config: Arc<Config>, events: Sender<Event>) {
    let answered = events.clone();
    let probe = move || {
        let _ = answered.send(Event::Answered(probe(&config.mountpoint)));
    };
    if let Err(error) = thread::Builder::new().name("probe".to_owned()).spawn(probe) {
        let _ = events.send(Event::Answered(Err(error.to_string())));
    }
}

/// Where everything dies before the mount answers, it must not be this thread that keeps it from being dead.
fn probe(path: &Path) -> Result<(), String> {
    forget_descriptors().map_err(|error| format!("close_range: {error}"))?;
    rustix::fs::stat(path).map_err(|error| format!("stat: {error}"))?;
    let found = rustix::fs::statfs(path).map_err(|error| format!("statfs: {error}"))?;
    match u64::try_from(found.f_type) {
        Ok(FUSE_MAGIC) => Ok(()),
        _ => Err("something else is mounted there".to_owned()),
    }
}
