//! The kinds of requests that are carried out: their words in the log, and where they are counted.

use crate::stats::Cell;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Lookup,
    Getattr,
    Setattr,
    Mkdir,
    Unlink,
    Rmdir,
    Rename,
    Link,
    Open,
    Create,
    Read,
    Write,
    Release,
    Readdir,
    Statfs,
}

impl Op {
    /// Its word.
    pub fn word(self) -> &'static str {
        self.told().0
    }

    /// Where it is counted.
    pub fn cell(self) -> Cell {
        self.told().1
    }

    fn told(self) -> (&'static str, Cell) {
        match self {
            Op::Lookup => ("lookup", Cell::OpLookup),
            Op::Getattr => ("getattr", Cell::OpGetattr),
            Op::Setattr => ("setattr", Cell::OpSetattr),
            Op::Mkdir => ("mkdir", Cell::OpMkdir),
            Op::Unlink => ("unlink", Cell::OpUnlink),
            Op::Rmdir => ("rmdir", Cell::OpRmdir),
            Op::Rename => ("rename", Cell::OpRename),
            Op::Link => ("link", Cell::OpLink),
            Op::Open => ("open", Cell::OpOpen),
            Op::Create => ("create", Cell::OpCreate),
            Op::Read => ("read", Cell::OpRead),
            Op::Write => ("write", Cell::OpWrite),
            Op::Release => ("release", Cell::OpRelease),
            Op::Readdir => ("readdir", Cell::OpReaddir),
            Op::Statfs => ("statfs", Cell::OpStatfs),
        }
    }
}
