//! Threads for NFS work, a bounded number per mount: a dead server holds up nobody but its own users.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::stats::{self, Field, Slot, Stats};

/// Threads per NFS mount. Each waits on one user's RPCs; more users queue.
const THREADS_PER_MOUNT: usize = 16;
/// So many mounts are known; then those are forgotten for which nobody waits. There may be one for each user (autofs).
const MOST: usize = 1024;
/// An idle thread ends after this long.
const IDLE: Duration = Duration::from_secs(10);
/// And after this long of one of the first mounts, of which there are so many threads at most: of a thread that began after it was
/// told, the NFS client (from Linux 6.0 on) asks ACCESS of each name on the way to INDEX again, and a login waits for that.
const LONG_IDLE: Duration = Duration::from_secs(15 * 60);
const FIRST_MOUNTS: usize = 16;
/// A job that takes less is not worth another thread, nanoseconds.
const QUICK: u64 = 200_000;
/// What a job is taken to take until it is known, and at most.
const SLOW: u64 = 4 * QUICK;

type Job = Box<dyn FnOnce() + Send>;

/// The pools of all NFS mounts, by mount point.
#[derive(Debug, Default)]
pub struct Pools {
    pools: Mutex<HashMap<PathBuf, Arc<Pool>>>,
    /// Jobs that run on threads of those who brought them.
    here: AtomicUsize,
    /// Mounts whose servers are silent.
    silent: AtomicUsize,
    stats: Arc<Stats>,
}

/// The threads of one mount.
pub struct Pool {
    stats: Arc<Stats>,
    /// Where it is counted; those that wait for no server are not.
    slot: Option<Slot>,
    mount: PathBuf,
    /// How long its threads stay idle.
    idle: Duration,
    queue: Mutex<Queue>,
    work: Condvar,
    /// A job runs on the thread of who brought it.
    here: AtomicBool,
    /// How long a job takes of late, nanoseconds.
    usual: AtomicU64,
    /// Somebody was refused because the server did not answer, and it has not answered since.
    silent: AtomicBool,
}

/// A job on the thread of who brought it.
struct Here<'a> {
    all: &'a AtomicUsize,
    pool: &'a Pool,
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
    /// None yet; what they do is counted in `stats`.
    pub fn new(stats: Arc<Stats>) -> Self {
        Pools {
            stats,
            ..Pools::default()
        }
    }

    /// Runs `job` on this very thread, which spares waking another, or like [`Pool::run`]. A mount may hold
    /// up one thread in this way, and all mounts together as many as can be `spared`. Where that may take long
    /// the thread is to `step_aside` first.
    pub fn run_here(
        &self,
        spared: usize,
        pool: &Arc<Pool>,
        step_aside: impl FnOnce(),
        job: impl FnOnce() + Send + 'static,
    ) {
        if let Some(_here) = Here::begin(&self.here, spared, pool) {
            if !pool.is_quick() {
                step_aside();
            }
            return pool.work(job);
        }
        pool.run(job);
    }

    /// The server of this mount has not answered in time: until it does, nobody's own thread waits for it.
    pub fn silent(&self, pool: &Pool) {
        if !pool.silent.swap(true, Ordering::AcqRel) {
            self.silent.fetch_add(1, Ordering::AcqRel);
            pool.count(Field::Silences);
            pool.set(Field::SilentSince, stats::now());
        }
    }

    /// Whether the server of the mount at `mount` has not answered in time, and not since.
    pub fn is_silent(&self, mount: &Path) -> bool {
        let any = self.silent.load(Ordering::Acquire) > 0;
        any && self.of(mount.to_owned()).silent.load(Ordering::Acquire)
    }

    /// It has answered. Tells which mount that is, if it had been silent; else it is not even asked for.
    pub fn answers(&self, pool: impl FnOnce() -> Arc<Pool>) -> Option<Arc<Pool>> {
        if self.silent.load(Ordering::Acquire) == 0 {
            return None;
        }
        let pool = pool();
        let was_silent = pool.silent.swap(false, Ordering::AcqRel);
        was_silent.then(|| {
            self.silent.fetch_sub(1, Ordering::AcqRel);
            pool.set(Field::SilentSince, 0);
            pool
        })
    }

    /// The threads of the mount at `mount`.
    pub fn of(&self, mount: PathBuf) -> Arc<Pool> {
        self.named(mount, true)
    }

    /// Threads for those who wait for no server, by a name of their own. No NFS mount is told of by that.
    pub fn aside(&self, name: PathBuf) -> Arc<Pool> {
        self.named(name, false)
    }

    fn named(&self, mount: PathBuf, told: bool) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&mount) {
            return Arc::clone(pool);
        }
        if pools.len() >= MOST {
            // Whoever waits, or has threads of it, has it too.
            let silent = |pool: &Pool| pool.silent.load(Ordering::Acquire);
            pools.retain(|_, pool| Arc::strong_count(pool) > 1 || silent(pool));
        }
        let pool = Arc::new(Pool {
            stats: Arc::clone(&self.stats),
            slot: told.then(|| self.stats.nfs(&mount.to_string_lossy())),
            mount: mount.clone(),
            idle: match pools.len() < FIRST_MOUNTS {
                true => LONG_IDLE,
                false => IDLE,
            },
            queue: Mutex::default(),
            work: Condvar::new(),
            here: AtomicBool::new(false),
            usual: AtomicU64::new(SLOW),
            silent: AtomicBool::new(false),
        });
        pools.insert(mount, Arc::clone(&pool));
        pool
    }
}

