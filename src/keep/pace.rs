//! Work in the background takes half the time of one core at most: sessions have the rest.

use std::thread::sleep;
use std::time::{Duration, Instant};

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
