//! What the worker answers on its socket, where operators ask of users: it alone has their gates.
//!
//! Each kind of question has a room of its own; all of them together take half of one core.

mod about;
mod biggest;
mod clean;
mod drain;
mod list;
pub mod unmounted;

use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use crate::control::WORKER;
use crate::control::protocol::{Answer, Command, Who};
use crate::control::socket::{Client, Socket};
use crate::keep::pace::Shared;
use crate::logging;
use crate::options::Config;
use crate::store::Store;
use crate::store::usage::Usage;
use crate::template::{Layout, User};
use crate::user::gate::Gate;

/// How often the client hears of what goes on.
const PERIOD: Duration = Duration::from_millis(100);

/// The worker, as those see it who ask.
struct Worker {
    config: Arc<Config>,
    store: Arc<Store>,
    gate: Arc<Gate>,
    /// Of all clients together.
    pace: Shared,
}

/// Listens on the worker's socket. Where that is not possible the mount is served all the same.
pub fn listen(config: &Arc<Config>, store: &Arc<Store>, gate: &Arc<Gate>) -> Option<Socket> {
    let worker = Worker {
        config: Arc::clone(config),
        store: Arc::clone(store),
        gate: Arc::clone(gate),
        pace: Shared::default(),
    };
    let answer = move |command, client: &mut Client| worker.answer(command, client);
    let listens = Socket::listen(store.root(), WORKER, answer);
    listens
        .inspect_err(|error| {
            log::error!("no socket of the worker's, so listindexctl can tell nothing of users, nor drop them: {error}")
        })
        .ok()
}

impl Worker {
    fn answer(&self, command: Command, client: &mut Client) -> Answer {
        match command {
            Command::Clean(wanted) => clean::of(self, &wanted, client),
            Command::Biggest { most } => biggest::of(self, most),
            Command::Users => list::everybody(self, client),
            Command::User { who } => about::of(self, &who),
            Command::Drain(wanted) => drain::everybody(self, wanted, client),
            Command::Stats => Answer::Stats(Box::new(self.gate.stats().read())),
            Command::Log { filter } => {
                let set = logging::set(filter.as_deref());
                set.map_or_else(Answer::Error, Answer::Log)
            }
            Command::Status | Command::Upgrade => {
                Answer::Error("the supervisor does that: it has a socket of its own".to_owned())
            }
        }
    }
}

/// Whom somebody means; `None` when the layout has no place for him.
fn named(layout: &Layout, who: &Who) -> Option<User> {
    match who {
        Who::Name(name) => layout.user_named(name.as_bytes()).ok(),
        Who::Path(path) => in_dir(layout, path.as_bytes()),
    }
}

/// Whose directory it is, relative to the root.
fn in_dir(layout: &Layout, path: &[u8]) -> Option<User> {
    let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    layout.user_of(&components)
}

/// Has it said how many directories are known by now, until all are.
fn wait_for_the_walk(usage: &Usage, mut say: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
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
