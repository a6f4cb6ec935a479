//! Random sequences of what users, hosts, operators and crashes do, against a reference model that knows
//! every change of the mailbox: no session is given a list index that lacks one it was promised.
//!
//! Through the library, without a mount: each host is a core of its own over a backing of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod host;
mod world;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use self::host::{Content, Host, Invented, MAIL_UID, Served, USER, give};
use self::world::{Act, Rules, World};
use listindexfs::store::usage::Stamp;
use listindexfs::user::giving::Given;
use listindexfs::user::moved::Compared;
use listindexfs::user::steps::Step;
use listindexfs::user::told::Reason;

/// What may happen next. Numbers choose among the hosts and sessions there are.
fn act(rules: Rules) -> impl Strategy<Value = Act> {
    let step = || proptest::sample::select(&Step::ALL[..]);
    let back = || proptest::sample::select(&Step::BACK[..]);
    let common = prop_oneof![
        6 => (0..rules.hosts).prop_map(Act::Login),
        6 => any::<usize>().prop_map(Act::Write),
        4 => any::<usize>().prop_map(Act::Logout),
        1 => (0..rules.hosts).prop_map(Act::Evict),
        1 => (0..rules.hosts).prop_map(Act::Sweep),
        2 => (0..rules.hosts).prop_map(Act::Look),
        2 => (0..rules.hosts, step()).prop_map(|(host, step)| Act::CrashedLogin(host, step)),
        2 => (0..rules.hosts).prop_map(Act::GiveBack),
        1 => (0..rules.hosts, back()).prop_map(|(host, step)| Act::CrashedGiveBack(host, step)),
        1 => (0..rules.hosts).prop_map(Act::Remount),
        1 => (0..rules.hosts).prop_map(Act::Kill),
        1 => (0..rules.hosts).prop_map(Act::RefusedLogin),
        1 => Just(Act::DeleteUser),
        1 => Just(Act::MakeIndex),
    ];
    match rules.stock {
        true => prop_oneof![8 => common, 2 => Just(Act::StockSession)].boxed(),
        false => common.boxed(),
    }
}

fn check(rules: Rules, acts: Vec<Act>) {
    let mut world = World::new(rules);
    for act in acts {
        world.act(act);
    }
    world.everybody_goes_and_list_indexes_are_used_again();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_linger_everywhere(acts in prop::collection::vec(act(Rules::LINGERING), 1..50)) {
        check(Rules::LINGERING, acts);
    }

    #[test]
    fn sessions_linger_on_three_hosts(acts in prop::collection::vec(act(Rules::THREE_HOSTS), 1..60)) {
        check(Rules::THREE_HOSTS, acts);
    }

    #[test]
    fn stock_backends_interfere_while_migrating(acts in prop::collection::vec(act(Rules::MIGRATING), 1..50)) {
        check(Rules::MIGRATING, acts);
    }

    #[test]
    fn stock_backends_interfere_and_sessions_linger(acts in prop::collection::vec(act(Rules::TOGETHER), 1..50)) {
        check(Rules::TOGETHER, acts);
    }

    #[test]
    fn one_host_migrates_and_the_other_does_not(acts in prop::collection::vec(act(Rules::MIXED), 1..50)) {
        check(Rules::MIXED, acts);
    }
}

/// The model must be able to fail: what a host serves without asking the gate is stale soon.
#[test]
fn without_the_gate_the_model_finds_staleness() {
    let mut world = World::new(Rules::LINGERING);
    world.act(Act::Login(0));
    world.act(Act::Logout(0));
    world.act(Act::Login(1));
    world.act(Act::Write(0));
    world.act(Act::Logout(0));
    let served = world.local_content(0).expect("host 0 still has its files");
    assert!(
        !world.missing(&served).is_empty(),
        "host 0's files lack what host 1 wrote"
    );
}

#[test]
fn a_crash_at_every_step_of_a_takeover() {
    for step in Step::ALL {
        let mut world = World::new(Rules::LINGERING);
        for act in [
            Act::Login(0),
            Act::Write(0),
            Act::Logout(0),
            Act::Login(1),
            Act::Write(0),
            Act::Logout(0),
        ] {
            world.act(act);
        }
        world.act(Act::CrashedLogin(0, step));
        world.act(Act::Login(0));
        world.everybody_goes_and_list_indexes_are_used_again();
    }
}

