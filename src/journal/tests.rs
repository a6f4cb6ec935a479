//! A journal says after any number of workers what it said before.

use proptest::prelude::*;

use super::*;
use crate::index::creds::Creds;
use crate::user::process::Process;

fn who(pid: u32) -> Who {
    let creds = Creds {
        uid: pid % 3,
        gid: 7,
        groups: vec![pid; 2],
    };
    Who::new(Process { pid, birth: 9 }, &creds)
}

fn user(n: u8) -> Vec<u8> {
    vec![b'u', b'0' + n]
}

fn entry() -> impl Strategy<Value = Entry> {
    let (pid, node, name) = (1..4_u32, 1..4_u64, (0..3_u8).prop_map(user));
    let unique = 1..10_000_u64;
    prop_oneof![
        (
            unique.clone(),
            node.clone(),
            name.clone(),
            pid.clone(),
            any::<bool>()
        )
            .prop_map(|(unique, node, user, pid, managed)| Entry::Opened {
                unique,
                node,
                by: managed.then(|| (user, who(pid))),
            }),
        (
            unique.clone(),
            node.clone(),
            name.clone(),
            pid.clone(),
            any::<bool>()
        )
            .prop_map(|(unique, node, user, pid, managed)| Entry::Released {
                unique,
                node,
                user: managed.then_some(user),
                pid,
            }),
        (name.clone(), pid.clone()).prop_map(|(user, pid)| Entry::Wrote { user, pid }),
        (name.clone(), pid.clone()).prop_map(|(user, pid)| Entry::Fenced {
            user,
            who: who(pid)
        }),
        (
            name,
            prop::collection::vec((pid.prop_map(who), 0..3_u8), 0..3)
        )
            .prop_map(|(user, ghosts)| Entry::Ghosts { user, ghosts }),
        (unique.clone(), node).prop_map(|(unique, node)| Entry::Renames { unique, node }),
        (unique, any::<bool>()).prop_map(|(unique, known)| Entry::Tried {
            unique,
            blame: BLAME,
            user: known.then(|| user(1)),
        }),
        prop_oneof![
            Just(Entry::Survived),
            Just(Entry::Killed),
            Just(Entry::Swept),
            (0..99_u64).prop_map(|bytes| Entry::Kept { bytes })
        ],
        (1..9_u64, prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(unique, request)| Entry::Taken { unique, request }),
        (1..9_u64).prop_map(|unique| Entry::Answered { unique }),
        (1..9_u64, 1..4_u64, 1..4_u32).prop_map(|(unique, node, pid)| Entry::Unanswered {
            unique,
            node,
            pid,
            birth: 9
        }),
    ]
}

fn cloned(pair: &[OwnedFd; 2]) -> [OwnedFd; 2] {
    pair.each_ref().map(|fd| fd.try_clone().expect("dup"))
}

proptest! {
    #[test]
    fn every_worker_finds_what_the_one_before_left(
        workers in prop::collection::vec(prop::collection::vec(entry(), 0..30), 1..5)
    ) {
        let pair = Journal::make(42).expect("a journal");
        let mut expected = Snapshot { instance: 42, ..Snapshot::default() };
        for entries in workers {
            let (journal, found) = Journal::open(cloned(&pair)).expect("opens");
            prop_assert_eq!(&found, &expected);
            for entry in entries {
                journal.append(&entry).expect("appended");
                expected.apply(entry);
            }
        }
        let (_, found) = Journal::open(pair).expect("opens");
        prop_assert_eq!(found, expected);
    }
}

/// The worker dies when it has copied an entry and not moved the end yet.
#[test]
fn what_is_torn_at_the_end_does_not_count() {
    let pair = Journal::make(1).expect("a journal");
    let (journal, before) = Journal::open(cloned(&pair)).expect("opens");
    let whole = frame(&Entry::Done { unique: 5 }).expect("a frame");
    {
        let used = &mut journal.0.as_ref().expect("kept").lock().used;
        used.memory.write(used.end, &whole);
    }
    let (_, after) = Journal::open(pair).expect("opens");
    assert_eq!(after, before);
}

#[test]
fn a_journal_that_was_being_written_anew_does_not_count() {
    let pair = Journal::make(1).expect("a journal");
    let (journal, _) = Journal::open(cloned(&pair)).expect("opens");
    journal
        .append(&Entry::Done { unique: 5 })
        .expect("appended");
    {
        let other = &mut journal.0.as_ref().expect("kept").lock().other;
        other
            .write_anew(99, &Snapshot::default(), 0)
            .expect("written");
        other.memory.store(END, 0); // as it is until the last step
    }
    let (_, found) = Journal::open(pair).expect("opens");
    assert!(found.is_done(5) && found.instance == 1);
}

#[test]
fn an_entry_may_be_longer_than_a_new_journal() {
    let pair = Journal::make(1).expect("a journal");
    let (journal, _) = Journal::open(cloned(&pair)).expect("opens");
    let (unique, request) = (1, vec![7; 2 * ROOM]);
    let taken = Entry::Taken { unique, request };
    journal.append(&taken).expect("appended");
    journal.append(&taken).expect("appended");
    let (_, found) = Journal::open(pair).expect("opens");
    assert_eq!(found.taken[&1].len(), 2 * ROOM);
}

/// What is left can be longer than a new journal.
#[test]
fn it_grows_with_what_has_to_be_kept() {
    let pair = Journal::make(1).expect("a journal");
    let (journal, _) = Journal::open(cloned(&pair)).expect("opens");
    let many = 30_000;
    for node in 0..many {
        let by = Some((format!("user{node}").into_bytes(), who(1)));
        let unique = node;
        journal
            .append(&Entry::Opened { unique, node, by })
            .expect("appended");
    }
    let (_, found) = Journal::open(pair).expect("opens");
    assert_eq!(
        (found.open.len(), found.users.len()),
        (many as usize, many as usize)
    );
}

#[test]
fn one_of_another_version_is_refused() {
    let pair = Journal::make(1).expect("a journal");
    let file = File::from(pair[1].try_clone().expect("dup"));
    file.write_all_at(b"lidxjrn9 and what comes then", 0)
        .expect("written");
    assert!(matches!(Journal::check(&pair), Err(JournalError::Version)));
    assert!(matches!(Journal::open(pair), Err(JournalError::Version)));
}

#[test]
fn it_is_written_anew_before_it_grows_without_bound() {
    let pair = Journal::make(1).expect("a journal");
    let (journal, _) = Journal::open(cloned(&pair)).expect("opens");
    for unique in 0..100_000 {
        let by = Some((user(1), who(1)));
        let opened = Entry::Opened {
            unique,
            node: 1,
            by,
        };
        let released = Entry::Released {
            unique,
            node: 1,
            user: Some(user(1)),
            pid: 1,
        };
        journal.append(&opened).expect("appended");
        journal.append(&released).expect("appended");
    }
    let longest = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("fstat").st_size as u64;
    assert!(pair.iter().map(longest).sum::<u64>() < 4 * ROOM as u64);
    let (_, found) = Journal::open(pair).expect("opens");
    assert!(found.open.is_empty() && found.users.is_empty());
    assert!(found.is_done(99_999) && !found.is_done(1));
}
