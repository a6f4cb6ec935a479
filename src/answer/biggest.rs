//! Who has most here, for `listindexctl top`: the whole table is gone through, a piece at a time, and only so many are kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use super::Worker;
use crate::control::protocol::Answer;
use crate::control::users::Big;
use crate::store::Node;
use crate::store::usage::Stamp;

/// So many are told of at most.
const MOST: u64 = 100;
/// So many users are looked at before others get their turn.
const AT_ONCE: u64 = 1000;
/// Who is used meanwhile is met again: so many may be, besides as many as there are.
const MORE: u64 = 1000;

/// The biggest first.
pub fn of(worker: &Worker, most: u64) -> Answer {
    let named = biggest(worker, most.min(MOST))
        .into_iter()
        .map(|(bytes, dir, last)| {
            let user = worker.gate.user_in(dir)?;
            Ok(user.map(|user| Big {
                name: user.to_string(),
                bytes,
                last: last.0,
            }))
        });
    match named.collect::<io::Result<Vec<_>>>() {
        Ok(named) => Answer::Biggest(named.into_iter().flatten().collect()),
        Err(error) => Answer::Error(error.to_string()),
    }
}

fn biggest(worker: &Worker, most: u64) -> Vec<(u64, Node, Stamp)> {
    let usage = worker.store.usage();
    let mut found = BinaryHeap::new();
    let (mut all, mut left) = (usage.in_order(), usage.users() + MORE);
    while left > 0 {
        let more = (worker.pace).work(|| {
            for _ in 0..AT_ONCE.min(left) {
                let Some(kept) = all.next() else {
                    return false;
                };
                // The last that was met of one who was met twice is the right one, and nearly always all the same.
                let known = |other: &Reverse<(u64, Node, Stamp)>| other.0.1 == kept.dir;
                if !found.iter().any(known) {
                    found.push(Reverse((kept.bytes.all(), kept.dir, kept.last)));
                }
                if found.len() as u64 > most {
                    found.pop();
                }
            }
            true
        });
        if !more {
            break;
        }
        left -= AT_ONCE.min(left);
    }
    let sorted = found.into_sorted_vec();
    sorted.into_iter().map(|Reverse(big)| big).collect()
}
