//! Which file system a path is on, read from mountinfo: no NFS server is asked for it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::event::PollFlags;

use crate::mountinfo::{self, Mount};
use crate::options::IndexFs;
use crate::ready;

/// Types that `index_fs=network` accepts: those on which several hosts see the same files.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "glusterfs",
    "fuse.moosefs",
    "fuse.mfs",
    "fuse.juicefs",
    "lustre",
    "gpfs",
    "beegfs",
    "afs",
    "ocfs2",
    "gfs2",
    "9p",
    "orangefs",
];

/// The mount table of this process, re-read when the kernel says that it has changed.
#[derive(Debug)]
pub struct MountTable {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    file: File,
    mounts: Vec<Mount>,
    /// How often it has been read.
    reads: u64,
}

impl MountTable {
    /// Reads it.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn open() -> io::Result<Self> {
        let mut table = Table {
            file: File::open(mountinfo::PATH)?,
            mounts: Vec::new(),
            reads: 0,
        };
        table.read()?;
        Ok(MountTable {
            table: Mutex::new(table),
        })
    }

    /// Asks `look` about the mount with this id (`stx_mnt_id`).
    ///
    /// # Errors
    /// When mountinfo cannot be read.
    pub fn by_id<T>(&self, mount_id: u64, look: impl FnOnce(Option<&Mount>) -> T) -> io::Result<T> {
        let mut table = self.table.lock();
        table.refresh()?;
        Ok(look(table.mounts.iter().rev().find(|m| m.id == mount_id)))
    }

    /// A number that is another whenever the table may be another.
    ///
    /// # Errors
    /// When mountinfo cannot be read.
    pub fn version(&self) -> io::Result<u64> {
        let mut table = self.table.lock();
        table.refresh()?;
        Ok(table.reads)
    }

    /// The mount point above `path`, by its text alone: nothing on the way is touched.
    ///
    /// # Errors
    /// When mountinfo cannot be read.
    pub fn point_above(&self, path: &Path) -> io::Result<PathBuf> {
        let mut table = self.table.lock();
        table.refresh()?;
        let above = table.mounts.iter().filter(|m| path.starts_with(&m.point));
        Ok(above
            .max_by_key(|m| m.point.as_os_str().len())
            .map_or_else(|| "/".into(), |m| m.point.clone()))
    }
}

impl Table {
    fn refresh(&mut self) -> io::Result<()> {
        let told = ready::now(&self.file, PollFlags::PRI)?;
        match told.intersects(PollFlags::PRI | PollFlags::ERR) {
            true => self.read(),
            false => Ok(()),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        self.mounts = mountinfo::parse(&text).collect();
        self.reads += 1;
        Ok(())
    }
}

/// Whether INDEX may lie on a file system of type `fs`.
pub fn accepts(wanted: &IndexFs, fs: &str) -> bool {
    match wanted {
        IndexFs::Any => true,
        IndexFs::Network => NETWORK.contains(&fs),
        IndexFs::Types(types) => types.iter().any(|t| t == fs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_proc_mount_is_found_by_id_and_by_path() {
        let table = MountTable::open().unwrap();
        let proc =
            rustix::fs::open("/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let stat = rustix::fs::statx(
            &proc,
            "",
            rustix::fs::AtFlags::EMPTY_PATH,
            rustix::fs::StatxFlags::MNT_ID,
        );
        let fs = table.by_id(stat.unwrap().stx_mnt_id, |mount| {
            mount.map(|mount| mount.fs.clone())
        });
        assert_eq!(fs.unwrap().as_deref(), Some("proc"));
        assert_eq!(
            table.point_above(Path::new("/proc/self/status")).unwrap(),
            Path::new("/proc")
        );
    }

    #[test]
    fn a_local_disk_is_no_network_file_system() {
        assert!(!accepts(&IndexFs::Network, "ext4") && !accepts(&IndexFs::Network, "tmpfs"));
        assert!(accepts(&IndexFs::Network, "nfs4") && accepts(&IndexFs::Any, "ext4"));
        assert!(accepts(&IndexFs::Types(vec!["xfs".into()]), "xfs"));
    }
}
