//! Two real hosts: a user who moves, a session that is left behind, and a fence at its end.
use crate::guest::{Client, World};
use crate::support::rounds::Rounds;
use crate::support::{finish, stories};

const MOVES: usize = 200;

#[test]
#[ignore = "runs in the NFS guest"]
fn a_user_who_moves_is_never_told_what_was() {
    let world = World::coherent("alice");
    let sites = world.sites();
    let hosts = sites.each_ref().map(|site| &site.dovecot);
    if let Err(stale) = Rounds::new(&hosts, "alice").run(MOVES) {
        panic!("{}", stale.story);
    }
}

/// Why the other tests give Dovecot mounts that cache nothing: without any list index it is wrong as well.
#[test]
#[ignore = "runs in the NFS guest"]
fn with_default_options_dovecot_is_wrong_by_itself() {
    let world = World::new();
    let stock = [Client::A, Client::B]
        .map(|client| world.config(client).set("mailbox_list_index", "no").start());
    let rounds = Rounds::new(&stock.each_ref(), "alice").run(MOVES);
    assert!(
        rounds.is_err(),
        "right in {MOVES} moves: test with default options then"
    );
}

#[test]
#[ignore = "runs in the NFS guest"]
fn what_a_session_left_behind_wrote_is_known_once_it_has_ended() {
    let world = World::coherent("alice");
    let [a, b] = world.sites();
    stories::fence([&a, &b]);
    let (dovecots, mounts): (Vec<_>, Vec<_>) = [a, b]
        .map(|site| (site.dovecot, site.mount))
        .into_iter()
        .unzip();
    finish(dovecots);
    drop(mounts);
}

#[test]
#[ignore = "runs in the NFS guest"]
fn without_the_fence_it_stays_unknown() {
    let world = World::coherent("alice");
    let [a, b] = world.sites();
    stories::no_fence(a, &b);
}
