//! Tables for reading: columns as wide as their widest cell, the first to the left, the others to the right.

use std::fmt;

use crate::contestant::{Contestant, DIRECT};
use crate::series::{Series, Spread};

/// Rows of cells; the first row is the heading.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<T: Into<String>>(heading: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::default();
        table.row(heading);
        table
    }

    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of = |i: usize| {
            self.rows
                .iter()
                .filter_map(move |row| row.get(i))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|i| width_of(i).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line += &if i == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                };
            }
            writeln!(f, "  {}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The rates of `to`, and the ratios of the others, plain tmpfs apart, to it.
pub fn of_ratios(
    series: &[Series],
    contestants: &[Contestant],
    to: &str,
    at_once: &str,
    rate: &str,
) -> Table {
    let others = || {
        contestants
            .iter()
            .map(|c| c.name)
            .filter(|name| ![DIRECT, to].contains(name))
    };
    let mut heading = vec![String::new(), at_once.to_owned(), format!("{to} {rate}")];
    heading.extend(others().map(|name| format!("{name} : {to}")));
    let mut table = Table::new(heading);
    for one in series {
        let mut row = vec![one.name.to_owned(), one.at_once.to_string()];
        row.push(
            one.rate(to)
                .map_or_else(String::new, |s| thousands(s.median)),
        );
        row.extend(others().map(|name| cell(one.ratio(name, to))));
        table.row(row);
    }
    table
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |s| {
        format!("{:.2} ({:.2}–{:.2})", s.median, s.low, s.high)
    })
}

fn thousands(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
