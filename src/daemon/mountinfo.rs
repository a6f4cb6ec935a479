//! Which listindexfs stands where.

use std::path::{Path, PathBuf};

use super::mount::is_ours;
use crate::mountinfo;

/// A listindexfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The device number, `major:minor`.
    pub(super) device: String,
    /// Its backing.
    pub backing: PathBuf,
}

/// The listindexfs that is uppermost at `mountpoint`, if what is uppermost there is one.
pub fn ours_at(mountpoint: &Path) -> Option<Ours> {
    let table = std::fs::read(mountinfo::PATH).ok()?;
    uppermost(&table, mountpoint)
}

fn uppermost(table: &[u8], mountpoint: &Path) -> Option<Ours> {
    let mount = mountinfo::uppermost(table, mountpoint.as_os_str())?;
    is_ours(&mount).then_some(Ours {
        device: mount.device,
        backing: mount.source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 27 0:20 / /proc rw,relatime shared:5 - proc proc rw
40 27 0:51 / /run/li\\040x rw,nosuid shared:9 master:1 - fuse.listindexfs /dev/shm/li rw,user_id=0
41 27 0:52 / /covered rw - fuse.listindexfs /dev/shm/a rw,user_id=0
42 41 0:53 / /covered rw - tmpfs none rw
43 27 0:54 / /twice rw - fuse.listindexfs a rw,user_id=0
44 43 0:55 / /twice rw - fuse.listindexfs a rw,user_id=0
45 27 0:56 / /home/mallory/m rw - fuse.listindexfs a rw,user_id=1000
";

    fn at(path: &str) -> Option<String> {
        uppermost(TABLE, Path::new(path)).map(|ours| ours.device)
    }

    #[test]
    fn the_uppermost_mount_counts() {
        assert_eq!(at("/run/li x").as_deref(), Some("0:51"));
        assert_eq!(at("/twice").as_deref(), Some("0:55"));
        assert_eq!(at("/covered"), None);
        assert_eq!(at("/proc"), None);
        assert_eq!(at("/nowhere"), None);
        assert_eq!(at("/home/mallory/m"), None, "not root's");
    }
}
