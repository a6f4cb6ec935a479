//! The way down to INDEX: the administrator's part first, then the user's, through no symbolic link.
//!
//! That there is no INDEX is believed only when the server says so, on the right file system: NFS may
//! not be mounted, or the client may remember a name that was missing a minute ago.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::Trouble;
use super::dir::{BENEATH, Base, ESTALE_TRIES, IndexPath, fields, io_at};
use super::guard::{MountTable, accepts};
use crate::mountinfo::Mount;
use crate::options::IndexFs;

/// Walks down to INDEX. `None`: it, or a directory above it, does not exist.
pub(super) fn walk(
    at: &IndexPath,
    as_root: bool,
    mounts: &MountTable,
    fs: &IndexFs,
) -> Result<Option<OwnedFd>, Trouble> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = match open_base(at, as_root) {
        Ok(base) => base,
        Err(Errno::NOENT) if at.base_is == Base::Fixed => {
            return Err(absent_base(&at.base, mounts, fs));
        }
        Err(Errno::NOENT) => match absent_home(at, as_root, mounts, fs)? {
            Some(base) => base,
            None => return Ok(None),
        },
        Err(e) => return Err(base_error(at, as_root, e)),
    };
    let mut asked = false;
    for _ in 0..ESTALE_TRIES {
        match rustix::fs::openat2(&base, at.rest(), dir, Mode::empty(), BENEATH) {
            Ok(index) => return Ok(Some(index)),
            Err(Errno::NOENT) if asked => {
                let deepest = deepest_existing(&base, &at.rest)?;
                check_fs_of(&deepest, &at.path(), mounts, fs)?;
                if at.base_is == Base::Users && at.base == Path::new("/") {
                    check_below_root(&deepest, &at.path())?;
                }
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

/// Opens the base. What leads to a home directory may in part be its user's own, so root follows no link there: it would
/// write where that user likes. He himself may go where he can.
fn open_base(at: &IndexPath, as_root: bool) -> Result<OwnedFd, Errno> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = match at.base_is == Base::Users && as_root {
        true => ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        false => ResolveFlags::empty(),
    };
    rustix::fs::openat2(rustix::fs::CWD, &at.base, dir, Mode::empty(), resolve)
}

fn base_error(at: &IndexPath, as_root: bool, e: Errno) -> Trouble {
    let path = &at.base;
    let mode = rustix::fs::lstat(path).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let link = e == Errno::NOTDIR && mode == Ok(FileType::Symlink);
    match as_root && at.base_is == Base::Users && (link || e == Errno::LOOP) {
        true => Trouble::Symlink { path: path.clone() },
        false => io_at("open", path)(e.into()),
    }
}

fn not_a_dir(base: &OwnedFd, at: &IndexPath) -> Trouble {
    let path = at.path();
    match rustix::fs::statat(base, at.rest(), AtFlags::SYMLINK_NOFOLLOW)
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
    let above = deepest_above(base);
    let wrong = above.and_then(|above| check_fs_of(&above, base, mounts, fs).err());
    wrong.unwrap_or_else(|| Trouble::NoBase {
        path: base.to_owned(),
    })
}

/// A home directory is missing: the user is new and has none yet, or what should be mounted is not. It is believed to be
/// missing when the server, asked about the deepest directory above it that there is, still says so.
fn absent_home(
    at: &IndexPath,
    as_root: bool,
    mounts: &MountTable,
    fs: &IndexFs,
) -> Result<Option<OwnedFd>, Trouble> {
    let home = &at.base;
    let no_base = || Trouble::NoBase { path: home.clone() };
    let above = deepest_above(home).ok_or_else(no_base)?;
    let sync = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    rustix::fs::statx(&above, "", sync, fields())
        .map_err(|e| io_at("stat what is above", home)(e.into()))?;
    match open_base(at, as_root) {
        Ok(home) => return Ok(Some(home)),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(base_error(at, as_root, e)),
    }
    check_fs_of(&above, home, mounts, fs)?;
    check_below_root(&above, home).map(|()| None)
}

/// The deepest directory above `path` that can be opened.
fn deepest_above(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut above = path.ancestors().skip(1);
    above.find_map(|dir| rustix::fs::open(dir, flags, Mode::empty()).ok())
}

/// Of a path that nobody vouches for, something must be there below the root of the mount: an empty root is what a server
/// shows that exports the wrong directory.
fn check_below_root(dir: impl AsFd, path: &Path) -> Result<(), Trouble> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(dir, "", flags, StatxFlags::MNT_ID);
    let stat = stat.map_err(|e| io_at("stat", path)(e.into()))?;
    match stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        true => Err(Trouble::NoBase {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
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
    let cached = |mount: &Mount| mount.believes_its_cache();
    let checked = mounts.by_id(mount_id, |mount| match (mount, mount.and_then(cached)) {
        (Some(mount), Some(option)) => Err(Trouble::SoftErr {
            path: path.to_owned(),
            point: mount.point.clone(),
            option,
        }),
        (Some(mount), _) if accepts(fs, &mount.fs) => Ok(()),
        (None, _) if *fs == IndexFs::Any => Ok(()),
        (mount, _) => Err(Trouble::WrongFs {
            path: path.to_owned(),
            fs: mount.map_or_else(|| "an unknown mount".into(), |mount| mount.fs.clone()),
        }),
    });
    checked.map_err(|e| io_at("find the mount of", path)(e))?
}
