//! Users' directories as Dovecot's list index has them: `HH/USER/dovecot.list.index{,.log}`, made through the mount.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use md5::{Digest, Md5};

use crate::place::{Owner, make_dir};
use crate::running::Running;

/// Users of each thread: enough that a round does not hit one directory only.
pub const PER_THREAD: usize = 32;

/// Bytes in a fresh list index and in a fresh log.
pub const FILE_SIZE: usize = 8192;

/// One user's files, as paths ready for system calls.
#[derive(Clone)]
pub struct UserFiles {
    pub index: CString,
    pub log: CString,
    pub log2: CString,
    pub tmp: CString,
}

/// Dovecot's `%2.256Nu/%u`: the bucket is the eighth byte of the name's MD5.
pub fn layout(user: &str) -> PathBuf {
    let bucket = Md5::digest(user)[7];
    Path::new(&format!("{bucket:02x}")).join(user)
}

/// Makes the users of thread `thread`, first their INDEX, then their files through the mount.
pub fn make(running: &Running, thread: usize) -> Result<Vec<UserFiles>> {
    (0..PER_THREAD)
        .map(|number| make_user(running, &format!("t{thread}u{number}")))
        .collect()
}

/// Makes a user's INDEX directory, which on a real host exists before the first login.
pub fn make_index_dir(index: &Path, user: &str, owner: Owner) -> Result<()> {
    let dir = index.join(layout(user));
    if let Some(bucket) = dir.parent() {
        make_dir(bucket, owner)?;
    }
    make_dir(&dir, owner)
}

fn make_user(running: &Running, user: &str) -> Result<UserFiles> {
    make_index_dir(&running.place.index, user, running.place.mail)?;
    let dir = running.top().join(layout(user));
    for level in [dir.parent().unwrap_or(&dir), &dir] {
        match fs::DirBuilder::new().mode(0o700).create(level) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("failed to make {}", level.display()));
            }
            _ => {}
        }
    }
    for name in ["dovecot.list.index.log", "dovecot.list.index"] {
        fill(&dir.join(name))?;
    }
    let path = |name: &str| CString::new(dir.join(name).as_os_str().as_bytes());
    Ok(UserFiles {
        index: path("dovecot.list.index")?,
        log: path("dovecot.list.index.log")?,
        log2: path("dovecot.list.index.log.2")?,
        tmp: path("dovecot.list.index.tmp")?,
    })
}

/// Writes a file and reads it back, so that a contestant that loses data is not measured at all.
fn fill(path: &Path) -> Result<()> {
    let content = [b'x'; FILE_SIZE];
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = file.with_context(|| format!("failed to make {}", path.display()))?;
    file.write_all_at(&content, 0)?;
    ensure!(
        fs::read(path)? == content,
        "{} reads back wrong",
        path.display()
    );
    Ok(())
}
