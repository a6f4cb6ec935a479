//! "To reach": what listindexfs promises about its speed, against what was measured. It reports and never fails.

use serde_json::{Value, json};

use crate::contestant::{BINDFS, DIRECT, LISTINDEXFS, PASSTHROUGH_HP};
use crate::kills::{Kills, quantile};
use crate::report::Results;
use crate::series::Series;
use crate::table::Table;

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One promise; it is kept if every measured value keeps it. No values: not measured.
#[derive(Debug)]
pub struct Target {
    what: String,
    bound: Bound,
    measured: Vec<f64>,
}

impl Target {
    fn reached(&self) -> Option<bool> {
        let keeps = |value: &f64| match self.bound {
            Bound::AtLeast(least) => *value >= least,
            Bound::AtMost(most) => *value <= most,
        };
        (!self.measured.is_empty()).then(|| self.measured.iter().all(keeps))
    }

    fn bound(&self) -> String {
        match self.bound {
            Bound::AtLeast(least) => format!("≥ {least:.2}"),
            Bound::AtMost(most) => format!("≤ {most:.1}"),
        }
    }

    pub fn to_json(&self) -> Value {
        json!({"what": self.what, "bound": self.bound(), "measured": self.measured, "reached": self.reached()})
    }
}

/// Everything to reach, in the order it is printed.
pub fn all(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    for (session, most) in [("reading", 5.0), ("appending", 9.0)] {
        targets.push(Target {
            what: format!("FUSE requests per warm session, {session}"),
            bound: Bound::AtMost(most),
            measured: results
                .requests_per_session(session, LISTINDEXFS)
                .into_iter()
                .collect(),
        });
    }
    for name in ["pread", "lock", "mmap", "open+mmap", "stat hit"] {
        targets.push(ratio("", &results.ops, name, DIRECT, 0.8));
    }
    for name in ["login", "append", "rewrite", "open"] {
        for rival in [BINDFS, PASSTHROUGH_HP] {
            targets.push(ratio("", &results.ops, name, rival, 1.0));
        }
    }
    for (name, least) in [("reading", 0.97), ("appending", 0.92)] {
        targets.push(ratio("IMAP sessions, ", &results.imap, name, DIRECT, least));
    }
    for (what, of, part, most) in KILLS {
        let of = results.kills.iter().map(|kills| quantile(of(kills), part));
        targets.push(Target {
            what: format!("{what}, ms"),
            bound: Bound::AtMost(most),
            measured: of.collect(),
        });
    }
    targets
}

/// What is measured of kills: which part of them may take so many milliseconds at most.
type OfKills = (&'static str, fn(&Kills) -> &[f64], f64, f64);

const KILLS: [OfKills; 3] = [
    (
        "longest call over a kill, p50",
        |kills| &kills.longest,
        0.5,
        60.0,
    ),
    (
        "longest call over a kill, max",
        |kills| &kills.longest,
        1.0,
        500.0,
    ),
    (
        "from a kill to the next answer, max",
        |kills| &kills.answered,
        1.0,
        200.0,
    ),
];

/// The median ratio of each number of threads or clients.
fn ratio(what: &str, series: &[Series], name: &str, rival: &str, least: f64) -> Target {
    let named = || series.iter().filter(|s| s.name == name);
    let at_once: Vec<String> = named().map(|s| s.at_once.to_string()).collect();
    let unit = if at_once.is_empty() {
        String::new()
    } else {
        format!(" ({})", at_once.join(", "))
    };
    Target {
        what: format!("{what}{name} : {rival}{unit}"),
        bound: Bound::AtLeast(least),
        measured: named()
            .filter_map(|s| s.ratio(LISTINDEXFS, rival))
            .map(|s| s.median)
            .collect(),
    }
}

pub fn table(targets: &[Target]) -> Table {
    let mut table = Table::new([
        "listindexfs, to reach (threads or clients)",
        "",
        "measured",
        "reached",
    ]);
    for target in targets {
        let measured: Vec<String> = target
            .measured
            .iter()
            .map(|value| format!("{value:.2}"))
            .collect();
        let reached = match target.reached() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not measured",
        };
        table.row([
            target.what.clone(),
            target.bound(),
            measured.join(", "),
            reached.to_owned(),
        ]);
    }
    table
}