/// A refused session writes; supervisor and worker die as they are about to warn of the stock log that lacks it. The next
/// daemon does.
#[test]
fn nor_is_who_was_refused_by_a_daemon_that_dies() {
    for step in Step::ALL {
        let mut world = World::new(Rules::MIGRATING);
        for act in [
            Act::Login(0),
            Act::StockSession,
            Act::RefusedLogin(0),
            Act::Write(0),
            Act::CrashedLogin(0, step),
            Act::Login(0),
            Act::Login(1),
        ] {
            world.act(act);
        }
        world.everybody_goes_and_list_indexes_are_used_again();
    }
}

/// A session is open that was refused, and its host has not warned of the stock log that lacks what it wrote, when the host's
/// processes are killed or its mount ends.
fn refused_beside_a_stock_log(end: Act) -> [Act; 8] {
    [
        Act::Login(0),
        Act::StockSession,
        Act::RefusedLogin(0),
        Act::Write(0),
        end,
        Act::Login(1),
        Act::Login(0),
        Act::Login(1),
    ]
}

/// Killed, they have warned of nothing. The next mount does.
#[test]
fn nor_is_who_was_refused_when_all_are_killed() {
    found(Rules::MIGRATING, &refused_beside_a_stock_log(Act::Kill(0)));
}

/// The log goes before the worker does.
#[test]
fn what_a_refused_session_changed_is_not_pulled_when_its_mount_has_ended() {
    let acts = refused_beside_a_stock_log(Act::Remount(0));
    found(Rules::MIGRATING, &acts);
    let mut world = World::new(Rules::MIGRATING);
    acts[..5].iter().for_each(|act| world.act(act.clone()));
    assert!(world.stock_content().is_none(), "it lacks what was changed");
}

/// Another process holds its lock all the time, so it cannot go; .lasthost warns of it.
#[test]
fn nor_if_the_log_is_locked_when_the_mount_ends() {
    let mut world = World::new(Rules::LOCKED);
    for act in [Act::StockSession, Act::RefusedLogin(1), Act::Write(0)] {
        world.act(act);
    }
    world.remount_while_locked(1);
    assert!(world.stock_content().is_some(), "it was not locked");
    world.act(Act::Login(0));
    world.everybody_goes_and_list_indexes_are_used_again();
}

/// A session lingers and writes; its mount ends before the kernel has said that its files are closed.
#[test]
fn what_a_session_left_behind_changed_is_known_when_its_mount_has_ended() {
    let acts = [
        Act::Login(0),
        Act::Login(1),
        Act::Write(0),
        Act::Remount(0),
        Act::Login(1),
    ];
    for rules in [Rules::LINGERING, Rules::THREE_HOSTS, Rules::MIXED] {
        found(rules, &acts);
    }
}

#[test]
fn a_crash_at_every_step_of_a_migration() {
    for step in Step::ALL {
        let mut world = World::new(Rules::MIGRATING);
        world.act(Act::StockSession);
        let crashed = world.crashed_login(0, step);
        assert!(crashed, "{} is on the way of a migration", step.name());
        assert!(
            world.stock_content().is_some() || world.local_content(0).is_some(),
            "lost on both sides at {step:?}"
        );
        world.act(Act::Login(0));
        world.act(Act::Write(0));
        world.act(Act::Logout(0));
        world.act(Act::Login(1));
        world.everybody_goes_and_list_indexes_are_used_again();
    }
}

/// What is given back is in INDEX and nowhere else, and any host takes it from there, or drops it.
#[test]
fn who_is_given_back_is_right_wherever_he_goes() {
    for rules in [Rules::MIGRATING, Rules::MIXED, Rules::LINGERING] {
        for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut world = World::new(rules);
            for act in [Act::Login(from), Act::Write(0)] {
                world.act(act);
            }
            assert!(matches!(world.give_back(from), Given::Busy));
            world.act(Act::Logout(0));
            assert!(matches!(world.give_back(from), Given::Back(_)));
            assert!(world.local_content(from).is_none() && world.stock_content().is_some());
            assert!(matches!(world.give_back(from), Given::Nothing));
            world.act(Act::Login(to));
            assert!(world.stock_content().is_none(), "still in INDEX");
            world.everybody_goes_and_list_indexes_are_used_again();
        }
    }
}

#[test]
fn a_crash_at_every_step_of_giving_back() {
    for rules in [Rules::MIGRATING, Rules::MIXED, Rules::LINGERING] {
        for step in Step::BACK {
            for next in [0, 1] {
                let mut world = World::new(rules);
                for act in [Act::Login(0), Act::Write(0), Act::Logout(0)] {
                    world.act(act);
                }
                let crashed = world.crashed_give_back(0, step);
                assert!(crashed, "{} is on the way", step.name());
                for act in [Act::Login(next), Act::Write(0), Act::Logout(0)] {
                    world.act(act);
                }
                world.act(Act::Login(1 - next));
                world.everybody_goes_and_list_indexes_are_used_again();
            }
        }
    }
}

