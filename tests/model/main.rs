//! The protocol model: every order in which things can happen, in small configurations, checked exhaustively.

mod check;
mod fence;
mod flight;
mod mutants;
#[allow(dead_code)]
mod rules;
mod session;
mod state;

use self::check::{Protocol, explore};
use self::rules::Rules;

fn holds(name: &str, rules: Rules) {
    let start = std::time::Instant::now();
    let (states, found) = explore(Protocol::new(rules), 2);
    println!("{name}: {states} states, {:.1?}", start.elapsed());
    if let Some((property, trace)) = found {
        panic!("not so: {property}\n  {}", trace.join("\n  "));
    }
}

#[test]
fn plain() {
    holds("plain", Rules::PLAIN);
}

/// For trying things out: `TRY="hosts=2 sessions=2 crash remount"`.
#[test]
fn tried() {
    let Ok(text) = std::env::var("TRY") else {
        return;
    };
    let mut rules = Rules::PLAIN;
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, "1"));
        let n: usize = value.parse().unwrap();
        let on = n == 1;
        match key {
            "hosts" => rules.hosts = n,
            "sessions" => rules.sessions = n,
            "migrate" => rules.migrate = [n & 1 != 0, n & 2 != 0, n & 4 != 0],
            "linger" => rules.linger = on,
            "stock" => rules.stock = on,
            "stock_lingers" => rules.stock_lingers = on,
            "left_over" => rules.left_over = on,
            "crash" => rules.crash = on,
            "late" => rules.late = on,
            "remount" => rules.remount = on,
            "down" => rules.down = on,
            "evict" => rules.evict = on,
            "refuse" => rules.refuse = on,
            "trouble" => rules.trouble = on,
            "spoil" => rules.spoil = on,
            "delete" => rules.delete = on,
            _ => panic!("{key}"),
        }
    }
    holds(&text, rules);
}
