//! Times in buckets of a fixed logarithmic scale: 1, 2, 5, 10 … from ten microseconds to a hundred seconds. Pure.

use std::time::Duration;

/// The upper ends of the buckets but the last, which has none, nanoseconds.
pub const ENDS: [u64; 22] = {
    let (mut ends, mut at, mut decade) = ([0; 22], 0, 10_000);
    while at < ends.len() {
        ends[at] = decade * [1, 2, 5][at % 3];
        at += 1;
        if at % 3 == 0 {
            decade *= 10;
        }
    }
    ends
};
/// The buckets of a histogram, then the sum of all times.
pub const CELLS: usize = ENDS.len() + 2;
/// Where the sum stands.
pub const SUM: usize = CELLS - 1;

/// In which bucket a time falls.
pub fn bucket(time: Duration) -> usize {
    let nanos = nanos(time);
    ENDS.partition_point(|end| *end < nanos)
}

/// Nanoseconds of a time.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How many times were recorded.
pub fn count(buckets: &[u64]) -> u64 {
    buckets.iter().take(SUM).sum()
}

/// The time that this part of all stayed below, by the buckets: within one all times count as spread evenly. `None` where nothing
/// was recorded.
pub fn quantile(buckets: &[u64], part: f64) -> Option<Duration> {
    let rank = (count(buckets) as f64 * part).max(f64::MIN_POSITIVE);
    let mut below = 0.0;
    for (at, here) in buckets.iter().take(SUM).enumerate() {
        let here = *here as f64;
        if here > 0.0 && below + here >= rank {
            let begin = at.checked_sub(1).map_or(0, |before| ENDS[before]);
            // Of those beyond the last end no more is known.
            let end = ENDS.get(at).copied().unwrap_or(begin);
            let within = (rank - below) / here * (end - begin) as f64;
            return Some(Duration::from_nanos(begin + within as u64));
        }
        below += here;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[Duration]) -> Vec<u64> {
        let mut buckets = vec![0; CELLS];
        times.iter().for_each(|time| buckets[bucket(*time)] += 1);
        buckets
    }

    #[test]
    fn the_scale_is_1_2_5() {
        assert_eq!(ENDS[..4], [10_000, 20_000, 50_000, 100_000]);
        assert_eq!(ENDS[21], 100_000_000_000);
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_micros(10)), 0);
        assert_eq!(bucket(Duration::from_nanos(10_001)), 1);
        assert_eq!(bucket(Duration::from_secs(1000)), ENDS.len());
        assert_eq!(bucket(Duration::MAX), ENDS.len());
    }

    #[test]
    fn percentiles_are_within_the_bucket_of_the_time_they_stand_for() {
        let mut times = vec![Duration::from_micros(150); 90];
        times.extend([Duration::from_millis(3); 10]);
        let buckets = of(&times);
        let at = |part| quantile(&buckets, part).expect("recorded");
        assert!((100..=200).contains(&at(0.5).as_micros()), "{:?}", at(0.5));
        assert!((100..=200).contains(&at(0.9).as_micros()), "{:?}", at(0.9));
        assert!((2..=5).contains(&at(0.99).as_millis()), "{:?}", at(0.99));
    }

    #[test]
    fn nothing_has_no_percentiles_and_too_long_has_the_last_end() {
        assert_eq!(quantile(&of(&[]), 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
        let long = of(&[Duration::from_secs(3600)]);
        assert_eq!(quantile(&long, 0.5), Some(Duration::from_secs(100)));
    }
}
