//! RPCs for one session of login, LIST-STATUS over 30 folders, and logout: what it is all for. `scripts/bench-nfs`
//! shows the table.
use crate::guest::{Client, Rpcs, World, is_v3};
use crate::support::{Dovecot, Site, message};

const FOLDERS: usize = 30;
const SESSIONS: u32 = 5;

/// RPCs of a warm session, the median of some: the client's caches expire now and then.
fn rpcs_of_a_session(dovecot: &Dovecot) -> u64 {
    let mut imap = dovecot.login("alice");
    for n in 0..FOLDERS {
        imap.create(&format!("box{n}"));
        imap.append(&format!("box{n}"), "", &message("one"));
    }
    imap.list_status();
    imap.logout();
    dovecot.wait_no_sessions();
    let session = || {
        let before = Rpcs::of(&Client::A.mount());
        let mut imap = dovecot.login("alice");
        assert_eq!(imap.list_status().len(), FOLDERS + 1);
        imap.logout();
        dovecot.wait_no_sessions();
        Rpcs::of(&Client::A.mount()).since(&before).all()
    };
    session(); // the names on the way are known from then on
    let mut all: Vec<u64> = (0..SESSIONS).map(|_| session()).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

#[test]
#[ignore = "runs in the NFS guest"]
fn a_session_costs_two_rpcs_more_than_with_plain_tmpfs() {
    let session = |name: &str, dirty: bool, tmpfs: bool| {
        let world = World::new();
        let mut config = world.config(Client::A).very_dirty_syncs(dirty);
        if tmpfs {
            config = config.listindex(&world.lab(Client::A).ram("plain"));
        }
        let rpcs = rpcs_of_a_session(&config.start());
        println!("{name:<46}{rpcs:>5} RPCs");
        rpcs
    };
    session("stock, list index on NFS", false, false);
    session("list index on plain tmpfs", false, true);
    // Where sessions are so slow that the client's caches expire in each of them, it is left to chance in which of them more do.
    let dear = (0..5).map_while(|_| {
        let tmpfs = session("list index on plain tmpfs, very_dirty_syncs", true, true);
        let world = World::new();
        let Site { dovecot, mount } = world.site(Client::A);
        let ours = rpcs_of_a_session(&dovecot);
        println!("{:<46}{ours:>5} RPCs", "listindexfs, very_dirty_syncs");
        drop((dovecot, mount));
        (ours > tmpfs + 2).then_some((ours, tmpfs))
    });
    let dear: Vec<_> = dear.collect();
    assert!(
        dear.len() < 5,
        "RPCs a session, and with plain tmpfs: {dear:?} ({})",
        if is_v3() { "v3" } else { "v4.2" }
    );
}
