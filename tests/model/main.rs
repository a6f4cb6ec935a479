//! The protocol model: every order in which everything can happen, in small configurations, checked exhaustively.
//!
//! It is of what the code does: `decide` is the code's own, and what is done in one act bears the name of the function
//! that does it. Each configuration has a small bound, for every run of the tests, and a large one, with
//! `LISTINDEXFS_MODEL=large`. The states they have are told beside them, and the seconds, in a release build on two busy cores;
//! the largest takes 6 GiB.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acts;
mod canon;
mod check;
mod ending;
mod fence;
mod flight;
mod found;
mod giving;
mod mutants;
mod rules;
mod session;
mod settle;
mod state;

use std::sync::Arc;
use std::time::Instant;

use self::check::{Protocol, explore};
use self::rules::Rules;
use self::state::HOSTS;

/// Whether the large bounds were asked for.
fn is_large() -> bool {
    std::env::var("LISTINDEXFS_MODEL").is_ok_and(|size| size == "large")
}

/// Checks a configuration, small or large; it must come to these steps and decisions.
fn holds(small: Rules, large: Rules, comes_to: &[&str]) {
    let protocol = Protocol::new(if is_large() { large } else { small });
    let reached = Arc::clone(&protocol.reached);
    let start = Instant::now();
    let (states, found) = explore(protocol, 2);
    println!(
        "{states} states, {:.1?}, {:?}",
        start.elapsed(),
        reached.words()
    );
    if let Some((property, trace)) = found {
        panic!("not so: {property}\n  {}", trace.join("\n  "));
    }
    for word in comes_to {
        assert!(reached.words().contains(word), "never comes to {word}");
    }
}

/// 24,000 states; large 1.3 million, 3 s.
#[test]
fn sessions_linger() {
    let large = Rules {
        sessions: 3,
        ..Rules::PLAIN
    };
    holds(
        Rules::PLAIN,
        large,
        &["claim", "keep", "adopt", "drain", "recorded"],
    );
}

/// 2,000 states; large 1.4 million, 3 s.
#[test]
fn on_three_hosts() {
    let large = Rules {
        hosts: 3,
        ..Rules::PLAIN
    };
    let small = Rules {
        sessions: 1,
        ..large
    };
    holds(small, large, &["claim", "keep"]);
}

/// 29,000 states; large 120,000, 1 s.
#[test]
fn on_three_hosts_that_migrate() {
    let large = Rules {
        hosts: 3,
        sessions: 1,
        crash: true,
        trouble: true,
        ..Rules::MIGRATING
    };
    let small = Rules {
        trouble: false,
        ..large
    };
    holds(small, large, &["claim", "keep", "pull", "finish"]);
}

/// The list index is made in two steps, CREATE of L.newlock and its rename.
/// 72,000 states; large 0.9 million, 3 s.
#[test]
fn list_indexes_are_made_in_two_steps() {
    let small = Rules {
        builds: true,
        spoil: true,
        ..Rules::PLAIN
    };
    let large = Rules {
        migrate: [true; HOSTS],
        stock: true,
        crash: true,
        ..small
    };
    holds(small, large, &["claim", "keep", "adopt", "drain"]);
}

/// 130,000 states; large 4.4 million, 23 s.
#[test]
fn daemons_and_workers_die_at_any_step() {
    let small = Rules {
        crash: true,
        remount: true,
        ..Rules::PLAIN
    };
    let large = Rules {
        late: true,
        ..small
    };
    holds(small, large, &["claim", "keep", "adopt", "drain"]);
}

/// 2,000 states; large 2.7 million, 14 s.
#[test]
fn sessions_go_on_without_a_daemon() {
    let large = Rules {
        down: true,
        trouble: true,
        ..Rules::PLAIN
    };
    let small = Rules {
        trouble: false,
        sessions: 1,
        ..large
    };
    holds(small, large, &["claim", "keep"]);
}

