//! `listindexctl users` as the worker answers it: page by page, in the order of use, so that nothing is held of all users at once
//! and no lock for longer than one of them takes.

use std::io;
use std::time::Instant;

use super::{PERIOD, Worker, wait_for_the_walk};
use crate::control::protocol::Answer;
use crate::control::socket::Client;
use crate::control::users::{Activity, Here, Page};
use crate::store::usage::Kept;

/// So many users are told of at a time.
const AT_ONCE: usize = 200;
/// Who is used meanwhile goes to the end of the order and is met again: so many may be, besides as many as there are.
const MORE: u64 = 1000;

/// Tells of everybody.
pub fn everybody(worker: &Worker, client: &mut Client) -> Answer {
    let mut listing = Listing {
        worker,
        client,
        page: Page::default(),
        told: Instant::now(),
        failed: 0,
    };
    match listing.run() {
        Ok(()) => Answer::Listed(listing.page),
        Err(error) => Answer::Error(error.to_string()),
    }
}

struct Listing<'a> {
    worker: &'a Worker,
    client: &'a mut Client,
    page: Page,
    told: Instant,
    failed: u64,
}

impl Listing<'_> {
    fn run(&mut self) -> io::Result<()> {
        let usage = self.worker.store.usage();
        wait_for_the_walk(usage, |directories| {
            self.page.counting = Some(directories);
            self.say()
        })?;
        let due = usage.users();
        self.page.due = Some(due);
        self.say()?;
        let mut all = usage.in_order();
        for _ in 0..due.saturating_mul(2).saturating_add(MORE) {
            let next = (self.worker.pace).work(|| Some(self.one(all.next()?)));
            let Some(told) = next else { break };
            match told {
                Ok(here) => self.page.users.extend(here),
                Err(error) => self.failed(&error),
            }
            if self.page.users.len() >= AT_ONCE || self.told.elapsed() >= PERIOD {
                self.say()?;
            }
        }
        Ok(())
    }

    /// `None`: gone meanwhile, or nobody's.
    fn one(&self, kept: Kept) -> io::Result<Option<Here>> {
        let gate = &self.worker.gate;
        let Some(user) = gate.user_in(kept.dir)? else {
            return Ok(None);
        };
        let activity = gate.activity(&user)?;
        Ok(Some(Here {
            name: user.to_string(),
            bytes: kept.bytes.managed,
            last: kept.last.0,
            handles: activity.handles,
            state: state_of(activity),
        }))
    }

    fn failed(&mut self, error: &io::Error) {
        // The first of them says what is wrong.
        if self.failed == 0 {
            log::warn!("listindexctl users: somebody is left out: {error}");
        }
        self.failed += 1;
        self.page.failed += 1;
    }

    fn say(&mut self) -> io::Result<()> {
        self.told = Instant::now();
        self.client
            .say(&Answer::Users(std::mem::take(&mut self.page)))
    }
}

/// One word for what goes on.
pub fn state_of(activity: crate::user::about::Activity) -> Activity {
    match (activity.haunted, activity.busy || activity.handles > 0) {
        (true, _) => Activity::Haunted,
        (false, true) => Activity::InUse,
        (false, false) => Activity::Idle,
    }
}
