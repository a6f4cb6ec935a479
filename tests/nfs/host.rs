//! Boots the guests in which the other modules' tests run: one for each group of tests and NFS version.
use crate::guest::VERSION;
use crate::support::vm::Guest;
use crate::support::{ROOT, VM, lacks};

/// Which of the tests run in each guest, if not all: part of their names.
const FILTER: &str = "LISTINDEXFS_NFS_FILTER";

/// Runs these modules' tests, or those whose names begin so, in a guest of their own.
fn boot(version: &str, modules: &[&str], options: &[&str]) {
    if lacks(&[ROOT, VM]) {
        return;
    }
    let filter = std::env::var(FILTER).unwrap_or_default();
    let is_bench = modules == ["bench"]; // tells times and asserts nothing: run by scripts/bench-nfs alone
    let is_meant = modules.iter().any(|module| filter.starts_with(module));
    if (is_bench || !filter.is_empty()) && !is_meant {
        return eprintln!("skipped: {FILTER}={filter}");
    }
    let all = |module: &&str| match module.contains("::") {
        true => (*module).to_owned(),
        false => format!("{module}::"),
    };
    let wanted: Vec<String> = match filter.is_empty() {
        true => modules.iter().map(all).collect(),
        false => vec![filter],
    };
    let wanted = wanted.iter().map(String::as_str);
    let (mounted, version) = (format!("vers={version}"), format!("{VERSION}={version}"));
    let guest = Guest {
        options: &[&["--opts", &mounted], options].concat(),
        env: &[&version],
        args: &["--ignored", "--nocapture", "--test-threads=1"]
            .into_iter()
            .chain(wanted)
            .collect::<Vec<_>>(),
    };
    println!("{}", guest.run());
}

/// A test for each guest, with the modules that run there, and version. To boot one costs as much as a test does.
macro_rules! in_guest {
    ($($name:ident: $modules:expr, $options:expr;)*) => {
        mod v3 {
            $(#[test] fn $name() { crate::host::boot("3", &$modules, $options); })*
        }
        mod v4_2 {
            $(#[test] fn $name() { crate::host::boot("4.2", &$modules, $options); })*
        }
    };
}

in_guest! {
    bench: ["bench"], &[];
    claims: ["claims"], &[];
    claims_on_tmpfs: ["claims::a_"], &["--backing", "tmpfs"];
    claims_where_time_stamps_are_coarse: ["claims::a_"], &["--backing", "ext4-coarse"];
    exports: ["mount_guard", "refusals"], &[];
    xfs: ["claims::a_", "quota"], &["--backing", "xfs"];
}

/// These take longer than all others together. Begun first (in the order of names), they run beside those.
mod longest_first {
    in_guest! {
        index: ["budget", "check", "credentials", "readme", "sessions"], &[];
        two_hosts: ["two_hosts"], &[];
    }

    /// Waits for servers that are dead and for caches that are to grow, mostly: so both versions run at once.
    #[test]
    fn and_idle_most_of_the_time() {
        let boot = |version| move || crate::host::boot(version, &["freshness", "hung"], &[]);
        std::thread::scope(|scope| {
            scope.spawn(boot("3"));
            boot("4.2")();
        });
    }
}
