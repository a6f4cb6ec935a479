//! The `listindexfs` program: parse, run, exit code.
fn main() {}
