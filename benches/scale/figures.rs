//! What was measured, for reading.

use std::fmt;

use crate::logins::Times;
use crate::memory::mib;

#[derive(Debug, Default)]
pub struct Figures(Vec<Line>);

#[derive(Debug)]
enum Line {
    Heading(String),
    Row(String, String),
}

impl Figures {
    pub fn heading(&mut self, text: &str) {
        eprintln!("{text}");
        self.0.push(Line::Heading(text.to_owned()));
    }

    pub fn row(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        let (what, figure) = (what.into(), figure.into());
        eprintln!("  {what}: {figure}");
        self.0.push(Line::Row(what, figure));
    }

    /// Bytes before and after something.
    pub fn change(&mut self, what: &str, before: u64, after: u64) {
        self.row(what, format!("{} -> {}", mib(before), mib(after)));
    }

    /// How long logins took, and how many times as long as others.
    pub fn logins(&mut self, what: &str, times: &Times, than: Option<&Times>) {
        let [p50, p99] = [50, 99].map(|percent| times.percentile(percent).as_secs_f64());
        let mut figure = format!("p50 {:.0} µs, p99 {:.0} µs", p50 * 1e6, p99 * 1e6);
        figure += &format!(" of {}", times.count());
        if let Some(than) = than {
            let [to50, to99] = [50, 99].map(|percent| than.percentile(percent).as_secs_f64());
            figure += &format!("; {:.2} and {:.2} times", p50 / to50, p99 / to99);
        }
        self.row(what, figure);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.0.iter().filter_map(|line| match line {
            Line::Row(what, _) => Some(what.chars().count()),
            Line::Heading(_) => None,
        });
        let width = widths.max().unwrap_or(0);
        for line in &self.0 {
            match line {
                Line::Heading(text) => writeln!(f, "{text}")?,
                Line::Row(what, figure) => writeln!(f, "  {what:<width$}  {figure}")?,
            }
        }
        Ok(())
    }
}
