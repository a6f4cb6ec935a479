//! Whether the mount answers, who serves it, and whether the running Dovecot and they see each other.

use std::path::Path;

use super::WITHIN;
use super::dovecot::Conf;
use super::report::{About, Report};
use super::subject::Subject;
use crate::ctl::bounded::{Asked, in_thread};
use crate::ctl::mounts::{self, Served};
use crate::ctl::status_of;
use crate::daemon::lock;
use crate::daemon::mount::is_ours;
use crate::mountinfo;

/// A worker keeps a few hundred files open at most, and has threads and sockets beside them.
const FEW_FILES: u64 = 1024;

/// Asks the mount and its supervisor.
pub fn look_at(subject: &Subject, report: &mut Report) {
    let point = subject.point.display();
    let Some(served) = &subject.served else {
        return report.error(
            About::Mount,
            format!("no listindexfs is mounted on {point}: mount it, or start its unit"),
        );
    };
    match mounts::ask(served) {
        Asked::Answers => report.ok(About::Mount, format!("{point} answers")),
        Asked::Dead => report.error(
            About::Mount,
            format!("{point}: all that served it is dead: mount it again, then restart Dovecot"),
        ),
        Asked::Silent => report.error(
            About::Mount,
            format!("{point} gives no answer: its log says whether a worker is being replaced"),
        ),
        Asked::Fails(error) => report.error(
            About::Mount,
            format!("{point}: {error}: unmount it and mount it again, then restart Dovecot"),
        ),
    }
    processes(served, report);
}

fn processes(served: &Served, report: &mut Report) {
    let point = served.point.display();
    let status = match status_of(served) {
        Ok(status) => status,
        Err(failure) => return report.error(About::Processes, failure),
    };
    let Some(worker) = &status.worker else {
        return report.warning(
            About::Processes,
            format!("{point} has no worker at the moment: its log says why"),
        );
    };
    let limit = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid));
    match limit.ok().as_deref().and_then(may_open) {
        Some(files) if files < FEW_FILES => report.warning(
            About::Processes,
            format!("the worker of {point} may open {files} files: mount it with LimitNOFILE={FEW_FILES} or more"),
        ),
        _ => {}
    }
    report.ok(
        About::Processes,
        format!(
            "{point}: supervisor {}, worker {}, number {} since the mount",
            status.supervisor.pid, worker.pid, status.workers_started
        ),
    );
}

/// The soft limit in `/proc/PID/limits`.
fn may_open(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    line?.split_whitespace().next()?.parse().ok()
}

/// Whether the Dovecot that runs sees each mount, and whoever serves that sees Dovecot's processes.
pub fn sight(subjects: &[Subject], conf: Option<&Conf>, report: &mut Report) {
    let served = subjects
        .iter()
        .filter_map(|subject| subject.served.as_ref());
    let Some(dovecot) = conf.and_then(Conf::master) else {
        return;
    };
    for mount in served {
        sees(dovecot, mount, report);
    }
}

fn sees(dovecot: u32, mount: &Served, report: &mut Report) {
    let point = mount.point.display();
    let path = format!("/proc/{dovecot}/mountinfo");
    let table = in_thread(WITHIN, move || std::fs::read(path));
    let Some(Ok(table)) = table else {
        return;
    };
    if !shows_ours(&table, &mount.point) {
        return report.error(
            About::Sight,
            format!("Dovecot (pid {dovecot}) does not see what is mounted on {point}: restart it, and start it after the mount"),
        );
    }
    let supervisor = lock::supervisor_of(&mount.backing);
    let namespace = |pid: &str| std::fs::read_link(Path::new("/proc").join(pid).join("ns/pid"));
    let of = |pid: u32| namespace(&pid.to_string()).ok();
    let (here, ours) = (namespace("self").ok(), supervisor.and_then(of));
    let theirs = of(dovecot);
    match ours.is_none() || theirs.is_none() || ours == theirs || ours == here {
        // Whoever is where this runs sees at least what this sees.
        true => report.ok(
            About::Sight,
            format!("Dovecot (pid {dovecot}) and what serves {point} see each other"),
        ),
        false => report.error(
            About::Sight,
            format!("what serves {point} is in a pid namespace of its own and does not see Dovecot's processes: run it on the host, or beside Dovecot"),
        ),
    }
}

/// Whether who has this table of mounts sees a listindexfs there.
fn shows_ours(table: &[u8], point: &Path) -> bool {
    let seen = mountinfo::uppermost(table, point.as_os_str());
    seen.is_some_and(|seen| is_ours(&seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_a_users_own_is_not_taken_for_ours() {
        let ours = "40 22 0:50 / /m rw - fuse.listindexfs /b rw,user_id=0,group_id=0\n";
        let own = "41 40 0:51 / /m rw - fuse.listindexfs /b rw,user_id=1000,group_id=1000\n";
        let shown = |table: &str| shows_ours(table.as_bytes(), Path::new("/m"));
        assert!(shown(ours) && shown(&format!("{own}{ours}")));
        assert!(!shown(own) && !shown(&format!("{ours}{own}")) && !shown(""));
    }

    #[test]
    fn the_limit_of_open_files_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
            Max open files            256                  524288               files\n";
        assert_eq!(may_open(limits), Some(256));
        assert_eq!(
            may_open("Max open files  unlimited unlimited files\n"),
            None
        );
    }
}
