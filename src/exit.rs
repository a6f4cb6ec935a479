//! How the programs end: exit codes as mount(8) has them, and failures of one line.
//!
//! The man pages list the same codes; tests compare them.

use std::fmt;
use std::process::ExitCode;

use crate::printable::one_line;

/// The exit codes: those of mount(8), because mount(8) hands them on as its own, and for what `listindexctl`
/// is asked of users what Dovecot's doveadm(1) says in such a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The mount answers, or it was served and has ended as it should.
    Success = 0,
    /// A bad option, template or argument, or not enough privileges.
    Usage = 1,
    /// The system cannot: no `/dev/fuse`, an old kernel, no process, or serving broke off.
    System = 2,
    /// This mount is not possible: backing or mount point do not serve, or mount(2) refused.
    Mount = 32,
    /// A user who was named is not known here.
    NoUser = 67,
    /// A user who was named may not go now: try again.
    Busy = 75,
}

impl Exit {
    /// Every code, for the test of listindexctl's man page.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Usage,
        Self::System,
        Self::Mount,
        Self::NoUser,
        Self::Busy,
    ];

    /// Whether a mount may end so.
    pub fn is_of_mount(self) -> bool {
        !matches!(self, Self::NoUser | Self::Busy)
    }

    /// The number given to the caller.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The code of a number that another of our processes reported.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why the program ends: an exit code and one line for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the caller gets.
    pub exit: Exit,
    line: String,
}

impl Failure {
    /// A failure with its line, of which only [what can be printed](one_line) is kept.
    pub fn new(exit: Exit, line: impl fmt::Display) -> Self {
        let line = one_line(&line.to_string());
        Self { exit, line }
    }

    /// A bad option, template or argument.
    pub fn usage(line: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, line)
    }

    /// The system cannot.
    pub fn system(line: impl fmt::Display) -> Self {
        Self::new(Exit::System, line)
    }

    /// This mount is not possible.
    pub fn mount(line: impl fmt::Display) -> Self {
        Self::new(Exit::Mount, line)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_out_and_come_back() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
        }
        assert_eq!(Exit::from_code(3), None);
    }

    #[test]
    fn the_man_page_has_every_code() {
        let page = include_str!("../mount/listindexfs.8");
        for exit in Exit::ALL.into_iter().filter(|exit| exit.is_of_mount()) {
            let entry = format!("\n.TP\n.B {}\n", exit.code());
            assert!(page.contains(&entry), "{exit:?} is not in the man page");
        }
    }

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(
            Failure::mount("/a\nb: no\r").to_string(),
            "/a b: no ".to_string()
        );
    }
}
