//! What is said of cleaning: who is to go, and what became of whom. Pure.
//!
//! Each line tells what happened since the one before: whoever goes on with another worker has but to add up.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Who is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clean {
    /// Who has not been here for so long, milliseconds.
    pub age: u64,
    /// Nothing is changed: only told is what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Whom it is about; nobody named: everybody.
    #[serde(default)]
    pub users: Vec<Who>,
}

/// Somebody who is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// By his name.
    Name(String),
    /// By his directory, relative to the mount point.
    Path(String),
}

/// What has been cleaned since the line before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What lies in the backing is still being counted, as a new worker does: so many directories are known by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<u64>,
    /// How many are to be looked at, those who have been among them; told once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// How many have been looked at: they are old enough, or were named.
    pub looked_at: u64,
    /// How many of them have gone, or would go.
    pub dropped: u64,
    /// How many may not go: they have files open, a check is under way, or sessions linger.
    pub busy: u64,
    /// Of how many it is not known, as the backing could not be read or changed.
    pub failed: u64,
    /// What those had who have gone, bytes.
    pub bytes: u64,
    /// What became of those who were named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Named>,
}

/// What became of somebody who was named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// How he was named.
    pub who: Who,
    /// His name, where a path was given that is a user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What became of him.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// His list index and his record have gone, or would go.
    Dropped {
        /// What they took, bytes.
        bytes: u64,
    },
    /// He has files open, a check of his is under way, or sessions linger.
    Busy,
    /// He was here not so long ago.
    Recent {
        /// Seconds since then.
        age: u64,
    },
    /// He has no list index here.
    Nothing,
    /// He has no directory here, or the layout has no place for him.
    Unknown,
    /// His directory could not be read or changed.
    Failed {
        /// Why.
        why: String,
    },
}

impl Step {
    /// Counts one who has been looked at.
    pub fn count(&mut self, outcome: &Outcome) {
        self.looked_at += 1;
        match outcome {
            Outcome::Dropped { bytes } => {
                self.dropped += 1;
                self.bytes += bytes;
            }
            Outcome::Busy => self.busy += 1,
            Outcome::Failed { .. } => self.failed += 1,
            Outcome::Recent { .. } | Outcome::Nothing | Outcome::Unknown => {}
        }
    }
}

impl AddAssign for Step {
    fn add_assign(&mut self, next: Self) {
        self.counting = next.counting;
        self.due = next.due.or(self.due);
        self.looked_at += next.looked_at;
        self.dropped += next.dropped;
        self.busy += next.busy;
        self.failed += next.failed;
        self.bytes += next.bytes;
        self.users.extend(next.users);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{self, Answer, Command};
    use rstest::rstest;

    #[rstest]
    #[case(
        vec![Who::Name("alice".to_owned()), Who::Path("d0/bob".to_owned())],
        r#"{"protocol":1,"command":"clean","age":7000,"dry_run":true,"users":[{"name":"alice"},{"path":"d0/bob"}]}"#
    )]
    #[case(vec![], r#"{"protocol":1,"command":"clean","age":7000,"dry_run":true,"users":[]}"#)]
    fn a_request_is_one_line(#[case] users: Vec<Who>, #[case] expected: &str) {
        let (age, dry_run) = (7000, true);
        let asked = Command::Clean(Clean {
            age,
            dry_run,
            users,
        });
        let said = protocol::request(&asked).expect("a line");
        assert_eq!(said.trim_end(), expected);
        assert_eq!(protocol::read_request(said.as_bytes()), Ok(asked));
    }

    #[test]
    fn everybody_is_meant_where_nobody_is_named() {
        let asked = protocol::read_request(br#"{"protocol":1,"command":"clean","age":0}"#);
        let (age, dry_run, users) = (0, false, Vec::new());
        assert_eq!(
            asked,
            Ok(Command::Clean(Clean {
                age,
                dry_run,
                users
            }))
        );
    }

    #[test]
    fn steps_are_lines_that_add_up() {
        let named = |outcome| Named {
            who: Who::Path("d0/bob".to_owned()),
            name: Some("bob".to_owned()),
            outcome,
        };
        let (mut first, mut last) = (Step::default(), Step::default());
        first.due = Some(9);
        let tell = |step: &mut Step, outcome| {
            step.count(&outcome);
            step.users.push(named(outcome));
        };
        tell(&mut first, Outcome::Dropped { bytes: 5 });
        tell(&mut last, Outcome::Busy);
        tell(&mut last, Outcome::Recent { age: 3 });
        let said = protocol::response(&Answer::Step(first.clone())).expect("a line");
        assert_eq!(
            said,
            "{\"protocol\":1,\"step\":{\"due\":9,\"looked_at\":1,\"dropped\":1,\"busy\":0,\"failed\":0,\"bytes\":5,\
             \"users\":[{\"who\":{\"path\":\"d0/bob\"},\"name\":\"bob\",\"outcome\":\"dropped\",\"bytes\":5}]}}\n"
        );
        let read = protocol::read_response(said.as_bytes()).expect("understood");
        assert_eq!(read, Answer::Step(first.clone()));
        first += last;
        assert_eq!((first.looked_at, first.dropped, first.busy), (3, 1, 1));
        assert_eq!((first.due, first.bytes, first.users.len()), (Some(9), 5, 3));
    }
}
