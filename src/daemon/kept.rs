//! The mount's options, left in the backing: whoever cleans it while nothing is mounted has to know whose is what.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::options::Config;
use crate::supervise::Invocation;

/// Below the backing.
const NAME: &str = ".listindexfs/options";
/// Longer options are none of ours, bytes.
const LONGEST: u64 = 1 << 20;

/// What a mount was made with.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    mountpoint: PathBuf,
    host_name: String,
    options: Vec<String>,
}

/// Leaves the options of a mount. Where that is not possible what is there of an earlier one goes, and it is served all the
/// same. Whoever calls this holds the backing's lock.
pub fn write(backing: &OwnedFd, invocation: &Invocation) {
    let kept = Kept {
        mountpoint: invocation.mountpoint.clone(),
        host_name: invocation.host_name.clone(),
        options: invocation.options.clone(),
    };
    if let Err(error) = put(backing, &kept) {
        log::warn!(
            "the options are not noted in the backing, which cannot be cleaned once it is unmounted: {error}"
        );
        if let Err(error) = remove(backing) {
            log::warn!("cannot remove {NAME} in the backing: {error}");
        }
    }
}

fn put(backing: &OwnedFd, kept: &Kept) -> io::Result<()> {
    remove(backing)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut file = open(backing, flags, Mode::RUSR | Mode::WUSR)?;
    file.write_all(&serde_json::to_vec(kept)?)
}

fn remove(backing: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::unlinkat(backing, NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// With what `backing`, open as `path`, was mounted last.
///
/// # Errors
/// When nothing tells, or this program does not understand it.
pub fn read(backing: &OwnedFd, path: &Path) -> Result<Config, Failure> {
    let name = path.display();
    let opened = open(backing, OFlags::RDONLY, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => Failure::mount(format!(
            "{name} has no {NAME}: it is no BACKING, or was mounted by an older version only: mount and unmount it once"
        )),
        error => Failure::system(format!("{name}/{NAME}: {error}")),
    })?;
    let mut text = Vec::new();
    let read = opened.take(LONGEST).read_to_end(&mut text);
    read.map_err(|error| Failure::system(format!("{name}/{NAME}: {error}")))?;
    parse(&text, path).map_err(|why| {
        Failure::mount(format!(
            "{name}/{NAME} is not understood, another version has written it: mount and unmount it once: {why}"
        ))
    })
}

/// The same of a directory that is no backing perhaps, or that others can write to: only root's word is taken.
///
/// # Errors
/// As [`read`].
pub fn look(backing: &Path) -> Result<Config, Failure> {
    let name = backing.display();
    let cannot = |error: Errno| Failure::system(format!("{name}: {error}"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(backing, flags, Mode::empty()).map_err(cannot)?;
    match open(&opened, OFlags::PATH, Mode::empty()) {
        Ok(options) if !is_roots(&options).map_err(cannot)? => Err(Failure::mount(format!(
            "{name}/{NAME} is not root's: nothing is read there"
        ))),
        _ => read(&opened, backing), // which says what is wrong
    }
}

/// Whether a mount has left its options in this directory: it is, or was, a backing.
pub fn is_there(directory: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty());
    let options = opened.and_then(|opened| open(&opened, OFlags::PATH, Mode::empty()));
    options.is_ok_and(|options| is_roots(&options) == Ok(true))
}

/// No FIFO either, whose opening would wait.
fn is_roots(file: &File) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(stat.st_uid == 0 && kind == FileType::RegularFile)
}

fn parse(text: &[u8], backing: &Path) -> Result<Config, String> {
    let kept: Kept = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    Config::parse(backing, &kept.mountpoint, &kept.options, &kept.host_name)
        .map_err(|error| error.to_string())
}

fn open(backing: &OwnedFd, flags: OFlags, mode: Mode) -> Result<File, Errno> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(backing, NAME, flags | OFlags::CLOEXEC, mode, beneath).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backing() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(".listindexfs")).expect("mkdir");
        let opened = File::open(dir.path()).expect("open").into();
        (dir, opened)
    }

    fn with(option: &str) -> Invocation {
        Invocation {
            backing: "/b".into(),
            mountpoint: "/m\nn".into(),
            options: vec!["index=/n/%u".to_owned(), option.to_owned()],
            host_name: "h".to_owned(),
            foreground: false,
            debug: false,
        }
    }

    #[test]
    fn what_a_mount_was_made_with_is_read_again() {
        let (dir, opened) = backing();
        write(&opened, &with("layout=%2.256Nu/%u"));
        write(&opened, &with("layout=%u"));
        let config = read(&opened, dir.path()).expect("read");
        assert_eq!(config.layout.as_str(), "%u");
        assert_eq!(config.mountpoint, Path::new("/m\nn"));
        assert_eq!(config.host, "h");
    }

    #[test]
    fn what_is_missing_or_not_understood_is_said() {
        let (dir, opened) = backing();
        let missing = read(&opened, dir.path()).expect_err("none").to_string();
        assert!(missing.contains("mount and unmount it once"), "{missing}");
        write(&opened, &with("of_a_later_version"));
        let refused = read(&opened, dir.path()).expect_err("unknown").to_string();
        assert!(refused.contains("another version"), "{refused}");
        std::fs::write(dir.path().join(NAME), "{\"mountp").expect("write");
        let refused = read(&opened, dir.path()).expect_err("cut off").to_string();
        assert!(refused.contains("is not understood"), "{refused}");
    }

    #[test]
    fn what_cannot_be_noted_leaves_nothing_of_an_earlier_mount() {
        let (dir, opened) = backing();
        std::fs::create_dir(dir.path().join(NAME)).expect("in its place");
        write(&opened, &with("layout=%u"));
        let refused = read(&opened, dir.path()).expect_err("a directory");
        assert_eq!(refused.exit, crate::exit::Exit::System);
    }
}
