//! Has the worker of a mount clean. One that dies is followed by another, which is asked to go on.

use std::collections::BTreeSet;
use std::path::Path;

use crate::control::client::Lines;
use crate::control::protocol::{Answer, Clean, Command, LONGEST_REQUEST, Step, Who};
use crate::ctl::progress::Progress;
use crate::ctl::worker::Worker;
use crate::exit::Failure;

/// What a request has besides names, bytes.
const BESIDES: usize = 1024;

/// What is asked, and of whom.
#[derive(Debug)]
pub struct Asked<'a> {
    worker: Worker<'a>,
    wanted: Clean,
    sum: Step,
}

impl<'a> Asked<'a> {
    /// Of the worker that serves `backing`.
    pub fn new(backing: &'a Path, point: Option<&'a Path>, wanted: Clean) -> Self {
        Asked {
            worker: Worker::of(backing, point),
            wanted,
            sum: Step::default(),
        }
    }

    /// Asks until all is done.
    ///
    /// # Errors
    /// When nobody does it.
    pub fn run(mut self, progress: &mut Progress) -> Result<Step, Failure> {
        while let Some(request) = self.next_request()? {
            let mut lines = self.worker.ask(&Command::Clean(request))?;
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
            let (step, last) = match self.worker.hear(lines)? {
                Some(Answer::Step(step)) => (step, false),
                Some(Answer::Cleaned(step)) => (step, true),
                Some(_) => return Err(self.worker.confused()),
                None => return Ok(false),
            };
            if step.looked_at > 0 {
                self.worker.gets_on();
            }
            self.sum += step;
            progress.show(&self.sum);
            if last {
                return Ok(true);
            }
        }
    }

    /// Who has gone has gone; the others are met again.
    fn lost(&mut self) -> Result<(), Failure> {
        if self.wanted.users.is_empty() {
            let (dropped, bytes) = match self.wanted.dry_run {
                true => (0, 0),
                false => (self.sum.dropped, self.sum.bytes),
            };
            self.sum = Step {
                looked_at: dropped,
                dropped,
                bytes,
                ..Step::default()
            };
        }
        self.worker.lost()
    }
}
