//! All results of a run, as text and as JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::contestant::{BINDFS, Contestant, DIRECT};
use crate::imap::KINDS;
use crate::kills::Kills;
use crate::plan::Plan;
use crate::requests::{self, Count};
use crate::series::Series;
use crate::{table, targets};

#[derive(Debug, Default)]
pub struct Results {
    pub ops: Vec<Series>,
    pub imap: Vec<Series>,
    pub requests: Vec<Count>,
    pub kills: Option<Kills>,
}

impl Results {
    pub fn requests_per_session(&self, session: &str, of: &str) -> Option<f64> {
        let mut counts = self.requests.iter();
        counts
            .find(|c| c.kind == session && c.contestant == of)
            .map(Count::total)
    }

    pub fn print(&self, contestants: &[Contestant]) {
        println!(
            "Ratios are medians over rounds, and in brackets between what these are with 95 % confidence."
        );
        for to in [DIRECT, BINDFS]
            .into_iter()
            .filter(|to| contestants.iter().any(|c| c.name == *to))
        {
            for (series, at_once, rate) in [
                (&self.ops, "threads", "ops/s"),
                (&self.imap, "clients", "IMAP sessions/s"),
            ] {
                if !series.is_empty() {
                    println!(
                        "\n{}",
                        table::of_ratios(series, contestants, to, at_once, rate)
                    );
                }
            }
        }
        if !self.requests.is_empty() {
            println!("\nFUSE requests per Dovecot session, by opcode");
            for kind in KINDS {
                println!("{}", requests::table(&self.requests, kind.name));
            }
        }
        if let Some(kills) = &self.kills {
            println!("\nWorkers killed under 4 threads\n{}", kills.table());
        }
        println!("\n{}", targets::table(&targets::all(self)));
    }

    pub fn write_json(&self, path: &Path, plan: &Plan) -> Result<()> {
        let series = |all: &[Series]| {
            all.iter()
                .map(|s| s.to_json(&[DIRECT, BINDFS]))
                .collect::<Vec<Value>>()
        };
        let targets: Vec<Value> = targets::all(self).iter().map(|t| t.to_json()).collect();
        let all = json!({
            "ops": series(&self.ops),
            "imap": series(&self.imap),
            "requests": self.requests.iter().map(Count::to_json).collect::<Vec<Value>>(),
            "kills": self.kills.as_ref().map(Kills::to_json),
            "targets": targets,
            "rounds": {"ops": plan.ops_rounds, "imap": plan.imap_rounds},
        });
        let text = serde_json::to_string_pretty(&all)?;
        fs::write(path, text + "\n").with_context(|| format!("failed to write {}", path.display()))
    }
}
