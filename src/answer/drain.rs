//! `listindexctl drain` as the worker does it: everybody goes as soon as he is idle. With `--stock` what he has goes back to
//! INDEX, on the threads of the NFS that holds it, a few at a time for each NFS.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{PERIOD, Worker, wait_for_the_walk};
use crate::control::drain::{Drain, Drained, Left, NAMED, PROCESSES, Process, Why};
use crate::control::protocol::Answer;
use crate::control::socket::Client;
use crate::store::Node;
use crate::store::usage::{Kept, Stamp};
use crate::template::User;
use crate::user::clean::{Cleaned, Keepers};
use crate::user::giving::Given;
use crate::user::process::{self, program};
use crate::user::told::Reason;

/// So many are given back at a time on one NFS; its other threads are for those who log in.
const AT_ONCE: usize = 4;
/// How long until those who are here are looked at again.
const PAUSE: Duration = Duration::from_millis(200);
const EVERYBODY: Stamp = Stamp(u64::MAX);

/// Lets everybody go, and says step by step who has.
pub fn everybody(worker: &Worker, wanted: Drain, client: &mut Client) -> Answer {
    let how = if wanted.stock { " --stock" } else { "" };
    log::info!("listindexctl drain{how}: everybody goes as soon as he is idle");
    let run = Run {
        worker,
        wanted,
        client,
    };
    match run.run() {
        Ok(drained) => Answer::Drained(drained),
        Err(error) => Answer::Error(error.to_string()),
    }
}

struct Run<'a> {
    worker: &'a Worker,
    wanted: Drain,
    client: &'a mut Client,
}

/// Somebody on his way back to INDEX, and what became of him.
struct Way {
    user: User,
    dir: Node,
    mount: PathBuf,
    given: Option<Given>,
}

/// Tells of him when it is dropped, also by a panic.
struct Arrival {
    way: Option<Way>,
    tell: Sender<Way>,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(way) = self.way.take() {
            // Who has gone does not hear it.
            let _ = self.tell.send(way);
        }
    }
}

/// What is under way.
struct State {
    until: Instant,
    step: Drained,
    told: Instant,
    /// The first of those of whom the backing cannot be used says what is wrong: they are tried again and again.
    warned: bool,
    /// Those who could not be given back: they are not tried again.
    kept: HashSet<Node>,
    under_way: HashMap<PathBuf, usize>,
    /// NFS mounts that have not answered in time, and not since.
    stuck: HashSet<PathBuf>,
    tell: Sender<Way>,
    arrivals: Receiver<Way>,
}

