//! Plain tmpfs, listindexfs and other FUSE filesystems side by side, doing what Dovecot does.
//!
//! `scripts/bench` runs it: in namespaces of its own, where it may mount and start what it likes and leave nothing.

mod contestant;
mod imap;
mod kills;
mod ops;
mod place;
mod plan;
mod rate;
mod report;
mod requests;
mod running;
mod series;
mod table;
mod targets;
mod users;

#[path = "../../tests/support/mod.rs"]
mod support;

use anyhow::Result;
use clap::Parser;

use plan::{Cli, Part, Plan};
use report::Results;

fn main() -> Result<()> {
    let cli = Cli::parse();
    let Some(dir) = cli.dir.clone() else {
        println!("not run: this bench mounts and starts much; run it with scripts/bench");
        return Ok(());
    };
    let plan = Plan::new(dir, &cli);
    let contestants = contestant::line_up(&cli.programs, &cli.contestants)?;
    let mut results = Results::default();
    if plan.runs(Part::Ops) {
        results.ops = ops::run(&contestants, &plan)?;
    }
    if plan.runs(Part::Requests) {
        results.requests = requests::run(&contestants, &plan)?;
    }
    if plan.runs(Part::Imap) {
        results.imap = imap::run(&contestants, &plan)?;
    }
    if plan.runs(Part::Kills) {
        results.kills = kills::run(&contestants, &plan)?;
    }
    if let Some(path) = &cli.json {
        results.write_json(path, &plan)?;
    }
    results.print(&contestants);
    Ok(())
}