/// Mounts end in order, and sessions go on.
/// 7,000 states; large 1 million, 6 s.
#[test]
fn mounts_end_and_sessions_go_on() {
    let large = Rules {
        unmount: true,
        ..Rules::PLAIN
    };
    let small = Rules {
        sessions: 1,
        ..large
    };
    holds(small, large, &["claim", "keep"]);
}

/// 51,000 states; large 29 million, 238 s.
#[test]
fn mounts_end_while_users_migrate() {
    let small = Rules {
        unmount: true,
        sessions: 1,
        ..Rules::MIGRATING
    };
    let large = Rules {
        sessions: 2,
        ..small
    };
    holds(small, large, &["pull", "deleted", "claim"]);
}

/// 14,000 states; large 7 million, 61 s.
#[test]
fn nfs_fails_while_mounts_end() {
    let large = Rules {
        unmount: true,
        trouble: true,
        sessions: 1,
        ..Rules::MIGRATING
    };
    let small = Rules { hosts: 1, ..large };
    holds(small, large, &["pull", "deleted", "claim"]);
}

/// 55,000 states; large 27 million, 430 s.
#[test]
fn users_are_evicted() {
    let small = Rules {
        evict: true,
        ..Rules::PLAIN
    };
    let large = Rules {
        crash: true,
        remount: true,
        refuse: true,
        ..small
    };
    holds(small, large, &["claim", "keep", "adopt", "drain"]);
}

/// 160,000 states; large 250,000, 1 s.
#[test]
fn nfs_fails_at_any_step() {
    let small = Rules {
        trouble: true,
        ..Rules::PLAIN
    };
    let large = Rules {
        crash: true,
        spoil: true,
        ..small
    };
    holds(small, large, &["claim", "keep", "adopt", "drain", "refuse"]);
}

/// Who waits is refused, and the run goes on some time.
/// 70,000 states; large 3.2 million, 21 s.
#[test]
fn nfs_hangs_at_any_step() {
    let large = Rules {
        refuse: true,
        ..Rules::PLAIN
    };
    let small = Rules {
        sessions: 1,
        ..large
    };
    holds(small, large, &["claim", "keep", "adopt"]);
}

/// 64,000 states; large 270,000, 1 s.
#[test]
fn the_backing_is_full() {
    let small = Rules {
        spoil: true,
        ..Rules::PLAIN
    };
    let large = Rules {
        crash: true,
        remount: true,
        ..small
    };
    holds(small, large, &["claim", "keep", "adopt", "drain"]);
}

/// 160,000 states; large 330,000, 2 s.
#[test]
fn the_user_is_deleted_and_made_again() {
    let small = Rules {
        delete: true,
        ..Rules::PLAIN
    };
    let large = Rules {
        crash: true,
        trouble: true,
        ..small
    };
    holds(small, large, &["claim", "keep", "unclaimed", "drain"]);
}

/// All steps, and all decisions but those that trouble and a missing INDEX make.
const OF_A_MIGRATION: [&str; 13] = [
    "record-removed",
    "purged",
    "claimed",
    "locked",
    "installed",
    "recorded",
    "rechecked",
    "deleted",
    "finish",
    "pull",
    "keep",
    "claim",
    "drain",
];

/// Sessions and their host's fences end before the user goes elsewhere.
/// 34,000 states; large 14 million, 93 s.
#[test]
fn users_migrate() {
    let small = Rules {
        linger: false,
        crash: true,
        ..Rules::MIGRATING
    };
    let large = Rules {
        refuse: true,
        ..small
    };
    holds(small, large, &OF_A_MIGRATION[..12]);
}

/// Migration and lingering sessions together.
/// 390,000 states; large 8.3 million, 80 s.
#[test]
fn users_migrate_and_sessions_linger() {
    let small = Rules {
        crash: true,
        ..Rules::MIGRATING
    };
    let large = Rules {
        late: true,
        ..small
    };
    holds(small, large, &OF_A_MIGRATION);
}

/// The same, where sessions of stock backends linger too.
/// 220,000 states; large 16 million, 70 s.
#[test]
fn sessions_of_stock_backends_linger() {
    let small = Rules {
        stock: false,
        stock_lingers: true,
        crash: true,
        ..Rules::MIGRATING
    };
    let large = Rules {
        sessions: 3,
        crash: false,
        ..small
    };
    holds(small, large, &["pull", "drain", "deleted"]);
}

