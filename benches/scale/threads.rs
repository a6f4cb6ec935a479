//! CPU time of a process's threads by name, also of those that have ended since they were looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

/// A thread that has used nothing for so long has nothing to do.
const IDLE: Duration = Duration::from_secs(4);

/// The threads of a process.
pub struct Threads {
    pid: u32,
    seen: BTreeMap<String, (String, Duration)>,
}

impl Threads {
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            seen: BTreeMap::new(),
        }
    }

    /// Looks at all of them. Gives the names of those that live.
    pub fn look(&mut self) -> Result<BTreeSet<String>> {
        let tasks = format!("/proc/{}/task", self.pid);
        let mut alive = BTreeSet::new();
        for task in fs::read_dir(&tasks).with_context(|| format!("failed to read {tasks}"))? {
            let task = task?;
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            let Some((name, spent)) = read("comm").zip(read("schedstat")) else {
                continue; // meanwhile
            };
            let spent = spent.split(' ').next().and_then(|ns| ns.parse().ok());
            let spent = Duration::from_nanos(spent.context("a schedstat")?);
            let name = name.trim().to_owned();
            let tid = task.file_name().to_string_lossy().into_owned();
            alive.insert(name.clone());
            self.seen.insert(tid, (name, spent));
        }
        Ok(alive)
    }

    /// Waits until those of this name have no work any more.
    pub fn wait_idle(&mut self, name: &str) -> Result<()> {
        loop {
            self.look()?;
            let before = self.cpu(name);
            sleep(IDLE);
            self.look()?;
            // Looking whether there is any takes microseconds.
            if self.cpu(name) < before + IDLE / 1000 {
                return Ok(());
            }
        }
    }

    /// What those of this name have used, as far as it has been looked at.
    pub fn cpu(&self, name: &str) -> Duration {
        let of_name = self.seen.values().filter(|(of, _)| of == name);
        of_name.map(|(_, spent)| *spent).sum()
    }
}
