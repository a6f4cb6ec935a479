//! What is said of users: who has a list index here, and all that is known of one. Pure.

use serde::{Deserialize, Serialize};

/// What goes on with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing.
    Idle,
    /// He has files open, or a check or fence of his is under way.
    InUse,
    /// A session that was refused or lost its files lingers, or the fence that tells other hosts of it is not set yet.
    Haunted,
}

impl Activity {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::InUse => "in use",
            Activity::Haunted => "haunted",
        }
    }
}

/// Some of those who have a list index here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// What lies in the backing is still being counted, as a new worker does: so many directories are known by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<u64>,
    /// How many there are, about; told once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// Of how many more nothing can be told, as the backing could not be read.
    #[serde(default)]
    pub failed: u64,
    /// Who. One who was used meanwhile may be told of again: the later line is right.
    #[serde(default)]
    pub users: Vec<Here>,
}

/// One who has much here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Big {
    /// His name, with what is not printable escaped.
    pub name: String,
    /// What lies here of him, bytes.
    pub bytes: u64,
    /// When he was last here, milliseconds since 1970.
    pub last: u64,
}

/// Who has a list index here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// His name, with what is not printable escaped.
    pub name: String,
    /// What his list index and record take, bytes.
    pub bytes: u64,
    /// When he last asked for his list index, or closed it, milliseconds since 1970.
    pub last: u64,
    /// How many files of his list index are open, by processes that a worker gave them to.
    pub handles: u64,
    /// What goes on.
    pub state: Activity,
}

/// All that is known of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// His name.
    pub name: String,
    /// His directory, relative to the mount point and to the backing.
    pub path: String,
    /// His INDEX.
    pub index: Index,
    /// What his list index and record take, bytes.
    pub bytes: u64,
    /// What else lies in his directory, bytes.
    pub plain_bytes: u64,
    /// What lies in his directory, by name; at most [`FILES`].
    pub files: Vec<File>,
    /// How many more.
    pub more_files: u64,
    /// When he last asked for his list index, or closed it, seconds since 1970.
    pub last_access: u64,
    /// What goes on.
    pub state: Activity,
    /// A check or a fence is under way, or due.
    pub checking: bool,
    /// What is in his record's place.
    pub record: Record,
    /// What INDEX/.lasthost says.
    pub lasthost: LastHost,
    /// Who has files of his list index open; at most [`PROCESSES`].
    pub holders: Vec<Holder>,
    /// How many more.
    #[serde(default)]
    pub more_holders: u64,
    /// Whose changes do not reach the list index; at most [`PROCESSES`].
    pub ghosts: Vec<Ghost>,
    /// How many more.
    #[serde(default)]
    pub more_ghosts: u64,
    /// What the gate has decided since this worker began, the last first.
    pub decisions: Vec<Decision>,
}

/// So many files are named at most.
pub const FILES: usize = 100;

/// So many processes are told of at most: anybody may open his files as often as he likes.
pub const PROCESSES: usize = 1000;

/// A user's INDEX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Index {
    /// It is there, if it is.
    Path(String),
    /// None can be told.
    None(String),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its length, bytes.
    pub size: u64,
}

/// What the record's place holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// Nothing, or nothing of this mount: the next login begins anew.
    None,
    /// Word of ghosts.
    Haunted,
    /// What this mount last accepted.
    Accepted {
        /// Of INDEX/.lasthost: inode, time, size.
        lasthost: String,
        /// Its inode. Its time tells nobody anything: a claim's is random.
        inode: u64,
        /// The mount's number.
        instance: String,
        /// The files that were pulled from INDEX.
        pulled: Vec<String>,
    },
}

/// What INDEX/.lasthost says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LastHost {
    /// Nobody was asked, or nobody has answered.
    NotAsked {
        /// Why.
        why: String,
    },
    /// It cannot be seen.
    Trouble {
        /// Why, and what to do.
        why: String,
    },
    /// There is no INDEX.
    NoIndex,
    /// There is none.
    Absent,
    /// There is one that none of us wrote.
    Foreign,
    /// It is this.
    Claim {
        /// Of the host that had him last.
        host: String,
        /// The mount's number, where a mount wrote it.
        instance: Option<String>,
        /// It is this mount's.
        ours: bool,
        /// It is the one that the record has.
        recorded: bool,
        /// How many stock logs it warns of.
        stale: u64,
    },
}

/// Who has files open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its pid; 0 where it cannot be seen from here.
    pub pid: u32,
    /// Its program's name, as it calls itself; empty where it cannot be seen.
    pub program: String,
    /// With what uid it came.
    pub uid: u32,
    /// How many.
    pub handles: u32,
    /// It has changed the list index.
    pub wrote: bool,
}

/// Whose changes do not reach the list index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ghost {
    /// Its pid; 0 where it cannot be seen from here.
    pub pid: u32,
    /// Its program's name, as it calls itself; empty where it cannot be seen.
    pub program: String,
    /// How it came to be one.
    pub why: String,
}

/// What the gate decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When, seconds since 1970.
    pub at: u64,
    /// A word: `keep`, `claim`, `pull`, `finish`, `adopt`, `unclaimed`, `drain` or `refuse`.
    pub decision: String,
    /// Whether those who asked were given the list index.
    pub served: bool,
    /// What it was decided by.
    pub why: String,
    /// How long it took, microseconds.
    pub took_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{self, Answer, Command, Who};

    #[test]
    fn what_is_asked_is_one_line() {
        let who = Who::Path("d0/bob".to_owned());
        let asked = Command::User { who };
        let said = protocol::request(&asked).expect("a line");
        assert_eq!(
            said,
            "{\"protocol\":1,\"command\":\"user\",\"who\":{\"path\":\"d0/bob\"}}\n"
        );
        assert_eq!(protocol::read_request(said.as_bytes()), Ok(asked));
        let said = protocol::request(&Command::Users).expect("a line");
        assert_eq!(said, "{\"protocol\":1,\"command\":\"users\"}\n");
    }

    #[test]
    fn a_page_is_one_line() {
        let page = Page {
            due: Some(1),
            users: vec![Here {
                name: "bob".to_owned(),
                bytes: 4096,
                last: 1_500,
                handles: 2,
                state: Activity::InUse,
            }],
            ..Page::default()
        };
        let said = protocol::response(&Answer::Users(page.clone())).expect("a line");
        assert_eq!(
            said,
            "{\"protocol\":1,\"users\":{\"due\":1,\"failed\":0,\"users\":[{\"name\":\"bob\",\"bytes\":4096,\
             \"last\":1500,\"handles\":2,\"state\":\"in-use\"}]}}\n"
        );
        assert_eq!(
            protocol::read_response(said.as_bytes()).expect("understood"),
            Answer::Users(page)
        );
    }

    #[test]
    fn nobody_is_an_answer_too() {
        let said = protocol::response(&Answer::User(None)).expect("a line");
        assert_eq!(said, "{\"protocol\":1,\"user\":null}\n");
        let read = protocol::read_response(said.as_bytes()).expect("understood");
        assert_eq!(read, Answer::User(None));
    }
}