/// The other host does not know what is being given back, or waits for it in vain: what is in INDEX afterwards is not believed.
#[test]
fn who_is_claimed_while_he_is_given_back_is_right_everywhere() {
    for rules in [Rules::LOCKED, Rules::LOCKED_PLAIN] {
        for step in Step::BACK {
            let mut world = World::new(rules);
            for act in [Act::Login(0), Act::Write(0), Act::Logout(0)] {
                world.act(act);
            }
            let given = world.give_back_while_another_claims(0, step, 1);
            let late = step >= Step::BackRechecked;
            match given {
                Given::Back(_) => assert!(late, "{step:?}"),
                Given::Dropped(_) => assert!(!late, "{step:?}"),
                other => panic!("{step:?}: {other:?}"),
            }
            for act in [Act::Login(2), Act::Logout(0), Act::Login(0)] {
                world.act(act);
            }
            world.everybody_goes_and_list_indexes_are_used_again();
        }
    }
}

/// Runs what was once found to break the promise.
fn found(rules: Rules, acts: &[Act]) {
    check(rules, acts.to_vec());
}

#[test]
fn what_a_refused_session_changed_is_not_pulled_without_it() {
    let acts = [
        Act::StockSession,
        Act::RefusedLogin(0),
        Act::Write(0),
        Act::Login(0),
    ];
    found(Rules::MIGRATING, &acts);
}

#[test]
fn nor_after_the_daemon_that_refused_it_has_ended() {
    let acts = [
        Act::StockSession,
        Act::RefusedLogin(0),
        Act::Write(0),
        Act::Kill(0),
        Act::Login(0),
    ];
    found(Rules::MIGRATING, &acts);
}

/// Word of ghosts is all that tells the next daemon of them.
#[test]
fn nor_when_what_is_left_of_him_is_removed() {
    let acts = [
        Act::StockSession,
        Act::RefusedLogin(0),
        Act::Write(0),
        Act::Kill(0),
        Act::Sweep(0),
        Act::Login(0),
    ];
    found(Rules::MIGRATING, &acts);
}

#[test]
fn nor_when_the_user_is_evicted_before_he_comes_back() {
    let acts = [
        Act::StockSession,
        Act::RefusedLogin(0),
        Act::Write(0),
        Act::Kill(0),
        Act::Evict(0),
        Act::Login(0),
    ];
    found(Rules::MIGRATING, &acts);
}

#[test]
fn what_a_writer_changed_that_ends_during_a_pull_is_known_afterwards() {
    let mut world = World::new(Rules::TOGETHER);
    world.act(Act::Login(0));
    world.writes_and_ends_during_a_pull(0);
    world.act(Act::Login(0));
    world.everybody_goes_and_list_indexes_are_used_again();
}

#[test]
fn what_is_dropped_on_index_is_dropped_though_the_worker_dies() {
    for step in [Step::Claimed, Step::Locked, Step::Rechecked, Step::Recorded] {
        let mut world = World::new(Rules::MIXED);
        world.act(Act::StockSession);
        world.login_whose_worker_dies(1, step);
        for act in [Act::Login(1), Act::Write(0), Act::Logout(0), Act::Login(0)] {
            world.act(act);
        }
        world.everybody_goes_and_list_indexes_are_used_again();
    }
}

#[test]
fn a_writer_is_fenced_at_its_end_though_others_stay() {
    // Two sessions on host 0, the user moves to host 1, one of the two writes and ends, the other stays.
    let acts = [
        Act::Login(0),
        Act::Login(0),
        Act::Login(1),
        Act::Write(0),
        Act::Logout(0),
        Act::Login(1),
    ];
    found(Rules::LINGERING, &acts);
}

#[test]
fn what_a_host_could_not_lock_no_other_pulls() {
    // Host 1 claims the user but cannot lock INDEX/L; its refused session changes what is in it.
    let acts = [
        Act::StockSession,
        Act::LockedLogin(1),
        Act::Write(0),
        Act::Login(0),
        Act::Login(1),
    ];
    found(Rules::LOCKED, &acts);
}

