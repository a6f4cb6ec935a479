//! Talks to the worker of a mount. One that dies is followed by another, which is asked then.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::mounts::{self, Served};
use crate::control::WORKER;
use crate::control::client::Lines;
use crate::control::protocol::{Answer, Command};
use crate::daemon::lock;
use crate::exit::Failure;

/// How long a worker may be silent that is to say something every second.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until the next worker listens.
const NEXT_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// So many workers in a row may die before anything has come of it.
const LOSSES: u32 = 20;

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'a> {
    backing: &'a Path,
    point: Option<&'a Path>,
    /// So many have died in a row.
    losses: u32,
}

impl<'a> Worker<'a> {
    /// That which serves `backing`.
    pub fn of(backing: &'a Path, point: Option<&'a Path>) -> Self {
        Worker {
            backing,
            point,
            losses: 0,
        }
    }

    /// Asks, and waits for the next worker where one has died.
    ///
    /// # Errors
    /// When nobody serves it, or who does cannot be asked.
    pub fn ask(&self, asked: &Command) -> Result<Lines, Failure> {
        let until = Instant::now() + NEXT_WITHIN;
        loop {
            let error = match Lines::ask(self.backing, WORKER, asked, PATIENCE) {
                Ok(lines) => return Ok(lines),
                Err(error) => error,
            };
            // One that died leaves its socket; where there is none, there was never one.
            let follows = is_of_one_who_died(&error) && lock::is_held(self.backing);
            if !follows || Instant::now() > until {
                return Err(self.why_none(&error));
            }
            sleep(PAUSE);
        }
    }

    /// Asks for what is told in one line.
    ///
    /// # Errors
    /// As [`Worker::ask`] and [`Worker::hear`], or when too many have died in a row.
    pub fn answer(mut self, asked: &Command) -> Result<Answer, Failure> {
        loop {
            let mut lines = self.ask(asked)?;
            if let Some(answer) = self.hear(&mut lines)? {
                return Ok(answer);
            }
            self.lost()?;
        }
    }

    /// The next line of the answer; `None`: it has died.
    ///
    /// # Errors
    /// When it is not done, and why; when nothing is heard.
    pub fn hear(&self, lines: &mut Lines) -> Result<Option<Answer>, Failure> {
        match lines.next_answer() {
            Ok(Some(Answer::Error(why))) if why.contains("unknown variant") => {
                Err(self.failure(OLDER))
            }
            Ok(Some(Answer::Error(why))) => Err(self.failure(&why)),
            Ok(answer) => Ok(answer),
            Err(error) if is_of_one_who_died(&error) => Ok(None),
            Err(error) => Err(self.failure(&format!("the worker cannot be heard: {error}"))),
        }
    }

    /// Something has come of it.
    pub fn gets_on(&mut self) {
        self.losses = 0;
    }

    /// It has died, or has too many clients: a pause, and the next one may be asked.
    ///
    /// # Errors
    /// When too many have died in a row.
    pub fn lost(&mut self) -> Result<(), Failure> {
        self.losses += 1;
        if self.losses > LOSSES {
            return Err(self.failure(
                "its workers die, or have too many clients: see the log, and run this again",
            ));
        }
        sleep(PAUSE);
        Ok(())
    }

    fn why_none(&self, error: &io::Error) -> Failure {
        let held = lock::is_held(self.backing);
        if held && error.kind() == io::ErrorKind::NotFound {
            return self.failure(&format!(
                "{OLDER}; where its log says that there is no socket, there was no room for it"
            ));
        }
        match self.point {
            Some(point) if !held => {
                let (point, backing) = (point.to_owned(), self.backing.to_owned());
                Failure::system(mounts::why_silent(&Served { point, backing }, error))
            }
            _ if !held => self.failure("nobody serves it any more: run this again"),
            _ => self.failure(&format!("no worker answers: {error}: see the log")),
        }
    }

    /// What is wrong with this mount.
    pub fn failure(&self, why: &str) -> Failure {
        let place = self.point.unwrap_or(self.backing).display();
        Failure::system(format!("{place}: {why}"))
    }

    /// It has said what was not asked.
    pub fn confused(&self) -> Failure {
        self.failure("an answer to another question")
    }
}

const OLDER: &str = "its worker is of an older version, which cannot do this: listindexctl upgrade has the program that is installed now serve";

fn is_of_one_who_died(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
    )
}
