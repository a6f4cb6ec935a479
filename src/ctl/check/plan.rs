//! What is to be mounted: the lines of fstab, and the instances of the unit.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::daemon::mount::TYPE;
use crate::mountinfo::unescape;

/// The file.
pub const FSTAB: &str = "/etc/fstab";
/// Where the unit's instances are set up, one file each.
const INSTANCES: &str = "/etc/listindexfs";

/// Who mounts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A line of fstab.
    Fstab,
    /// An instance of the unit, by its name.
    Unit(String),
}

/// A mount that somebody is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who makes it.
    pub by: By,
    /// Where its files are to be.
    pub backing: PathBuf,
    /// Where it is to be mounted.
    pub point: PathBuf,
    /// As they are written, `\040` undone.
    pub options: String,
}

impl Plan {
    /// Where it is written.
    pub fn place(&self) -> String {
        match &self.by {
            By::Fstab => FSTAB.to_owned(),
            By::Unit(unit) => unit.clone(),
        }
    }

    /// Whether this option is among them.
    pub fn has(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }

    /// Each value that this option has.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.options.split(',').filter_map(|o| o.split_once('='));
        values
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// Everything of ours that fstab and the unit mount.
pub fn all() -> Vec<Plan> {
    let fstab = std::fs::read(FSTAB).unwrap_or_default();
    in_fstab(&fstab).chain(instances()).collect()
}

/// Whether fstab mounts anything on `point`.
pub fn is_in_fstab(point: &Path) -> bool {
    let fstab = std::fs::read(FSTAB).unwrap_or_default();
    let mut lines = fields(&fstab);
    lines.any(|fields| Path::new(&unescape(fields[1])) == point)
}

/// The fields of each line: at least four of them.
fn fields(fstab: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = fstab.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let words = line.split(u8::is_ascii_whitespace);
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let comment = words.first()?.starts_with(b"#");
        (!comment && words.len() >= 4).then_some(words)
    })
}

fn in_fstab(fstab: &[u8]) -> impl Iterator<Item = Plan> {
    let ours = fields(fstab).filter(|fields| fields[2] == TYPE.as_bytes());
    ours.map(|fields| Plan {
        by: By::Fstab,
        backing: unescape(fields[0]).into(),
        point: unescape(fields[1]).into(),
        options: String::from_utf8_lossy(unescape(fields[3]).as_bytes()).into_owned(),
    })
}

/// Each instance that is set up.
fn instances() -> impl Iterator<Item = Plan> {
    let files = std::fs::read_dir(INSTANCES).into_iter().flatten().flatten();
    files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let name = name.strip_suffix(".conf")?;
        instance(name, &std::fs::read_to_string(file.path()).ok()?)
    })
}

/// As systemd reads an EnvironmentFile=, for values as we have them.
fn instance(name: &str, text: &str) -> Option<Plan> {
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| {
            let value = line.trim().strip_prefix(key)?.strip_prefix('=')?.trim();
            let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
            Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(value))
        });
        values.next_back().map(str::to_owned)
    };
    Some(Plan {
        by: By::Unit(format!("listindexfs@{name}.service")),
        backing: value("BACKING")?.into(),
        point: value("MOUNTPOINT")?.into(),
        options: value("OPTIONS")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_fstab_is_found() {
        let fstab = b"# /b /run/no fuse.listindexfs index=/n 0 0\n\
            tmpfs /run/t tmpfs size=4G 0 0\n\
            /b\t/run/li\\040x  fuse.listindexfs index=/n/%{user\\040|\\040lower},migrate 0 0\n\
            /c /run/off fuse.listindexfs noauto,x-systemd.after=/n,index=/n/%u 0 0\n";
        let [first, second] = &in_fstab(fstab).collect::<Vec<_>>()[..] else {
            panic!("two lines")
        };
        assert_eq!(first.point, Path::new("/run/li x"));
        assert_eq!(first.options, "index=/n/%{user | lower},migrate");
        assert!(!first.has("noauto") && second.has("noauto"));
        assert_eq!(second.values("x-systemd.after").collect::<Vec<_>>(), ["/n"]);
    }

    #[test]
    fn an_instance_says_what_it_mounts() {
        let text = "# MOUNTPOINT=/no\nBACKING=/b\nMOUNTPOINT='/run/listindex'\nOPTIONS=index=/n/%u,migrate\n";
        let plan = instance("main", text).expect("an instance");
        assert_eq!(plan.place(), "listindexfs@main.service");
        assert_eq!(plan.backing, Path::new("/b"));
        assert_eq!(plan.point, Path::new("/run/listindex"));
        assert_eq!(plan.options, "index=/n/%u,migrate");
        assert_eq!(instance("main", "BACKING=/b\n"), None);
    }

    #[test]
    fn the_sample_is_understood() {
        let sample = include_str!("../../../mount/listindexfs.conf.sample");
        assert!(instance("main", sample).is_some(), "{sample}");
    }
}
