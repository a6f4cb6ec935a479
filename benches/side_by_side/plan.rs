//! The command line, which `scripts/bench` fills in, and how long each part may take.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Ops,
    Imap,
    Requests,
    Kills,
}

/// Compares list index filesystems. Run it through scripts/bench.
#[derive(Parser, Debug)]
pub struct Cli {
    /// An empty directory on a tmpfs
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// A contestant's program
    #[arg(long = "program", value_name = "NAME=PATH", value_parser = name_and_path)]
    pub programs: Vec<(String, PathBuf)>,
    /// Leave the other contestants out
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub contestants: Vec<String>,
    /// Run one part only
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// Fewer and shorter rounds
    #[arg(long)]
    pub quick: bool,
    /// Write all figures to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// What to run and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dir: PathBuf,
    pub only: Option<Part>,
    pub ops_rounds: usize,
    pub ops_time: Duration,
    pub imap_rounds: usize,
    pub imap_time: Duration,
    pub counted_sessions: usize,
    pub kills: usize,
}

impl Plan {
    /// Many short rounds rather than few long ones: the median over rounds is what drops the machine's hiccups.
    pub fn new(dir: PathBuf, cli: &Cli) -> Self {
        let usual = Self {
            dir,
            only: cli.only,
            ops_rounds: 9,
            ops_time: Duration::from_millis(120),
            imap_rounds: 240,
            imap_time: Duration::from_millis(60),
            counted_sessions: 100,
            kills: 200,
        };
        if !cli.quick {
            return usual;
        }
        Self {
            ops_rounds: 3,
            ops_time: Duration::from_millis(50),
            imap_rounds: 8,
            imap_time: Duration::from_millis(250),
            counted_sessions: 30,
            kills: 50,
            ..usual
        }
    }

    pub fn runs(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

fn name_and_path(text: &str) -> Result<(String, PathBuf)> {
    let (name, path) = text.split_once('=').context("expected NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}
