//! What became of a drain, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use crate::control::drain::{Drained, Left, Process, Why};
use crate::ctl::look;
use crate::ctl::mounts::Served;
use crate::exit::{Exit, Failure};

/// So many of those who are still here have a line.
const LINES: usize = 20;

/// What became of a drain.
#[derive(Debug, Serialize)]
pub struct Report {
    mountpoint: String,
    backing: String,
    stock: bool,
    dry_run: bool,
    due: u64,
    dropped: u64,
    given_back: u64,
    lost: u64,
    kept: u64,
    left: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<Left>,
}

/// How many have gone, and how.
pub fn gone(sum: &Drained) -> String {
    counts(sum.given_back, sum.dropped + sum.lost)
}

fn counts(given_back: u64, dropped: u64) -> String {
    match given_back {
        0 => format!("{dropped} dropped"),
        _ => format!("{given_back} given back to INDEX, {dropped} dropped"),
    }
}

impl Report {
    /// Of all that was heard.
    pub fn new(served: &Served, stock: bool, dry_run: bool, sum: Drained) -> Self {
        Report {
            mountpoint: look::path(&served.point),
            backing: look::path(&served.backing),
            stock,
            dry_run,
            due: sum.due.unwrap_or_default(),
            dropped: sum.dropped,
            given_back: sum.given_back,
            lost: sum.lost,
            kept: sum.kept,
            left: sum.left.unwrap_or_default(),
            bytes: sum.bytes,
            users: sum.users,
        }
    }

    /// One line for all, and one for each who is still here or was not given back, of some.
    pub fn lines(&self) -> String {
        let gone = counts(self.given_back, self.dropped + self.lost);
        let would = if self.dry_run { "would go: " } else { "" };
        let bytes = look::size(self.bytes);
        let mut lines = format!("{}: {would}{gone}, {bytes}", look::clean(&self.mountpoint));
        if self.left + self.kept > 0 {
            // Writing to a String does not fail.
            let _ = write!(lines, "; {} still here", self.left + self.kept);
        }
        lines.push('\n');
        for user in self.users.iter().take(LINES) {
            let name = look::clean(&user.user);
            let _ = writeln!(lines, "{name}: {}", look::clean(&fate(&user.why)));
        }
        if self.users.len() > LINES {
            let more = self.users.len() - LINES;
            let _ = writeln!(lines, "and {more} more: --json names them");
        }
        lines
    }

    /// Whether all is done.
    ///
    /// # Errors
    /// When it is not.
    pub fn end(&self) -> Result<Exit, Failure> {
        let left = self.left;
        match (left, self.lost + self.kept) {
            _ if self.dry_run => Ok(Exit::Success),
            (0, 0) => Ok(Exit::Success),
            (0, not) => Err(Failure::system(format!(
                "{not} could not be given back: mend what the lines above say and run this again, or run drain without \
                 --stock: Dovecot makes their list indexes anew"
            ))),
            _ => Err(Failure::new(
                Exit::Busy,
                format!("{left} still here: end their sessions (doveadm kick) and run this again"),
            )),
        }
    }
}

fn fate(why: &Why) -> String {
    match why {
        Why::Busy {
            open,
            lingering,
            more,
        } => {
            let mut parts = Vec::new();
            for (what, who) in [("has files open", open), ("lingers", lingering)] {
                if !who.is_empty() {
                    parts.push(format!("{what}: {}", names(who)));
                }
            }
            if *more > 0 {
                parts.push(format!("and {more} more"));
            }
            format!("still here: {}", parts.join("; "))
        }
        Why::Running => "still here: a check is under way, or his NFS does not answer".to_owned(),
        Why::Haunted => {
            "still here: sessions of an earlier mount were refused or lost their files, of which his next login here tells \
             other hosts: leave him"
                .to_owned()
        }
        Why::Lost { why } => format!("dropped, not given back: {why}"),
        Why::Kept { why } => format!("still here, not given back: {why}"),
    }
}

fn names(processes: &[Process]) -> String {
    let name = |process: &Process| match (process.pid, process.name.as_str()) {
        (0, _) => "a process that cannot be seen from here".to_owned(),
        (pid, "") => pid.to_string(),
        (pid, name) => format!("{name} {pid}"),
    };
    let names: Vec<String> = processes.iter().map(name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(left: u64, whys: Vec<Why>) -> Report {
        let served = Served {
            point: "/run/m".into(),
            backing: "/var/lib/b".into(),
        };
        let count = |is: fn(&Why) -> bool| whys.iter().filter(|why| is(why)).count() as u64;
        let sum = Drained {
            due: Some(9),
            left: Some(left),
            dropped: 2,
            given_back: 3,
            lost: count(|why| matches!(why, Why::Lost { .. })),
            kept: count(|why| matches!(why, Why::Kept { .. })),
            bytes: 20480,
            ..Drained::default()
        };
        let mut report = Report::new(&served, true, false, sum);
        let users = whys.into_iter().enumerate();
        report.users = users
            .map(|(at, why)| Left {
                user: format!("u{at}"),
                why,
            })
            .collect();
        report
    }

    fn each() -> Vec<Why> {
        let process = |pid, name: &str| Process {
            pid,
            name: name.to_owned(),
        };
        let why = || "no room".to_owned();
        vec![
            Why::Busy {
                open: vec![process(7, "imap"), process(8, "")],
                lingering: vec![process(0, "")],
                more: 3,
            },
            Why::Running,
            Why::Haunted,
            Why::Lost { why: why() },
            Why::Kept { why: why() },
        ]
    }

    #[test]
    fn people_read_who_is_here_and_why() {
        assert_eq!(
            report(2, each()).lines(),
            "/run/m: 3 given back to INDEX, 3 dropped, 20.0 KiB; 3 still here\n\
             u0: still here: has files open: imap 7, 8; lingers: a process that cannot be seen from here; and 3 more\n\
             u1: still here: a check is under way, or his NFS does not answer\n\
             u2: still here: sessions of an earlier mount were refused or lost their files, of which his next login here \
             tells other hosts: leave him\n\
             u3: dropped, not given back: no room\n\
             u4: still here, not given back: no room\n"
        );
        let many = report(30, vec![Why::Running; 30]).lines();
        assert!(
            many.ends_with("\nand 10 more: --json names them\n"),
            "{many}"
        );
    }

    #[test]
    fn programs_read_one_object() {
        let json = serde_json::to_string(&report(1, vec![Why::Running])).expect("JSON");
        assert_eq!(
            json,
            "{\"mountpoint\":\"/run/m\",\"backing\":\"/var/lib/b\",\"stock\":true,\"dry_run\":false,\"due\":9,\
             \"dropped\":2,\"given_back\":3,\"lost\":0,\"kept\":0,\"left\":1,\"bytes\":20480,\
             \"users\":[{\"user\":\"u0\",\"outcome\":\"running\"}]}"
        );
    }

    #[test]
    fn the_exit_code_says_whether_anybody_is_left() {
        let code = |report: Report| match report.end() {
            Ok(exit) => exit,
            Err(failure) => failure.exit,
        };
        let why = || "no room".to_owned();
        assert_eq!(code(report(0, vec![])), Exit::Success);
        assert_eq!(code(report(1, each())), Exit::Busy);
        assert_eq!(
            code(report(0, vec![Why::Kept { why: why() }])),
            Exit::System
        );
        assert_eq!(
            code(report(0, vec![Why::Lost { why: why() }])),
            Exit::System
        );
    }
}
