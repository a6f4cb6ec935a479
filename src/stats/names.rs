//! Every metric: its name, what it means, and where in the shared memory its numbers lie. `docs/metrics.md` is held against this.
//!
//! Numbers of [`Cell`] and [`Field`] are never used for anything else and never changed: supervisor and worker may be of different
//! versions.

use self::Kind::{Counter, Gauge};
use self::Source::{Labelled, Nfs, One, Times, Versions};

/// A number in the shared memory. Below 8 is what the memory begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs, reason = "the table of metrics says what each is")]
pub enum Cell {
    OpLookup = 8,
    OpGetattr = 9,
    OpSetattr = 10,
    OpMkdir = 11,
    OpUnlink = 12,
    OpRmdir = 13,
    OpRename = 14,
    OpLink = 15,
    OpOpen = 16,
    OpCreate = 17,
    OpRead = 18,
    OpWrite = 19,
    OpRelease = 20,
    OpReaddir = 21,
    OpStatfs = 22,
    Keep = 40,
    Finish = 41,
    Pull = 42,
    Claim = 43,
    Adopt = 44,
    Unclaimed = 45,
    Refuse = 46,
    Drain = 47,
    SharedVerdicts = 48,
    Served = 49,
    Refused = 50,
    PulledBytes = 51,
    Flaps = 52,
    FenceSet = 53,
    FenceFailed = 54,
    Ghosts = 55,
    GhostsMarked = 56,
    RefusedWrongFs = 64,
    RefusedSoftErr = 65,
    RefusedNoBase = 66,
    RefusedSymlink = 67,
    RefusedWrongKind = 68,
    RefusedTooBig = 69,
    RefusedLocked = 70,
    RefusedTimedOut = 71,
    RefusedNoPath = 72,
    RefusedIo = 73,
    RefusedDraining = 74,
    RefusedOvertaken = 75,
    RefusedBacking = 76,
    RefusedDeadly = 77,
    RefusedUserdb = 78,
    EvictedBounds = 96,
    EvictedFull = 97,
    EvictedAge = 98,
    EvictedMoved = 99,
    EvictedClean = 100,
    EvictedLeftover = 101,
    EvictedGivenBack = 102,
    Users = 112,
    Directories = 113,
    Bytes = 114,
    MaxBytes = 115,
    MaxUsers = 116,
    OpenFiles = 117,
    ActiveUsers = 118,
    /// The first of [`super::histogram::CELLS`].
    GateWait = 128,
    MountStart = 192,
    WorkerStart = 193,
    WorkerStarts = 194,
    WorkerKilled = 195,
    WorkerCrashed = 196,
    WorkerHung = 197,
    Takeovers = 198,
    Upgraded = 199,
    UpgradeRefused = 200,
    WorkerUp = 201,
}

/// A number of one NFS mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs, reason = "the table of metrics says what each is")]
pub enum Field {
    Busy = 40,
    Queued = 41,
    SilentSince = 42,
    Silences = 43,
}

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, for as long as the mount lasts.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Buckets that only grow.
    Histogram,
}

impl Kind {
    /// As Prometheus writes it.
    pub fn word(self) -> &'static str {
        match self {
            Counter => "counter",
            Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What it is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    One,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

#[cfg(test)]
impl Unit {
    /// For the table in the documentation.
    pub fn word(self) -> &'static str {
        match self {
            Unit::One => "",
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
        }
    }
}

/// Whether it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Name, labels and meaning stay.
    Stable,
    /// It tells of how the program works inside, and may change with that.
    Internal,
}

#[cfg(test)]
impl Stability {
    /// For the table in the documentation.
    pub fn word(self) -> &'static str {
        match self {
            Stability::Stable => "stable",
            Stability::Internal => "internal",
        }
    }
}

