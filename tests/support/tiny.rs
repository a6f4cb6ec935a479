//! A tmpfs of its own for a backing, so small that it can be filled.
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::run;

/// It goes when this is dropped.
pub struct Tiny(PathBuf);

impl Tiny {
    /// Of this size, as tmpfs reads it, and with so many inodes.
    pub fn mount(at: &Path, size: &str, inodes: u32) -> Self {
        let options = format!("size={size},nr_inodes={inodes},mode=0700,inode64");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tiny"])
            .arg(at));
        chown(at, Some(0), Some(0)).expect("chown");
        Self(at.to_owned())
    }

    /// A directory of another one.
    pub fn bind(part: &Path, at: &Path) -> Self {
        run(Command::new("mount").arg("--bind").args([part, at]));
        Self(at.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What its files take, bytes: all at one moment.
    pub fn used(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.0).expect("statvfs");
        (found.f_blocks - found.f_bfree) * found.f_frsize
    }

    /// Leaves not a page.
    pub fn fill(&self) {
        let fill = "cat /dev/zero >\"$1\" 2>/dev/null; test -s \"$1\"";
        run(Command::new("sh")
            .args(["-c", fill, "sh"])
            .arg(self.ballast()));
    }

    /// There is room again.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("room again");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
