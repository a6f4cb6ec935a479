//! What each step of the gate costs in RPCs.
use crate::guest::{Client, Rpcs, World, cost, is_v3};
use crate::support::Site;
use crate::support::mount::Options;

/// A user whose list index is on host A, in the mount and claimed.
fn settled(world: &World, options: impl Fn(Options) -> Options) -> Site {
    let site = Site::with(options(world.options(Client::A)), world.config(Client::A));
    for _ in 0..2 {
        site.settle("alice");
    }
    site
}

/// What one more check costs.
fn check(site: &Site) -> Rpcs {
    cost(&Client::A.mount(), || {
        let read = site.open_log("alice").expect("no answer");
        assert!(read.status.success(), "refused: {read:?}");
    })
}

/// 2 GETATTR; NFSv4.2 may do with fewer RPCs, never with more.
fn assert_steady(site: &Site) {
    check(site); // the names on the way are known now
    for _ in 0..5 {
        let rpcs = check(site);
        if is_v3() {
            assert_eq!((rpcs.count("GETATTR"), rpcs.all()), (2, 2), "{rpcs:?}");
        } else {
            assert!(rpcs.all() <= 2, "{rpcs:?}");
        }
    }
}

#[test]
#[ignore = "runs in the NFS guest"]
fn a_check_costs_two_getattr() {
    let world = World::new();
    assert_steady(&settled(&world, |options| options));
}

#[test]
#[ignore = "runs in the NFS guest"]
fn a_check_costs_no_more_with_migrate() {
    let world = World::new();
    assert_steady(&settled(&world, Options::migrate));
}
