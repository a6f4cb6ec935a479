//! The main job, shown with real Dovecots: a user who migrates, moves to another host and comes back. What it
//! tells it has checked; a wrong answer ends it with status 1. Run it by `scripts/demo`.
//!
//! It leaves nothing behind, interrupted or not: what it makes lives in `World`, and goes with it.

#[path = "../../tests/support/mod.rs"]
mod support;

mod stage;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use stage::Stage;
use support::{DOVECOT, FUSE, ROOT, needs};

/// `demo [DISK RAM]`: the directories below which it makes its own.
fn main() -> ExitCode {
    let stage = match Stage::new() {
        Ok(stage) => stage,
        Err(error) => return failed(&format!("cannot watch signals: {error}")),
    };
    if let Some(what) = needs::missing(&[ROOT, DOVECOT, FUSE]) {
        return failed(&format!("this demonstration needs {what}"));
    }
    let mut dirs = std::env::args_os().skip(1).map(PathBuf::from);
    let disk = dirs.next().unwrap_or_else(std::env::temp_dir);
    let ram = dirs.next().unwrap_or_else(|| "/dev/shm".into());
    let outcome = stage.play(&disk, &ram);
    match (outcome, stage.interrupted()) {
        (_, Some(signal)) => {
            eprintln!("interrupted: all that was made is taken away");
            ExitCode::from(128 + signal)
        }
        (Err(error), None) => failed(&format!("{error:#}")),
        (Ok(()), None) => ExitCode::SUCCESS,
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("demo: FAILED: {why}");
    ExitCode::FAILURE
}
