//! What is said on the control sockets. Pure.
//!
//! One request, one answer or several, each a JSON object on one line that names the protocol's number. Fields may be added without a
//! new number, and who does not know them passes over them: a supervisor is often older than the tool that asks it.

use serde::{Deserialize, Serialize};

pub use super::clean::{Clean, Named, Outcome, Step, Who};
pub use super::drain::{Drain, Drained};
use super::users::{About, Big, Page};
use crate::stats::Reading;

/// Grows when an older side would misunderstand a newer one.
pub const PROTOCOL: u32 = 1;
/// A longer request is none of ours, bytes.
pub const LONGEST_REQUEST: usize = 64 << 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// What the supervisor knows.
    Status,
    /// Have the program that is installed now serve. Answered once it serves, or has been refused.
    Upgrade,
    /// What is counted. The worker tells it too, which shows that it answers.
    Stats,
    /// Log this from now on, as `RUST_LOG` has it; nothing: what is usual. To be told to both, and the supervisor first.
    Log {
        /// What.
        #[serde(default)]
        filter: Option<String>,
    },
    /// Of the worker: drop the list indexes of idle users. Answered step by step.
    Clean(Clean),
    /// Of the worker: who has a list index here. Answered in pages.
    Users,
    /// Of the worker: who has most here.
    Biggest {
        /// So many.
        most: u64,
    },
    /// Of the worker: all that is known of a user.
    User {
        /// By name or directory.
        who: Who,
    },
    /// Of the worker: everybody goes as soon as he is idle. Answered step by step.
    Drain(Drain),
}

#[derive(Serialize)]
struct Asked<'a> {
    protocol: u32,
    #[serde(flatten)]
    command: &'a Command,
}

#[derive(Debug, Deserialize)]
struct Protocol {
    protocol: u32,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Serialize)]
struct Said<'a> {
    protocol: u32,
    #[serde(flatten)]
    answer: &'a Answer,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is so, or is so now.
    Status(Box<Status>),
    /// What is counted.
    Stats(Box<Reading>),
    /// This is logged now.
    Log(String),
    /// So much has been cleaned since the line before; more lines follow.
    Step(Step),
    /// The same, and that was all.
    Cleaned(Step),
    /// Some users; more lines follow.
    Users(Page),
    /// The same, and that was all.
    Listed(Page),
    /// Who has most here, the biggest first.
    Biggest(Vec<Big>),
    /// A user; `None`: he has no directory here.
    User(Option<Box<About>>),
    /// So much has been drained since the line before; more lines follow.
    Draining(Drained),
    /// The same, and that was all.
    Drained(Drained),
    /// It is not done, and why.
    Error(String),
}

/// A mount as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What this host is called in .lasthost; empty where one of an earlier version answers.
    #[serde(default)]
    pub host: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// Where its files are.
    pub backing: String,
    /// What goes on.
    pub state: State,
    /// Who answers this.
    pub supervisor: Process,
    /// Who serves; none for the moment between two.
    pub worker: Option<Process>,
    /// How many workers have been started, the first among them.
    pub workers_started: u64,
    /// What is logged, where that was said while the mount stood.
    #[serde(default)]
    pub log: Option<String>,
    /// A new program is being tried or taking over.
    pub upgrading: bool,
}

#[cfg(test)]
impl Status {
    /// Of a mount whose second worker serves.
    pub fn example() -> Self {
        let process = |pid| Process {
            pid,
            version: "0.1.0".to_owned(),
            since: 86_400,
        };
        Status {
            host: "mail1".to_owned(),
            mountpoint: "/run/listindex".to_owned(),
            backing: "/var/lib/listindexfs".to_owned(),
            state: State::Serving,
            supervisor: process(7),
            worker: Some(process(8)),
            workers_started: 2,
            log: None,
            upgrading: false,
        }
    }
}

/// What a mount is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has not answered yet.
    Starting,
    /// It answers.
    Serving,
    /// It was told to end, and still has users.
    Stopping,
}

/// One of our processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
    /// When it was started, seconds since 1970.
    pub since: u64,
}

/// The line of a request.
///
/// # Errors
/// None that a [`Command`] could cause.
pub fn request(command: &Command) -> serde_json::Result<String> {
    let protocol = PROTOCOL;
    line(&Asked { protocol, command })
}

/// What a request's line asks for.
///
/// # Errors
/// Why it is not understood, for the client.
pub fn read_request(bytes: &[u8]) -> Result<Command, String> {
    let not_understood = |e: serde_json::Error| format!("not understood: {e}");
    let Protocol { protocol } = serde_json::from_slice(bytes).map_err(not_understood)?;
    if protocol != PROTOCOL {
        return Err(format!(
            "protocol {protocol} is not spoken here, but {PROTOCOL}: who answers is {}",
            env!("CARGO_PKG_VERSION")
        ));
    }
    serde_json::from_slice(bytes).map_err(not_understood)
}

/// The line of an answer.
///
/// # Errors
/// None that an [`Answer`] could cause.
pub fn response(answer: &Answer) -> serde_json::Result<String> {
    let protocol = PROTOCOL;
    line(&Said { protocol, answer })
}

/// What a line of an answer says.
///
/// # Errors
/// When it is no answer.
pub fn read_response(bytes: &[u8]) -> serde_json::Result<Answer> {
    let response: Response = serde_json::from_slice(bytes)?;
    Ok(response.answer)
}

fn line(said: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string(said)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Command::Status, "{\"protocol\":1,\"command\":\"status\"}\n")]
    #[case(Command::Stats, "{\"protocol\":1,\"command\":\"stats\"}\n")]
    #[case(Command::Log { filter: Some("debug".to_owned()) }, "{\"protocol\":1,\"command\":\"log\",\"filter\":\"debug\"}\n")]
    #[case(Command::Upgrade, "{\"protocol\":1,\"command\":\"upgrade\"}\n")]
    fn a_request_is_one_line(#[case] command: Command, #[case] expected: &str) {
        let said = request(&command).expect("a line");
        assert_eq!(said, expected);
        assert_eq!(read_request(said.as_bytes()), Ok(command));
    }

    #[test]
    fn what_a_newer_side_adds_is_passed_over() {
        let asked = br#"{"protocol":1,"command":"status","since":"yesterday"}"#;
        assert_eq!(read_request(asked), Ok(Command::Status));
    }

    #[rstest]
    #[case(
        r#"{"protocol":2,"command":"status"}"#,
        "protocol 2 is not spoken here"
    )]
    #[case(r#"{"protocol":1,"command":"dance"}"#, "unknown variant `dance`")]
    #[case(r#"{"protocol":1}"#, "missing field `command`")]
    #[case(r#"{"command":"status"}"#, "missing field `protocol`")]
    #[case("GET / HTTP/1.1", "not understood")]
    #[case("", "not understood")]
    fn what_is_not_understood_is_said(#[case] asked: &str, #[case] expected: &str) {
        let refused = read_request(asked.as_bytes()).expect_err("refused");
        assert!(refused.contains(expected), "{refused}");
    }

    #[test]
    fn an_answer_comes_back() {
        for answer in [
            Answer::Status(Box::new(Status::example())),
            Answer::Cleaned(Step::default()),
            Answer::Error("no\nindeed".to_owned()),
        ] {
            let said = response(&answer).expect("a line");
            assert_eq!(said.matches('\n').count(), 1);
            assert_eq!(read_response(said.as_bytes()).expect("understood"), answer);
        }
    }
}