#[test]
fn nor_what_one_could_not_lock_while_others_were_open() {
    let acts = [
        Act::Login(1),
        Act::StockSession,
        Act::LockedLogin(1),
        Act::Write(1),
        Act::Login(0),
        Act::StockSession,
        Act::Login(0),
    ];
    found(Rules::LOCKED, &acts);
}

/// Its worker has died between the record and the deletion, say.
#[test]
fn nor_what_it_has_already_and_could_not_lock_again() {
    let mut world = World::new(Rules::LOCKED);
    world.act(Act::StockSession);
    world.login_that_deletes_nothing(1);
    world.act(Act::LockedLogin(1));
    world.assert_others_are_warned();
    for act in [Act::Write(0), Act::Login(0), Act::Login(1)] {
        world.act(act);
    }
    world.everybody_goes_and_list_indexes_are_used_again();
}

/// The user is this host's, who has seen no INDEX/L.
#[test]
fn nor_what_came_while_it_adopted_its_user() {
    let mut world = World::new(Rules::LOCKED);
    for act in [Act::Login(1), Act::Logout(0), Act::Evict(1)] {
        world.act(act);
    }
    world.login_that_meets_a_locked_log(1, Step::Taken);
    world.assert_others_are_warned();
    for act in [Act::Write(0), Act::Login(0), Act::Login(1)] {
        world.act(act);
    }
    world.everybody_goes_and_list_indexes_are_used_again();
}

#[test]
fn nor_what_one_could_not_lock_when_another_cannot_claim() {
    let mut world = World::new(Rules::LOCKED);
    for act in [Act::StockSession, Act::LockedLogin(1), Act::Write(0)] {
        world.act(act);
    }
    world.login_that_cannot_claim(0, "a");
    world.act(Act::Login(2));
}

/// The run that hung goes on when NFS is back: what it does then must not be believed.
#[test]
fn a_login_that_waited_too_long_is_refused_and_leaves_nothing_stale() {
    for step in [
        Step::Taken,
        Step::Purged,
        Step::Claimed,
        Step::Copied,
        Step::Installed,
    ] {
        let mut world = World::new(Rules::IMPATIENT);
        world.act(Act::StockSession);
        world.login_that_hangs(0, step);
        world.act(Act::Login(0));
        world.act(Act::Login(1));
        world.everybody_goes_and_list_indexes_are_used_again();
    }
}

/// Idle on host 0, and claimed by host 1 since.
#[test]
fn who_has_moved_is_dropped_when_the_pass_looks_at_him() {
    let mut world = World::new(Rules::LINGERING);
    for act in [Act::Login(0), Act::Write(0), Act::Logout(0), Act::Look(0)] {
        world.act(act);
    }
    assert!(world.local_content(0).is_some(), "he has not moved");
    for act in [Act::Login(1), Act::Logout(0), Act::Look(0)] {
        world.act(act);
    }
    assert!(world.local_content(0).is_none(), "not dropped");
    world.everybody_goes_and_list_indexes_are_used_again();
}

/// The pass has read the record and is on its way to INDEX when he comes back: what is here now is another list index.
#[test]
fn who_comes_back_while_the_pass_looks_keeps_what_he_has() {
    let mut world = World::new(Rules::LINGERING);
    for act in [Act::Login(0), Act::Logout(0)] {
        world.act(act);
    }
    let suspect = world.host(0).suspect().expect("he is idle");
    for act in [Act::Login(1), Act::Logout(0), Act::Login(0), Act::Write(0)] {
        world.act(act);
    }
    assert!(world.host(0).suspect().is_none(), "a session is open");
    let gate = world.host(0).gate();
    assert_eq!(gate.compare(&suspect).unwrap(), Compared::Busy);
    world.act(Act::Logout(0));
    assert_eq!(gate.compare(&suspect).unwrap(), Compared::Busy);
    assert!(world.local_content(0).is_some());
    world.everybody_goes_and_list_indexes_are_used_again();
}

/// Somebody is on host 0 for a moment.
fn session(world: &mut World) {
    for act in [Act::Login(0), Act::Logout(0)] {
        world.act(act);
    }
}

/// What was read of a record is remembered, and yet nothing but the file counts.
#[test]
fn a_record_that_has_gone_or_is_another_is_not_believed() {
    type Spoil = fn(&Path);
    let spoil: [Spoil; 3] = [
        |record| std::fs::remove_file(record).unwrap(),
        |record| std::fs::write(record, "haunted\n").unwrap(),
        |record| {
            let text = std::fs::read_to_string(record).unwrap();
            std::fs::write(record, text.replace("lasthost ", "lasthost 1")).unwrap();
        },
    ];
    for spoil in spoil {
        let mut world = World::new(Rules::LINGERING);
        session(&mut world);
        session(&mut world);
        world.host(0).leave(".mark", "");
        session(&mut world);
        assert!(world.host(0).has(".mark"), "it is purged");
        spoil(&world.host(0).record());
        session(&mut world);
        assert!(!world.host(0).has(".mark"), "it is believed");
    }
}

