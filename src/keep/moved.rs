//! Users who have gone to other hosts: one idle user after the other is compared with his INDEX, and dropped if another host
//! has claimed him. One comparison at a time, paced by what it may cost at most, so that no NFS server notices.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::store::Store;
use crate::store::usage::{Kept, Stamp};
use crate::user::gate::Gate;
use crate::user::moved::Suspect;

/// Nobody is compared more often than this, however few there are.
const ROUND: Duration = Duration::from_secs(5);
/// One who is passed over counts as so many RPCs, for looking at him costs time as well.
const PASSED_OVER: u32 = 1;

/// The pass.
pub struct Moved {
    pub store: Arc<Store>,
    pub gate: Arc<Gate>,
    /// RPCs per second.
    pub rate: u32,
    /// How long a server may take before others' users go on without it.
    pub patience: Duration,
}

/// The NFS mounts on which a comparison is under way.
#[derive(Debug, Default)]
struct UnderWay {
    mounts: Mutex<HashSet<PathBuf>>,
    less: Condvar,
}

/// A comparison under way.
struct Ticket {
    all: Arc<UnderWay>,
    mount: PathBuf,
}

impl Moved {
    /// Goes round for ever.
    pub fn run(self) {
        let under_way = Arc::new(UnderWay::default());
        loop {
            let (began, until) = (Stamp::now(), Instant::now() + ROUND);
            // To the end of those who were here before: those who come back meanwhile go behind it.
            let all = self.store.usage().in_order();
            for kept in all.take_while(|kept| kept.last < began) {
                let next = Instant::now();
                let cost = self.look_at(kept, &under_way);
                sleep_until(next + Duration::from_secs(cost.into()) / self.rate);
            }
            sleep_until(until);
        }
    }

    /// Looks at one user. Gives what that may have cost, RPCs.
    fn look_at(&self, kept: Kept, under_way: &Arc<UnderWay>) -> u32 {
        let suspect = self.suspect(kept).unwrap_or_else(|e| {
            log::debug!("an idle user is passed over: {e}");
            None
        });
        let Some(suspect) = suspect else {
            return PASSED_OVER;
        };
        let (mount, cost) = (suspect.mount().to_owned(), suspect.cost());
        let Some(ticket) = UnderWay::begin(under_way, &mount) else {
            return PASSED_OVER; // that server has not answered yet
        };
        self.gate.compare_in_pool(suspect, ticket);
        under_way.wait(&mount, self.patience);
        cost
    }

    fn suspect(&self, kept: Kept) -> std::io::Result<Option<Suspect>> {
        match self.gate.user_in(kept.dir)? {
            Some(user) => self.gate.suspect(&user),
            None => Ok(None),
        }
    }
}

fn sleep_until(at: Instant) {
    sleep(at.saturating_duration_since(Instant::now()));
}

impl UnderWay {
    /// Begins one on this mount, unless one is under way there.
    fn begin(all: &Arc<Self>, mount: &Path) -> Option<Ticket> {
        let begun = all.mounts.lock().insert(mount.to_owned());
        begun.then(|| Ticket {
            all: Arc::clone(all),
            mount: mount.to_owned(),
        })
    }

    /// Waits until none is under way on this mount, but no longer than `limit`.
    fn wait(&self, mount: &Path, limit: Duration) {
        let until = Instant::now() + limit;
        let mut mounts = self.mounts.lock();
        while mounts.contains(mount) {
            if self.less.wait_until(&mut mounts, until).timed_out() {
                return;
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.all.mounts.lock().remove(&self.mount);
        self.all.less.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_one_comparison_at_a_time_and_another_mount_its_own() {
        let all = Arc::new(UnderWay::default());
        let hung = UnderWay::begin(&all, Path::new("/dead")).expect("the first");
        assert!(UnderWay::begin(&all, Path::new("/dead")).is_none());
        let other = UnderWay::begin(&all, Path::new("/alive")).expect("another mount");
        all.wait(Path::new("/dead"), Duration::from_millis(1)); // not for ever
        drop(other);
        all.wait(Path::new("/alive"), Duration::from_secs(3600)); // not at all
        let ended = std::thread::spawn(move || drop(hung));
        all.wait(Path::new("/dead"), Duration::from_secs(3600));
        ended.join().expect("ended");
        assert!(UnderWay::begin(&all, Path::new("/dead")).is_some());
    }
}
