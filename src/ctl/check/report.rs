//! What was found, one finding a line, and how people see it.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

use crate::ctl::look::{self, BOLD, Look};
use crate::exit::Exit;
use crate::printable::one_line;

pub use crate::ctl::look::Level;

/// What was looked at. Its word stays the same from version to version, and is a row of a table in docs/operating.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Its version, and what it has of FUSE.
    Kernel,
    /// The device, and the programs that mount(8) runs.
    Fuse,
    /// How many files may be open.
    Files,
    /// Whether it stands and answers.
    Mount,
    /// Supervisor and worker.
    Processes,
    /// `-o`, of the mount, fstab or the unit.
    Options,
    /// The directory with the files.
    Backing,
    /// Whether the backing fits into it.
    Memory,
    /// The directory below the mount.
    Bare,
    /// What mounts it.
    Boot,
    /// The part of `index=` before its first variable.
    Base,
    /// The mount that the base lies on.
    Nfs,
    /// That of the NFS server.
    Clock,
    /// Its settings as a whole.
    Dovecot,
    /// `LISTINDEX` against `layout=` and `prefix=`.
    Layout,
    /// `INDEX` against `index=`.
    Index,
    /// Single settings.
    Settings,
    /// Whose uids mail processes have.
    Uids,
    /// When it runs.
    Unit,
    /// What the running Dovecot and listindexfs see of each other.
    Sight,
}

impl About {
    /// All of them, in the order in which they are looked at.
    #[cfg(test)]
    const ALL: [Self; 20] = [
        Self::Kernel,
        Self::Fuse,
        Self::Files,
        Self::Mount,
        Self::Processes,
        Self::Options,
        Self::Backing,
        Self::Memory,
        Self::Bare,
        Self::Boot,
        Self::Base,
        Self::Nfs,
        Self::Clock,
        Self::Dovecot,
        Self::Layout,
        Self::Index,
        Self::Settings,
        Self::Uids,
        Self::Unit,
        Self::Sight,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Fuse => "fuse",
            Self::Files => "open files",
            Self::Mount => "mount",
            Self::Processes => "processes",
            Self::Options => "options",
            Self::Backing => "backing",
            Self::Memory => "memory",
            Self::Bare => "bare mount point",
            Self::Boot => "boot",
            Self::Base => "index base",
            Self::Nfs => "nfs",
            Self::Clock => "clock",
            Self::Dovecot => "dovecot",
            Self::Layout => "layout",
            Self::Index => "index",
            Self::Settings => "settings",
            Self::Uids => "uids",
            Self::Unit => "dovecot.service",
            Self::Sight => "namespaces",
        }
    }
}

impl Serialize for About {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is: an error means that mail is down, or will be, or may be told something old; a warning that mail is served
    /// rightly, but something costs or may come to hurt.
    #[serde(serialize_with = "word")]
    pub level: Level,
    /// What was looked at.
    pub about: About,
    /// What was found, and what to do.
    pub text: String,
}

fn word<S: Serializer>(level: &Level, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(level.word())
}

/// What is to be added to Dovecot's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// `2.3` or `2.4`.
    pub version: &'static str,
    /// Lines of its configuration, comments among them.
    pub lines: Vec<String>,
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    findings: Vec<Finding>,
    /// Empty where nothing is missing.
    dovecot_lines: Vec<Lines>,
}

impl Report {
    /// Adds a finding.
    pub fn add(&mut self, level: Level, about: About, text: impl fmt::Display) {
        let text = one_line(&text.to_string());
        self.findings.push(Finding { level, about, text });
    }

    /// All is well, or it cannot be told from here.
    pub fn ok(&mut self, about: About, text: impl fmt::Display) {
        self.add(Level::Ok, about, text);
    }

    /// Something costs, or may come to hurt.
    pub fn warning(&mut self, about: About, text: impl fmt::Display) {
        self.add(Level::Warning, about, text);
    }

    /// Something is wrong.
    pub fn error(&mut self, about: About, text: impl fmt::Display) {
        self.add(Level::Error, about, text);
    }

    /// Whether anything has been said about it.
    pub fn speaks_of(&self, about: About) -> bool {
        self.findings.iter().any(|finding| finding.about == about)
    }

    /// Adds what Dovecot lacks, if that is anything.
    pub fn lines(&mut self, lines: Lines) {
        if !lines.lines.is_empty() {
            self.dovecot_lines.push(lines);
        }
    }

