//! What is answered on the control socket.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Event, Phase, Watch};
use crate::control::SUPERVISOR;
use crate::control::protocol::{Answer, Command, Process, State, Status};
use crate::control::socket::{Client, Socket};
use crate::logging;
use crate::stats;
use crate::supervise::Worker;

/// An upgrade takes as long as a new worker has to say that it could serve, and the watchdog's time if it then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an answer goes.
pub struct Reply(SyncSender<Answer>);

impl Reply {
    /// Never waits: there is room for the one answer that is sent, and who no longer waits for it does not get it.
    pub fn send(self, answer: Answer) {
        let _ = self.0.try_send(answer);
    }
}

/// Listens on the control socket. Where that is not possible the mount is served all the same.
pub fn listen(backing: &OwnedFd, events: Sender<Event>) -> Option<Socket> {
    let ask = move |command, _: &mut Client| {
        let (reply, answer) = sync_channel(1);
        // It fails where the main thread has ended: then there is no answer either.
        let _ = events.send(Event::Asked(command, Reply(reply)));
        answer.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            Answer::Error(match error {
                RecvTimeoutError::Disconnected => "the mount is ending".to_owned(),
                RecvTimeoutError::Timeout => format!("nothing has come of it within {PATIENCE:?}"),
            })
        })
    };
    let listens = Socket::listen(backing, SUPERVISOR, ask);
    listens
        .inspect_err(|error| {
            log::error!("no control socket, so listindexctl is not answered: {error}")
        })
        .ok()
}

/// What is known of our processes.
pub struct Known {
    supervisor: Process,
    worker: Option<Process>,
    workers_started: u64,
    /// The worker's version, for those who ask in other threads.
    version: Arc<Mutex<Option<String>>>,
}

impl Known {
    /// Of this process alone.
    pub fn begin() -> Self {
        Known {
            supervisor: just_started(std::process::id(), env!("CARGO_PKG_VERSION")),
            worker: None,
            workers_started: 0,
            version: Arc::default(),
        }
    }

    /// The worker's version, while there is one.
    pub fn worker_version(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.version)
    }

    /// A worker has been started.
    pub fn started(&mut self, worker: &Worker) {
        let pid = worker.pid().map(|pid| pid.as_raw_nonzero().get());
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        self.worker = pid.map(|pid| just_started(pid, worker.version()));
        self.workers_started += 1;
        *self.version.lock() = self.worker.as_ref().map(|worker| worker.version.clone());
    }

    /// It is over.
    pub fn ended(&mut self) {
        self.worker = None;
        *self.version.lock() = None;
    }
}

fn just_started(pid: u32, version: &str) -> Process {
    Process {
        pid,
        version: version.to_owned(),
        since: stats::now(),
    }
}

impl Watch<'_> {
    pub(super) fn asked(&mut self, command: Command, reply: Reply) {
        match command {
            Command::Status => reply.send(Answer::Status(Box::new(self.status()))),
            Command::Upgrade => {
                self.told.push(reply);
                self.upgrade();
            }
            Command::Stats => {
                let reading = self.supervisor.stats().read();
                reply.send(Answer::Stats(Box::new(reading)));
            }
            Command::Log { filter } => reply.send(self.set_log(filter)),
            Command::Clean(_)
            | Command::Drain(_)
            | Command::Users
            | Command::User { .. }
            | Command::Biggest { .. } => {
                let why = "the worker does that: it has a socket of its own";
                reply.send(Answer::Error(why.to_owned()));
            }
        }
    }

    /// Of this process now, and of the next workers; the one that serves is told by who asks.
    fn set_log(&self, filter: Option<String>) -> Answer {
        match logging::set(filter.as_deref()) {
            Ok(now) => {
                log::info!(
                    "{}: from now on {now} is logged",
                    self.config.mountpoint.display()
                );
                self.supervisor
                    .set_log(filter.is_some().then(|| now.clone()));
                Answer::Log(now)
            }
            Err(why) => Answer::Error(why),
        }
    }

    pub(super) fn status(&self) -> Status {
        let known = &self.status;
        Status {
            host: self.config.host.clone(),
            mountpoint: self.config.mountpoint.to_string_lossy().into_owned(),
            backing: self.config.backing.to_string_lossy().into_owned(),
            state: match self.phase {
                Phase::Starting(_) => State::Starting,
                Phase::Serving => State::Serving,
                Phase::Stopping(_) | Phase::Ending(_) => State::Stopping,
            },
            supervisor: known.supervisor.clone(),
            worker: known.worker.clone(),
            workers_started: known.workers_started,
            log: self.supervisor.log(),
            upgrading: self.upgrade.is_under_way(),
        }
    }
}
