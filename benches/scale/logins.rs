//! The users' sessions, by several threads at once: each is another process to the daemon.

use std::fs::{self, FileTimes};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::{MountFlags, mount_remount};

use crate::memory::{self, Kernel};
use crate::support::dovecot::hashed;
use crate::support::light::Light;
use crate::support::mount::Mount;
use crate::support::{Lab, within};

/// Threads that make users: INDEX is on a disk, for which they wait.
const MAKERS: usize = 16;
/// Threads whose logins are timed.
const CLIENTS: usize = 4;
/// A process's verdict holds for a second: its next login asks the gate again.
const ROUND: Duration = Duration::from_millis(1200);
/// So often everybody of a sample logs in.
const ROUNDS: usize = 6;

/// Users by number.
pub struct Users<'a> {
    mount: &'a Mount,
    index: PathBuf,
}

/// The largest that was seen, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tops {
    pub worker: u64,
    pub fuse_inodes: u64,
}

/// How long logins took, the shortest first.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// So many percent were not longer.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Users<'a> {
    pub fn new(lab: &Lab, mount: &'a Mount) -> Self {
        Self {
            mount,
            index: lab.index(),
        }
    }

    fn of(&self, number: usize) -> Light {
        Light::new(self.mount.path(), &self.index, &name(number))
    }

    /// Everybody's first session.
    pub fn make(&self, numbers: Range<usize>) -> Result<Tops> {
        let (next, end) = (AtomicUsize::new(numbers.start), numbers.end);
        let worker = self.mount.worker().context("there is no worker")?;
        let make = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok(());
                }
                let made = self.of(number).first();
                drop(made.with_context(|| format!("first session of user {number}"))?);
            }
        };
        thread::scope(|scope| {
            let makers: Vec<_> = (0..MAKERS).map(|_| scope.spawn(make)).collect();
            let (mut tops, mut told) = (Tops::default(), 0);
            while makers.iter().any(|maker| !maker.is_finished()) {
                tops.worker = tops.worker.max(memory::resident(worker)?);
                tops.fuse_inodes = tops.fuse_inodes.max(Kernel::now()?.fuse_inodes);
                let made = next.load(Ordering::Relaxed).min(end);
                if made >= told + 50_000 {
                    told = made;
                    eprintln!("{made} users");
                }
                sleep(Duration::from_millis(200));
            }
            joined(makers.into_iter().map(|maker| maker.join()))?;
            Ok(tops)
        })
    }

    /// Everybody of a sample logs in, some rounds long; `before` each something is done.
    pub fn log_in(&self, sample: &[usize], before: impl Fn(&Mount) -> Result<()>) -> Result<Times> {
        let mut all = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            before(self.mount)?;
            all.extend(self.round(sample)?);
            sleep(ROUND.saturating_sub(began.elapsed()));
        }
        all.sort_unstable();
        Ok(Times(all))
    }

    /// Looks at INDEX, so that the kernel has it cached: what a disk takes is not to be measured.
    pub fn look_at_index(&self, sample: &[usize]) -> Result<()> {
        for number in sample {
            fs::metadata(self.of(*number).index.join(".lasthost")).context("no INDEX")?;
        }
        Ok(())
    }

    fn round(&self, sample: &[usize]) -> Result<Vec<Duration>> {
        let client = |numbers: &[usize]| -> Result<Vec<Duration>> {
            let users: Vec<_> = numbers.iter().map(|number| self.of(*number)).collect();
            let login = |user: &Light| {
                let began = Instant::now();
                let session = user.again();
                drop(session.with_context(|| format!("login of {}", user.dir.display()))?);
                Ok(began.elapsed())
            };
            users.iter().map(login).collect()
        };
        thread::scope(|scope| {
            let some = sample.chunks(sample.len().div_ceil(CLIENTS));
            let clients: Vec<_> = some.map(|some| scope.spawn(move || client(some))).collect();
            let times = joined(clients.into_iter().map(|client| client.join()))?;
            Ok(times.into_iter().flatten().collect())
        })
    }

    /// Has users have been here last at that time, as the next worker finds it.
    pub fn age(&self, numbers: Range<usize>, last: SystemTime) -> Result<()> {
        for number in numbers {
            let record = hashed(self.mount.backing(), &name(number)).join(".lasthost");
            let file = fs::File::options().write(true).open(&record);
            let file = file.with_context(|| format!("failed to open {}", record.display()))?;
            file.set_times(FileTimes::new().set_modified(last))?;
        }
        Ok(())
    }

    /// Waits until somebody else than `worker`, which has been killed, has answered.
    pub fn wait_answer(&self, worker: u32) -> Result<()> {
        let alive = || {
            let stat = fs::read_to_string(format!("/proc/{worker}/stat")).ok()?;
            (!stat.contains(") Z ")).then_some(())
        };
        within(Duration::from_secs(10), || alive().is_none().then_some(()))
            .context("the worker that was killed is not gone")?;
        match fs::symlink_metadata(self.mount.path().join("nobody")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => bail!("stat of a missing file gave {other:?}"),
        }
    }
}

fn name(number: usize) -> String {
    format!("user{number}@example.com")
}

fn joined<T>(ended: impl Iterator<Item = thread::Result<Result<T>>>) -> Result<Vec<T>> {
    ended
        .map(|outcome| outcome.map_err(|_| anyhow!("a thread panicked"))?)
        .collect()
}

/// Drops what the kernel has cached of the mount, as a remount does, and of no other.
pub fn chill(mount: &Mount) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(mount.path(), flags, c"").context("failed to remount")
}
