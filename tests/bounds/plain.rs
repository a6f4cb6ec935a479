//! Users who are no Dovecot's: what a mail process does to the files of a list index, at a thousand sessions a second.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::support::dovecot::hashed;
use crate::support::lab::mail_dir;
use crate::support::site::{LOG, PREFIX};
use crate::support::{Lab, Mount};

/// What lies in the backing of one user after a session: X, L and the record, a page each, bytes.
pub const USUAL: u64 = 3 * 4096;

/// A user of a mount.
pub struct Plain {
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
        let index = hashed(&lab.index(), name);
        mail_dir(&index);
        Self {
            dir: hashed(mount.path(), name),
            backing: hashed(mount.backing(), name),
            lasthost: index.join(".lasthost"),
        }
    }

    /// A session: the log is opened, or made as Dovecot makes it, read, and a page at most appended to it.
    pub fn session(&self) -> io::Result<()> {
        self.open().map(drop)
    }

    /// The same, which goes on as long as the file is kept.
    pub fn open(&self) -> io::Result<File> {
        let log = self.dir.join(LOG);
        let mut file = match OpenOptions::new().read(true).append(true).open(&log) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make()?,
            Err(e) => return Err(e),
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(file)
    }

    fn make(&self) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        let newlock = self.dir.join(format!("{LOG}.newlock"));
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create_new(true)
            .open(&newlock)?;
        file.write_all(b"a log\n")?;
        fs::rename(&newlock, self.dir.join(LOG))?;
        let tmp = self.dir.join(format!("{PREFIX}.tmp"));
        fs::write(&tmp, "an index\n")?;
        fs::rename(&tmp, self.dir.join(PREFIX))?;
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

/// What INDEX holds is not on the filesystem of the backing.
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
