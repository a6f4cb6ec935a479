//! Whether the mount comes back after a reboot, and Dovecot only with it.

use std::path::Path;

use super::WITHIN;
use super::plan::{self, By, FSTAB, Plan};
use super::report::{About, Report};
use super::subject::Subject;
use crate::ctl::bounded::output;
use crate::index::guard::accepts;
use crate::mountinfo;
use crate::options::IndexFs;

/// There where systemd is this host's init.
const SYSTEMD: &str = "/run/systemd/system";
/// Where units are set up.
const UNITS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Looks at what mounts it, and what that needs; `table` is that of the mounts.
pub fn look_at(subject: &Subject, table: &[u8], report: &mut Report) {
    let name = subject.point.display();
    match subject.plans.as_slice() {
        [] => report.warning(
            About::Boot,
            format!("nothing mounts {name} at boot: a line in {FSTAB}, or listindexfs@.service"),
        ),
        [plan] => alone(subject, plan, table, report),
        [first, second, ..] => report.warning(
            About::Boot,
            format!(
                "{name} is mounted by {} and by {}: leave one",
                first.place(),
                second.place()
            ),
        ),
    }
    if let (Some(plan), Some(backing)) = (subject.plans.first(), &subject.backing) {
        tmpfs(plan, backing, table, report);
    }
}

fn alone(subject: &Subject, plan: &Plan, table: &[u8], report: &mut Report) {
    let name = subject.point.display();
    match &plan.by {
        By::Fstab if plan.has("noauto") => report.warning(
            About::Boot,
            format!("{name} is noauto in {FSTAB}: nothing mounts it at boot, take that out"),
        ),
        By::Fstab => {
            report.ok(About::Boot, format!("{name} is mounted by {FSTAB}"));
            order(subject, plan, table, report);
        }
        By::Unit(unit) => match output("systemctl", &["is-enabled", unit], WITHIN) {
            Ok(_) => report.ok(About::Boot, format!("{name} is mounted by {unit}")),
            Err(error) => report.warning(
                About::Boot,
                format!("{unit} is not enabled ({error}): systemctl enable {unit}"),
            ),
        },
    }
}

/// A line of fstab is mounted after NFS and after its backing only if it says so.
fn order(subject: &Subject, plan: &Plan, table: &[u8], report: &mut Report) {
    let network = plan.has("_netdev");
    let waits = |for_path: &Path| {
        let mut paths = plan.values("x-systemd.requires-mounts-for");
        paths.any(|path| for_path.starts_with(path) || Path::new(path).starts_with(for_path))
    };
    let nfs = subject
        .base()
        .and_then(|base| mountinfo::holding(table, base));
    if let Some(nfs) = nfs.filter(|mount| accepts(&IndexFs::Network, &mount.fs)) {
        if !network && !waits(&nfs.point) {
            let (name, nfs) = (subject.point.display(), nfs.point.display());
            report.warning(
                About::Boot,
                format!("{FSTAB} may mount {name} before {nfs}: add _netdev,x-systemd.requires-mounts-for={nfs}"),
            );
        }
    }
    let backing = &plan.backing;
    let own = mountinfo::uppermost(table, backing.as_os_str()).is_some();
    if own && network && !waits(backing) {
        let (name, backing) = (subject.point.display(), backing.display());
        report.warning(
            About::Boot,
            format!("{FSTAB} may mount {name} before {backing}, and is refused then: add x-systemd.requires-mounts-for={backing}"),
        );
    }
    if backing.starts_with("/dev") {
        let backing = backing.display();
        report.warning(
            About::Boot,
            format!("{backing} is below /dev, so systemd waits for a device of that name and does not mount: another BACKING, see listindexfs(8)"),
        );
    }
}

