//! A throw-away world for one test: a store that all its hosts share and that stands for NFS, a directory
//! for each host, and one in RAM. All of it goes when the `Lab` is dropped.
//!
//! The store is not on the RAM's filesystem, so that a `rename` from one to the other fails here as on NFS.
use super::dovecot24::{self, Shared};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The mail user, where all mail belongs to one. Dovecot needs no account of that name.
pub const UID: u32 = 64_100;
/// The mail user's group.
pub const GID: u32 = 64_100;

/// The world of one test. Declare it before the Dovecots and mounts in it: it must be dropped last.
pub struct Lab {
    // Before the directory that it is mounted on.
    _shared: Option<Arc<Shared>>,
    disk: Arc<TempDir>,
    ram: Arc<TempDir>,
    store: PathBuf,
}

impl Lab {
    /// A new, empty world.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir(), Path::new("/dev/shm"))
    }

    /// The same with its directories below these two.
    pub fn within(disk: &Path, ram: &Path) -> Self {
        let make = |under: &Path| {
            let dir = tempfile::Builder::new()
                .prefix("lidx-")
                .tempdir_in(under)
                .expect("a temporary directory");
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
            Arc::new(dir)
        };
        let disk = make(disk);
        // The mounts are on a host's directory, there.
        let shared = dovecot24::is_foreign().then(|| Arc::new(Shared::new(disk.path())));
        let lab = Self {
            _shared: shared,
            store: disk.path().join("nfs"),
            ram: make(ram),
            disk,
        };
        for dir in [lab.mail(), lab.index()] {
            mail_dir(&dir);
        }
        lab
    }

    /// The same world as who sees its store there: on another mount of a real NFS.
    pub fn with_store(&self, store: PathBuf) -> Self {
        Self {
            _shared: self._shared.clone(),
            disk: Arc::clone(&self.disk),
            ram: Arc::clone(&self.ram),
            store,
        }
    }

    /// What is gone when the world is.
    pub fn dirs(&self) -> [PathBuf; 2] {
        [&self.disk, &self.ram].map(|dir| dir.path().to_owned())
    }

    /// The mail store: on NFS.
    pub fn mail(&self) -> PathBuf {
        self.store.join("mail")
    }

    /// The root of all INDEX directories: on NFS.
    pub fn index(&self) -> PathBuf {
        self.store.join("index")
    }

    /// A host's own directory, made if it is not there.
    pub fn host(&self, name: &str) -> PathBuf {
        let dir = self.disk.path().join("host").join(name);
        fs::create_dir_all(&dir).expect("a host's directory");
        dir
    }

    /// A directory in RAM, made if it is not there and owned by the mail user.
    pub fn ram(&self, name: &str) -> PathBuf {
        let dir = self.ram.path().join(name);
        mail_dir(&dir);
        dir
    }
}

/// Makes a directory that belongs to the mail user.
pub fn mail_dir(dir: &Path) {
    dir_of(dir, UID, GID, 0o700);
}

/// Makes a directory with its parents; it alone gets this owner and mode.
pub fn dir_of(dir: &Path, uid: u32, gid: u32, mode: u32) {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("mkdir {dir:?}: {e}"));
    chown(dir, Some(uid), Some(gid)).unwrap_or_else(|e| panic!("chown {dir:?}: {e}"));
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("chmod {dir:?}: {e}"));
}
