//! The limits of the promise while a stock backend's list index lies in INDEX: promised more, the check fails.
//!
//! Each is told in `docs/semantics.md`, under "What is not covered". A test that fails here tells that a limit is none any more.

use super::check::{Protocol, explore};
use super::rules::{Promise, Rules};

fn is_broken(rules: Rules) {
    let (states, found) = explore(Protocol::new(rules), 1);
    let (property, trace) = found.expect("a limit of the promise");
    println!(
        "{states} states, not so: {property}\n  {}",
        trace.join("\n  ")
    );
}

/// A session is open here, a stock backend is used, the session writes; the next login fetches what lacks that.
#[test]
fn a_writer_beside_a_stock_log_is_not_heard_of_before_its_end() {
    is_broken(Rules {
        promise: Promise::All,
        ..Rules::MIGRATING
    });
}

/// A host claims and refuses; a stock backend makes a list index of which the claim does not warn; the refused session writes,
/// and another host fetches.
#[test]
fn nor_is_who_was_refused_while_nothing_warns_of_the_log() {
    is_broken(Rules {
        promise: Promise::Refused,
        refuse: true,
        sessions: 2,
        ..Rules::MIGRATING
    });
}

/// Two hosts claim at once: one has looked whether .lasthost warns of the log before the other put the warning, and
/// replaces it afterwards.
#[test]
fn nor_is_who_was_refused_while_another_host_claims() {
    is_broken(Rules {
        promise: Promise::DuringClaims,
        trouble: true,
        ..Rules::MIGRATING
    });
}
