//! `/proc/self/mountinfo`, read: what is mounted where. No file system is asked for it, so that a dead or
//! hanging one holds nobody up.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The table of this process.
pub const PATH: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id, `stx_mnt_id` of what is on it.
    pub id: u64,
    /// The device number, `major:minor`.
    pub device: String,
    /// Which of the file system's directories: `/`, or another where it is a bind mount.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The file system's type.
    pub fs: String,
    /// What is mounted: a device, a server's directory, a FUSE filesystem's source.
    pub source: PathBuf,
    /// Options of this mount: `rw,noatime`.
    flags: String,
    /// Options of the file system, for NFS those of the mount.
    options: String,
}

impl Mount {
    /// Whether the file system has this option.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }

    /// The value that the file system's option of this name has.
    pub fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.split(',').filter_map(|o| o.split_once('='));
        options
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The option by which an NFS client answers from its cache when the server is gone, and calls that the truth.
    pub fn believes_its_cache(&self) -> Option<&'static str> {
        let mut options = ["softerr", "softreval"].into_iter();
        options.find(|option| self.has_option(option))
    }

    /// Whether nothing can be written there.
    pub fn is_read_only(&self) -> bool {
        self.has_option("ro") || self.flags.split(',').any(|flag| flag == "ro")
    }
}

/// The mounts of a table, those mounted over others after them.
pub fn parse(table: &[u8]) -> impl DoubleEndedIterator<Item = Mount> {
    table.split(|byte| *byte == b'\n').filter_map(line)
}

/// `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let id = text(words.next()?).parse().ok()?;
    let device = text(words.nth(1)?);
    let root = unescape(words.next()?).into();
    let point = unescape(words.next()?).into();
    let flags = text(words.next()?);
    let mut words = words.skip_while(|word| *word != b"-").skip(1);
    let fs = text(words.next()?);
    let source = unescape(words.next().unwrap_or_default()).into();
    let options = text(words.next().unwrap_or_default());
    Some(Mount {
        id,
        device,
        root,
        point,
        fs,
        source,
        flags,
        options,
    })
}

/// Blanks and backslashes are written as three octal digits after a backslash, as in fstab.
pub fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// The mount that is uppermost at `point`: the last of the table.
pub fn uppermost(table: &[u8], point: &OsStr) -> Option<Mount> {
    parse(table).rfind(|mount| mount.point.as_os_str().as_bytes() == point.as_bytes())
}

/// The mount that holds `path`, by its text alone: nothing on the way is touched.
pub fn holding(table: &[u8], path: &Path) -> Option<Mount> {
    // The last of those that are equally deep.
    parse(table)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_blanks_is_understood() {
        let table = br"41 35 0:52 / /srv/mail\040store rw,relatime shared:3 master:1 - nfs4 srv:/mail rw,vers=4.2,softerr
";
        let mount = parse(table).next().expect("a mount");
        assert_eq!(mount.point, PathBuf::from("/srv/mail store"));
        assert_eq!((mount.id, mount.device.as_str()), (41, "0:52"));
        assert_eq!(mount.fs, "nfs4");
        assert!(mount.has_option("softerr") && !mount.has_option("soft"));
        assert_eq!(mount.believes_its_cache(), Some("softerr"));
        assert_eq!(
            (mount.option("vers"), mount.option("timeo")),
            (Some("4.2"), None)
        );
        assert!(!mount.is_read_only());
    }

    #[test]
    fn escapes_are_octal() {
        assert_eq!(unescape(b"a\\040b\\134c\\0"), "a b\\c\\0");
    }

    #[test]
    fn the_last_one_is_uppermost() {
        let table = b"43 27 0:54 / /m rw - tmpfs a rw\n44 43 0:55 / /m rw - tmpfs b rw\n";
        let found = uppermost(table, OsStr::new("/m"));
        assert_eq!(found.map(|mount| mount.id), Some(44));
        assert_eq!(uppermost(table, OsStr::new("/")), None);
        let found = holding(table, Path::new("/m/a"));
        assert_eq!(found.map(|mount| mount.id), Some(44));
        assert_eq!(holding(table, Path::new("/mm")), None);
    }
}
