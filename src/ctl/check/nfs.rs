//! The options of the NFS mount that INDEX lies on, as mountinfo has them: the server is not asked.

use super::report::{About, Report};
use crate::mountinfo::Mount;
use crate::options::{Config, LockMethod};

/// Looks at the mount.
pub fn look_at(mount: &Mount, config: &Config, report: &mut Report) {
    let point = mount.point.display();
    let version = mount.option("vers").unwrap_or("?");
    let mut notes = vec![format!("vers={version}")];
    if let Some(option) = mount.believes_its_cache() {
        report.error(
            About::Nfs,
            format!("{point} is mounted with {option}, which answers from its cache when the server is gone, so every user is refused: mount it hard, or soft"),
        );
    }
    if mount.has_option("nocto") {
        report.warning(
            About::Nfs,
            format!("{point} is mounted with nocto, so a list index that is fetched may lack what was written just before, and Dovecot's own files are read stale: leave it out"),
        );
    }
    let how = ["hard", "soft", "softerr", "softreval"].into_iter();
    notes.extend(how.filter(|how| mount.has_option(how)).map(str::to_owned));
    attributes(mount, report, &mut notes);
    locks(mount, config, report);
    if version.starts_with('3') && config.migrate {
        notes.push(
            "a stock log made within the tick of our claim may be missed, NFSv4 misses none (semantics.md)".to_owned(),
        );
    }
    report.ok(About::Nfs, format!("{point}: {}", notes.join(", ")));
}

/// How long the client believes what it knows. Who has had a user is asked of the server all the same.
fn attributes(mount: &Mount, report: &mut Report, notes: &mut Vec<String>) {
    let point = mount.point.display();
    let seconds = |name: &str| {
        mount
            .option(name)
            .and_then(|value| value.parse::<u64>().ok())
    };
    let most = seconds("acregmax").unwrap_or(60);
    if mount.has_option("noac") || most == 0 {
        return report.warning(
            About::Nfs,
            format!("{point} is mounted with noac or actimeo=0, so Dovecot asks the server about everything again and again: actimeo=60, listindexfs looks past that cache by itself"),
        );
    }
    if mount.option("lookupcache") == Some("none") {
        report.warning(
            About::Nfs,
            format!("{point} is mounted with lookupcache=none, so every name is asked for again and again: leave it out, listindexfs looks past that cache by itself"),
        );
    }
    notes.push(format!(
        "attributes are kept for {most} s, past which listindexfs looks"
    ));
}

/// Whether stock backends on other hosts would see our lock.
fn locks(mount: &Mount, config: &Config, report: &mut Report) {
    let local = mount.option("local_lock").unwrap_or("none");
    let nolock = mount.has_option("nolock");
    let kind = match config.lock_method {
        LockMethod::Fcntl => "posix",
        LockMethod::Flock => "flock",
        LockMethod::Dotlock => return,
    };
    if !config.migrate || !(nolock || local == "all" || local == kind) {
        return;
    }
    let (point, how) = (
        mount.point.display(),
        if nolock {
            "nolock".to_owned()
        } else {
            format!("local_lock={local}")
        },
    );
    report.warning(
        About::Nfs,
        format!("{point} is mounted with {how}, so a stock backend on another host does not see the lock under which list indexes are fetched: mount it without, or use dotlock in lock_method= and in Dovecot"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::check::report::Level;
    use crate::mountinfo;
    use rstest::rstest;
    use std::path::Path;

    fn found(fs: &str, options: &str, ours: &str) -> Vec<(Level, String)> {
        let line = format!("41 35 0:52 / /nfs rw,relatime - {fs} srv:/mail {options}\n");
        let mount = mountinfo::parse(line.as_bytes()).next().expect("a mount");
        let options = [format!("index=/nfs/%u,{ours}")];
        let config = Config::parse(Path::new("/b"), Path::new("/m"), &options, "host");
        let mut report = Report::default();
        look_at(&mount, &config.expect("options"), &mut report);
        let all = report.findings().iter();
        all.map(|f| (f.level, f.text.clone())).collect()
    }

    #[test]
    fn a_usual_mount_is_good() {
        let options =
            "rw,vers=4.2,rsize=131072,hard,proto=tcp,timeo=600,retrans=2,sec=sys,local_lock=none";
        let found = found("nfs4", options, "migrate");
        assert_eq!(
            found,
            [(
                Level::Ok,
                "/nfs: vers=4.2, hard, attributes are kept for 60 s, past which listindexfs looks"
                    .to_owned()
            )]
        );
    }

    #[rstest]
    #[case("rw,vers=4.2,softerr", "", Level::Error, "mount it hard, or soft")]
    #[case("rw,vers=3,soft,softreval", "", Level::Error, "with softreval")]
    #[case("rw,vers=4.2,hard,nocto", "", Level::Warning, "leave it out")]
    #[case("rw,vers=4.2,hard,noac", "", Level::Warning, "actimeo=60")]
    #[case(
        "rw,vers=4.2,hard,acregmin=0,acregmax=0",
        "",
        Level::Warning,
        "actimeo=60"
    )]
    #[case("rw,vers=3,hard,lookupcache=none", "", Level::Warning, "leave it out")]
    #[case(
        "rw,vers=3,hard,nolock,local_lock=all",
        "migrate",
        Level::Warning,
        "does not see the lock"
    )]
    #[case(
        "rw,vers=4.2,hard,local_lock=posix",
        "migrate",
        Level::Warning,
        "does not see the lock"
    )]
    #[case(
        "rw,vers=3,hard,local_lock=none",
        "migrate",
        Level::Ok,
        "NFSv4 misses none"
    )]
    fn what_hurts_is_said(
        #[case] options: &str,
        #[case] ours: &str,
        #[case] level: Level,
        #[case] expected: &str,
    ) {
        let found = found("nfs", options, ours);
        assert!(
            found
                .iter()
                .any(|(at, text)| *at == level && text.contains(expected)),
            "{found:?}"
        );
    }

    #[rstest]
    #[case("rw,vers=3,nolock,local_lock=all", "nomigrate")]
    #[case("rw,vers=3,nolock,local_lock=all", "migrate,lock_method=dotlock")]
    #[case("rw,vers=4.2,local_lock=flock", "migrate")]
    fn locks_that_nobody_needs_may_be_local(#[case] options: &str, #[case] ours: &str) {
        let found = found("nfs", options, ours);
        assert!(
            found.iter().all(|(level, _)| *level == Level::Ok),
            "{found:?}"
        );
    }
}
