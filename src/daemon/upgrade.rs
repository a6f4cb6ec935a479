//! A worker of the program that is installed now takes over from the one that serves.
//!
//! One that could not is refused, and the worker before serves on. One that said it could, took over and died before the
//! mount answered is followed by the program before.

use std::sync::Arc;
use std::thread::Builder;

use rustix::process::Pid;

use super::{Event, Phase, Watch, probe};
use crate::control::protocol::Answer;
use crate::exit::Failure;
use crate::stats::Cell;
use crate::supervise::{self, Ended, Worker};

/// How far an upgrade has come.
pub enum Upgrade {
    /// None is under way.
    None,
    /// It is being found out whether the new program could serve.
    Trying,
    /// It could, and waits for the worker's end.
    Waiting(Worker),
    /// It has taken over, and the mount has not answered yet.
    Proving,
}

impl Upgrade {
    /// Whether one is under way.
    pub fn is_under_way(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Who is to serve now that the worker before has ended.
    pub fn take_successor(&mut self) -> Option<Worker> {
        match std::mem::replace(self, Self::None) {
            Self::Waiting(successor) => Some(successor),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Watch<'_> {
    /// Starts a worker of the program that is installed now; the one before serves until it says that it could.
    pub(super) fn upgrade(&mut self) {
        match self.phase {
            Phase::Serving => {}
            Phase::Starting(_) => return, // begun with the first answer
            Phase::Stopping(_) | Phase::Ending(_) => {
                return self.tell(&Err("the mount ends".to_owned()));
            }
        }
        if self.upgrade.is_under_way() {
            return;
        }
        self.upgrade = Upgrade::Trying;
        let (supervisor, events) = (Arc::clone(&self.supervisor), self.events.clone());
        let start = move || {
            let started = supervisor.start_successor();
            let _ = events.send(Event::Successor(started)); // fails only where the main thread has ended
        };
        let spawned = Builder::new().name("upgrade".to_owned()).spawn(start);
        if let Err(error) = spawned {
            let _ = self.events.send(Event::Successor(Err(error.into()))); // as above
        }
    }

    /// What the worker before has not answered when it is killed is answered by its successor.
    pub(super) fn hand_over(&mut self, started: anyhow::Result<Worker>) -> Result<(), Failure> {
        let successor = match started {
            Ok(successor) => successor,
            Err(error) => {
                self.not_upgraded(format!("the worker before serves on: {error:#}"));
                return Ok(());
            }
        };
        log::info!(
            "{}: the program that is installed now takes over",
            self.place()
        );
        match self.worker {
            Some(worker) => {
                self.upgrade = Upgrade::Waiting(successor);
                supervise::kill(worker);
                Ok(())
            }
            None => self.succeed(successor), // it died meanwhile, and the next one was to wait
        }
    }

    pub(super) fn succeed(&mut self, successor: Worker) -> Result<(), Failure> {
        // One that has heard that it may begin is the worker: no other may be started beside it.
        if let Err(error) = self.supervisor.follow(&successor) {
            successor.pid().into_iter().for_each(supervise::kill);
            drop(successor.wait());
            self.not_upgraded(error.to_string());
            return self.start_worker(false);
        }
        self.begin(successor)?;
        self.upgrade = Upgrade::Proving;
        self.prove();
        Ok(())
    }

    /// Has the mount asked, as any program would: an answer is the new worker's, unless that has died.
    fn prove(&self) {
        let (config, events, worker) = (Arc::clone(&self.config), self.events.clone(), self.worker);
        let ask = move || {
            let _ = probe(&config.mountpoint); // whatever it says, it says something
            let _ = events.send(Event::Serves(worker)); // fails only where the main thread has ended
        };
        if let Err(error) = Builder::new().name("prove".to_owned()).spawn(ask) {
            log::debug!("not asked whether it serves: {error}");
            let _ = self.events.send(Event::Serves(worker)); // as above
        }
    }

    pub(super) fn upgraded(&mut self, worker: Option<Pid>) {
        if matches!(self.upgrade, Upgrade::Proving) && self.worker == worker {
            self.upgrade = Upgrade::None;
            self.supervisor.stats().count(Cell::Upgraded);
            self.tell(&Ok(()));
        }
    }

    /// Where the worker that has just ended had taken over and not proved itself, the program before serves again.
    pub(super) fn fall_back(&mut self, ended: &Ended) {
        if let Upgrade::Proving = self.upgrade {
            self.supervisor.go_back();
            self.not_upgraded(format!(
                "the new worker died as it took over ({ended}): the program before serves again"
            ));
        }
    }

    fn not_upgraded(&mut self, why: String) {
        self.upgrade = Upgrade::None;
        self.supervisor.stats().count(Cell::UpgradeRefused);
        log::error!("{}: not upgraded, {why}", self.place());
        self.tell(&Err(format!("not upgraded, {why}")));
    }

    /// Tells who asked for the upgrade.
    fn tell(&mut self, outcome: &Result<(), String>) {
        for reply in std::mem::take(&mut self.told) {
            reply.send(match outcome {
                Ok(()) => Answer::Status(Box::new(self.status())),
                Err(why) => Answer::Error(why.clone()),
            });
        }
    }
}
