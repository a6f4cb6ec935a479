//! What the gate has decided of late, about all users: for whoever asks why somebody was refused. A ring of so many; it costs a
//! short lock at each check and a few hundred kilobytes, and ends with the worker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::decide::{Claim, Decision, Seen, StockLog};
use crate::index::Trouble;
use crate::store::usage::Stamp;
use crate::template::User;

/// So many decisions are kept.
const KEPT: usize = 4096;

/// What a run of the gate saw, and what it decided by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saw {
    /// INDEX.
    pub seen: Seen,
    /// There was a .lasthost.
    pub lasthost: bool,
    /// There was a record.
    pub record: bool,
    /// What followed.
    pub decision: Decision,
}

/// Why it was decided so.
#[derive(Clone, Debug)]
enum Why {
    Saw(Saw),
    Trouble(Box<str>),
}

/// One decision.
#[derive(Clone, Debug)]
pub struct Decided {
    /// About whom.
    pub user: User,
    /// When it was made.
    pub at: Stamp,
    /// A word for it.
    pub word: &'static str,
    /// Whether those who asked were given the list index.
    pub served: bool,
    /// How long it took.
    pub took: Duration,
    why: Why,
}

/// The last decisions, the oldest first.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Decided>>);

impl History {
    /// A run that began then has ended.
    pub fn note(
        &self,
        user: &User,
        began: Instant,
        saw: Option<Saw>,
        outcome: &Result<(), Trouble>,
    ) {
        let (word, why) = match (saw, outcome) {
            (Some(saw), Ok(())) => (saw.decision.word(), Why::Saw(saw)),
            (None, Ok(())) => return,
            (_, Err(trouble)) => (word_for(trouble), Why::Trouble(text(trouble))),
        };
        let (served, took) = (outcome.is_ok(), began.elapsed());
        self.add(user, word, served, took, why);
    }

    /// Somebody was refused who had waited so long, without a run's end.
    pub fn refused(&self, user: &User, waited: Duration, why: &impl ToString) {
        let word = Decision::Refuse.word();
        self.add(user, word, false, waited, Why::Trouble(text(why)));
    }

    fn add(&self, user: &User, word: &'static str, served: bool, took: Duration, why: Why) {
        let (user, at) = (user.clone(), Stamp::now());
        let decided = Decided {
            user,
            at,
            word,
            served,
            took,
            why,
        };
        let mut last = self.0.lock();
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(decided);
    }

    /// The last of one user, the latest first.
    pub fn of(&self, user: &User, most: usize) -> Vec<Decided> {
        let all = self.0.lock();
        let his = all.iter().rev().filter(|decided| decided.user == *user);
        his.take(most).cloned().collect()
    }
}

fn word_for(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Draining(_) => Decision::Drain { claim: false }.word(),
        _ => Decision::Refuse.word(),
    }
}

fn text(why: &impl ToString) -> Box<str> {
    why.to_string().into()
}

impl Decided {
    /// Why, in words.
    pub fn why(&self) -> &str {
        match &self.why {
            Why::Saw(saw) => saw.why(),
            Why::Trouble(text) => text,
        }
    }
}

impl Saw {
    fn why(&self) -> &'static str {
        match (self.decision, self.seen) {
            (Decision::Keep, _) => "INDEX/.lasthost is the one that the record names",
            (Decision::Finish, _) => {
                "INDEX/.lasthost is the one that the record names; what was pulled had not been deleted in INDEX yet"
            }
            (Decision::Adopt, _) => "INDEX/.lasthost is this mount's, and there was no record here",
            (
                Decision::Pull,
                Seen::Index {
                    log: StockLog::New, ..
                },
            ) => "a stock backend has left a list index in INDEX",
            (Decision::Pull, _) => {
                "the list index that was pulled once is in INDEX still, and the record does not hold any more"
            }
            (Decision::Unclaimed, _) => "there is no INDEX",
            (
                Decision::Claim,
                Seen::Index {
                    claim: Claim::Foreign,
                    ..
                },
            ) if !self.lasthost => "there was no INDEX/.lasthost",
            (Decision::Claim, _) if self.record => {
                "INDEX/.lasthost is not the one that the record names: another host has had him, or a fence was set"
            }
            (Decision::Claim, _) => {
                "INDEX/.lasthost is another host's or an earlier mount's, or a fence's"
            }
            (Decision::Drain { .. }, _) => "sessions linger whose changes the list index lacks",
            (Decision::Refuse, _) => "INDEX could not be seen",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Layout;

    fn user(name: &str) -> User {
        let layout = Layout::parse("%u").expect("a layout");
        layout.user_named(name.as_bytes()).expect("a user")
    }

    fn saw(decision: Decision, claim: Claim) -> Saw {
        let log = StockLog::Absent;
        Saw {
            seen: Seen::Index { log, claim },
            lasthost: true,
            record: claim != Claim::Ours,
            decision,
        }
    }

    fn all(history: &History, name: &str) -> Vec<(&'static str, bool)> {
        let his = history.of(&user(name), usize::MAX);
        his.iter().map(|d| (d.word, d.served)).collect()
    }

    #[test]
    fn each_decision_has_its_word_and_its_reason_and_the_latest_comes_first() {
        let (history, now) = (History::default(), Instant::now());
        let note = |saw, outcome| history.note(&user("a"), now, saw, &outcome);
        note(Some(saw(Decision::Claim, Claim::Foreign)), Ok(()));
        note(Some(saw(Decision::Keep, Claim::Recorded)), Ok(()));
        let draining = || Err(Trouble::Draining(vec![7]));
        note(Some(saw(Decision::Claim, Claim::Foreign)), draining());
        note(None, Err(Trouble::NoPath("because".to_owned())));
        history.refused(
            &user("b"),
            Duration::ZERO,
            &Trouble::TimedOut(Duration::ZERO),
        );
        let expected = [
            ("refuse", false),
            ("drain", false),
            ("keep", true),
            ("claim", true),
        ];
        assert_eq!(all(&history, "a"), expected);
        assert_eq!(all(&history, "b"), [("refuse", false)]);
        let why: Vec<_> = history.of(&user("a"), 3);
        let why: Vec<_> = why.iter().map(Decided::why).collect();
        assert!(why[0].ends_with("because"), "{why:?}");
        assert!(why[1].contains("(pid 7)"), "{why:?}");
        assert!(why[2].contains("the record names"), "{why:?}");
    }

    #[test]
    fn it_is_bounded() {
        let (history, now) = (History::default(), Instant::now());
        let keep = Some(saw(Decision::Keep, Claim::Recorded));
        history.note(&user("first"), now, keep, &Ok(()));
        for _ in 0..KEPT {
            history.note(&user("other"), now, keep, &Ok(()));
        }
        assert_eq!(all(&history, "first"), []);
        assert_eq!(all(&history, "other").len(), KEPT);
        assert_eq!(history.of(&user("other"), 3).len(), 3);
    }
}
