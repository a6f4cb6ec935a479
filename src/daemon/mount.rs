//! mount(2) and umount(2) of our one mount.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mountinfo::{self, Ours};
use crate::exit::Failure;
use crate::fuse::take_from_users;
use crate::options::Config;

/// The type shown in `/proc/mounts`. fuser's own mount(2) would lose what is behind the dot.
pub const TYPE: &str = "fuse.listindexfs";
/// The source of the tmpfs that `listindexctl prepare` puts where a listindexfs is to be mounted.
pub const BARE: &str = "listindexfs-bare";

/// Whether this is one of ours. A mount that is not root's, as whoever may use fusermount3 makes it, can have any type and source.
pub fn is_ours(mount: &crate::mountinfo::Mount) -> bool {
    mount.fs == TYPE && mount.option("user_id") == Some("0")
}

/// Whether this is that tmpfs.
pub fn is_bare(mount: &crate::mountinfo::Mount) -> bool {
    mount.fs == "tmpfs" && mount.source.as_os_str() == BARE
}

/// Our mount, whether it still stands or not.
#[derive(Clone, Debug)]
pub struct Mount {
    path: PathBuf,
    ours: Ours,
}

/// The mount while it lasts; dropping this takes it away from its users if it still stands.
#[derive(Debug)]
pub struct Standing(Mount);

impl Standing {
    /// Mounts. The kernel then asks for the handshake through `dev_fuse`; until it is answered,
    /// whoever looks into the mount waits.
    pub fn new(config: &Config, dev_fuse: &OwnedFd) -> Result<Self, Failure> {
        let path = config.mountpoint.clone();
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            dev_fuse.as_raw_fd()
        );
        let data = CString::new(data).map_err(Failure::system)?;
        rustix::mount::mount(&config.backing, &path, TYPE, config.flags, data.as_c_str()).map_err(
            |error| {
                let path = path.display();
                Failure::mount(format!("cannot mount on {path}: mount(2): {error}"))
            },
        )?;
        match mountinfo::ours_at(&path) {
            Some(ours) => Ok(Self(Mount { path, ours })),
            None => {
                let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
                let path = path.display();
                Err(Failure::system(format!(
                    "the mount on {path} is not in /proc/self/mountinfo: is /proc mounted?"
                )))
            }
        }
    }

    /// The mount, for threads that may outlive this.
    pub fn mount(&self) -> Mount {
        self.0.clone()
    }
}

impl Mount {
    /// Whether it still stands, and uppermost: else umount(2) would hit another.
    pub fn stands(&self) -> bool {
        mountinfo::ours_at(&self.path).is_some_and(|ours| ours == self.ours)
    }

    /// Takes it away: at once if nobody uses it, else out of sight, and the session ends with the
    /// last user.
    pub fn take_away(&self) {
        let path = self.path.display();
        let plain = self.unmount(UnmountFlags::empty());
        let outcome = match plain {
            Err(Errno::BUSY) => {
                log::info!("{path} is in use: detaching it");
                self.unmount(UnmountFlags::DETACH)
            }
            other => other,
        };
        if let Err(error) = outcome {
            log::error!("cannot unmount {path}: {error}");
        }
    }

    /// Takes it away from its users too: what waits for an answer is told that none will come.
    pub fn tear_away(&self) {
        if let Err(error) = self.unmount(UnmountFlags::FORCE | UnmountFlags::DETACH) {
            log::error!("cannot unmount {}: {error}", self.path.display());
        }
    }

    /// Takes it away from its users where it has been detached, which [`Self::tear_away`] cannot. Tells whether it has none any more.
    pub fn take_from_users(&self, dev_fuse: &OwnedFd) -> bool {
        take_from_users(dev_fuse, &self.ours.device, self.path.display())
    }

    fn unmount(&self, flags: UnmountFlags) -> Result<(), Errno> {
        match self.stands() {
            true => rustix::mount::unmount(&self.path, flags | UnmountFlags::NOFOLLOW),
            false => Ok(()),
        }
    }
}

impl std::ops::Deref for Standing {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.0
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.tear_away();
    }
}
