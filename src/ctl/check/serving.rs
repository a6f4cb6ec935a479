//! Whether the mount answers, and who serves it.

use super::Report;
use crate::ctl::bounded::Asked;
use crate::ctl::mounts::{self, Served};
use crate::ctl::status_of;
use crate::daemon::checks::version;

/// The first kernel that sends again what a dead worker left unanswered.
const RESENDS: (u32, u32) = (6, 9);

/// How old the kernel is.
pub fn kernel(report: &mut Report) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let how = match version(&release) {
        Some(found) if found < RESENDS => {
            ", older than 6.9: workers keep each request for the next one, as the kernel does not send it again"
        }
        _ => "",
    };
    report.ok("kernel", format!("Linux {release}{how}"));
}

/// Asks the mount and its supervisor.
pub fn look_at(mount: &Served, report: &mut Report) {
    let point = mount.point.display();
    match mounts::ask(mount) {
        Asked::Answers => report.ok("mount", format!("{point} answers")),
        Asked::Dead => report.error(
            "mount",
            format!("{point}: all that served it is dead: mount it again, then restart Dovecot"),
        ),
        Asked::Silent => report.error(
            "mount",
            format!("{point} gives no answer: its log says whether a worker is being replaced"),
        ),
        Asked::Fails(error) => report.error("mount", format!("{point}: {error}")),
    }
    match status_of(mount) {
        Err(failure) => report.error("processes", failure),
        Ok(status) => match &status.worker {
            None => report.warning(
                "processes",
                format!("{point} has no worker at the moment: its log says why"),
            ),
            Some(worker) => report.ok(
                "processes",
                format!(
                    "{point}: supervisor {}, worker {}, the {}. of its workers",
                    status.supervisor.pid, worker.pid, status.workers_started
                ),
            ),
        },
    }
}
