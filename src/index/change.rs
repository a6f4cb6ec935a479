//! What is changed in INDEX: names that are made, linked, renamed and removed, with the caller's rights.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::Trouble;
use super::dir::{IndexDir, IndexFile, fields, identity};

impl IndexDir {
    /// Unlinks INDEX/`name`; one that is gone already is as good.
    ///
    /// # Errors
    /// [`Trouble::Io`].
    pub fn remove(&self, name: &OsStr) -> Result<(), Trouble> {
        let _as = self.act()?;
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.io("remove", name)(e.into())),
        }
    }

    /// Makes INDEX/`name`, which must not exist, with `text`, and gives it `mtime`; returns it open. What cannot be written does
    /// not stay.
    ///
    /// # Errors
    /// [`Trouble::Io`], `EEXIST` among them.
    pub fn make(
        &self,
        name: &OsStr,
        text: &[u8],
        mtime: Option<SystemTime>,
    ) -> Result<IndexFile, Trouble> {
        self.make_with(name, 0o644, |file| {
            file.write_all(text)?;
            match mtime {
                Some(mtime) => Ok(rustix::fs::futimens(&*file, &times(mtime))?),
                None => Ok(()),
            }
        })
    }

    /// Makes INDEX/`name`, which must not exist, of all that `from` has, with its group and mode; returns it open.
    ///
    /// # Errors
    /// As [`IndexDir::make`].
    pub fn make_copy(&self, name: &OsStr, from: &mut File) -> Result<IndexFile, Trouble> {
        // Nobody is to have it open before it has its mode.
        self.make_with(name, 0o600, |file| {
            let (like, made) = (from.metadata()?, file.metadata()?);
            if made.gid() != like.gid() {
                // As far as who owns it may: a directory with the setgid bit gives another.
                let _ = fchown(&*file, None, Some(like.gid()));
            }
            rustix::fs::fchmod(&*file, Mode::from_raw_mode(like.mode() & 0o666))?;
            match io::copy(from, file)? == like.len() {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }

    fn make_with(
        &self,
        name: &OsStr,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<IndexFile, Trouble> {
        let _as = self.act()?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.dir, name, flags, Mode::from_raw_mode(mode));
        let mut file = File::from(made.map_err(|e| self.io("write", name)(e.into()))?);
        let sync = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let filled = fill(&mut file)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::statx(&file, "", sync, fields())?));
        let stat = match filled {
            Ok(stat) => stat,
            Err(e) => {
                self.unmake(name, file);
                return Err(self.io("write", name)(e));
            }
        };
        let owner = (stat.stx_uid, stat.stx_gid, u32::from(stat.stx_mode) & 0o777);
        Ok(IndexFile {
            file,
            identity: identity(&stat),
            owner,
        })
    }

    /// Removes what could not be written: an empty dotlock would hold others up. Unless the name is another's by now.
    fn unmake(&self, name: &OsStr, file: File) {
        let ours = file.metadata().map(|made| made.ino());
        drop(file); // else the NFS client would only give it another name
        let there = self.look(name).map(|there| there.map(|is| is.ino));
        if matches!((ours, there), (Ok(ours), Ok(Some(there))) if ours == there) {
            self.remove_quietly(name);
        }
    }

    /// Removes what is of no use, as well as that can be done.
    pub fn remove_quietly(&self, name: &OsStr) {
        if let Err(e) = self.remove(name) {
            log::debug!("left behind: {e}");
        }
    }

    /// Gives a file of INDEX another name, unless that is taken: then `false`.
    ///
    /// # Errors
    /// [`Trouble::Io`].
    pub fn link(&self, from: &OsStr, to: &OsStr) -> Result<bool, Trouble> {
        let _as = self.act()?;
        match rustix::fs::linkat(&self.dir, from, &self.dir, to, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // Or it was sent twice, and is ours.
            Err(Errno::EXIST) => {
                let [ours, there] = [self.look(from)?, self.look(to)?];
                Ok(ours.is_some() && ours.map(|is| is.ino) == there.map(|is| is.ino))
            }
            Err(e) => Err(self.io("link", from)(e.into())),
        }
    }

    /// Renames within INDEX, over what is there.
    ///
    /// # Errors
    /// [`Trouble::Io`].
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), Trouble> {
        let _as = self.act()?;
        rustix::fs::renameat(&self.dir, from, &self.dir, to)
            .map_err(|e| self.io("rename", from)(e.into()))
    }
}

fn times(mtime: SystemTime) -> Timestamps {
    let since = mtime
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let at = Timespec {
        tv_sec: since.as_secs() as i64,
        tv_nsec: since.subsec_nanos().into(),
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}