/// His record tells the next worker when he was here, within a minute.
#[test]
fn who_comes_all_the_time_is_known_to_have_been_here() {
    let mut world = World::new(Rules::LINGERING);
    session(&mut world);
    let record = std::fs::File::open(world.host(0).record()).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(120);
    record.set_modified(long_ago).unwrap();
    session(&mut world);
    let told = record.metadata().unwrap().modified().unwrap();
    assert!(told > long_ago + Duration::from_secs(60), "{told:?}");
}

/// The clock is set back: he was here later than now.
#[test]
fn who_was_here_before_the_clock_was_set_back_goes_all_the_same() {
    for ahead in [Duration::from_millis(1), Duration::from_secs(1 << 28)] {
        let mut world = World::new(Rules::LINGERING);
        for act in [Act::Login(0), Act::Write(0), Act::Logout(0)] {
            world.act(act);
        }
        let host = world.host(0);
        host.were_here(Stamp::now().after(ahead));
        let gone = host.gate().evict_while(Reason::Bounds, |_, _| true);
        assert_eq!(gone, 1, "{ahead:?}");
    }
}

/// Locks and unfinished files of processes that died go when they are old and nobody has them open.
#[test]
fn what_a_process_left_that_died_goes_once_it_is_old() {
    let mut world = World::new(Rules::LINGERING);
    for act in [Act::Login(0), Act::Write(0), Act::Logout(0)] {
        world.act(act);
    }
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let dead = child.id();
    child.wait().unwrap();
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .unwrap()
        .to_owned();
    let host = world.host(0);
    let left = [
        (".newlock", String::new(), false),
        (".log.newlock", String::new(), false),
        (".tmp", "x".to_owned(), false),
        (".log.lock", format!("{dead}:{name}"), false),
        (".lock", String::new(), false),
        (".a.lock", format!("{}:{name}", std::process::id()), true),
        (".b.lock", format!("{dead}:another-{name}"), true),
    ];
    for (end, text, _) in &left {
        host.leave(end, text);
    }
    let later = |minutes: u64| Stamp::now().after(Duration::from_secs(60 * minutes));
    host.count();
    assert_eq!(host.gate().drop_passing(later(9)), 0, "not old yet");
    world.act(Act::Login(0));
    let host = world.host(0);
    assert_eq!(host.gate().drop_passing(later(11)), 0, "a session is open");
    world.act(Act::Logout(0));
    let host = world.host(0);
    assert_eq!(host.gate().drop_passing(later(20)), 5);
    for (end, _, stays) in &left {
        assert_eq!(host.has(end), *stays, "{end}");
    }
    assert!(host.local_content().is_some());
    assert_eq!(host.gate().drop_passing(later(40)), 0);
    assert!(host.has(".a.lock"), "its owner lives");
}

/// There is no room for a mapped page that the kernel writes back: its writer's fence is set with his rights, not with the kernel's.
#[test]
fn what_the_kernel_could_not_write_back_makes_its_writer_a_ghost() {
    let (store, processes) = (tempfile::tempdir().unwrap(), Invented::default());
    let index = store.path().join(USER);
    std::fs::create_dir(&index).unwrap();
    give(&index);
    give(store.path());
    let options = format!(
        "index={}/%u,index_fs=any,max_user_bytes=64k",
        store.path().display()
    );
    let host = Host::new("a", options, &processes);
    let writer = processes.start();
    let Served::Made(open) = host.login(writer, &Content::new()) else {
        panic!("no list index is made");
    };
    assert_eq!(host.write_back(open, 1 << 20), Err(libc::EDQUOT));
    assert!(matches!(
        host.login(processes.start(), &Content::new()),
        Served::Refused
    ));
    // Another host has the user meanwhile.
    std::fs::write(index.join(".lasthost"), "b").unwrap();
    host.release(open);
    processes.end(writer);
    host.end_ghosts();
    let lasthost = std::fs::metadata(index.join(".lasthost")).unwrap();
    assert_eq!(lasthost.uid(), MAIL_UID, "set with another's rights");
}
