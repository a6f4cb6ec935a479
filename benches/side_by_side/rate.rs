//! How often a second something can be done: the threads start together and stop together.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// One repetition of what one thread does.
pub type Step<'a> = Box<dyn FnMut() -> Result<()> + Send + 'a>;

/// Repeats every step in a thread of its own for `time`, after so many repetitions there that do not count. What has begun
/// by then is finished, and counts.
pub fn measure(steps: &mut [Step<'_>], warm_up: usize, time: Duration) -> Result<f64> {
    let start = Barrier::new(steps.len() + 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = steps
            .iter_mut()
            .map(|step| scope.spawn(|| work(step, warm_up, &start, &stop)))
            .collect();
        start.wait();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|w| w.join().map_err(|_| anyhow!("a thread panicked"))?)
            .sum()
    })
}

fn work(step: &mut Step<'_>, warm_up: usize, start: &Barrier, stop: &AtomicBool) -> Result<f64> {
    let warm = (0..warm_up).try_for_each(|_| step());
    start.wait(); // in any case: the others wait for it
    warm?;
    let began = Instant::now();
    let mut done = 0u64;
    while !stop.load(Ordering::Relaxed) {
        step()?;
        done += 1;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}
