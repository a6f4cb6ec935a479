//! What became of a clean, for people and for programs.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::control::protocol::{Named, Outcome, Step, Who};
use crate::ctl::look;
use crate::ctl::place::{Place, Users, not_known};
use crate::exit::{Exit, Failure};
use crate::printable::clean;

/// What became of a clean.
#[derive(Debug, Serialize)]
pub struct Report {
    mountpoint: Option<String>,
    backing: String,
    dry_run: bool,
    looked_at: u64,
    dropped: u64,
    busy: u64,
    failed: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<User>,
}

/// Somebody who was named.
#[derive(Debug, Serialize)]
struct User {
    /// As he was named.
    user: String,
    /// His name, where his path was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report {
    /// Of all that was heard.
    pub fn new(place: &Place, dry_run: bool, users: &Users, sum: Step) -> Self {
        let (backing, point) = match place {
            Place::Served { backing, point } => (backing, point.as_ref()),
            Place::Unmounted(backing) => (backing, None),
        };
        let named: BTreeMap<&Who, &Named> =
            sum.users.iter().map(|named| (&named.who, named)).collect();
        let heard = users.0.iter().filter_map(|(user, who)| {
            let named = named.get(who)?;
            Some(User {
                user: user.clone(),
                name: named.name.clone(),
                outcome: named.outcome.clone(),
            })
        });
        Report {
            users: heard.collect(),
            mountpoint: point.map(|point| look::path(point)),
            backing: look::path(backing),
            dry_run,
            looked_at: sum.looked_at,
            dropped: sum.dropped,
            busy: sum.busy,
            failed: sum.failed,
            bytes: sum.bytes,
        }
    }

    /// One line, and one for each who was named.
    pub fn lines(&self) -> String {
        let place = self.mountpoint.as_ref().unwrap_or(&self.backing);
        let would = if self.dry_run {
            "would drop"
        } else {
            "dropped"
        };
        let (users, bytes) = (look::count(self.dropped, "user"), look::size(self.bytes));
        let mut lines = format!("{}: {would} {users}, {bytes}", clean(place));
        for (count, what) in [(self.busy, "busy"), (self.failed, "failed")] {
            if count > 0 {
                // Writing to a String does not fail.
                let _ = write!(lines, "; {count} {what}");
            }
        }
        lines.push('\n');
        for user in &self.users {
            // A shell may have put names there that others have made.
            let (name, fate) = (clean(&user.user), clean(&self.fate(&user.outcome)));
            let _ = writeln!(lines, "{name}: {fate}");
        }
        lines
    }

