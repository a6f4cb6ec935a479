//! What is said of draining: who goes, who is still here and why. Pure.
//!
//! Each line tells what happened since the one before, and how many are here now.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// So many of those who are still here, or could not be given back, are named.
pub const NAMED: usize = 1000;

/// And so many processes of each of them: a line has a bound, and anybody may open his files as often as he likes.
pub const PROCESSES: usize = 20;

/// Everybody is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// How long those who are here are waited for, milliseconds.
    pub within: u64,
    /// Their list indexes are given back to INDEX, for stock Dovecot.
    #[serde(default)]
    pub stock: bool,
    /// Nothing is changed: only told is what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// What has been drained since the line before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// What lies in the backing is still being counted: so many directories are known by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<u64>,
    /// How many there were; told once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// How many are here now, those of whom [`Drained::kept`] tells not among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// How many have been dropped, or would be.
    pub dropped: u64,
    /// How many have been given back to INDEX, or would be.
    pub given_back: u64,
    /// How many have been dropped as they could not be given back.
    pub lost: u64,
    /// How many could not be given back and are here still.
    pub kept: u64,
    /// What those had who have gone, bytes.
    pub bytes: u64,
    /// Who could not be given back, and at the end who is still here: some of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Left>,
}

/// Somebody who is still here, or was not given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// His name.
    pub user: String,
    /// Why.
    #[serde(flatten)]
    pub why: Why,
}

/// Why somebody is still here, or was not given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Why {
    /// He has files open, or sessions that linger.
    Busy {
        /// Who has files open.
        open: Vec<Process>,
        /// Who was refused, or lost his files.
        lingering: Vec<Process>,
        /// How many more there are of both: of each [`PROCESSES`] are named.
        #[serde(default, skip_serializing_if = "is_nobody")]
        more: u64,
    },
    /// A check of his is under way, or he has just come, or the server that holds his INDEX does not answer.
    Running,
    /// Sessions of an earlier mount were refused or lost their files, which his next login here tells other hosts.
    Haunted,
    /// His list index was dropped as it could not be given back.
    Lost {
        /// Why.
        why: String,
    },
    /// His list index is here still, as it could not be given back.
    Kept {
        /// Why.
        why: String,
    },
}

/// A process of his.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number; 0 for one in a pid namespace that cannot be seen.
    pub pid: u32,
    /// The name of its program, if it is known.
    pub name: String,
}

fn is_nobody(number: &u64) -> bool {
    *number == 0
}

impl AddAssign for Drained {
    fn add_assign(&mut self, next: Self) {
        self.counting = next.counting;
        self.due = self.due.or(next.due);
        self.left = next.left.or(self.left);
        self.dropped += next.dropped;
        self.given_back += next.given_back;
        self.lost += next.lost;
        self.kept += next.kept;
        self.bytes += next.bytes;
        let room = NAMED.saturating_sub(self.users.len());
        self.users.extend(next.users.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{self, Answer, Command};

    #[test]
    fn a_request_is_one_line_and_what_is_not_said_is_no() {
        let (within, stock, dry_run) = (5000, true, false);
        let asked = Command::Drain(Drain {
            within,
            stock,
            dry_run,
        });
        let said = protocol::request(&asked).expect("a line");
        let line = r#"{"protocol":1,"command":"drain","within":5000,"stock":true,"dry_run":false}"#;
        assert_eq!(said.trim_end(), line);
        assert_eq!(protocol::read_request(said.as_bytes()), Ok(asked));
        let short = br#"{"protocol":1,"command":"drain","within":5000}"#;
        let stock = false;
        let asked = Command::Drain(Drain {
            within,
            stock,
            dry_run,
        });
        assert_eq!(protocol::read_request(short), Ok(asked));
    }

    #[test]
    fn lines_add_up_and_the_last_tells_who_is_here() {
        let process = |pid| Process {
            pid,
            name: "imap".to_owned(),
        };
        let why = Why::Busy {
            open: vec![process(7)],
            lingering: Vec::new(),
            more: 0,
        };
        let user = "alice".to_owned();
        let mut first = Drained {
            due: Some(3),
            left: Some(2),
            dropped: 1,
            ..Drained::default()
        };
        let last = Drained {
            left: Some(1),
            given_back: 1,
            users: vec![Left { user, why }],
            ..Drained::default()
        };
        let said = protocol::response(&Answer::Drained(last.clone())).expect("a line");
        assert!(
            said.contains(
                "\"users\":[{\"user\":\"alice\",\"outcome\":\"busy\",\"open\":[{\"pid\":7,\"name\":\"imap\"}],\
                 \"lingering\":[]}]"
            ),
            "{said}"
        );
        let read = protocol::read_response(said.as_bytes()).expect("understood");
        assert_eq!(read, Answer::Drained(last.clone()));
        first += last;
        let counts = (first.due, first.left, first.dropped, first.given_back);
        assert_eq!(counts, (Some(3), Some(1), 1, 1));
        assert_eq!(first.users.len(), 1);
    }
}
