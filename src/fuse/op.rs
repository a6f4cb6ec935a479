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
        match self {
            Op::Lookup => "lookup",
            Op::Getattr => "getattr",
            Op::Setattr => "setattr",
            Op::Mkdir => "mkdir",
            Op::Unlink => "unlink",
            Op::Rmdir => "rmdir",
            Op::Rename => "rename",
            Op::Link => "link",
            Op::Open => "open",
            Op::Create => "create",
            Op::Read => "read",
            Op::Write => "write",
            Op::Release => "release",
            Op::Readdir => "readdir",
            Op::Statfs => "statfs",
        }
    }

    /// Where it is counted.
    pub fn cell(self) -> Cell {
        match self {
            Op::Lookup => Cell::OpLookup,
            Op::Getattr => Cell::OpGetattr,
            Op::Setattr => Cell::OpSetattr,
            Op::Mkdir => Cell::OpMkdir,
            Op::Unlink => Cell::OpUnlink,
            Op::Rmdir => Cell::OpRmdir,
            Op::Rename => Cell::OpRename,
            Op::Link => Cell::OpLink,
            Op::Open => Cell::OpOpen,
            Op::Create => Cell::OpCreate,
            Op::Read => Cell::OpRead,
            Op::Write => Cell::OpWrite,
            Op::Release => Cell::OpRelease,
            Op::Readdir => Cell::OpReaddir,
            Op::Statfs => Cell::OpStatfs,
        }
    }
}
