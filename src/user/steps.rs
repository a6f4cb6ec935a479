//! The named steps of the gate, in their order: where tests let the daemon die. Release builds do not.

use std::ffi::{OsStr, OsString};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::process::{Signal, getpid, getppid, kill_process};

/// A step that has just been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Verdicts are void, the directory is ours.
    Taken,
    /// The record is gone.
    RecordRemoved,
    /// The local files are gone.
    Purged,
    /// The new .lasthost lies beside the old one.
    ClaimWritten,
    /// It has been renamed over it.
    Claimed,
    /// INDEX/L is locked.
    Locked,
    /// Its copy lies in the private directory.
    Copied,
    /// All but L are in place.
    PartInstalled,
    /// L is in place.
    Installed,
    /// The record is written.
    Recorded,
    /// The claim is still ours and INDEX/L what was copied.
    Rechecked,
    /// All but L are deleted on NFS.
    PartDeleted,
    /// L is deleted on NFS.
    Deleted,
    /// Of giving back: its copy lies in INDEX beside its place.
    BackCopied,
    /// The name of INDEX/L is locked.
    BackLocked,
    /// The record is gone.
    BackUnrecorded,
    /// L is in its place in INDEX.
    BackPutLog,
    /// So are all others.
    BackPut,
    /// The claim is still ours.
    BackRechecked,
    /// It is unlocked, and good.
    BackUnlocked,
    /// The local files are gone.
    BackPurged,
}

impl Step {
    /// All steps of a check, in their order.
    pub const ALL: [Step; 13] = [
        Step::Taken,
        Step::RecordRemoved,
        Step::Purged,
        Step::ClaimWritten,
        Step::Claimed,
        Step::Locked,
        Step::Copied,
        Step::PartInstalled,
        Step::Installed,
        Step::Recorded,
        Step::Rechecked,
        Step::PartDeleted,
        Step::Deleted,
    ];

    /// Those of giving a list index back, in their order.
    pub const BACK: [Step; 8] = [
        Step::BackCopied,
        Step::BackLocked,
        Step::BackUnrecorded,
        Step::BackPutLog,
        Step::BackPut,
        Step::BackRechecked,
        Step::BackUnlocked,
        Step::BackPurged,
    ];

    /// Its name, as in `LISTINDEXFS_CRASH_AT=claimed`.
    pub fn name(self) -> &'static str {
        match self {
            Step::Taken => "taken",
            Step::RecordRemoved => "record-removed",
            Step::Purged => "purged",
            Step::ClaimWritten => "claim-written",
            Step::Claimed => "claimed",
            Step::Locked => "locked",
            Step::Copied => "copied",
            Step::PartInstalled => "part-installed",
            Step::Installed => "installed",
            Step::Recorded => "recorded",
            Step::Rechecked => "rechecked",
            Step::PartDeleted => "part-deleted",
            Step::Deleted => "deleted",
            Step::BackCopied => "back-copied",
            Step::BackLocked => "back-locked",
            Step::BackUnrecorded => "back-unrecorded",
            Step::BackPutLog => "back-put-log",
            Step::BackPut => "back-put",
            Step::BackRechecked => "back-rechecked",
            Step::BackUnlocked => "back-unlocked",
            Step::BackPurged => "back-purged",
        }
    }
}

/// What is run after each step.
pub type OnStep = Arc<dyn Fn(Step) + Send + Sync>;

/// Nothing happens at any step.
pub fn none() -> OnStep {
    Arc::new(|_| {})
}

/// While there is a token, one in so many steps is the last: so workers die at late steps too.
const TOKEN_ODDS: u128 = 8;

/// What makes the first worker of a mount die, in debug builds, when it has read a request of this operation (a
/// number of `enum fuse_opcode`) and not noted it yet.
pub const LOSES: &str = "LISTINDEXFS_WORKER_LOSES";

/// What tests say by a variable of the environment: release builds do not hear it.
fn told(variable: &str) -> Option<OsString> {
    let heard = cfg!(debug_assertions).then(|| std::env::var_os(variable));
    heard.flatten()
}

/// The same as a number.
fn number<T: FromStr>(variable: &str) -> Option<T> {
    told(variable)?.to_str()?.parse().ok()
}

fn die() {
    let _ = kill_process(getpid(), Signal::KILL);
}

/// SIGKILL to ourselves after the step that `LISTINDEXFS_WORKER_CRASH_AT` names, or to the supervisor and ourselves after
/// that of `LISTINDEXFS_CRASH_AT`; and to ourselves after a random step whenever the file is there that
/// `LISTINDEXFS_WORKER_CRASH_TOKEN` names, which goes then.
pub fn crash_from_env() -> OnStep {
    let [all, worker, token] = [
        "LISTINDEXFS_CRASH_AT",
        "LISTINDEXFS_WORKER_CRASH_AT",
        "LISTINDEXFS_WORKER_CRASH_TOKEN",
    ]
    .map(told);
    if all.is_none() && worker.is_none() && token.is_none() {
        return none();
    }
    log::warn!("will die after step {all:?} or {worker:?}, or of {token:?}");
    let is = |at: &Option<OsString>, step: Step| at.as_ref().is_some_and(|at| at == step.name());
    let taken = move || {
        let there = |token: &OsString| std::fs::remove_file(token).is_ok();
        super::claim::random_u128() % TOKEN_ODDS == 0 && token.as_ref().is_some_and(there)
    };
    Arc::new(move |step| {
        if is(&all, step) {
            let _ = getppid().map(|supervisor| kill_process(supervisor, Signal::KILL));
        }
        if is(&all, step) || is(&worker, step) || taken() {
            log::warn!("dies after step {}", step.name());
            die();
        }
    })
}

/// SIGKILL to ourselves where a request of the kind that `LISTINDEXFS_WORKER_DIES_AFTER` names has been carried out and is
/// not answered yet.
pub fn die_after(request: &str) {
    static AFTER: LazyLock<Option<OsString>> =
        LazyLock::new(|| told("LISTINDEXFS_WORKER_DIES_AFTER"));
    if AFTER.as_ref().is_some_and(|after| after == request) {
        die();
    }
}

/// SIGKILL to ourselves where [`LOSES`] names the operation.
pub fn lose(operation: u32) {
    static NAMED: LazyLock<Option<u32>> = LazyLock::new(|| number(LOSES));
    if *NAMED == Some(operation) {
        die();
    }
}

/// An abort at each LOOKUP of the name that `LISTINDEXFS_WORKER_DIES_OF` gives; an exit or a panic if that is its name.
pub fn die_of(name: &OsStr) {
    static OF: LazyLock<Option<OsString>> = LazyLock::new(|| told("LISTINDEXFS_WORKER_DIES_OF"));
    if OF.as_ref().is_some_and(|of| of == name) {
        match name.as_encoded_bytes() {
            b"exit" => std::process::exit(0),
            b"panic" => panic!("of {name:?}"),
            _ => std::process::abort(),
        }
    }
}

/// Whether the kernel is to be taken for one before 6.9, as `LISTINDEXFS_NO_RESEND` says.
pub fn no_resend() -> bool {
    told("LISTINDEXFS_NO_RESEND").is_some()
}

/// Whether the kernel is to be taken for one before 6.18, as `LISTINDEXFS_NO_PRUNE` says.
pub fn no_prune() -> bool {
    told("LISTINDEXFS_NO_PRUNE").is_some()
}

/// After how long a user is idle, if `LISTINDEXFS_IDLE_MS` says so.
pub fn idle() -> Option<Duration> {
    number("LISTINDEXFS_IDLE_MS").map(Duration::from_millis)
}
