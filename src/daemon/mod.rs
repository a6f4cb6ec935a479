//! One mount from its checks to its end.
//!
//! The session is served by threads of its own; the main thread waits for what happens to it:
//! signals, the first answer, the end. Everything it waits for has a bound except a mount that
//! serves.

pub mod background;
mod checks;
mod lock;
pub mod logging;
mod mount;
mod mountinfo;

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::background::Caller;
use self::lock::Lock;
use self::mount::Mount;
use crate::exit::Failure;
use crate::fuse::Server;
use crate::options::Config;

/// A new mount answers within milliseconds; after this it never will.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How long those who use a mount that was told to end may keep it.
const END_WITHIN: Duration = Duration::from_secs(10);
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Checks, mounts and serves until the mount ends.
pub fn serve(mut config: Config, caller: &mut Caller) -> Result<(), Failure> {
    checks::host()?;
    config.mountpoint = checks::mountpoint(&config.mountpoint)?;
    let backing = checks::backing(&config.backing, config.backing_fs)?;
    checks::apart(&config.mountpoint, &config.backing)?;
    let _lock = Lock::take(&backing, &config.backing, &config.mountpoint)?;
    let dev_fuse = checks::dev_fuse()?;
    prepare_process();
    let (events, happened) = mpsc::channel();
    watch_signals(events.clone())
        .map_err(|error| Failure::system(format!("cannot watch signals: {error}")))?;
    let config = Arc::new(config);
    let mount = Arc::new(Mount::new(&config, &dev_fuse)?);
    serve_in_thread(Arc::clone(&config), dev_fuse, events.clone());
    probe_in_thread(Arc::clone(&config), events);
    let watch = Watch {
        mount,
        config,
        caller,
        phase: Phase::Starting(Instant::now() + ANSWER_WITHIN),
    };
    watch.until_end(&happened)
}

/// Files get the modes they are given, and there may be as many open as there can be.
fn prepare_process() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        log::warn!("cannot raise the limit of open files: {error}");
    }
}

enum Event {
    /// The mount was looked at through the kernel.
    Answered(Result<(), String>),
    /// The session is over.
    Ended(anyhow::Result<()>),
    /// SIGTERM or SIGINT.
    Stop,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Not known to answer yet; until when it must.
    Starting(Instant),
    Serving,
    /// Told to end; until when its users may stay.
    Stopping(Instant),
}

struct Watch<'a> {
    mount: Arc<Mount>,
    config: Arc<Config>,
    caller: &'a mut Caller,
    phase: Phase,
}

impl Watch<'_> {
    fn until_end(mut self, happened: &Receiver<Event>) -> Result<(), Failure> {
        loop {
            let event = match self.phase {
                Phase::Serving => happened.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Phase::Starting(until) | Phase::Stopping(until) => {
                    happened.recv_timeout(until.saturating_duration_since(Instant::now()))
                }
            };
            let end = match event {
                Ok(Event::Answered(answer)) => self.answered(answer),
                Ok(Event::Ended(outcome)) => Some(self.ended(outcome)),
                Ok(Event::Stop) => self.stop(),
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
        match self.caller.ready() {
            Ok(()) => None,
            Err(error) => {
                let line = format!("unmounted {}: its caller is gone: {error}", self.place());
                Some(Err(Failure::mount(line)))
            }
        }
    }

    /// The session ends after the mount: a mount that still stands was broken off.
    fn ended(&mut self, outcome: anyhow::Result<()>) -> Result<(), Failure> {
        let place = self.place();
        match (self.phase, outcome) {
            (Phase::Starting(_), Err(error)) => {
                Err(Failure::mount(format!("cannot serve {place}: {error:#}")))
            }
            (Phase::Starting(_), Ok(())) => Err(Failure::mount(format!(
                "{place} was unmounted before it answered"
            ))),
            (_, Err(error)) => Err(Failure::system(format!(
                "serving {place} ended: {error:#}: mount it again"
            ))),
            (Phase::Serving, Ok(())) if self.mount.stands() => Err(Failure::system(format!(
                "the kernel broke off the mount on {place} (umount -f?): mount it again"
            ))),
            (_, Ok(())) => {
                log::info!("unmounted {place}");
                Ok(())
            }
        }
    }

    /// The first signal unmounts, in a thread of its own, for a filesystem in use may take its
    /// time; a second one waits for nobody.
    fn stop(&mut self) -> Option<Result<(), Failure>> {
        match self.phase {
            Phase::Starting(_) => {
                let line = format!("stopped before the mount on {} answered", self.place());
                return Some(Err(Failure::mount(line)));
            }
            Phase::Stopping(_) => return Some(self.out_of_time()),
            Phase::Serving => {}
        }
        self.phase = Phase::Stopping(Instant::now() + END_WITHIN);
        let mount = Arc::clone(&self.mount);
        let spawned = thread::Builder::new().spawn(move || mount.take_away());
        match spawned {
            Ok(_) => None,
            Err(_) => Some(self.out_of_time()),
        }
    }

    /// Ends without waiting any longer: `Mount`'s Drop takes away what still stands.
    fn out_of_time(&mut self) -> Result<(), Failure> {
        let place = self.place();
        match self.phase {
            Phase::Starting(_) => Err(Failure::mount(format!(
                "the mount on {place} does not answer within {} s",
                ANSWER_WITHIN.as_secs()
            ))),
            Phase::Stopping(_) | Phase::Serving => {
                log::warn!("{place} still has files open: ending without their users");
                self.mount.tear_away();
                Ok(())
            }
        }
    }
}

fn watch_signals(events: Sender<Event>) -> std::io::Result<()> {
    // SIGHUP is watched only so that it does not end us.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if signal != SIGHUP && events.send(Event::Stop).is_err() {
                    return;
                }
            }
        })
        .map(|_| ())
}

/// The handshake and the session. Without a thread there is no session: that is its end.
fn serve_in_thread(config: Arc<Config>, dev_fuse: OwnedFd, events: Sender<Event>) {
    let ended = events.clone();
    let session = move || {
        let run = || {
            let server =
                Server::start(config, dev_fuse).context("the handshake with the kernel failed")?;
            server.run().context("the session broke off")
        };
        let outcome = catch_unwind(AssertUnwindSafe(run));
        // Fails only where the main thread has ended, and with it the process.
        let _ = ended.send(Event::Ended(
            outcome.unwrap_or_else(|_| Err(anyhow!("panic"))),
        ));
    };
    if let Err(error) = thread::Builder::new()
        .name("session".to_owned())
        .spawn(session)
    {
        let _ = events.send(Event::Ended(Err(error.into())));
    }
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

fn probe(path: &Path) -> Result<(), String> {
    rustix::fs::stat(path).map_err(|error| format!("stat: {error}"))?;
    let found = rustix::fs::statfs(path).map_err(|error| format!("statfs: {error}"))?;
    match u64::try_from(found.f_type) {
        Ok(FUSE_MAGIC) => Ok(()),
        _ => Err("something else is mounted there".to_owned()),
    }
}
