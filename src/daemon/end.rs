//! How a mount ends that was told to, and what is said of any that has ended.

use std::thread;
use std::time::{Duration, Instant};

use super::{ANSWER_WITHIN, Phase, Watch};
use crate::exit::Failure;
use crate::fuse::is_unmounted;
use crate::supervise;

/// How long those who use a mount that was told to end may keep it.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long the worker then has to tell other hosts what they have left. It gives up by itself before: it hears within a second
/// that the mount has ended, and takes ten.
const LAST_FENCES_WITHIN: Duration = Duration::from_secs(12);

impl Watch<'_> {
    pub(super) fn unmounted(&self) -> Result<(), Failure> {
        let place = self.place();
        match self.phase {
            Phase::Starting(_) => Err(Failure::mount(format!(
                "{place} was unmounted before it answered: mount it again"
            ))),
            Phase::Serving if self.mount.stands() => Err(Failure::system(format!(
                "the kernel broke off the mount on {place} (umount -f?): mount it again"
            ))),
            Phase::Serving | Phase::Stopping(_) | Phase::Ending(_) => {
                log::info!("unmounted {place}");
                Ok(())
            }
        }
    }

    /// The first signal unmounts, in a thread of its own, for a filesystem in use may take its
    /// time; a second one waits for nobody.
    pub(super) fn stop(&mut self) -> Option<Result<(), Failure>> {
        match self.phase {
            Phase::Starting(_) => {
                let line = format!("stopped before the mount on {} answered", self.place());
                return Some(Err(Failure::mount(line)));
            }
            Phase::Stopping(_) | Phase::Ending(_) => return Some(self.out_of_time()),
            Phase::Serving => {}
        }
        self.phase = Phase::Stopping(Instant::now() + END_WITHIN);
        let mount = self.mount.mount();
        let spawned = thread::Builder::new().spawn(move || mount.take_away());
        match spawned {
            Ok(_) => None,
            Err(_) => Some(self.out_of_time()),
        }
    }

    /// Where the users' time is over, what they have changed is told to other hosts: the worker has some more time. Who still has
    /// files open loses them first, for what he changes later nobody would tell. Tells whether the worker has time.
    pub(super) fn gives_time_for_last_fences(&mut self) -> bool {
        let gives = matches!(self.phase, Phase::Stopping(_))
            && self.worker.is_some()
            && self.has_users_gone();
        if gives {
            log::info!("{}: waiting for the last fences", self.place());
            self.phase = Phase::Ending(Instant::now() + LAST_FENCES_WITHIN);
        }
        gives
    }

    /// Nobody uses the mount any more, by himself or since it was taken from him.
    fn has_users_gone(&self) -> bool {
        let dev_fuse = self.supervisor.dev_fuse();
        is_unmounted(dev_fuse) || self.mount.take_from_users(dev_fuse)
    }

    /// Ends without waiting any longer: `Standing`'s Drop takes away what still stands.
    pub(super) fn out_of_time(&mut self) -> Result<(), Failure> {
        let place = self.place();
        match self.phase {
            Phase::Starting(_) => Err(Failure::mount(format!(
                "the mount on {place} does not answer within {} s: see what keeps this host busy, and mount again",
                ANSWER_WITHIN.as_secs()
            ))),
            Phase::Stopping(_) | Phase::Serving | Phase::Ending(_) => {
                match is_unmounted(self.supervisor.dev_fuse()) {
                    true => log::warn!("{place}: ending without the last fences"),
                    false => log::warn!("{place} still has files open: ending without their users"),
                }
                self.mount.tear_away();
                self.worker.into_iter().for_each(supervise::kill);
                Ok(())
            }
        }
    }
}
