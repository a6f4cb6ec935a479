//! `listindexctl clean`: the same eviction as for bounds and age, asked for by an operator.
//!
//! All that is said goes to the client as it happens; when nobody hears it any more, that was all.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{PERIOD, Worker, named, wait_for_the_walk};
use crate::control::protocol::{Answer, Clean, Named, Outcome, Step, Who};
use crate::control::socket::Client;
use crate::store::Node;
use crate::store::usage::{FIRST, Stamp};
use crate::template::User;
use crate::user::clean::Cleaned;
use crate::user::told::Reason;

/// A check or a fence of somebody who was named may take so long before he counts as busy.
const RUN_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// So many users are counted at a time.
const AT_ONCE: usize = 1000;

/// Cleans, and says step by step what became of whom.
pub fn of(worker: &Worker, wanted: &Clean, client: &mut Client) -> Answer {
    let mut run = Run {
        worker,
        before: before(wanted),
        dry_run: wanted.dry_run,
        step: Step::default(),
        told: Instant::now(),
        sum: Step::default(),
        client,
    };
    let done = match wanted.users.as_slice() {
        [] => run.everybody(),
        named => named.iter().try_for_each(|who| run.named(who)),
    };
    if wanted.users.is_empty() && run.sum.dropped > 0 && !run.dry_run {
        let users = run.sum.dropped;
        log::info!("listindexctl clean: the list indexes of {users} users went");
    }
    match done {
        Ok(()) => Answer::Cleaned(run.step),
        Err(error) => Answer::Error(error.to_string()),
    }
}

/// Who was last here at this moment or before is old enough; everybody is where no age is demanded, whatever the clock says.
pub fn before(wanted: &Clean) -> Stamp {
    match wanted.age {
        0 => Stamp(u64::MAX),
        age => Stamp::now().before(Duration::from_millis(age)),
    }
}

/// What became of somebody who was named; who he is where that was not said.
pub fn became(who: &Who, user: Option<&User>, outcome: Outcome) -> Named {
    let name = user.filter(|_| matches!(who, Who::Path(_)));
    Named {
        who: who.clone(),
        name: name.map(User::to_string),
        outcome,
    }
}

/// Seconds since then.
pub fn age_of(last: Stamp) -> u64 {
    Stamp::now().0.saturating_sub(last.0) / 1000
}

struct Run<'a> {
    worker: &'a Worker,
    before: Stamp,
    dry_run: bool,
    /// What the client has not been told yet.
    step: Step,
    told: Instant,
    /// All that has been done, without names.
    sum: Step,
    client: &'a mut Client,
}

impl Run<'_> {
    fn named(&mut self, who: &Who) -> io::Result<()> {
        let user = named(&self.worker.config.layout, who);
        let outcome = match &user {
            Some(user) => self.patiently(user)?,
            None => Outcome::Unknown,
        };
        self.count(&outcome);
        let named = became(who, user.as_ref(), outcome);
        self.step.users.push(named);
        self.tell()
    }

    /// What is under way when somebody has just gone ends soon.
    fn patiently(&mut self, user: &User) -> io::Result<Outcome> {
        let until = Instant::now() + RUN_WITHIN;
        loop {
            match self.clean(user) {
                Ok(Cleaned::Running) if Instant::now() < until => sleep(PAUSE),
                cleaned => return Ok(outcome_of(cleaned)),
            }
            self.tell()?;
        }
    }

    /// In the order of use: nobody is looked at who was here not so long ago.
    fn everybody(&mut self) -> io::Result<()> {
        self.wait_for_the_walk()?;
        let usage = self.worker.store.usage();
        let (mut due, mut mark) = (0, Some(FIRST));
        while let Some(from) = mark {
            let (more, next) = (self.worker.pace).work(|| usage.older(self.before, from, AT_ONCE));
            (due, mark) = (due + more, next);
        }
        self.step.due = Some(due);
        self.say()?;
        // Who comes back while this goes on has a later place in the order, and is too young then. Without an age he may
        // be met again: by then so many have been looked at as there were.
        let before = self.before;
        let old = usage.in_order().take_while(|kept| kept.last <= before);
        for kept in old.zip(0..due).map(|(kept, _)| kept) {
            self.one_in(kept.dir);
            self.tell()?;
        }
        Ok(())
    }

    fn one_in(&mut self, dir: Node) {
        let outcome = match self.worker.gate.user_in(dir) {
            Ok(Some(user)) => outcome_of(self.clean(&user)),
            Ok(None) => return, // gone meanwhile, or nobody's
            Err(error) => outcome_of(Err(error)),
        };
        self.count(&outcome);
    }

    fn count(&mut self, outcome: &Outcome) {
        // The first of them says what is wrong.
        if let (Outcome::Failed { why }, 0) = (outcome, self.sum.failed) {
            log::warn!("cannot drop the list index of an idle user: {why}");
        }
        self.step.count(outcome);
        self.sum.count(outcome);
    }

    fn clean(&self, user: &User) -> io::Result<Cleaned> {
        let gate = &self.worker.gate;
        let clean = || gate.clean(user, self.before, Reason::Clean, self.dry_run);
        self.worker.pace.work(clean)
    }

    /// Until every directory has been counted, the order is not known.
    fn wait_for_the_walk(&mut self) -> io::Result<()> {
        wait_for_the_walk(self.worker.store.usage(), |directories| {
            self.step.counting = Some(directories);
            self.say()
        })
    }

    fn tell(&mut self) -> io::Result<()> {
        match self.told.elapsed() >= PERIOD {
            true => self.say(),
            false => Ok(()),
        }
    }

    fn say(&mut self) -> io::Result<()> {
        self.told = Instant::now();
        self.client
            .say(&Answer::Step(std::mem::take(&mut self.step)))
    }
}

fn outcome_of(cleaned: io::Result<Cleaned>) -> Outcome {
    match cleaned {
        Ok(Cleaned::Dropped(bytes)) => Outcome::Dropped { bytes },
        Ok(Cleaned::Busy | Cleaned::Running) => Outcome::Busy,
        Ok(Cleaned::Recent(last)) => Outcome::Recent { age: age_of(last) },
        Ok(Cleaned::Nothing) => Outcome::Nothing,
        Ok(Cleaned::Absent) => Outcome::Unknown,
        Err(error) => Outcome::Failed {
            why: error.to_string(),
        },
    }
}
