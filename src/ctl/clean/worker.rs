//! Has the worker of a mount clean. One that dies is followed by another, which is asked to go on.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::progress::Progress;
use crate::control::WORKER;
use crate::control::client::Lines;
use crate::control::protocol::{Answer, Clean, Command, LONGEST_REQUEST, Step, Who};
use crate::ctl::mounts::{self, Served};
use crate::daemon::lock;
use crate::exit::Failure;

/// How long a worker may be silent that is to say something ten times a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until the next worker listens.
const NEXT_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// So many workers in a row may die before anybody has been looked at.
const LOSSES: u32 = 20;
/// What a request has besides names, bytes.
const BESIDES: usize = 1024;

/// What is asked, and of whom.
#[derive(Debug)]
pub struct Asked<'a> {
    backing: &'a Path,
    point: Option<&'a Path>,
    wanted: Clean,
    sum: Step,
    /// So many have died in a row.
    losses: u32,
}

impl<'a> Asked<'a> {
    /// Of the worker that serves `backing`.
    pub fn new(backing: &'a Path, point: Option<&'a Path>, wanted: Clean) -> Self {
        let sum = Step::default();
        Asked {
            backing,
            point,
            wanted,
            sum,
            losses: 0,
        }
    }

    /// Asks until all is done.
    ///
    /// # Errors
    /// When nobody does it.
    pub fn run(mut self, progress: &mut Progress) -> Result<Step, Failure> {
        while let Some(request) = self.next_request()? {
            let asked = Command::Clean(request);
            let mut lines = self.connect(&asked)?;
            if !self.follow(&mut lines, progress)? {
                self.lost()?;
            } else if self.wanted.users.is_empty() {
                break;
            }
        }
        Ok(self.sum)
    }

    /// Those of whom nothing has been heard yet, as many as a request has room for.
    fn next_request(&self) -> Result<Option<Clean>, Failure> {
        let Clean { age, dry_run, .. } = self.wanted;
        let done: BTreeSet<&Who> = self.sum.users.iter().map(|named| &named.who).collect();
        let mut users = Vec::new();
        let mut room = LONGEST_REQUEST - BESIDES;
        for who in self.wanted.users.iter().filter(|who| !done.contains(who)) {
            let takes = serde_json::to_string(who).map_err(Failure::system)?.len() + 1;
            if takes > room {
                break;
            }
            room -= takes;
            users.push(who.clone());
        }
        match users.is_empty() && !self.wanted.users.is_empty() {
            true => Ok(None),
            false => Ok(Some(Clean {
                age,
                dry_run,
                users,
            })),
        }
    }

    /// Whether the worker did it all.
    fn follow(&mut self, lines: &mut Lines, progress: &mut Progress) -> Result<bool, Failure> {
        loop {
            let (step, last) = match lines.next_answer() {
                Ok(Some(Answer::Step(step))) => (step, false),
                Ok(Some(Answer::Cleaned(step))) => (step, true),
                Ok(Some(Answer::Error(why))) => return Err(self.failure(&why)),
                Ok(Some(Answer::Status(_))) => {
                    return Err(self.failure("an answer to another question"));
                }
                Ok(None) => return Ok(false),
                Err(error) if is_of_one_who_died(&error) => return Ok(false),
                Err(error) => {
                    return Err(self.failure(&format!("the worker cannot be heard: {error}")));
                }
            };
            if step.looked_at > 0 {
                self.losses = 0;
            }
            self.sum += step;
            progress.show(&self.sum);
            if last {
                return Ok(true);
            }
        }
    }

    /// The worker has died, or has too many clients. Who has gone has gone; the others are met again.
    fn lost(&mut self) -> Result<(), Failure> {
        self.losses += 1;
        if self.losses > LOSSES {
            return Err(self.failure(
                "its workers die, or have too many clients: see the log, and run this again",
            ));
        }
        if self.wanted.users.is_empty() {
            let dropped = if self.wanted.dry_run {
                0
            } else {
                self.sum.dropped
            };
            let bytes = if self.wanted.dry_run {
                0
            } else {
                self.sum.bytes
            };
            self.sum = Step {
                looked_at: dropped,
                dropped,
                bytes,
                ..Step::default()
            };
        }
        sleep(PAUSE);
        Ok(())
    }

    fn connect(&self, asked: &Command) -> Result<Lines, Failure> {
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

    fn why_none(&self, error: &io::Error) -> Failure {
        let held = lock::is_held(self.backing);
        if held && error.kind() == io::ErrorKind::NotFound {
            return self.failure(
                "its worker is of an older version, which cannot clean: listindexctl upgrade has the program that is installed now serve; where its log says that there is no socket, there was no room for it",
            );
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

    fn failure(&self, why: &str) -> Failure {
        let place = self.point.unwrap_or(self.backing).display();
        Failure::system(format!("{place}: {why}"))
    }
}

fn is_of_one_who_died(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
    )
}
