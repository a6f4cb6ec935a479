//! Users who are no Dovecot's: what a mail process does to the files of a list index, at a thousand sessions a second.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::support::dovecot::hashed;
use crate::support::lab::mail_dir;
use crate::support::site::LOG;
use crate::support::{Lab, Light, Mount};

/// What lies in the backing of one user after a session: X, L and the record, a page each, bytes.
pub const USUAL: u64 = 3 * 4096;

/// A user of a mount.
pub struct Plain {
    light: Light,
    /// His directory in the mount.
    pub dir: PathBuf,
    /// The same in the backing.
    pub backing: PathBuf,
    /// INDEX/.lasthost.
    lasthost: PathBuf,
}

impl Plain {
    /// A user who has an INDEX already.
    pub fn new(lab: &Lab, mount: &Mount, name: &str) -> Self {
        let light = Light::new(mount.path(), &lab.index(), name);
        mail_dir(&light.index);
        Self {
            dir: light.dir.clone(),
            backing: hashed(mount.backing(), name),
            lasthost: light.index.join(".lasthost"),
            light,
        }
    }

    /// A session: the log is opened, or made as Dovecot makes it, and read.
    pub fn session(&self) -> io::Result<()> {
        self.open().map(drop)
    }

    /// The same, which goes on as long as the file is kept.
    pub fn open(&self) -> io::Result<File> {
        let mut file = match OpenOptions::new()
            .read(true)
            .append(true)
            .open(self.light.log())
        {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.light.dir)?;
                self.light.make()?.log
            }
            Err(e) => return Err(e),
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(file)
    }

    /// Whether he has a list index here.
    pub fn is_here(&self) -> bool {
        self.backing.join(LOG).exists()
    }

    /// What other hosts see of this host's claim: a claim anew would change it.
    pub fn claim(&self) -> (u64, i64, i64) {
        let seen = fs::metadata(&self.lasthost).expect("he is claimed");
        (seen.ino(), seen.mtime(), seen.mtime_nsec())
    }
}

/// All list indexes that are in a backing.
pub fn how_many(users: &[Plain]) -> usize {
    users.iter().filter(|user| user.is_here()).count()
}

/// Users of these numbers.
pub fn users(lab: &Lab, mount: &Mount, names: impl Iterator<Item = usize>) -> Vec<Plain> {
    names
        .map(|n| Plain::new(lab, mount, &format!("user{n:05}")))
        .collect()
}

/// The files of a user's directory, by name, in bytes.
pub fn sizes(dir: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut sizes: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name, entry.metadata().ok()?.len()))
        })
        .collect();
    sizes.sort();
    sizes
}
