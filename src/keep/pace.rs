//! Work in the background takes half the time of one core at most: sessions have the rest.

use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So long it works at a stretch: shorter ones would cost more in waking up than in work.
const STRETCH: Duration = Duration::from_millis(2);

/// How long a thread has worked since it last rested.
#[derive(Debug)]
pub struct Pace(Instant);

impl Pace {
    /// Work begins.
    pub fn begin() -> Self {
        Pace(Instant::now())
    }

    /// Between two pieces of work: rests as long as it has worked, once that is worth it.
    pub fn rest(&mut self) {
        let worked = self.0.elapsed();
        if worked >= STRETCH {
            sleep(worked);
            self.0 = Instant::now();
        }
    }
}

/// The same for several threads that do such work now and then: together they take half the time of one core.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Duration>);

impl Shared {
    /// Does one piece of work when it is its turn, and rests once that is worth it.
    pub fn work<T>(&self, piece: impl FnOnce() -> T) -> T {
        let mut worked = self.0.lock();
        let began = Instant::now();
        let done = piece();
        *worked += began.elapsed();
        if *worked >= STRETCH {
            sleep(*worked);
            *worked = Duration::ZERO;
        }
        done
    }
}
