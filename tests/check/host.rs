//! A host in a mount namespace: `setup.sh`, then what a case does to it, then `listindexctl check`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{DOVECOT, FUSE, ROOT, dovecot24, needs::TOOLS};

/// Only a hang takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
const SETUP: &str = include_str!("setup.sh");

/// What `check` left.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Each finding: level, about, text.
    pub fn findings(&self) -> Vec<[String; 3]> {
        let report: Value =
            serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let all = report["findings"].as_array().expect("findings");
        let text = |finding: &Value, key: &str| finding[key].as_str().expect(key).to_owned();
        let fields = ["level", "about", "text"];
        all.iter()
            .map(|finding| fields.map(|key| text(finding, key)))
            .collect()
    }
}

/// Whether there is no such host to be had, with Dovecot 2.3, or with 2.4 where the tests use that. Prints the reason.
pub fn lacks(new: bool) -> bool {
    if new != dovecot24::is_used() {
        eprintln!(
            "skipped: this test is for Dovecot {}",
            if new { "2.4" } else { "2.3" }
        );
        return true;
    }
    crate::support::lacks(&[ROOT, FUSE, DOVECOT, TOOLS])
}

/// Sets up, does that, and runs what `check` says, with these variables in its environment.
pub fn run(case: &str, check: &str, env: &[(&str, &str)]) -> Said {
    let dir = tempfile::tempdir().expect("a directory");
    let programs = Path::new(env!("CARGO_BIN_EXE_listindexctl"))
        .parent()
        .expect("a directory");
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("mount/listindexfs@.service");
    let script = format!("{SETUP}\n{case}\n{check}\n");
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    command.arg(dir.path()).arg(programs).arg(unit);
    command.arg(match dovecot24::is_foreign() {
        true => dovecot24::root(),
        false => Path::new(""),
    });
    command
        .env_remove("RUST_LOG")
        .env_remove("COLUMNS")
        .envs(env.iter().copied());
    let mut command = assert_cmd::Command::from_std(command);
    let output = command.timeout(PATIENCE).output().expect("run");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
