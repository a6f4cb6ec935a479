//! Prometheus' text format, version 0.0.4. Pure.
//!
//! Written by hand: numbers are in shared memory and not in a registry of some library, and the format is a few lines.

use std::fmt::Write;

use super::histogram::{ENDS, SUM};
use super::names::{Field, METRICS, Metric, Source, Unit};
use super::{Nfs, Reading};

/// What HTTP calls it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A mount and its numbers.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The supervisor's version, and the worker's where there is one.
    pub versions: (String, Option<String>),
    /// Its numbers.
    pub reading: Reading,
}

/// All metrics of these mounts.
pub fn text(mounts: &[Shown]) -> String {
    let mut out = String::new();
    for metric in METRICS {
        let Metric {
            name, help, kind, ..
        } = metric;
        // Writing into a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
        for mount in mounts {
            samples(&mut out, metric, mount);
        }
    }
    out
}

fn samples(out: &mut String, metric: &Metric, of: &Shown) {
    let (name, mount) = (metric.name, escaped(&of.mountpoint));
    let mut sample = |end: &str, labels: &str, value: &dyn std::fmt::Display| {
        // As above.
        let _ = writeln!(out, "{name}{end}{{mountpoint=\"{mount}\"{labels}}} {value}");
    };
    match metric.source {
        Source::One(cell) => sample("", "", &of.reading.get(cell)),
        Source::Labelled(label, cells) => {
            for (value, cell) in cells {
                let label = format!(",{label}=\"{value}\"");
                sample("", &label, &of.reading.get(*cell));
            }
        }
        Source::Times(first) => {
            let (times, mut below) = (of.reading.times(first), 0);
            for (end, here) in ENDS.iter().zip(&times) {
                below += here;
                sample("_bucket", &format!(",le=\"{}\"", seconds(*end)), &below);
            }
            below += times[SUM - 1];
            sample("_bucket", ",le=\"+Inf\"", &below);
            sample("_sum", "", &seconds(times[SUM]));
            sample("_count", "", &below);
        }
        Source::Nfs(field) => {
            for nfs in &of.reading.nfs {
                let label = format!(",nfs=\"{}\"", escaped(&nfs.mount));
                sample("", &label, &nfs_value(metric, nfs, field));
            }
        }
        Source::Versions => {
            let (supervisor, worker) = &of.versions;
            let worker = escaped(worker.as_deref().unwrap_or_default());
            let supervisor = escaped(supervisor);
            sample(
                "",
                &format!(",supervisor=\"{supervisor}\",worker=\"{worker}\""),
                &1,
            );
        }
    }
}

/// Of "since when" also "whether".
fn nfs_value(metric: &Metric, nfs: &Nfs, field: Field) -> u64 {
    let value = nfs.get(field);
    match (field, metric.unit) {
        (Field::SilentSince, Unit::One) => u64::from(value > 0),
        _ => value,
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(nanos: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    match nanos % SECOND {
        0 => (nanos / SECOND).to_string(),
        part => {
            let text = format!("{}.{part:09}", nanos / SECOND);
            text.trim_end_matches('0').to_owned()
        }
    }
}

/// A label's value.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Cell, Stats};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn shown(mountpoint: &str, record: impl FnOnce(&Stats)) -> Shown {
        let stats = Stats::default();
        record(&stats);
        Shown {
            mountpoint: mountpoint.to_owned(),
            versions: ("0.1.0".to_owned(), Some("0.2.0".to_owned())),
            reading: stats.read(),
        }
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|found| found == line)
    }

    #[test]
    fn each_mount_has_its_samples_below_one_head() {
        let text = text(&[
            shown("/run/a", |stats| stats.add(Cell::Keep, 3)),
            shown("/run/\"b\\", |stats| stats.add(Cell::Keep, 4)),
        ]);
        let name = "listindexfs_gate_checks_total";
        assert!(
            has(
                &text,
                &format!("{name}{{mountpoint=\"/run/a\",outcome=\"keep\"}} 3")
            ),
            "{text}"
        );
        let second = format!("{name}{{mountpoint=\"/run/\\\"b\\\\\",outcome=\"keep\"}} 4");
        assert!(has(&text, &second), "{text}");
        assert_eq!(text.matches(&format!("# TYPE {name} counter\n")).count(), 1);
        let info =
            "listindexfs_build_info{mountpoint=\"/run/a\",supervisor=\"0.1.0\",worker=\"0.2.0\"} 1";
        assert!(has(&text, info), "{text}");
    }

    #[test]
    fn buckets_add_up() {
        let text = text(&[shown("/m", |stats| {
            for micros in [5, 15, 1500] {
                stats.took(Cell::GateWait, Duration::from_micros(micros));
            }
            stats.took(Cell::GateWait, Duration::from_secs(500));
        })]);
        for line in [
            "listindexfs_gate_wait_seconds_bucket{mountpoint=\"/m\",le=\"0.00001\"} 1",
            "listindexfs_gate_wait_seconds_bucket{mountpoint=\"/m\",le=\"0.00002\"} 2",
            "listindexfs_gate_wait_seconds_bucket{mountpoint=\"/m\",le=\"100\"} 3",
            "listindexfs_gate_wait_seconds_bucket{mountpoint=\"/m\",le=\"+Inf\"} 4",
            "listindexfs_gate_wait_seconds_sum{mountpoint=\"/m\"} 500.00152",
            "listindexfs_gate_wait_seconds_count{mountpoint=\"/m\"} 4",
        ] {
            assert!(has(&text, line), "{line} in:\n{text}");
        }
    }

    #[test]
    fn a_silent_server_is_told_of_in_two_ways() {
        let text = text(&[shown("/m", |stats| {
            let slot = stats.nfs("/nfs");
            stats.nfs_set(slot, Field::SilentSince, 1234);
        })]);
        let of = "{mountpoint=\"/m\",nfs=\"/nfs\"}";
        assert!(has(&text, &format!("listindexfs_nfs_silent{of} 1")));
        assert!(has(
            &text,
            &format!("listindexfs_nfs_silent_since_timestamp_seconds{of} 1234")
        ));
    }

    /// What Prometheus' parser demands of a line.
    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let text = text(&[shown("/m", |stats| {
            stats.nfs("/nfs");
        })]);
        let mut samples = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (series, value) = line.rsplit_once(' ').expect(line);
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.ends_with('}'), "{line}");
            assert!(samples.insert(series), "{series} twice");
        }
        assert!(text.ends_with('\n') && samples.len() > 80);
    }
}