impl Run<'_> {
    /// Drains. Gives what the client has not been told yet.
    ///
    /// # Errors
    /// When the client does not hear it any more, or it is not known who is here.
    pub fn run(mut self) -> io::Result<Drained> {
        let (tell, arrivals) = channel();
        let mut state = State {
            until: Instant::now() + Duration::from_millis(self.wanted.within),
            step: Drained::default(),
            told: Instant::now(),
            warned: false,
            kept: HashSet::new(),
            under_way: HashMap::new(),
            stuck: HashSet::new(),
            tell,
            arrivals,
        };
        let client = &mut *self.client;
        wait_for_the_walk(self.worker.store.usage(), |directories| {
            let counting = Some(directories);
            client.say(&Answer::Draining(Drained {
                counting,
                ..Drained::default()
            }))
        })?;
        state.step.due = Some(self.worker.store.usage().users());
        loop {
            self.pass(&mut state)?;
            self.wait_for_all(&mut state)?;
            let left = self.left(&state);
            if left == 0 || self.wanted.dry_run || Instant::now() >= state.until {
                break;
            }
            self.say(&mut state)?;
            sleep(PAUSE);
        }
        self.name_those_left(&mut state);
        state.step.left = Some(self.left(&state));
        Ok(state.step)
    }

    /// How many are here, of those who may still go.
    fn left(&self, state: &State) -> u64 {
        let gone = match self.wanted.dry_run {
            true => state.step.dropped + state.step.given_back,
            false => 0,
        };
        let here = self.worker.store.usage().users();
        here.saturating_sub(state.kept.len() as u64 + gone)
    }

    /// Tries everybody once, who was here longest ago first.
    fn pass(&mut self, state: &mut State) -> io::Result<()> {
        let usage = self.worker.store.usage();
        for (kept, _) in usage.in_order().zip(0..usage.users()) {
            if state.kept.contains(&kept.dir) {
                continue;
            }
            match self.one(state, kept) {
                Ok(Some(user)) => self.send_off(state, user, kept.dir)?,
                Ok(None) => {}
                Err(e) => {
                    if !std::mem::replace(&mut state.warned, true) {
                        log::warn!("cannot drop the list index of an idle user: {e}");
                    }
                }
            }
            self.tell(state)?;
        }
        Ok(())
    }

    /// Lets somebody go if he is idle; gives him where he is to be given back.
    fn one(&self, state: &mut State, kept: Kept) -> io::Result<Option<User>> {
        let Some(user) = self.worker.gate.user_in(kept.dir)? else {
            return Ok(None); // gone meanwhile, or nobody's
        };
        let (gate, only_look) = (&self.worker.gate, self.wanted.dry_run || self.wanted.stock);
        let cleaned =
            (self.worker.pace).work(|| gate.clean(&user, EVERYBODY, Reason::Drain, only_look))?;
        let Cleaned::Dropped(bytes) = cleaned else {
            return Ok(None);
        };
        if !self.wanted.stock {
            state.step.dropped += 1;
            state.step.bytes += bytes;
        } else if self.wanted.dry_run {
            let given = self.worker.gate.would_give_back(&user)?;
            state.step.given_back += u64::from(given);
            state.step.dropped += u64::from(!given);
            state.step.bytes += bytes;
        } else {
            return Ok(Some(user));
        }
        Ok(None)
    }

    /// Has him given back, once there is room on the NFS that holds his INDEX.
    fn send_off(&mut self, state: &mut State, user: User, dir: Node) -> io::Result<()> {
        let mount = self.worker.gate.nfs_of(&user);
        let until = Instant::now() + self.worker.config.check_timeout;
        while state
            .under_way
            .get(&mount)
            .is_some_and(|ways| *ways >= AT_ONCE)
        {
            if state.stuck.contains(&mount) {
                return Ok(()); // others go on without it
            }
            if Instant::now() >= until {
                state.stuck.insert(mount);
                return Ok(());
            }
            self.wait(state)?;
        }
        if self.worker.gate.is_silent(&mount) {
            return Ok(());
        }
        *state.under_way.entry(mount.clone()).or_default() += 1;
        let way = Way {
            user: user.clone(),
            dir,
            mount,
            given: None,
        };
        let mut arrival = Arrival {
            way: Some(way),
            tell: state.tell.clone(),
        };
        let gate = Arc::clone(&self.worker.gate);
        self.worker.gate.in_pool(&user, move || {
            if let Some(way) = &mut arrival.way {
                way.given = Some(gate.give_back(&way.user));
            }
        });
        Ok(())
    }

    /// Until everybody has arrived but those whose server does not answer.
    fn wait_for_all(&mut self, state: &mut State) -> io::Result<()> {
        let mut until = Instant::now() + self.worker.config.check_timeout;
        loop {
            let waited_for = |(mount, ways): (&PathBuf, &usize)| {
                (*ways > 0 && !state.stuck.contains(mount)).then(|| mount.clone())
            };
            let open: Vec<PathBuf> = state.under_way.iter().filter_map(waited_for).collect();
            if open.is_empty() {
                return Ok(());
            }
            if self.wait(state)? {
                until = Instant::now() + self.worker.config.check_timeout;
            } else if Instant::now() >= until {
                state.stuck.extend(open);
            }
        }
    }

    /// Waits a moment for somebody to arrive. Tells whether somebody has.
    fn wait(&mut self, state: &mut State) -> io::Result<bool> {
        let arrived = state.arrivals.recv_timeout(PERIOD).ok();
        let some = arrived.is_some();
        arrived.into_iter().for_each(|way| state.arrive(way));
        self.tell(state)?;
        Ok(some)
    }

    fn tell(&mut self, state: &mut State) -> io::Result<()> {
        while let Ok(arrived) = state.arrivals.try_recv() {
            state.arrive(arrived);
        }
        match state.told.elapsed() >= PERIOD {
            true => self.say(state),
            false => Ok(()),
        }
    }

    fn say(&mut self, state: &mut State) -> io::Result<()> {
        state.told = Instant::now();
        let left = self.left(state);
        state.step.left = Some(left);
        // A dry run goes on by what it has counted.
        let step = match self.wanted.dry_run {
            true => Drained {
                left: Some(left),
                due: state.step.due,
                ..Drained::default()
            },
            false => std::mem::take(&mut state.step),
        };
        self.client.say(&Answer::Draining(step))
    }

    fn name_those_left(&self, state: &mut State) {
        for next in self.worker.store.usage().in_order() {
            if state.step.users.len() >= NAMED {
                return;
            }
            if state.kept.contains(&next.dir) {
                continue;
            }
            let Ok(Some(user)) = self.worker.gate.user_in(next.dir) else {
                continue;
            };
            let here = self.worker.gate.who_keeps(&user);
            let haunted = || matches!(self.worker.gate.is_haunted(&user), Ok(true));
            let why = match here.is_nobody() {
                false => busy(here),
                true if haunted() => Why::Haunted,
                true if self.wanted.dry_run => continue, // he would go
                true => Why::Running,
            };
            let user = user.to_string();
            state.step.users.push(Left { user, why });
        }
    }
}

