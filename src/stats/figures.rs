//! What an operator wants to know of the numbers, reckoned from them. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::histogram::{count, quantile};
use super::names::{METRICS, Source};
use super::{Cell, Field, Reading};

/// What a mount has done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Users who have a list index here.
    pub users: u64,
    /// Users with files open, or who had some a moment ago.
    pub users_active: u64,
    /// What lies here of all users, bytes.
    pub bytes: u64,
    /// `max_bytes=`; none where there is no bound.
    pub max_bytes: Option<u64>,
    /// `max_users=`; none where there is no bound.
    pub max_users: Option<u64>,
    /// Files that somebody has open.
    pub open_files: u64,
    /// Openers who came to the gate and were let in, about one for each session.
    pub served: u64,
    /// And those who were refused.
    pub refused: u64,
    /// Opens that were let in by what their process had been told a moment before.
    pub shared: u64,
    /// The part of all looks at INDEX that found the list index here to be good; none where there was none.
    pub hit_rate: Option<f64>,
    /// Looks at INDEX by what came of them.
    pub outcomes: Vec<Counted>,
    /// Refusals by their reason, those that were.
    pub refusals: Vec<Counted>,
    /// Evictions by their reason, those that were.
    pub evictions: Vec<Counted>,
    /// How long openers waited at the gate; none where nobody has.
    pub wait: Option<Wait>,
    /// Sessions whose changes others would not see.
    pub ghosts: u64,
    /// Fences that could not be set at first.
    pub fences_failed: u64,
    /// Users claimed back and forth.
    pub flaps: u64,
    /// NFS mounts.
    pub nfs: Vec<Server>,
    /// Workers that ended otherwise than by an upgrade.
    pub worker_deaths: u64,
    /// Workers that went on where another had ended.
    pub takeovers: u64,
    /// Upgrades that were done.
    pub upgrades: u64,
}

/// How often something was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// What, in a word.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// Percentiles of a time, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// Half of all took no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// All but one of a hundred.
    pub p99: f64,
}

/// An NFS mount that users' INDEX lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Where it is mounted.
    pub mount: String,
    /// Its server has not answered since then, seconds since 1970.
    pub silent_since: Option<u64>,
    /// How often that began.
    pub silences: u64,
    /// Threads that work for its users.
    pub busy: u64,
    /// Work that waits for one.
    pub queued: u64,
}

impl Figures {
    /// Those of a reading.
    pub fn of(read: &Reading) -> Self {
        let outcomes = labelled(read, "listindexfs_gate_checks_total");
        let looks: u64 = outcomes.iter().map(|outcome| outcome.count).sum();
        let hits = read.get(Cell::Keep) + read.get(Cell::Finish);
        let some = |counts: Vec<Counted>| counts.into_iter().filter(|c| c.count > 0).collect();
        Figures {
            users: read.get(Cell::Users),
            users_active: read.get(Cell::ActiveUsers),
            bytes: read.get(Cell::Bytes),
            max_bytes: Some(read.get(Cell::MaxBytes)).filter(|most| *most > 0),
            max_users: Some(read.get(Cell::MaxUsers)).filter(|most| *most > 0),
            open_files: read.get(Cell::OpenFiles),
            served: read.get(Cell::Served),
            refused: read.get(Cell::Refused),
            shared: read.get(Cell::SharedVerdicts),
            hit_rate: (looks > 0).then(|| hits as f64 / looks as f64),
            outcomes,
            refusals: some(labelled(read, "listindexfs_refused_total")),
            evictions: some(labelled(read, "listindexfs_evictions_total")),
            wait: Wait::of(&read.times(Cell::GateWait)),
            ghosts: read.get(Cell::Ghosts),
            fences_failed: read.get(Cell::FenceFailed),
            flaps: read.get(Cell::Flaps),
            nfs: read.nfs.iter().map(Server::of).collect(),
            worker_deaths: [Cell::WorkerKilled, Cell::WorkerCrashed, Cell::WorkerHung]
                .map(|cause| read.get(cause))
                .iter()
                .sum(),
            takeovers: read.get(Cell::Takeovers),
            upgrades: read.get(Cell::Upgraded),
        }
    }
}

impl Wait {
    /// By buckets of times.
    pub fn of(times: &[u64]) -> Option<Self> {
        let at = |part| quantile(times, part).as_ref().map(Duration::as_secs_f64);
        (count(times) > 0).then_some(())?;
        Some(Wait {
            p50: at(0.5)?,
            p90: at(0.9)?,
            p99: at(0.99)?,
        })
    }
}

impl Server {
    fn of(nfs: &super::Nfs) -> Self {
        Server {
            mount: nfs.mount.clone(),
            silent_since: Some(nfs.get(Field::SilentSince)).filter(|since| *since > 0),
            silences: nfs.get(Field::Silences),
            busy: nfs.get(Field::Busy),
            queued: nfs.get(Field::Queued),
        }
    }
}

/// The numbers of a metric by its label.
fn labelled(read: &Reading, name: &str) -> Vec<Counted> {
    let metric = METRICS.iter().find(|metric| metric.name == name);
    match metric.map(|metric| metric.source) {
        Some(Source::Labelled(_, cells)) => cells
            .iter()
            .map(|(what, cell)| Counted {
                what: (*what).to_owned(),
                count: read.get(*cell),
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;

    #[test]
    fn nothing_has_happened_yet() {
        let figures = Figures::of(&Reading::default());
        assert_eq!((figures.hit_rate, figures.wait), (None, None));
        assert_eq!(figures.outcomes.len(), 8);
        assert_eq!((figures.max_bytes, figures.refusals.len()), (None, 0));
    }

    #[test]
    fn the_hit_rate_is_of_looks_at_index() {
        let stats = Stats::default();
        for (cell, count) in [
            (Cell::Keep, 97),
            (Cell::Finish, 1),
            (Cell::Claim, 2),
            (Cell::RefusedIo, 1),
        ] {
            stats.add(cell, count);
        }
        stats.took(Cell::GateWait, Duration::from_millis(1));
        let figures = Figures::of(&stats.read());
        assert_eq!(figures.hit_rate, Some(0.98));
        assert_eq!(
            figures.refusals,
            [Counted {
                what: "io".to_owned(),
                count: 1
            }]
        );
        let wait = figures.wait.expect("one waited");
        assert!(wait.p50 <= 0.001 && wait.p50 > 0.0005, "{wait:?}");
    }
}
