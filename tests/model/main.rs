//! The protocol model: every order in which things can happen, in small configurations, checked exhaustively.

mod check;
mod fence;
mod flight;
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
