//! Runs a test program again in a guest of `scripts/nfs-vm`: for another kernel, or for real NFS.
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The exit status of `scripts/nfs-vm` when the guest failed and not the test.
const BROKEN_GUEST: i32 = 125;

/// A guest, and what this very test program does in it.
pub struct Guest<'a> {
    /// Options of `scripts/nfs-vm run`.
    pub options: &'a [&'a str],
    /// `NAME=VALUE` of the environment there.
    pub env: &'a [&'a str],
    /// Arguments of the test program: which tests, and how.
    pub args: &'a [&'a str],
}

impl Guest<'_> {
    /// Boots it, runs the tests and gives what they said; they pass, and there is at least one.
    pub fn run(&self) -> String {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let this = std::env::current_exe().expect("the path of this program");
        stripped(&this, &dir.path().join("tests"));
        stripped(
            Path::new(&super::mount::program()),
            &dir.path().join("listindexfs"),
        );
        stripped(
            Path::new(&super::mount::tool()),
            &dir.path().join("listindexctl"),
        );
        let ran = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nfs-vm"))
            .arg("run")
            .args(self.options)
            .arg(dir.path())
            .arg("env")
            .args(self.env)
            .args(["LISTINDEXFS_BIN=/host/listindexfs"])
            .args([
                "LISTINDEXFS_CTL=/host/listindexctl",
                "LISTINDEXFS_NO_SKIP=1",
            ])
            .arg("./tests")
            .args(self.args)
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
        assert!(!said.contains(" 0 passed"), "no test ran:\n{said}");
        said.into_owned()
    }
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