impl State {
    fn arrive(&mut self, arrived: Way) {
        let Way {
            user,
            dir,
            mount,
            given,
        } = arrived;
        self.stuck.remove(&mount);
        if let Some(ways) = self.under_way.get_mut(&mount) {
            *ways = ways.saturating_sub(1);
        }
        let step = &mut self.step;
        let why = match given {
            Some(Given::Back(bytes)) => {
                step.given_back += 1;
                step.bytes += bytes;
                return;
            }
            Some(Given::Dropped(bytes)) => {
                step.dropped += 1;
                step.bytes += bytes;
                return;
            }
            Some(Given::Lost(e)) => {
                step.lost += 1;
                let why = e.to_string();
                Why::Lost { why }
            }
            Some(Given::Kept(e)) => {
                step.kept += 1;
                self.kept.insert(dir);
                let why = e.to_string();
                Why::Kept { why }
            }
            Some(Given::Busy | Given::Nothing) | None => return,
        };
        if step.users.len() < NAMED {
            let user = user.to_string();
            step.users.push(Left { user, why });
        }
    }
}

fn busy(here: Keepers) -> Why {
    let more = [&here.open, &here.lingering].map(|all| all.len().saturating_sub(PROCESSES) as u64);
    let some = |all: Vec<process::Process>| -> Vec<Process> {
        all.into_iter().take(PROCESSES).map(named).collect()
    };
    Why::Busy {
        open: some(here.open),
        lingering: some(here.lingering),
        more: more.iter().sum(),
    }
}

/// A process by its number, and its name as long as it lives.
fn named(of: process::Process) -> Process {
    let (pid, name) = (of.pid, program(of).unwrap_or_default());
    Process { pid, name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::LONGEST_ANSWER;
    use crate::control::protocol;

    /// Anybody may open his files as often as he likes, and the tool reads no line without end.
    #[test]
    fn of_somebody_with_many_processes_some_are_named() {
        let process = |pid| process::Process { pid, birth: 0 };
        let here = Keepers {
            open: (0..100_000)
                .map(|pid| process(1_000_000_000 + pid))
                .collect(),
            lingering: vec![process(1_000_000_000)],
        };
        let why = busy(here);
        let Why::Busy { open, more, .. } = &why else {
            panic!("{why:?}");
        };
        assert_eq!((open.len(), *more), (PROCESSES, 100_000 - PROCESSES as u64));
        let user = "\\xff".repeat(255);
        let users = vec![Left { user, why }; NAMED];
        let last = Answer::Drained(Drained {
            users,
            ..Drained::default()
        });
        let line = protocol::response(&last).expect("a line");
        assert!(line.len() as u64 <= LONGEST_ANSWER, "{}", line.len());
    }
}
