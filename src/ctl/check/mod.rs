//! `listindexctl check`: what an operator has to know of this host, one finding a line.
//!
//! Nothing here changes anything, and nothing waits without a bound.

mod backing;
mod bare;
mod boot;
mod dovecot;
mod serving;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::mounts::{self, Served};
use crate::exit::{Exit, Failure};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be, or not to be found out here.
    Ok,
    /// Mail is served rightly, but something costs or may come to hurt.
    Warning,
    /// Mail is down, or will be, or may be told something old.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: a word that stays.
    pub about: &'static str,
    /// What was found, and what to do.
    pub text: String,
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, level: Level, about: &'static str, text: impl fmt::Display) {
        let text = text.to_string().replace(['\n', '\r'], " ");
        self.findings.push(Finding { level, about, text });
    }

    fn ok(&mut self, about: &'static str, text: impl fmt::Display) {
        self.add(Level::Ok, about, text);
    }

    fn warning(&mut self, about: &'static str, text: impl fmt::Display) {
        self.add(Level::Warning, about, text);
    }

    fn error(&mut self, about: &'static str, text: impl fmt::Display) {
        self.add(Level::Error, about, text);
    }

    /// One finding a line.
    pub fn lines(&self) -> String {
        self.findings.iter().fold(String::new(), |lines, finding| {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            lines + &format!("{level}: {}: {}\n", finding.about, finding.text)
        })
    }

    /// Whether there is an error.
    pub fn exit(&self) -> Exit {
        match self.findings.iter().any(|f| f.level == Level::Error) {
            true => Exit::Usage,
            false => Exit::Success,
        }
    }
}

/// Looks at the mount on `given`, or at all of this host.
///
/// # Errors
/// When there is no `/proc`. What is found wrong is in the report.
pub fn run(given: Option<&Path>) -> Result<Report, Failure> {
    let mut report = Report::default();
    serving::kernel(&mut report);
    let found = match given {
        Some(given) => mounts::find(Some(given)).map(|mount| vec![mount]),
        None => mounts::all(),
    };
    let mounted = match found {
        Ok(mounted) => mounted,
        Err(failure) => {
            report.error("mount", failure);
            Vec::new()
        }
    };
    if given.is_none() && mounted.is_empty() {
        report.error(
            "mount",
            "no listindexfs is mounted: mount it, or start its unit",
        );
    }
    for mount in &mounted {
        look_at(mount, &mut report)?;
    }
    if let (Some(given), true) = (given, mounted.is_empty()) {
        bare::look_at(&super::absolute(given)?, &mounts::table()?, &mut report);
    }
    boot::dovecot_unit(&mounted, &mut report);
    dovecot::look_at(&mounted, &mut report);
    Ok(report)
}

fn look_at(mount: &Served, report: &mut Report) -> Result<(), Failure> {
    let table = mounts::table()?;
    serving::look_at(mount, report);
    backing::look_at(&mount.backing, &table, report);
    bare::look_at(&mount.point, &table, report);
    boot::look_at(&mount.point, report);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_and_fails_for_errors_alone() {
        let mut report = Report::default();
        report.ok("kernel", "new");
        report.warning("backing", "a\nb");
        assert_eq!(report.lines(), "ok: kernel: new\nwarning: backing: a b\n");
        assert_eq!(report.exit(), Exit::Success);
        report.error("mount", "gone");
        assert_eq!(report.exit(), Exit::Usage);
        let json = serde_json::to_string(&report).expect("JSON");
        assert!(
            json.starts_with(r#"{"findings":[{"level":"ok","about":"kernel","text":"new"},"#),
            "{json}"
        );
    }
}
