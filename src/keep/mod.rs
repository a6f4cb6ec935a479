//! What keeps memory small, in the background: the backing is counted, idle users go when bounds are near or their time is over, and
//! what the kernel has cached of them is given back long before.
//!
//! Costs nothing while nothing is due: who was here longest ago is known ([`crate::store::usage`]), and nobody else is looked at.

mod age;
mod cached;
mod here;
mod moved;
pub mod pace;
pub mod walk;

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::{Duration, Instant};

pub use self::cached::{Cached, KernelCache};
pub use self::here::tell_what_is_here;
use self::moved::Moved;
use self::pace::Pace;
use self::walk::Walk;
use crate::journal::{Entry, Snapshot};
use crate::options::Config;
use crate::store::Store;
use crate::store::usage::Stamp;
use crate::user::gate::Gate;

/// How often the keeper looks whether anything is due.
const PERIOD: Duration = Duration::from_secs(1);

/// What the keeper works with.
#[derive(Clone)]
struct Keeper {
    config: Arc<Config>,
    store: Arc<Store>,
    gate: Arc<Gate>,
}

/// Starts keeping the backing small, in threads of its own, where the worker before left it.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    config: &Arc<Config>,
    store: &Arc<Store>,
    gate: &Arc<Gate>,
    left: &Snapshot,
    cached: Cached,
) -> io::Result<()> {
    let keeper = Keeper {
        config: Arc::clone(config),
        store: Arc::clone(store),
        gate: Arc::clone(gate),
    };
    store.usage().inherit(left.bytes);
    start_walk(keeper.clone(), left.swept, cached)?;
    if config.bounds.moved_rate > 0 {
        let pass = Moved {
            store: Arc::clone(store),
            gate: Arc::clone(gate),
            rate: config.bounds.moved_rate,
            patience: config.check_timeout,
        };
        spawn("moved", move || pass.run())?;
    }
    spawn("keeper", move || keeper.keep())
}

/// What is cached is given back once it is known who there is.
fn start_walk(walker: Keeper, swept: bool, cached: Cached) -> io::Result<()> {
    let (walks, walked) = mpsc::channel::<()>();
    spawn("walk", move || {
        walker.walk(swept);
        drop(walks);
    })?;
    spawn("cached", move || {
        let _ended = walked.recv(); // nothing is ever sent
        cached.run();
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

impl Keeper {
    /// Told to the journal when it is done, so that the next worker need not remove again.
    fn walk(self, swept: bool) {
        let began = Instant::now();
        let mut walk = Walk {
            keeper: &self,
            swept,
            pace: Pace::begin(),
        };
        let walked = walk.run();
        let all = walked.is_ok();
        match walked {
            Ok(0) => {}
            Ok(users) => log::info!(
                "removed what an earlier mount had left of {users} users, in {:.1?}",
                began.elapsed()
            ),
            Err(e) => log::error!("cannot count what lies in the backing: {e}"),
        }
        self.gate.journal().note(&Entry::Swept);
        self.store.usage().walked(all);
    }

    fn keep(self) {
        let mut told = 0;
        loop {
            self.gate.room().wait(PERIOD);
            self.gate.keep_room();
            if let Err(e) = self.gate.room().measure(&self.store) {
                log::warn!("cannot ask for the size of the backing: {e}");
            }
            self.gate.drop_passing(Stamp::now());
            age::sweep(&self.config, &self.store, &self.gate);
            self.gate.tell_left_out();
            let bytes = self.store.usage().bytes();
            if bytes != told {
                self.gate.journal().note(&Entry::Kept { bytes });
                told = bytes;
            }
        }
    }
}
