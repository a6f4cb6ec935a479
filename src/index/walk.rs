//! The way down to INDEX: the administrator's part first, then the user's, through no symbolic link.
//!
//! That there is no INDEX is believed only when the server says so, on the right file system: NFS may
//! not be mounted, or the client may remember a name that was missing a minute ago.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::Trouble;
use super::dir::{BENEATH, ESTALE_TRIES, IndexPath, fields, io_at};
use super::guard::{MountTable, accepts};
use crate::options::IndexFs;

/// Walks down to INDEX. `None`: it, or a directory above it, does not exist.
pub(super) fn walk(
    at: &IndexPath,
    mounts: &MountTable,
    fs: &IndexFs,
) -> Result<Option<OwnedFd>, Trouble> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = match rustix::fs::open(&at.base, dir, Mode::empty()) {
        Ok(base) => base,
        Err(Errno::NOENT) => return Err(absent_base(&at.base, mounts, fs)),
        Err(e) => return Err(io_at("open", &at.base)(e.into())),
    };
    let mut asked = false;
    for _ in 0..ESTALE_TRIES {
        match rustix::fs::openat2(&base, &at.rest, dir, Mode::empty(), BENEATH) {
            Ok(index) => return Ok(Some(index)),
            Err(Errno::NOENT) if asked => {
                check_fs_of(deepest_existing(&base, &at.rest)?, &at.path(), mounts, fs)?;
                return Ok(None);
            }
            // That may be remembered for a minute: ask the server about the deepest directory there is.
            Err(Errno::NOENT) => {
                let deepest = deepest_existing(&base, &at.rest)?;
                let sync = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
                rustix::fs::statx(deepest, "", sync, fields())
                    .map_err(|e| io_at("stat what is above", &at.path())(e.into()))?;
                asked = true;
            }
            Err(Errno::AGAIN) => {} // somebody renamed on the way
            Err(Errno::LOOP) => return Err(Trouble::Symlink { path: at.path() }),
            // A symbolic link as the last component is, to O_DIRECTORY, no directory.
            Err(Errno::NOTDIR) => return Err(not_a_dir(&base, at)),
            Err(e) => return Err(io_at("open", &at.path())(e.into())),
        }
    }
    Err(io_at("open", &at.path())(Errno::AGAIN.into()))
}

fn not_a_dir(base: &OwnedFd, at: &IndexPath) -> Trouble {
    let path = at.path();
    match rustix::fs::statat(base, &at.rest, AtFlags::SYMLINK_NOFOLLOW)
        .map(|s| FileType::from_raw_mode(s.st_mode))
    {
        Ok(FileType::Symlink) => Trouble::Symlink { path },
        _ => Trouble::WrongKind {
            path,
            expected: "directory",
        },
    }
}

/// The administrator's part of INDEX is missing: no user's files can be told from that, for the wrong
/// file system is mounted there, or the server exports an empty directory in place of the right one.
fn absent_base(base: &Path, mounts: &MountTable, fs: &IndexFs) -> Trouble {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = base
        .ancestors()
        .skip(1)
        .find_map(|dir| rustix::fs::open(dir, flags, Mode::empty()).ok());
    let wrong = above.and_then(|above| check_fs_of(&above, base, mounts, fs).err());
    wrong.unwrap_or_else(|| Trouble::NoBase {
        path: base.to_owned(),
    })
}

fn deepest_existing(base: &OwnedFd, rest: &Path) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = base.try_clone().map_err(io_at("open", rest))?;
    for name in rest
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
    {
        match rustix::fs::openat2(&at, name.as_os_str(), flags, Mode::empty(), BENEATH) {
            Ok(next) => at = next,
            Err(_absent) => break,
        }
    }
    Ok(at)
}

fn check_fs_of(
    dir: impl AsFd,
    path: &Path,
    mounts: &MountTable,
    fs: &IndexFs,
) -> Result<(), Trouble> {
    let stat = rustix::fs::statx(
        dir,
        "",
        AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
        StatxFlags::MNT_ID,
    );
    let stat = stat.map_err(|e| io_at("stat", path)(e.into()))?;
    check_fs(path, stat.stx_mnt_id, mounts, fs)
}

pub(super) fn check_fs(
    path: &Path,
    mount_id: u64,
    mounts: &MountTable,
    fs: &IndexFs,
) -> Result<(), Trouble> {
    let checked = mounts.by_id(mount_id, |mount| match mount {
        Some(mount) if mount.has_option("softerr") => Err(Trouble::SoftErr {
            path: path.to_owned(),
            point: mount.point.clone(),
        }),
        Some(mount) if accepts(fs, &mount.fs) => Ok(()),
        None if *fs == IndexFs::Any => Ok(()),
        mount => Err(Trouble::WrongFs {
            path: path.to_owned(),
            fs: mount.map_or_else(|| "an unknown mount".into(), |mount| mount.fs.clone()),
        }),
    });
    checked.map_err(|e| io_at("find the mount of", path)(e))?
}