/// The backing's own tmpfs comes back, too.
fn tmpfs(plan: &Plan, backing: &Path, table: &[u8], report: &mut Report) {
    let held = mountinfo::holding(table, backing);
    let lent = held.is_some_and(|mount| mount.fs == "tmpfs" && mount.point != *backing);
    if lent || plan::is_in_fstab(backing) || has_unit(backing) {
        return;
    }
    let (name, point) = (backing.display(), plan.point.display());
    report.warning(
        About::Boot,
        format!("nothing mounts a tmpfs on {name} at boot, and {point} is refused then: a line in {FSTAB}, see listindexfs(8)"),
    );
}

/// Whether systemd has a mount unit of that path.
fn has_unit(path: &Path) -> bool {
    let unit = format!("{}.mount", escaped(path));
    UNITS.iter().any(|dir| Path::new(dir).join(&unit).exists())
}

/// As systemd-escape(1) does it.
fn escaped(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.trim_matches('/');
    let escape = |(at, c): (usize, char)| match c {
        '/' => "-".to_owned(),
        '.' if at == 0 => "\\x2e".to_owned(),
        c if c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.') => c.to_string(),
        c => {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).bytes();
            bytes.map(|byte| format!("\\x{byte:02x}")).collect()
        }
    };
    path.char_indices().map(escape).collect()
}

/// Whether Dovecot's unit needs the mounts.
pub fn dovecot_unit(subjects: &[Subject], report: &mut Report) {
    const ABOUT: About = About::Unit;
    if !Path::new(SYSTEMD).exists() {
        return report.ok(ABOUT, "not looked at: systemd does not run here");
    }
    let properties = "LoadState,BindsTo,Requires,RequiresMountsFor";
    let args = ["show", "dovecot.service", "-p", properties];
    let shown = match output("systemctl", &args, WITHIN) {
        Ok(shown) if shown.contains("LoadState=loaded") => shown,
        Ok(_) => return report.ok(ABOUT, "not looked at: there is no such unit here"),
        Err(error) => {
            return report.warning(
                ABOUT,
                format!("systemctl: {error}: see whether systemd answers"),
            );
        }
    };
    for subject in subjects {
        let point = subject.point.display();
        let unit = subject.plans.iter().find_map(|plan| match &plan.by {
            By::Unit(unit) => Some(unit.as_str()),
            By::Fstab => None,
        });
        match is_bound(&shown, &subject.point, unit) {
            true => report.ok(ABOUT, format!("it runs only with {point}")),
            false => report.warning(
                ABOUT,
                format!(
                    "it does not need {point}, so Dovecot may run without: BindsTo= and After= its unit, \
                     or RequiresMountsFor={point}, in a drop-in"
                ),
            ),
        }
    }
}

/// Whether the properties shown name `point`, or `unit`, which mounts it.
fn is_bound(shown: &str, point: &Path, unit: Option<&str>) -> bool {
    let words = |property: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(property));
        line.unwrap_or_default().split(' ')
    };
    match unit {
        Some(unit) => (words("BindsTo=").chain(words("Requires="))).any(|word| word == unit),
        None => words("RequiresMountsFor=").any(|word| Path::new(word) == point),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_systemd_does() {
        let escaped = |path| escaped(Path::new(path));
        assert_eq!(escaped("/var/lib/listindexfs"), "var-lib-listindexfs");
        assert_eq!(escaped("/srv/a-b/é"), r"srv-a\x2db-\xc3\xa9");
    }

    #[test]
    fn dovecot_is_bound_by_either() {
        let shown = "LoadState=loaded\nRequires=system.slice sysinit.target\n\
            BindsTo=listindexfs@main.service\nRequiresMountsFor=/run/a /var/tmp\n";
        let bound = |point: &str, unit| is_bound(shown, Path::new(point), unit);
        assert!(bound("/run/a", None));
        assert!(!bound("/run/b", None));
        assert!(bound("/run/b", Some("listindexfs@main.service")));
        assert!(!bound("/run/a", Some("listindexfs@other.service")));
    }
}