    /// For people: what was found and how often it is bad, then Dovecot's lines, whole, so that they can be copied.
    pub fn shown(&self, look: &Look) -> String {
        const LEVEL: usize = 7;
        const GAP: usize = 2;
        let widths = self.findings.iter().map(|f| f.about.word().len());
        let about = widths.max().unwrap_or_default();
        let mut out = String::new();
        for finding in &self.findings {
            let (level, text) = (finding.level, &finding.text);
            let text = look.wrap(text, LEVEL + GAP + about + GAP);
            let pad = LEVEL - level.word().len() + GAP;
            let level = look.level(level);
            let word = finding.about.word();
            // Writing to a String does not fail.
            let _ = writeln!(out, "{level}{:pad$}{word:about$}{:GAP$}{text}", "", "");
        }
        out += &self.sum(look);
        for lines in &self.dovecot_lines {
            let heading = format!("To be added to Dovecot {}:", lines.version);
            let _ = write!(out, "\n{}\n\n", look.paint(BOLD, &heading));
            for line in &lines.lines {
                let _ = writeln!(out, "{line}");
            }
        }
        out
    }

    fn sum(&self, look: &Look) -> String {
        let count = |level| self.findings.iter().filter(|f| f.level == level).count();
        let count = |level, noun| look::count(count(level) as u64, noun);
        let (errors, warnings) = (
            count(Level::Error, "error"),
            count(Level::Warning, "warning"),
        );
        let worst = self.worst();
        let sum = look.paint(worst.style(), &format!("{errors}, {warnings}"));
        format!("\n{sum}\n")
    }

    fn worst(&self) -> Level {
        let is = |level| self.findings.iter().any(|finding| finding.level == level);
        let mut levels = [Level::Error, Level::Warning].into_iter();
        levels.find(|level| is(*level)).unwrap_or(Level::Ok)
    }

    /// Whether there is an error.
    pub fn exit(&self) -> Exit {
        match self.worst() {
            Level::Error => Exit::Usage,
            Level::Ok | Level::Warning => Exit::Success,
        }
    }

    /// What was found, for tests.
    #[cfg(test)]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What Dovecot lacks, for tests.
    #[cfg(test)]
    pub fn dovecot_lines(&self) -> &[Lines] {
        &self.dovecot_lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.ok(About::Kernel, "Linux 6.18");
        report.warning(
            About::Bare,
            "while nothing is mounted on /run/listindex Dovecot fails there: use the unit listindexfs@.service",
        );
        report.error(
            About::Layout,
            "alice: layout= gives 61/alice, LISTINDEX a/alice: write layout=%1u/%u",
        );
        report.lines(Lines {
            version: "2.3",
            lines: vec!["mail_fsync = always".to_owned()],
        });
        report
    }

    #[test]
    fn a_report_fits_the_terminal() {
        assert_eq!(
            report().shown(&Look::PLAIN),
            "\
ok       kernel            Linux 6.18
warning  bare mount point  while nothing is mounted on /run/listindex Dovecot
                           fails there: use the unit listindexfs@.service
error    layout            alice: layout= gives 61/alice, LISTINDEX a/alice:
                           write layout=%1u/%u

1 error, 1 warning

To be added to Dovecot 2.3:

mail_fsync = always
"
        );
    }

    #[test]
    fn in_colour_only_the_level_and_headings_have_one() {
        let shown = report().shown(&Look::COLOURED);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(
            lines[0],
            "\u{1b}[32mok\u{1b}[0m       kernel            Linux 6.18"
        );
        assert!(lines[3].starts_with("\u{1b}[31merror\u{1b}[0m    layout            alice: "));
        assert_eq!(lines[6], "\u{1b}[31m1 error, 1 warning\u{1b}[0m");
        assert_eq!(lines[8], "\u{1b}[1mTo be added to Dovecot 2.3:\u{1b}[0m");
    }

    #[test]
    fn in_a_file_each_finding_has_a_line() {
        let look = Look {
            width: None,
            ..Look::PLAIN
        };
        let shown = report().shown(&look);
        let mut lines = shown.lines();
        assert_eq!(lines.next(), Some("ok       kernel            Linux 6.18"));
        assert!(
            lines
                .next()
                .is_some_and(|line| line.ends_with("listindexfs@.service"))
        );
    }

    #[test]
    fn it_fails_for_errors_alone() {
        let mut report = Report::default();
        report.ok(About::Kernel, "new");
        report.warning(About::Backing, "a\nb");
        assert_eq!(report.exit(), Exit::Success);
        report.error(About::Mount, "gone");
        assert_eq!(report.exit(), Exit::Usage);
        let json = serde_json::to_string(&report).expect("JSON");
        assert_eq!(
            json,
            r#"{"findings":[{"level":"ok","about":"kernel","text":"new"},{"level":"warning","about":"backing","text":"a b"},{"level":"error","about":"mount","text":"gone"}],"dovecot_lines":[]}"#
        );
    }

    #[test]
    fn each_word_is_its_own_and_explained() {
        let table = include_str!("../../../docs/operating.md");
        for (at, about) in About::ALL.iter().enumerate() {
            let word = about.word();
            assert!(!About::ALL[..at].iter().any(|other| other.word() == word));
            assert!(table.contains(&format!("\n| `{word}` |")), "no row: {word}");
        }
    }
}
