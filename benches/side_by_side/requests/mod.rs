//! FUSE requests per Dovecot session, by opcode: a pass of its own, not timed, since the daemons print every request.

mod printed;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::contestant::{Contestant, Talk};
use crate::imap::host::Host;
use crate::imap::{KINDS, Kind};
use crate::plan::Plan;
use crate::table::Table;
use printed::Printed;

/// Few users, so that all are warm soon.
const USERS: usize = 5;

/// RELEASE and FORGET come after the session's end: a daemon that printed nothing for so long is through.
const QUIET: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests per session of one kind on one contestant, by opcode.
#[derive(Clone, Debug)]
pub struct Count {
    pub kind: &'static str,
    pub contestant: &'static str,
    by_opcode: BTreeMap<String, f64>,
}

impl Count {
    pub fn total(&self) -> f64 {
        self.by_opcode.values().sum()
    }

    pub fn to_json(&self) -> Value {
        let by_opcode: Map<String, Value> = self
            .by_opcode
            .iter()
            .map(|(opcode, count)| (opcode.clone(), json!(count)))
            .collect();
        json!({
            "session": self.kind,
            "contestant": self.contestant,
            "per_session": self.total(),
            "by_opcode": by_opcode,
        })
    }
}

/// Counts every kind of session on every contestant that has a daemon to count at.
pub fn run(contestants: &[Contestant], plan: &Plan) -> Result<Vec<Count>> {
    let mut counts = Vec::new();
    for contestant in contestants.iter().filter(|c| c.daemon.is_some()) {
        let mut host = Host::start(contestant, &plan.dir, "requests", USERS, Talk::EveryRequest)?;
        let mut printed = Printed::of(&host.running.place.log);
        for kind in KINDS {
            counts.push(count(&mut host, &mut printed, kind, plan.counted_sessions)?);
        }
        host.finish()?;
        eprintln!("requests: {contestant} counted");
    }
    Ok(counts)
}

fn count(host: &mut Host, printed: &mut Printed, kind: &Kind, sessions: usize) -> Result<Count> {
    // The first session of its kind for each user only warms up.
    run_sessions(host, kind, USERS)?;
    wait_until_quiet(host, printed)?;
    run_sessions(host, kind, sessions)?;
    let seen = wait_until_quiet(host, printed)?;
    ensure!(
        !seen.is_empty(),
        "{} printed no requests",
        host.running.name
    );
    let per_session = |(opcode, count)| (opcode, f64::from(count) / sessions as f64);
    Ok(Count {
        kind: kind.name,
        contestant: host.running.name,
        by_opcode: seen.into_iter().map(per_session).collect(),
    })
}

fn run_sessions(host: &mut Host, kind: &Kind, sessions: usize) -> Result<()> {
    (0..sessions).try_for_each(|i| (kind.run)(&host.dovecot, &mut host.users[i % USERS]))
}

/// Gives what was printed since the last time, once no session is left and nothing more is printed.
fn wait_until_quiet(host: &Host, printed: &mut Printed) -> Result<BTreeMap<String, u32>> {
    host.dovecot.wait_no_sessions();
    let until = Instant::now() + PATIENCE;
    let mut all = BTreeMap::new();
    while Instant::now() < until {
        sleep(QUIET);
        let more = printed.more()?;
        if more.is_empty() {
            return Ok(all);
        }
        for (opcode, count) in more {
            *all.entry(opcode).or_insert(0) += count;
        }
    }
    bail!("{} is never quiet", host.running.name)
}

/// Opcode × contestant.
pub fn table(counts: &[Count], kind: &str) -> Table {
    let counts: Vec<&Count> = counts.iter().filter(|count| count.kind == kind).collect();
    let opcodes: BTreeSet<&String> = counts
        .iter()
        .flat_map(|count| count.by_opcode.keys())
        .collect();
    let mut table = Table::new(
        [kind]
            .into_iter()
            .chain(counts.iter().map(|count| count.contestant)),
    );
    for opcode in opcodes {
        let cell = |count: &&Count| {
            count
                .by_opcode
                .get(opcode)
                .map_or_else(String::new, |n| format!("{n:.2}"))
        };
        table.row([opcode.clone()].into_iter().chain(counts.iter().map(cell)));
    }
    let total = |count: &&Count| format!("{:.2}", count.total());
    table.row(
        ["all".to_owned()]
            .into_iter()
            .chain(counts.iter().map(total)),
    );
    table
}
