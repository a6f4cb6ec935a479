//! The `listindexfs` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    listindexfs::cli::main()
}