/// A panic is reported by the hook; the job's own guard refuses its callers.
fn run(job: impl FnOnce()) {
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
    /// Where the mount is.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    fn count(&self, field: Field) {
        if let Some(slot) = self.slot {
            self.stats.nfs_add(slot, field, 1);
        }
    }

    fn discount(&self, field: Field) {
        if let Some(slot) = self.slot {
            self.stats.nfs_sub(slot, field, 1);
        }
    }

    fn set(&self, field: Field, to: u64) {
        if let Some(slot) = self.slot {
            self.stats.nfs_set(slot, field, to);
        }
    }

    fn work(&self, job: impl FnOnce()) {
        self.count(Field::Busy);
        let began = Instant::now();
        run(job);
        self.took(began.elapsed());
        self.discount(Field::Busy);
    }

    /// A job has taken so long. The median is approached by eighths: on a busy host some wait for their processor. Of two that end
    /// at a time one may not count.
    fn took(&self, time: Duration) {
        let usual = self.usual.load(Ordering::Relaxed);
        let now = match time > Duration::from_nanos(usual) {
            true => usual + usual / 8,
            false => (usual - usual / 8).max(QUICK / 2),
        };
        self.usual.store(now.min(SLOW), Ordering::Relaxed);
    }

    /// Whether a job is done sooner than another thread is there to do it.
    fn is_quick(&self) -> bool {
        self.usual.load(Ordering::Relaxed) < QUICK
    }

    /// Runs `job` on a thread of the pool, as soon as one is free.
    pub fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.queue.lock();
        queue.jobs.push_back(Box::new(job));
        self.count(Field::Queued);
        if queue.idle >= queue.jobs.len() || queue.threads == THREADS_PER_MOUNT {
            drop(queue);
            self.work.notify_one();
            return;
        }
        queue.threads += 1;
        drop(queue);
        let pool = Arc::clone(self);
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
                self.discount(Field::Queued);
                self.work(job);
                queue = self.queue.lock();
                continue;
            }
            queue.idle += 1;
            let late = self.work.wait_for(&mut queue, self.idle).timed_out();
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
            pools.of("/dead".into()).run(move || {
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
        pools
            .of("/alive".into())
            .run(move || done.send(()).unwrap());
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
    fn what_its_threads_do_and_whether_its_server_is_silent_is_counted() {
        let stats = Arc::new(Stats::default());
        let pools = Pools::new(Arc::clone(&stats));
        let pool = pools.of("/nfs".into());
        let now = |field| stats.read().nfs[0].get(field);
        let (begun, running) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        pool.run(move || {
            begun.send(()).unwrap();
            let _ = ends.recv();
        });
        running.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!((now(Field::Busy), now(Field::Queued)), (1, 0));
        drop(end);
        while now(Field::Busy) > 0 {
            std::thread::yield_now();
        }
        for _ in 0..2 {
            pools.silent(&pool);
        }
        assert_eq!(now(Field::Silences), 1);
        assert!(now(Field::SilentSince) > 0);
        pools.answers(|| Arc::clone(&pool));
        assert_eq!((now(Field::SilentSince), now(Field::Silences)), (0, 1));
        assert_eq!(stats.read().nfs[0].mount, "/nfs");
    }

    #[test]
    fn so_many_mounts_are_known_and_those_that_are_waited_for() {
        let pools = Pools::default();
        let [used, silent] = ["/used", "/silent"].map(|mount| pools.of(mount.into()));
        pools.silent(&silent);
        drop(silent);
        for number in 0..5 * MOST {
            pools.of(format!("/home/{number}").into());
        }
        assert!(pools.pools.lock().len() <= MOST + 2);
        assert!(Arc::ptr_eq(&used, &pools.of("/used".into())));
        assert!(pools.is_silent(Path::new("/silent")));
    }

    #[test]
    fn who_runs_what_takes_long_steps_aside() {
        let pools = Pools::default();
        let pool = pools.of("/nfs".into());
        let steps_aside = |takes: Duration| {
            let aside = AtomicBool::new(false);
            let step_aside = || aside.store(true, Ordering::Relaxed);
            pools.run_here(1, &pool, step_aside, move || std::thread::sleep(takes));
            aside.into_inner()
        };
        assert!(steps_aside(Duration::ZERO), "until it is known");
        (0..50).for_each(|_| pool.took(Duration::ZERO));
        pool.took(Duration::from_secs(1));
        assert!(!steps_aside(Duration::ZERO), "once is nothing");
        while !steps_aside(Duration::from_millis(1)) {}
    }

    #[test]
    fn threads_stay_where_mounts_are_few() {
        let pools = Pools::default();
        let all = (0..2 * FIRST_MOUNTS).map(|number| pools.of(format!("/nfs/{number}").into()));
        let stay = all.filter(|pool| pool.idle == LONG_IDLE);
        assert_eq!(stay.count(), FIRST_MOUNTS);
    }

    #[test]
    fn threads_that_wait_for_no_server_are_no_nfs_mount() {
        let stats = Arc::new(Stats::default());
        let pools = Pools::new(Arc::clone(&stats));
        let (done, finished) = mpsc::channel();
        pools
            .aside("/run/auth".into())
            .run(move || done.send(()).unwrap());
        finished.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(stats.read().nfs, []);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pools = Pools::default();
        let (done, finished) = mpsc::channel();
        for _ in 0..THREADS_PER_MOUNT * 2 {
            pools.of("/m".into()).run(|| panic!("on purpose"));
        }
        pools.of("/m".into()).run(move || done.send(()).unwrap());
        finished.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
