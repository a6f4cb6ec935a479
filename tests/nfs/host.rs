//! Boots the guests in which the other modules' tests run: one for each group of tests and NFS version.
use crate::guest::VERSION;
use crate::support::vm::Guest;
use crate::support::{ROOT, VM, lacks};

/// Which of the tests run in each guest, if not all: part of their names.
const FILTER: &str = "LISTINDEXFS_NFS_FILTER";

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
    let (mounted, version) = (format!("vers={version}"), format!("{VERSION}={version}"));
    let guest = Guest {
        options: &[&["--opts", &mounted], options].concat(),
        env: &[&version],
        args: &["--ignored", "--nocapture", "--test-threads=1", &wanted],
    };
    println!("{}", guest.run());
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
}

/// These take longer than all others together, 200 sessions each: begun first (in the order of names), they run beside those.
mod longest_first {
    const OPTIONS: &[&str] = &["--timeout", "2400"];

    #[test]
    fn two_hosts_v3() {
        super::boot("3", "two_hosts", OPTIONS);
    }

    #[test]
    fn two_hosts_v4_2() {
        super::boot("4.2", "two_hosts", OPTIONS);
    }
}
