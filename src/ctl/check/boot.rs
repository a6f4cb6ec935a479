//! Whether the mount comes back after a reboot, and Dovecot only with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Report;
use crate::ctl::bounded::output;
use crate::ctl::mounts::Served;
use crate::daemon::mount::TYPE;
use crate::mountinfo::unescape;

const FSTAB: &str = "/etc/fstab";
/// Where the unit's instances are set up, one file each.
const INSTANCES: &str = "/etc/listindexfs";
/// There where systemd is this host's init.
const SYSTEMD: &str = "/run/systemd/system";
const WITHIN: Duration = Duration::from_secs(10);

/// Looks for a line of fstab or an instance of the unit that mounts on `point`.
pub fn look_at(point: &Path, report: &mut Report) {
    const ABOUT: &str = "boot";
    let name = point.display();
    let fstab = std::fs::read(FSTAB).unwrap_or_default();
    let unit = instance_of(point);
    match (in_fstab(&fstab, point), unit) {
        (Some(_), Some(unit)) => report.warning(
            ABOUT,
            format!("{name} is mounted by {FSTAB} and by {unit}: leave one"),
        ),
        (Some(Line::Auto), None) => report.ok(ABOUT, format!("{name} is mounted by {FSTAB}")),
        (Some(Line::Noauto), None) => report.warning(
            ABOUT,
            format!("{name} is noauto in {FSTAB}: nothing mounts it at boot"),
        ),
        (None, Some(unit)) => match output("systemctl", &["is-enabled", &unit], WITHIN) {
            Ok(_) => report.ok(ABOUT, format!("{name} is mounted by {unit}")),
            Err(error) => report.warning(
                ABOUT,
                format!("{unit} is not enabled ({error}): systemctl enable {unit}"),
            ),
        },
        (None, None) => report.warning(
            ABOUT,
            format!("nothing mounts {name} at boot: a line in {FSTAB}, or listindexfs@.service"),
        ),
    }
}

/// What fstab says of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Auto,
    Noauto,
}

fn in_fstab(fstab: &[u8], point: &Path) -> Option<Line> {
    let lines = fstab.split(|byte| *byte == b'\n');
    let mut found = lines.filter_map(|line| {
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        words.next().filter(|word| !word.starts_with(b"#"))?;
        let (at, fs, options) = (words.next()?, words.next()?, words.next()?);
        let ours = fs == TYPE.as_bytes() && Path::new(&unescape(at)) == point;
        let mut options = options.split(|byte| *byte == b',');
        ours.then(|| match options.any(|option| option == b"noauto") {
            true => Line::Noauto,
            false => Line::Auto,
        })
    });
    found.next()
}

/// The instance of the unit that is set up for `point`.
fn instance_of(point: &Path) -> Option<String> {
    let mut found = instances().filter(|(_, at)| at == point);
    found.next().map(|(unit, _)| unit)
}

/// Each instance that is set up, and where it mounts.
fn instances() -> impl Iterator<Item = (String, PathBuf)> {
    let files = std::fs::read_dir(INSTANCES).into_iter().flatten().flatten();
    files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let unit = format!("listindexfs@{}.service", name.strip_suffix(".conf")?);
        let text = std::fs::read_to_string(file.path()).ok()?;
        Some((unit, mountpoint_of(&text)?))
    })
}

fn mountpoint_of(text: &str) -> Option<PathBuf> {
    let mut values = text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("MOUNTPOINT="));
    Some(values.next_back()?.trim_matches(['"', '\'', ' ']).into())
}

/// Whether Dovecot's unit needs the mounts.
pub fn dovecot_unit(mounted: &[Served], report: &mut Report) {
    const ABOUT: &str = "dovecot.service";
    if !Path::new(SYSTEMD).exists() {
        return report.ok(ABOUT, "not looked at: systemd does not run here");
    }
    let properties = "LoadState,BindsTo,Requires,RequiresMountsFor";
    let args = ["show", "dovecot.service", "-p", properties];
    let shown = match output("systemctl", &args, WITHIN) {
        Ok(shown) if shown.contains("LoadState=loaded") => shown,
        Ok(_) => return report.ok(ABOUT, "not looked at: there is no such unit here"),
        Err(error) => return report.warning(ABOUT, format!("systemctl: {error}")),
    };
    let names: Vec<_> = instances().collect();
    for mount in mounted {
        let point = mount.point.display();
        let mut of_point = names.iter().filter(|(_, at)| *at == mount.point);
        let unit = of_point.next().map(|(unit, _)| unit.as_str());
        match is_bound(&shown, &mount.point, unit) {
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
    fn a_line_of_fstab_is_found() {
        let fstab = b"# /b /run/no fuse.listindexfs index=/n 0 0\n\
            tmpfs /run/t tmpfs size=4G 0 0\n\
            /b\t/run/li\\040x  fuse.listindexfs index=/n/%u,migrate 0 0\n\
            /c /run/off fuse.listindexfs noauto,index=/n/%u 0 0\n";
        let at = |path: &str| in_fstab(fstab, Path::new(path));
        assert_eq!(at("/run/li x"), Some(Line::Auto));
        assert_eq!(at("/run/off"), Some(Line::Noauto));
        assert_eq!(at("/run/t"), None);
        assert_eq!(at("/run/no"), None);
    }

    #[test]
    fn an_instance_says_where_it_mounts() {
        let text = "# MOUNTPOINT=/no\nBACKING=/b\nMOUNTPOINT='/run/listindex'\n";
        assert_eq!(mountpoint_of(text), Some("/run/listindex".into()));
        assert_eq!(mountpoint_of("BACKING=/b\n"), None);
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