    fn fate(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Dropped { bytes } => {
                let bytes = look::size(*bytes);
                let would = if self.dry_run {
                    "would be dropped"
                } else {
                    "dropped"
                };
                format!("{would}, {bytes}")
            }
            Outcome::Busy => "stays: has a session, or one of his lingers".to_owned(),
            Outcome::Recent { age } => {
                let age = humantime::format_duration(Duration::from_secs(*age));
                format!("stays: was here {age} ago")
            }
            Outcome::Nothing => "has no list index here".to_owned(),
            Outcome::Unknown => "is not known here".to_owned(),
            Outcome::Failed { why } => format!("stays: {why}"),
        }
    }

    /// Whether all is done, of whom that was wanted.
    ///
    /// # Errors
    /// When it is not.
    pub fn end(&self) -> Result<Exit, Failure> {
        let those = |is: fn(&Outcome) -> bool| {
            let all = self.users.iter().filter(|user| is(&user.outcome));
            let names: Vec<_> = all.map(|user| user.user.as_str()).collect();
            names.join(", ")
        };
        let unknown = those(|outcome| matches!(outcome, Outcome::Unknown));
        let busy = those(|outcome| matches!(outcome, Outcome::Busy));
        match (unknown.as_str(), busy.as_str()) {
            _ if self.failed > 0 => Err(Failure::system(format!(
                "of {} users the backing could not be read or changed: see the log",
                self.failed
            ))),
            ("", "") => Ok(Exit::Success),
            ("", _) => Err(Failure::new(
                Exit::Busy,
                format!("busy: {busy}: try again, or end the sessions (doveadm kick)"),
            )),
            _ => Err(not_known(&unknown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(dry_run: bool, outcomes: Vec<Outcome>) -> Report {
        let place = Place::Served {
            backing: "/var/lib/b".into(),
            point: Some("/run/m".into()),
        };
        let mut sum = Step::default();
        let mut users = Users::default();
        for (at, outcome) in outcomes.into_iter().enumerate() {
            sum.count(&outcome);
            let who = Who::Path(format!("d0/u{at}"));
            users.0.push((format!("/run/m/d0/u{at}"), who.clone()));
            let name = Some(format!("u{at}"));
            sum.users.push(Named { who, name, outcome });
        }
        Report::new(&place, dry_run, &users, sum)
    }

    fn each() -> Vec<Outcome> {
        vec![
            Outcome::Dropped { bytes: 20480 },
            Outcome::Busy,
            Outcome::Recent { age: 3725 },
            Outcome::Nothing,
            Outcome::Unknown,
        ]
    }

    #[test]
    fn people_read_a_line_for_all_and_one_for_each_who_was_named() {
        assert_eq!(
            report(false, each()).lines(),
            "/run/m: dropped 1 user, 20.0 KiB; 1 busy\n\
             /run/m/d0/u0: dropped, 20.0 KiB\n\
             /run/m/d0/u1: stays: has a session, or one of his lingers\n\
             /run/m/d0/u2: stays: was here 1h 2m 5s ago\n\
             /run/m/d0/u3: has no list index here\n\
             /run/m/d0/u4: is not known here\n"
        );
        let lines = report(true, Vec::new()).lines();
        assert_eq!(lines, "/run/m: would drop 0 users, 0 B\n");
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let mut report = report(false, vec![Outcome::Nothing]);
        report.mountpoint = Some("/run/\u{1b}[2J".to_owned());
        report.users[0].user = "/run/m/d0/u\u{1b}[2J\n/run/m: dropped 9 users".to_owned();
        let lines = report.lines();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(!lines.contains('\u{1b}'), "{lines:?}");
    }

    #[test]
    fn programs_read_one_object() {
        let json = |report: &Report| serde_json::to_string(report).expect("JSON");
        assert_eq!(
            json(&report(true, Vec::new())),
            "{\"mountpoint\":\"/run/m\",\"backing\":\"/var/lib/b\",\"dry_run\":true,\"looked_at\":0,\"dropped\":0,\
             \"busy\":0,\"failed\":0,\"bytes\":0}"
        );
        let all = json(&report(false, each()));
        let users = all.split_once(",\"users\":").expect("users").1;
        assert_eq!(
            users,
            "[{\"user\":\"/run/m/d0/u0\",\"name\":\"u0\",\"outcome\":\"dropped\",\"bytes\":20480},\
             {\"user\":\"/run/m/d0/u1\",\"name\":\"u1\",\"outcome\":\"busy\"},\
             {\"user\":\"/run/m/d0/u2\",\"name\":\"u2\",\"outcome\":\"recent\",\"age\":3725},\
             {\"user\":\"/run/m/d0/u3\",\"name\":\"u3\",\"outcome\":\"nothing\"},\
             {\"user\":\"/run/m/d0/u4\",\"name\":\"u4\",\"outcome\":\"unknown\"}]}"
        );
    }

    #[test]
    fn the_exit_code_is_about_those_who_were_named() {
        let code = |outcomes| match report(false, outcomes).end() {
            Ok(exit) => exit,
            Err(failure) => failure.exit,
        };
        let failed = || Outcome::Failed {
            why: "EIO".to_owned(),
        };
        assert_eq!(
            code(vec![Outcome::Recent { age: 1 }, Outcome::Nothing]),
            Exit::Success
        );
        assert_eq!(code(vec![Outcome::Busy]), Exit::Busy);
        assert_eq!(code(vec![Outcome::Busy, Outcome::Unknown]), Exit::NoUser);
        assert_eq!(code(vec![Outcome::Unknown, failed()]), Exit::System);
        let mut unnamed = report(false, Vec::new());
        unnamed.busy = 3;
        assert_eq!(unnamed.end(), Ok(Exit::Success));
    }
}
