//! `listindexctl clean` as the worker does it: the same eviction as for bounds and age, asked for by an operator.
//!
//! All that is said goes to the client as it happens; when nobody hears it any more, that was all.

use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::pace::Shared;
use super::{about, biggest, drain, list};
use crate::control::WORKER;
use crate::control::protocol::{Answer, Clean, Command, Named, Outcome, Step, Who};
use crate::control::socket::{Client, Socket};
use crate::logging;
use crate::options::Config;
use crate::store::usage::{Stamp, Usage};
use crate::store::{Node, PRIVATE_DIR, Store};
use crate::template::{Layout, User};
use crate::user::clean::Cleaned;
use crate::user::gate::Gate;
use crate::user::told::Reason;

/// How often the client hears of it.
pub(super) const PERIOD: Duration = Duration::from_millis(100);
/// A check or a fence of somebody who was named may take so long before he counts as busy.
const RUN_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// So many users are counted at a time.
const AT_ONCE: usize = 1000;

/// What is cleaned, by all clients together.
pub(super) struct Cleaner {
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<Store>,
    pub(super) gate: Arc<Gate>,
    pub(super) pace: Shared,
}

/// Listens on the worker's socket. Where that is not possible the mount is served all the same.
pub fn listen(config: &Arc<Config>, store: &Arc<Store>, gate: &Arc<Gate>) -> Option<Socket> {
    let cleaner = Cleaner {
        config: Arc::clone(config),
        store: Arc::clone(store),
        gate: Arc::clone(gate),
        pace: Shared::default(),
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let private = rustix::fs::openat(store.root(), PRIVATE_DIR, flags, Mode::empty());
    let answer = move |command, client: &mut Client| cleaner.answer(command, client);
    let listens = private
        .map_err(Into::into)
        .and_then(|private| Socket::listen(private, WORKER, answer));
    listens
        .inspect_err(|error| {
            log::error!("no socket of the worker's, so that nobody can clean: {error}")
        })
        .ok()
}

impl Cleaner {
    fn answer(&self, command: Command, client: &mut Client) -> Answer {
        let wanted = match command {
            Command::Clean(wanted) => wanted,
            Command::Biggest { most } => return biggest::of(self, most),
            Command::Users => return list::everybody(self, client),
            Command::User(asked) => return about::of(self, &asked.who),
            Command::Log { filter } => {
                let set = logging::set(filter.as_deref());
                return set.map_or_else(Answer::Error, Answer::Log);
            }
            Command::Stats => return Answer::Stats(Box::new(self.gate.stats().read())),
            Command::Drain(wanted) => return drain::everybody(self, wanted, client),
            Command::Status | Command::Upgrade => {
                return Answer::Error(
                    "the supervisor does that: it has a socket of its own".to_owned(),
                );
            }
        };
        let mut run = Run {
            cleaner: self,
            before: before(&wanted),
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
}

/// Who was last here at this moment or before is old enough; everybody is where no age is demanded, whatever the clock says.
pub fn before(wanted: &Clean) -> Stamp {
    match wanted.age {
        0 => Stamp(u64::MAX),
        age => Stamp::now().before(Duration::from_millis(age)),
    }
}

/// Whom somebody means; `None` when the layout has no place for him.
pub fn named(layout: &Layout, who: &Who) -> Option<User> {
    match who {
        Who::Name(name) => layout.user_named(name.as_bytes()).ok(),
        Who::Path(path) => in_dir(layout, path.as_bytes()),
    }
}

/// Whose directory it is, relative to the root.
pub fn in_dir(layout: &Layout, path: &[u8]) -> Option<User> {
    let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    layout.user_of(&components)
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

/// Has it said how many directories are known by now, until all are.
pub(super) fn wait_for_the_walk(
    usage: &Usage,
    mut say: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        match usage.is_walked() {
            Some(true) => return Ok(()),
            Some(false) => {
                return Err(io::Error::other(
                    "what lies in the backing could not be counted: the log says why",
                ));
            }
            None => {}
        }
        say(usage.directories())?;
        sleep(PERIOD);
    }
}

struct Run<'a> {
    cleaner: &'a Cleaner,
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
        let user = named(&self.cleaner.config.layout, who);
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
        let usage = self.cleaner.store.usage();
        let start = (Stamp::default(), Node(0));
        let (mut due, mut mark) = (0, Some(start));
        while let Some(from) = mark {
            let (more, next) = (self.cleaner.pace).work(|| usage.older(self.before, from, AT_ONCE));
            (due, mark) = (due + more, next);
        }
        self.step.due = Some(due);
        self.say()?;
        let mut mark = start;
        // Who comes back while this goes on has a later place in the order, and is too young then. Without an age he may
        // be met again: by then so many have been looked at as there were.
        for _ in 0..due {
            let next = usage.after(mark).filter(|kept| kept.last <= self.before);
            let Some(kept) = next else { break };
            mark = kept.mark();
            self.one_in(kept.dir);
            self.tell()?;
        }
        Ok(())
    }

    fn one_in(&mut self, dir: Node) {
        let outcome = match self.cleaner.gate.user_in(dir) {
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
        let gate = &self.cleaner.gate;
        let clean = || gate.clean(user, self.before, Reason::Clean, self.dry_run);
        self.cleaner.pace.work(clean)
    }

    /// Until every directory has been counted, the order is not known.
    fn wait_for_the_walk(&mut self) -> io::Result<()> {
        wait_for_the_walk(self.cleaner.store.usage(), |directories| {
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
