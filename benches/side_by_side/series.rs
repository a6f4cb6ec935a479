//! What was measured: rates by contestant and round, and their ratios.
//!
//! Contestants take turns within a round and a ratio is taken within its round, so that a machine that
//! slows down for a while slows both sides of the ratio.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::contestant::Contestant;

/// Rates of one workload at one number of threads or clients.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: &'static str,
    pub at_once: usize,
    rates: Vec<(&'static str, Vec<f64>)>,
}

/// Median, and between what it is with 95 % confidence; the least and the greatest where there are few values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// Measures A B C C B A A B C …, so that none always comes after the same one; `measure` is given the contestant's number.
pub fn interleave(
    name: &'static str,
    at_once: usize,
    contestants: &[Contestant],
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<f64>,
) -> Result<Series> {
    let mut rates: Vec<_> = contestants
        .iter()
        .map(|c| (c.name, Vec::with_capacity(rounds)))
        .collect();
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let i = match round % 2 {
                0 => turn,
                _ => contestants.len() - 1 - turn,
            };
            rates[i].1.push(measure(i)?);
        }
    }
    Ok(Series {
        name,
        at_once,
        rates,
    })
}

impl Series {
    /// The rates of one contestant, if it took part.
    pub fn rate(&self, of: &str) -> Option<Spread> {
        spread(self.of(of)?.to_vec())
    }

    /// One contestant's rate over another's, by round.
    pub fn ratio(&self, of: &str, to: &str) -> Option<Spread> {
        let pairs = self.of(of)?.iter().zip(self.of(to)?);
        spread(pairs.map(|(of, to)| of / to).collect())
    }

    /// Every rate, and the ratios to the contestants named in `to`.
    pub fn to_json(&self, to: &[&str]) -> Value {
        let mut contestants = Map::new();
        for (name, rates) in &self.rates {
            let mut one = Map::from_iter([("per_second".to_owned(), json!(rates))]);
            for to in to {
                if let Some(s) = self.ratio(name, to) {
                    one.insert(
                        format!("to_{to}"),
                        json!({"median": s.median, "low": s.low, "high": s.high}),
                    );
                }
            }
            contestants.insert((*name).to_owned(), one.into());
        }
        json!({"name": self.name, "at_once": self.at_once, "contestants": contestants})
    }

    fn of(&self, name: &str) -> Option<&[f64]> {
        self.rates
            .iter()
            .find(|(of, _)| *of == name)
            .map(|(_, rates)| rates.as_slice())
    }
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    // So many of the values are beyond either end: binomial, by the normal approximation.
    let beyond = (values.len() as f64 - 1.96 * (values.len() as f64).sqrt()) / 2.0;
    let beyond = beyond.max(0.0) as usize;
    let low = *values.get(beyond)?;
    let high = *values.get(values.len() - 1 - beyond)?;
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    };
    Some(Spread { median, low, high })
}
