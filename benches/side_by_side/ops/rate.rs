//! Operations per second of one workload on one contestant: the threads start together and stop together.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::workload::{Step, Workload};
use crate::users::{PER_THREAD, UserFiles};

/// Runs the workload with one thread for each entry of `users`; what was not measured warms up.
pub fn measure(workload: &Workload, users: &[Vec<UserFiles>], time: Duration) -> Result<f64> {
    let mut steps = users
        .iter()
        .map(|mine| (workload.prepare)(mine))
        .collect::<Result<Vec<_>>>()?;
    for step in &mut steps {
        (0..PER_THREAD).try_for_each(|_| step())?;
    }
    let start = Barrier::new(steps.len() + 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = steps
            .iter_mut()
            .map(|step| scope.spawn(|| work(step, &start, &stop)))
            .collect();
        start.wait();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let rates = workers
            .into_iter()
            .map(|w| w.join().map_err(|_| anyhow!("a worker panicked"))?);
        rates.sum()
    })
}

fn work(step: &mut Step, start: &Barrier, stop: &AtomicBool) -> Result<f64> {
    start.wait();
    let began = Instant::now();
    let mut done = 0u64;
    while !stop.load(Ordering::Relaxed) {
        step()?;
        done += 1;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}