/// 8,000 states; large 1 million, 8 s.
#[test]
fn nfs_fails_while_users_migrate() {
    let large = Rules {
        trouble: true,
        crash: true,
        ..Rules::MIGRATING
    };
    let small = Rules {
        sessions: 1,
        ..large
    };
    holds(small, large, &OF_A_MIGRATION[..12]);
}

/// 15,000 states; large 0.8 million, 8 s.
#[test]
fn nfs_hangs_while_users_migrate() {
    let large = Rules {
        refuse: true,
        sessions: 1,
        ..Rules::MIGRATING
    };
    let small = Rules {
        hosts: 1,
        sessions: 2,
        ..large
    };
    holds(small, large, &["pull", "deleted"]);
}

/// Two sessions at once on two hosts, where a stock backend was used before only. 110,000 states; large 5.8 million, 32 s.
#[test]
fn nfs_hangs_while_users_come_from_a_stock_backend() {
    let large = Rules {
        stock: false,
        left_over: true,
        crash: true,
        refuse: true,
        ..Rules::MIGRATING
    };
    let small = Rules {
        sessions: 1,
        ..large
    };
    holds(small, large, &["pull", "deleted", "claim", "finish"]);
}

/// 86,000 states; large 2.6 million, 15 s.
#[test]
fn hosts_are_mounted_anew_while_users_migrate() {
    let large = Rules {
        remount: true,
        ..Rules::MIGRATING
    };
    let small = Rules {
        sessions: 1,
        evict: true,
        spoil: true,
        ..large
    };
    holds(small, large, &["pull", "deleted"]);
}

/// Users are given back to stock backends, from hosts that do not look for what those leave.
/// 380,000 states; large 580,000, 6 s.
#[test]
fn users_are_given_back() {
    let small = Rules {
        give_back: true,
        crash: true,
        ..Rules::PLAIN
    };
    let large = Rules {
        hosts: 3,
        sessions: 1,
        ..small
    };
    holds(
        small,
        large,
        &["back-put", "back-unlocked", "claim", "keep"],
    );
}

/// Users are given back, and come again.
/// 34,000 states; large 4.3 million, 47 s.
#[test]
fn users_are_given_back_and_migrate() {
    let small = Rules {
        give_back: true,
        crash: true,
        sessions: 1,
        ..Rules::MIGRATING
    };
    let large = Rules {
        trouble: true,
        refuse: true,
        ..small
    };
    holds(
        small,
        large,
        &["back-put", "back-unlocked", "pull", "deleted"],
    );
}

/// One host migrates and the other does not; sessions linger.
/// 170,000 states; large 22 million, 120 s.
#[test]
fn users_are_given_back_and_one_host_migrates() {
    let small = Rules {
        give_back: true,
        ..Rules::MIXED
    };
    let large = Rules {
        crash: true,
        refuse: true,
        ..small
    };
    holds(
        small,
        large,
        &["back-put", "back-unlocked", "pull", "deleted"],
    );
}

/// Everything fails at any step.
/// 31,000 states; large 1.7 million, 7 s.
#[test]
fn nfs_fails_while_users_are_given_back() {
    let small = Rules {
        give_back: true,
        trouble: true,
        sessions: 1,
        ..Rules::MIXED
    };
    let large = Rules {
        sessions: 2,
        crash: true,
        ..small
    };
    holds(
        small,
        large,
        &["back-put", "back-unlocked", "pull", "deleted"],
    );
}

/// One host migrates, the other does not; a stock list index lies in INDEX at first.
/// 40,000 states; large 4.6 million, 60 s.
#[test]
fn one_host_migrates() {
    let small = Rules {
        crash: true,
        ..Rules::MIXED
    };
    let large = Rules {
        refuse: true,
        ..small
    };
    holds(small, large, &["pull", "deleted", "claim", "keep", "drain"]);
}
