//! Where one contestant lives: its backing, mount point, INDEX and log below the bench's own directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A uid and gid that files belong to and programs run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

pub const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// The directories of one contestant in one part of the bench, all on the same tmpfs.
#[derive(Clone, Debug)]
pub struct Place {
    pub backing: PathBuf,
    pub mountpoint: PathBuf,
    pub index: PathBuf,
    pub log: PathBuf,
    pub mail: Owner,
}

impl Place {
    /// Makes the directories `DIR/PART/NAME/…`: INDEX is `mail`'s, the top that users' directories come under is `top`'s.
    pub fn make(dir: &Path, part: &str, name: &str, mail: Owner, top: Owner) -> Result<Self> {
        let root = dir.join(part).join(name);
        let place = Self {
            backing: root.join("backing"),
            mountpoint: root.join("mnt"),
            index: root.join("index"),
            log: root.join("daemon.log"),
            mail,
        };
        make_dir(&place.backing, top)?;
        make_dir(&place.mountpoint, top)?;
        make_dir(&place.index, mail)?;
        Ok(place)
    }
}

/// Makes `path` and its parents; `path` itself belongs to `owner`, mode 0755.
pub fn make_dir(path: &Path, owner: Owner) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    chown(path, Some(owner.uid), Some(owner.gid))
        .with_context(|| format!("failed to chown {}", path.display()))
}
