//! A bar for people, on standard error, without colours; nothing where that is no terminal, or one that cannot do it (`TERM=dumb`).

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::screen::has_cursor;
use crate::control::protocol::Step;

/// How often it moves though nothing is heard.
const TICK: Duration = Duration::from_millis(100);

/// What is shown while it goes on.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins, with a bar if it is `wanted` and there is a terminal.
    pub fn new(wanted: bool) -> Self {
        let bar = match wanted && has_cursor() {
            true => ProgressBar::new_spinner(), // hidden by itself where there is none
            false => ProgressBar::hidden(),
        };
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Progress(bar)
    }

    /// Shows how far a clean has come.
    pub fn show(&mut self, sum: &Step) {
        let done = format!("{} dropped, {}", sum.dropped, HumanBytes(sum.bytes));
        self.at(sum.looked_at, sum.due, sum.counting, done);
    }

    /// Shows how far it has come: so many of so many, once that is known, or what is `counted` before it begins.
    pub fn at(&mut self, done: u64, due: Option<u64>, counted: Option<u64>, message: String) {
        if let (None, Some(due)) = (self.0.length(), due) {
            self.0.set_length(due);
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}");
            self.0
                .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        self.0.set_position(done);
        self.0.set_message(match counted {
            Some(directories) => format!("counting what lies here: {directories} directories"),
            None => message,
        });
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}