/// Where its numbers come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One number.
    One(Cell),
    /// One for each value of a label.
    Labelled(&'static str, &'static [(&'static str, Cell)]),
    /// Buckets of nanoseconds, from this on.
    Times(Cell),
    /// One for each NFS mount, with the label `nfs`.
    Nfs(Field),
    /// 1, with the versions of the processes as labels.
    Versions,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// What it is counted in.
    pub unit: Unit,
    /// Where its numbers come from.
    pub source: Source,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Whether it may change.
    pub stability: Stability,
}

const fn metric(name: &'static str, kind: Kind, source: Source, help: &'static str) -> Metric {
    let (unit, stability) = (Unit::One, Stability::Stable);
    Metric {
        name,
        kind,
        unit,
        source,
        help,
        stability,
    }
}

impl Metric {
    const fn of(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    const fn internal(mut self) -> Self {
        self.stability = Stability::Internal;
        self
    }

    /// The label that tells its numbers apart, besides `mountpoint`, for the table in the documentation.
    #[cfg(test)]
    fn label(&self) -> Option<&'static str> {
        match self.source {
            One(_) => None,
            Labelled(label, _) => Some(label),
            Times(_) => Some("le"),
            Nfs(_) => Some("nfs"),
            Versions => Some("supervisor, worker"),
        }
    }
}

/// All of them, in the order in which they are printed.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("listindexfs_build_info", Gauge, Versions, "1, with the versions of supervisor and worker"),
    metric("listindexfs_mount_start_time_seconds", Gauge, One(Cell::MountStart), "When the mount was made, since 1970").of(Unit::Seconds),
    metric("listindexfs_worker_start_time_seconds", Gauge, One(Cell::WorkerStart), "When the worker that serves was started, since 1970").of(Unit::Seconds),
    metric("listindexfs_worker_up", Gauge, One(Cell::WorkerUp), "1 while there is a worker, 0 for the moment between two"),
    metric("listindexfs_worker_starts_total", Counter, One(Cell::WorkerStarts), "Workers that were started, the first among them"),
    metric("listindexfs_worker_deaths_total", Counter, Labelled("cause", &[
        ("killed", Cell::WorkerKilled), ("crashed", Cell::WorkerCrashed), ("hung", Cell::WorkerHung),
    ]), "Workers that ended otherwise than by an upgrade: killed by somebody, of themselves, or by the watchdog"),
    metric("listindexfs_takeovers_total", Counter, One(Cell::Takeovers), "Workers that went on where another had ended, by an upgrade or otherwise"),
    metric("listindexfs_upgrades_total", Counter, Labelled("result", &[
        ("done", Cell::Upgraded), ("refused", Cell::UpgradeRefused),
    ]), "Upgrades that were asked for, by what came of them"),
    metric("listindexfs_users", Gauge, One(Cell::Users), "Users who have a list index here"),
    metric("listindexfs_users_active", Gauge, One(Cell::ActiveUsers), "Users with files open, a check under way or a fresh verdict, or who had such seconds ago"),
    metric("listindexfs_user_directories", Gauge, One(Cell::Directories), "Users' directories that are here, those in which nothing lies among them"),
    metric("listindexfs_bytes", Gauge, One(Cell::Bytes), "What lies here of all users, in whole pages").of(Unit::Bytes),
    metric("listindexfs_max_bytes", Gauge, One(Cell::MaxBytes), "The bound max_bytes=; 0 where there is none").of(Unit::Bytes),
    metric("listindexfs_max_users", Gauge, One(Cell::MaxUsers), "The bound max_users=; 0 where there is none"),
    metric("listindexfs_open_files", Gauge, One(Cell::OpenFiles), "Files that somebody has open"),
    metric("listindexfs_gate_answers_total", Counter, Labelled("answer", &[
        ("serve", Cell::Served), ("refuse", Cell::Refused),
    ]), "Openers who came to the gate without a verdict, about one for each session, by what they were told"),
    metric("listindexfs_gate_shared_verdicts_total", Counter, One(Cell::SharedVerdicts), "Opens that were let in by a verdict that their process had got within the last second"),
    metric("listindexfs_gate_checks_total", Counter, Labelled("outcome", &[
        ("keep", Cell::Keep), ("finish", Cell::Finish), ("pull", Cell::Pull), ("claim", Cell::Claim),
        ("adopt", Cell::Adopt), ("unclaimed", Cell::Unclaimed), ("drain", Cell::Drain), ("refuse", Cell::Refuse),
    ]), "Looks at INDEX, by what came of them; one may serve several openers"),
    metric("listindexfs_gate_wait_seconds", Kind::Histogram, Times(Cell::GateWait), "How long openers waited at the gate, those who were refused among them").of(Unit::Seconds),
    metric("listindexfs_refused_total", Counter, Labelled("reason", &[
        ("wrong_fs", Cell::RefusedWrongFs), ("softerr", Cell::RefusedSoftErr), ("no_base", Cell::RefusedNoBase),
        ("symlink", Cell::RefusedSymlink), ("wrong_kind", Cell::RefusedWrongKind), ("too_big", Cell::RefusedTooBig),
        ("locked", Cell::RefusedLocked), ("timed_out", Cell::RefusedTimedOut), ("no_path", Cell::RefusedNoPath),
        ("io", Cell::RefusedIo), ("draining", Cell::RefusedDraining), ("overtaken", Cell::RefusedOvertaken),
        ("backing", Cell::RefusedBacking), ("deadly", Cell::RefusedDeadly), ("userdb", Cell::RefusedUserdb),
    ]), "Openers who were refused, by the reason, as the log has it"),
    metric("listindexfs_pulled_bytes_total", Counter, One(Cell::PulledBytes), "What was fetched of list indexes that stock backends had left in INDEX").of(Unit::Bytes),
    metric("listindexfs_evictions_total", Counter, Labelled("reason", &[
        ("bounds", Cell::EvictedBounds), ("full", Cell::EvictedFull), ("age", Cell::EvictedAge),
        ("moved", Cell::EvictedMoved), ("clean", Cell::EvictedClean), ("given_back", Cell::EvictedGivenBack),
        ("leftover", Cell::EvictedLeftover),
    ]), "List indexes that were dropped: max_bytes= or max_users=, a full backing, max_age=, another host's, listindexctl clean, evict or drain, drain --stock, an earlier mount's"),
    metric("listindexfs_ghosts", Gauge, One(Cell::Ghosts), "Sessions whose changes others would not see: until they end their users are refused"),
    metric("listindexfs_ghosts_marked_total", Counter, One(Cell::GhostsMarked), "Sessions that became such"),
    metric("listindexfs_fences_total", Counter, Labelled("result", &[
        ("set", Cell::FenceSet), ("failed", Cell::FenceFailed),
    ]), "Times that .lasthost was set to nobody, as a session had changed what others do not know of, or could not be"),
    metric("listindexfs_host_flaps_total", Counter, One(Cell::Flaps), "Users claimed from another host although this one had claimed them within the last five minutes"),
    metric("listindexfs_nfs_silent", Gauge, Nfs(Field::SilentSince), "1 while the server of this NFS mount has not answered within check_timeout= and not since"),
    metric("listindexfs_nfs_silent_since_timestamp_seconds", Gauge, Nfs(Field::SilentSince), "Since when, since 1970; 0 while it answers").of(Unit::Seconds),
    metric("listindexfs_nfs_silences_total", Counter, Nfs(Field::Silences), "Times that this began"),
    metric("listindexfs_nfs_threads_busy", Gauge, Nfs(Field::Busy), "Threads that work for users of this NFS mount now, of 16, and one that asked").internal(),
    metric("listindexfs_nfs_queued", Gauge, Nfs(Field::Queued), "Checks and fences that wait for one of them").internal(),
    metric("listindexfs_fuse_requests_total", Counter, Labelled("op", &[
        ("lookup", Cell::OpLookup), ("getattr", Cell::OpGetattr), ("setattr", Cell::OpSetattr), ("mkdir", Cell::OpMkdir),
        ("unlink", Cell::OpUnlink), ("rmdir", Cell::OpRmdir), ("rename", Cell::OpRename), ("link", Cell::OpLink),
        ("open", Cell::OpOpen), ("create", Cell::OpCreate), ("read", Cell::OpRead), ("write", Cell::OpWrite),
        ("release", Cell::OpRelease), ("readdir", Cell::OpReaddir), ("statfs", Cell::OpStatfs),
    ]), "Requests of the kernel, without those that cost nothing").internal(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram::CELLS;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut seen = BTreeSet::new();
        for Metric {
            name,
            kind,
            unit,
            help,
            ..
        } in METRICS
        {
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("listindexfs_"), "{name}");
            let total = name.ends_with("_total");
            assert_eq!(total, *kind == Counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert!(base.ends_with(unit.word()), "{name}: {unit:?}");
            assert!(
                !help.contains('\n') && !help.ends_with('.'),
                "{name}: {help}"
            );
        }
    }

    /// The table in `docs/metrics.md`, a row for each metric. With `LISTINDEXFS_WRITE_DOCS` set it is written there.
    #[test]
    fn the_documentation_has_every_metric_as_it_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let page = std::fs::read_to_string(path).expect("docs/metrics.md");
        let head = "| name | type | unit | labels | | stability |\n|---|---|---|---|---|---|\n";
        let rows = METRICS.iter().map(|metric| {
            let labels = match metric.source {
                Labelled(label, cells) => {
                    let values: Vec<_> = cells.iter().map(|(value, _)| *value).collect();
                    format!("`{label}`: {}", values.join(", "))
                }
                _ => metric
                    .label()
                    .map_or_else(String::new, |label| format!("`{label}`")),
            };
            let Metric {
                name,
                kind,
                unit,
                help,
                stability,
                ..
            } = metric;
            let (kind, unit, stability) = (kind.word(), unit.word(), stability.word());
            format!("| `{name}` | {kind} | {unit} | {labels} | {help} | {stability} |\n")
        });
        let wanted = rows.fold(head.to_owned(), |all, row| all + &row);
        let from = page.find(head).expect("a table");
        let len = page[from..].find("\n\n").expect("an end") + 1;
        if std::env::var_os("LISTINDEXFS_WRITE_DOCS").is_some() {
            let new = page[..from].to_owned() + &wanted + &page[from + len..];
            return std::fs::write(path, new).expect("written");
        }
        assert_eq!(
            page[from..from + len],
            wanted,
            "set LISTINDEXFS_WRITE_DOCS and run this again"
        );
    }

    /// The names that a text has, without what a histogram's samples have at their ends.
    fn named(text: &str) -> BTreeSet<&str> {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let words = text.split(|c| !is_name(c));
        let words = words.filter(|word| word.starts_with("listindexfs_"));
        words.map(|word| word.trim_end_matches("_bucket")).collect()
    }

    #[test]
    fn the_dashboard_and_the_documentation_name_what_there_is() {
        let dashboard = include_str!("../../mount/grafana-dashboard.json");
        let parsed: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
        let panels = parsed["panels"].as_array().expect("panels");
        let shows = |panel: &serde_json::Value| panel["targets"][0]["expr"].is_string();
        assert!(panels.len() > 10 && panels.iter().all(shows));
        let known: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        for text in [dashboard, include_str!("../../docs/metrics.md")] {
            let named = named(text);
            assert!(named.len() > 15, "{named:?}");
            let unknown: Vec<_> = named.difference(&known).collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    }

    /// Where each number of a metric lies.
    fn cells(metric: &Metric) -> Vec<usize> {
        match metric.source {
            One(cell) => vec![cell as usize],
            Labelled(_, cells) => cells.iter().map(|(_, cell)| *cell as usize).collect(),
            Times(first) => (first as usize..first as usize + CELLS).collect(),
            Nfs(_) | Versions => Vec::new(),
        }
    }

    #[test]
    fn no_number_belongs_to_two_metrics() {
        let mut seen = BTreeSet::new();
        for at in METRICS.iter().flat_map(cells) {
            assert!(at >= 8 && seen.insert(at), "{at} twice");
        }
        assert!(seen.len() > 80, "{seen:?}");
    }

    /// A worker of one version and a supervisor of another mean the same by them.
    #[test]
    fn positions_never_change() {
        let some = [
            (Cell::OpLookup, 8),
            (Cell::Keep, 40),
            (Cell::RefusedDeadly, 77),
            (Cell::EvictedLeftover, 101),
            (Cell::ActiveUsers, 118),
            (Cell::GateWait, 128),
            (Cell::WorkerUp, 201),
        ];
        for (cell, at) in some {
            assert_eq!(cell as u16, at);
        }
    }
}
