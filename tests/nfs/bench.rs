//! What `scripts/bench-nfs` measures that is not a count: how long logins take while another server is dead.
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::guest::changed;
use crate::hung::{Servers, login, succeeds, wait_for_server};
use crate::support::eventually;
use crate::support::mount::Mount;

const LOGINS: usize = 300;
/// Users of the dead server who wait meanwhile.
const BLOCKED: u32 = 40;
/// Where the kernel lets a process wait for the answer to a FUSE request.
const AT_THE_GATE: &str = "request_wait_answer";

/// How long logins of users of the first server take, sorted.
fn logins(mount: &Mount, users: &[String]) -> Vec<Duration> {
    let one = |n: usize| {
        let start = Instant::now();
        assert!(succeeds(mount, &users[n % users.len()]), "{}", mount.log());
        start.elapsed()
    };
    let mut took: Vec<Duration> = (0..LOGINS).map(one).collect();
    took.sort_unstable();
    took
}

/// Until it waits for us: what it costs to start it is not what is measured.
fn at_the_gate(login: &Child) {
    let wchan = format!("/proc/{}/wchan", login.id());
    eventually("a user of the dead server waits", || {
        let waits = fs::read_to_string(&wchan).is_ok_and(|at| at.contains(AT_THE_GATE));
        waits.then_some(())
    });
}

#[test]
#[ignore = "runs in the NFS guest"]
fn logins_while_another_server_is_dead() {
    let servers = Servers::new("");
    let mount = servers.mount("300s");
    let users: Vec<String> = (0..10).map(|n| servers.user(1, n)).collect();
    let ill: Vec<String> = (0..BLOCKED).map(|n| servers.user(2, n)).collect();
    assert!(succeeds(&mount, &ill[0]));
    logins(&mount, &users);
    let before = logins(&mount, &users);
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let mut waiting: Vec<_> = ill.iter().map(|user| login(&mount, user)).collect();
    waiting.iter().for_each(at_the_gate);
    let during = logins(&mount, &users);
    drop(cut);
    wait_for_server();
    for login in &mut waiting {
        login.wait().expect("wait");
    }
    let after = logins(&mount, &users);
    for (name, part) in [("p50", 50), ("p99", 99)] {
        let at = |took: &[Duration]| took[took.len() * part / 100];
        let (before, during, after) = (at(&before), at(&during), at(&after));
        let ratio = |to: Duration| during.as_secs_f64() / to.as_secs_f64();
        println!(
            "{name} of logins: {during:.1?} while {BLOCKED} wait for a dead server, {:.2} x of before ({before:.1?}), {:.2} x of after ({after:.1?})",
            ratio(before),
            ratio(after)
        );
    }
}
