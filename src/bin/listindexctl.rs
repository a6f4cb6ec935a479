//! The `listindexctl` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    listindexfs::ctl::main()
}
