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

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// Measures A B C A B C …; `measure` is given the contestant's number.
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
    for _ in 0..rounds {
        for (i, (_, of_one)) in rates.iter_mut().enumerate() {
            of_one.push(measure(i)?);
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
                        json!({"median": s.median, "min": s.min, "max": s.max}),
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
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    };
    Some(Spread { median, min, max })
}
