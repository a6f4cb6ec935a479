//! A mail session without Dovecot, for where there are too many users for that: what Dovecot does to its list index, in the
//! same order, and nothing else.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::dovecot::hashed;
use super::site::{LOG, PREFIX};

/// Both files are as large, bytes: less than a page.
pub const SIZE: usize = 2000;

/// A user: his directory in the mount, and his INDEX.
#[derive(Clone, Debug)]
pub struct Light {
    /// In the mount.
    pub dir: PathBuf,
    /// On the store.
    pub index: PathBuf,
}

/// A session that holds its list index open.
pub struct Session {
    /// L.
    pub log: File,
    /// X.
    pub list: File,
}

impl Light {
    /// The user of this name below a mount point and the root of all INDEX directories, both hashed as documented.
    pub fn new(mountpoint: &Path, index: &Path, name: &str) -> Self {
        Self {
            dir: hashed(mountpoint, name),
            index: hashed(index, name),
        }
    }

    /// L.
    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// X.
    pub fn list(&self) -> PathBuf {
        self.dir.join(PREFIX)
    }

    /// The first session: makes INDEX, the directory and the list index.
    ///
    /// # Errors
    /// Those of its calls.
    pub fn first(&self) -> io::Result<Session> {
        fs::create_dir_all(&self.index)?;
        if open(&self.log()).is_err() {
            fs::create_dir(&self.dir)?;
        }
        if open(&self.log()).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.make()
    }

    /// Makes the list index in the directory that is there.
    ///
    /// # Errors
    /// Those of its calls.
    pub fn make(&self) -> io::Result<Session> {
        Ok(Session {
            log: self.write(&self.log(), ".newlock")?,
            list: self.write(&self.list(), ".tmp")?,
        })
    }

    /// Any later one: both files are opened, looked at and read. What is in them is what [`Light::first`] wrote.
    ///
    /// # Errors
    /// Those of its calls; `InvalidData` for other bytes.
    pub fn again(&self) -> io::Result<Session> {
        Ok(Session {
            log: read(&self.log())?,
            list: read(&self.list())?,
        })
    }

    /// X is written anew.
    ///
    /// # Errors
    /// Those of its calls.
    pub fn rewrite(&self) -> io::Result<()> {
        self.write(&self.list(), ".tmp").map(drop)
    }

    fn write(&self, path: &Path, end: &str) -> io::Result<File> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(end);
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&beside)?;
        file.write_all(&[b'x'; SIZE])?;
        fs::rename(beside, path)?;
        Ok(file)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).open(path)
}

fn read(path: &Path) -> io::Result<File> {
    let mut file = open(path)?;
    let (len, mut bytes) = (file.metadata()?.len(), [0; SIZE]);
    file.read_exact(&mut bytes)?;
    if len != SIZE as u64 || bytes != [b'x'; SIZE] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(file)
}
