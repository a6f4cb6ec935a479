//! Threads for NFS work, a bounded number per mount: a dead server holds up nobody but its own users.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Threads per NFS mount. Each waits on one user's RPCs; more users queue.
const THREADS_PER_MOUNT: usize = 16;
/// An idle thread ends after this long.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The pools of all NFS mounts, by mount point.
#[derive(Debug, Default)]
pub struct Pools {
    pools: Mutex<HashMap<PathBuf, Arc<Pool>>>,
    /// Jobs that run on threads of those who brought them.
    here: AtomicUsize,
    /// Mounts whose servers are silent.
    silent: AtomicUsize,
}

/// A job on the thread of who brought it.
struct Here<'a> {
    all: &'a AtomicUsize,
    pool: &'a Pool,
}

#[derive(Default)]
struct Pool {
    queue: Mutex<Queue>,
    work: Condvar,
    /// A job runs on the thread of who brought it.
    here: AtomicBool,
    /// Somebody was refused because the server did not answer, and it has not answered since.
    silent: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.queue.lock();
        write!(
            f,
            "Pool {{ jobs: {}, threads: {}, idle: {} }}",
            queue.jobs.len(),
            queue.threads,
            queue.idle
        )
    }
}

impl Pools {
    /// Runs `job` on a thread of the pool for the mount at `mount`, as soon as one is free.
    pub fn run(&self, mount: PathBuf, job: impl FnOnce() + Send + 'static) {
        self.of(mount).push(Box::new(job));
    }

    /// Runs `job` on this very thread, which spares waking another, or like [`Pools::run`]. A mount may hold
    /// up one thread in this way, and all mounts together as many as can be `spared`.
    pub fn run_here(&self, spared: usize, mount: PathBuf, job: impl FnOnce() + Send + 'static) {
        let pool = self.of(mount);
        if let Some(_here) = Here::begin(&self.here, spared, &pool) {
            return run(Box::new(job));
        }
        pool.push(Box::new(job));
    }

    /// The server of the mount at `mount` has not answered in time: until it does, nobody's own thread waits for it.
    pub fn silent(&self, mount: PathBuf) {
        if !self.of(mount).silent.swap(true, Ordering::AcqRel) {
            self.silent.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether the server of the mount at `mount` has not answered in time, and not since.
    pub fn is_silent(&self, mount: &Path) -> bool {
        let any = self.silent.load(Ordering::Acquire) > 0;
        any && self.of(mount.to_owned()).silent.load(Ordering::Acquire)
    }

    /// It has answered. Tells which mount that is, if it had been silent; else it is not even asked for.
    pub fn answers(&self, mount: impl FnOnce() -> PathBuf) -> Option<PathBuf> {
        if self.silent.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mount = mount();
        let was_silent = self.of(mount.clone()).silent.swap(false, Ordering::AcqRel);
        was_silent.then(|| {
            self.silent.fetch_sub(1, Ordering::AcqRel);
            mount
        })
    }

    fn of(&self, mount: PathBuf) -> Arc<Pool> {
        Arc::clone(self.pools.lock().entry(mount).or_default())
    }
}

/// A panic is reported by the hook; the job's own guard refuses its callers.
fn run(job: Job) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
}

impl<'a> Here<'a> {
    fn begin(all: &'a AtomicUsize, spared: usize, pool: &'a Pool) -> Option<Self> {
        if pool.silent.load(Ordering::Acquire) || pool.here.swap(true, Ordering::AcqRel) {
            return None;
        }
        // From here on Drop puts both right.
        let here = Here { all, pool };
        (all.fetch_add(1, Ordering::AcqRel) < spared).then_some(here)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::AcqRel);
        self.pool.here.store(false, Ordering::Release);
    }
}

impl Pool {
    fn push(self: Arc<Self>, job: Job) {
        let mut queue = self.queue.lock();
        queue.jobs.push_back(job);
        if queue.idle >= queue.jobs.len() || queue.threads == THREADS_PER_MOUNT {
            drop(queue);
            self.work.notify_one();
            return;
        }
        queue.threads += 1;
        drop(queue);
        let pool = Arc::clone(&self);
        if let Err(e) = std::thread::Builder::new()
            .name("nfs".into())
            .spawn(move || pool.serve())
        {
            // The jobs stay queued: another thread takes them, or their callers time out and are refused.
            log::error!("cannot start a thread for NFS work: {e}");
            self.queue.lock().threads -= 1;
        }
    }

    fn serve(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                run(job);
                queue = self.queue.lock();
                continue;
            }
            queue.idle += 1;
            let late = self.work.wait_for(&mut queue, IDLE).timed_out();
            queue.idle -= 1;
            if late && queue.jobs.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_full_pool_does_not_hold_up_another_mount() {
        let pools = Pools::default();
        let (started, running) = mpsc::channel();
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock();
        for _ in 0..THREADS_PER_MOUNT + 5 {
            let (started, gate) = (started.clone(), Arc::clone(&gate));
            pools.run("/dead".into(), move || {
                started.send(()).unwrap();
                drop(gate.lock());
            });
        }
        for _ in 0..THREADS_PER_MOUNT {
            running
                .recv_timeout(Duration::from_secs(60))
                .expect("the pool's threads start");
        }
        let (done, finished) = mpsc::channel();
        pools.run("/alive".into(), move || done.send(()).unwrap());
        finished
            .recv_timeout(Duration::from_secs(60))
            .expect("the other mount goes on");
        assert!(
            running.try_recv().is_err(),
            "no more threads than the bound"
        );
        drop(closed);
        for _ in 0..5 {
            running
                .recv_timeout(Duration::from_secs(60))
                .expect("the rest follows");
        }
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pools = Pools::default();
        let (done, finished) = mpsc::channel();
        for _ in 0..THREADS_PER_MOUNT * 2 {
            pools.run("/m".into(), || panic!("on purpose"));
        }
        pools.run("/m".into(), move || done.send(()).unwrap());
        finished.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
