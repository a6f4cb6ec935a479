//! Boots the guests in which the other modules' tests run: one for each group of tests and NFS version.
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::guest::VERSION;
use crate::support::{ROOT, VM, lacks};

/// Which of the tests run in each guest, if not all: part of their names.
const FILTER: &str = "LISTINDEXFS_NFS_FILTER";
/// The exit status of `scripts/nfs-vm` when the guest failed and not the test.
const BROKEN_GUEST: i32 = 125;

/// Runs a module's tests, or those whose names begin so, in a guest of its own.
fn boot(version: &str, module: &str, options: &[&str]) {
    if lacks(&[ROOT, VM]) {
        return;
    }
    let filter = std::env::var(FILTER).unwrap_or_default();
    let is_bench = module == "bench"; // tells times and asserts nothing: run by scripts/bench-nfs alone
    if (is_bench || !filter.is_empty()) && !filter.starts_with(module) {
        return eprintln!("skipped: {FILTER}={filter}");
    }
    let wanted = match (filter.is_empty(), module.contains("::")) {
        (false, _) => filter,
        (true, true) => module.to_owned(),
        (true, false) => format!("{module}::"),
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let this = std::env::current_exe().expect("the path of this program");
    stripped(&this, &dir.path().join("nfs"));
    stripped(
        Path::new(env!("CARGO_BIN_EXE_listindexfs")),
        &dir.path().join("listindexfs"),
    );
    let ran = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nfs-vm"))
        .args(["run", "--opts", &format!("vers={version}")])
        .args(options)
        .arg(dir.path())
        .args([
            "env",
            &format!("{VERSION}={version}"),
            "LISTINDEXFS_BIN=/host/listindexfs",
        ])
        .args([
            "LISTINDEXFS_NO_SKIP=1",
            "./nfs",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
            &wanted,
        ])
        .stdin(Stdio::null())
        .output()
        .expect("scripts/nfs-vm");
    let said = String::from_utf8_lossy(&ran.stdout);
    let complaints = String::from_utf8_lossy(&ran.stderr);
    assert_ne!(
        ran.status.code(),
        Some(BROKEN_GUEST),
        "the guest is broken, nothing was tested:\n{complaints}"
    );
    assert!(ran.status.success(), "{}: {said}\n{complaints}", ran.status);
    assert!(!said.contains("0 passed"), "no test ran:\n{said}");
    println!("{said}");
}

/// A copy without debugging information, which is most of it and would have to fit into the guest.
fn stripped(program: &Path, copy: &Path) {
    let strip = Command::new("strip")
        .arg("-o")
        .arg(copy)
        .arg(program)
        .status();
    if !strip.is_ok_and(|status| status.success()) {
        fs::copy(program, copy).expect("a copy of the program");
    }
}

/// A test for each module, or guest in which it runs, and version.
macro_rules! in_guest {
    ($($name:ident: $module:literal $options:expr;)*) => {
        mod v3 {
            $(#[test] fn $name() { super::boot("3", $module, $options); })*
        }
        mod v4_2 {
            $(#[test] fn $name() { super::boot("4.2", $module, $options); })*
        }
    };
}

in_guest! {
    bench: "bench" &[];
    budget: "budget" &[];
    claims: "claims" &[];
    claims_on_xfs: "claims::a_" &["--backing", "xfs"];
    claims_on_tmpfs: "claims::a_" &["--backing", "tmpfs"];
    claims_where_time_stamps_are_coarse: "claims::a_" &["--backing", "ext4-coarse"];
    credentials: "credentials" &[];
    freshness: "freshness" &[];
    hung: "hung" &[];
    mount_guard: "mount_guard" &[];
    quota: "quota" &["--backing", "xfs"];
    refusals: "refusals" &[];
    sessions: "sessions" &[];
    two_hosts: "two_hosts" &["--timeout", "2400"]; // 200 sessions
}
