//! Inode numbers of the backing have to fit into 32 bits, as they are half of a node id.
//!
//! A tmpfs with `inode64`, which is the default of Debian's kernels, numbers its files on and on: after four thousand million
//! of them nothing could be looked up or made. With `inode32` it begins anew; generations tell files of one number apart.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};

use super::Store;
use crate::mountinfo;

impl Store {
    /// Has a tmpfs of the backing's own keep its numbers small. Others' are theirs, also where a part of one is mounted on the backing.
    pub fn keep_numbers_small(&self) {
        match reconfigure(&self.root) {
            Ok(false) => {}
            Ok(true) => {
                log::info!("the backing's tmpfs has inode32 now: its inode numbers stay small")
            }
            Err(e) => log::warn!(
                "the backing's tmpfs has inode64, and its inode numbers will not fit after some years: mount it with inode32: {e}"
            ),
        }
    }
}

/// Whether that was to be done.
fn reconfigure(root: &OwnedFd) -> io::Result<bool> {
    let stat = rustix::fs::statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(false);
    }
    let table = std::fs::read(mountinfo::PATH)?;
    let ours = mountinfo::parse(&table).find(|mount| mount.id == stat.stx_mnt_id);
    let numbers_on = |mount: &mountinfo::Mount| {
        mount.fs == "tmpfs" && mount.root == Path::new("/") && mount.has_option("inode64")
    };
    if !ours.is_some_and(|mount| numbers_on(&mount)) {
        return Ok(false);
    }
    let picked = fspick(
        root,
        "",
        FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC,
    )?;
    fsconfig_set_flag(&picked, "inode32")?;
    fsconfig_reconfigure(&picked)?;
    Ok(true)
}
