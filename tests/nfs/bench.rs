//! What `scripts/bench-nfs` measures that is not a count: how long logins take while another server is dead.
use std::time::{Duration, Instant};

use crate::guest::changed;
use crate::hung::{Servers, login, succeeds};
use crate::support::mount::Mount;

const LOGINS: usize = 300;
/// Users of the dead server who wait meanwhile.
const BLOCKED: u32 = 40;

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
    let during = logins(&mount, &users);
    for (name, part) in [("p50", 50), ("p99", 99)] {
        let at = |took: &[Duration]| took[took.len() * part / 100];
        let (before, during) = (at(&before), at(&during));
        let ratio = during.as_secs_f64() / before.as_secs_f64();
        println!(
            "{name} of logins: {before:.1?} before, {during:.1?} while {BLOCKED} wait for a dead server: {ratio:.2} x"
        );
    }
    drop(cut);
    for login in &mut waiting {
        login.wait().expect("wait");
    }
}
