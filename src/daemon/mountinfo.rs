//! Which listindexfs stands where, from `/proc/self/mountinfo`: asking it touches no filesystem,
//! so that a dead or hanging one holds nobody up.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::mount::TYPE;

/// The device number of a mount, `major:minor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(String);

/// The listindexfs that is uppermost at `mountpoint`, if what is uppermost there is one.
pub fn ours_at(mountpoint: &Path) -> Option<Device> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    uppermost(&table, mountpoint)
}

/// The last line of a mount point is the uppermost mount there.
fn uppermost(table: &[u8], mountpoint: &Path) -> Option<Device> {
    let lines = table.split(|byte| *byte == b'\n');
    let (device, kind) = lines
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let device = fields.nth(2)?;
            let place = unescape(fields.nth(1)?);
            let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
            (place == mountpoint.as_os_str()).then_some((device, kind))
        })
        .next_back()?;
    let device = String::from_utf8_lossy(device).into_owned();
    (kind == TYPE.as_bytes()).then_some(Device(device))
}

/// Blanks and backslashes are written as three octal digits after a backslash.
fn unescape(field: &[u8]) -> OsString {
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

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 27 0:20 / /proc rw,relatime shared:5 - proc proc rw
40 27 0:51 / /run/li\\040x rw,nosuid shared:9 master:1 - fuse.listindexfs /dev/shm/li rw
41 27 0:52 / /covered rw - fuse.listindexfs /dev/shm/a rw
42 41 0:53 / /covered rw - tmpfs none rw
43 27 0:54 / /twice rw - fuse.listindexfs a rw
44 43 0:55 / /twice rw - fuse.listindexfs a rw
";

    fn at(path: &str) -> Option<String> {
        uppermost(TABLE, Path::new(path)).map(|device| device.0)
    }

    #[test]
    fn the_uppermost_mount_counts() {
        assert_eq!(at("/run/li x").as_deref(), Some("0:51"));
        assert_eq!(at("/twice").as_deref(), Some("0:55"));
        assert_eq!(at("/covered"), None);
        assert_eq!(at("/proc"), None);
        assert_eq!(at("/nowhere"), None);
    }

    #[test]
    fn escapes_are_octal() {
        assert_eq!(unescape(b"a\\040b\\134c\\0"), "a b\\c\\0");
    }
}
