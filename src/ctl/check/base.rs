//! The part of `index=` before its first variable: it is there, on a file system that several hosts see, and answers.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::report::{About, Report};
use super::subject::Subject;
use super::{WITHIN, nfs};
use crate::ctl::bounded::in_thread;
use crate::index::guard::accepts;
use crate::mountinfo::{self, Mount};
use crate::options::{Config, IndexFs};

/// Mounts below the base that are looked at, at most.
const MOUNTS: usize = 16;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// It may be looked into.
    Answers,
    /// It is not known, not there, or gives no answer.
    Silent,
}

/// Looks at it; `table` is that of the mounts.
pub fn look_at(subject: &Subject, table: &[u8], report: &mut Report) -> Base {
    let Some(config) = &subject.config else {
        return Base::Silent;
    };
    if let Some(socket) = &config.userdb {
        userdb(socket, report);
    }
    let Some(base) = subject.base() else {
        report.ok(
            About::Base,
            format!(
                "index={} has no part that is the same for all users: what INDEX is on is not looked at",
                config.index.as_str()
            ),
        );
        return Base::Silent;
    };
    let name = base.display();
    match resolved(base) {
        None => {
            report.error(
                About::Base,
                format!("{name} gives no answer, so every user is refused: see to its server and the network"),
            );
            of_mounts(config, base, table, report);
            Base::Silent
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            report.error(
                About::Base,
                format!("{name} does not exist, so every user is refused: mount what should be there, or mend index="),
            );
            Base::Silent
        }
        Some(Err(error)) => {
            report.error(
                About::Base,
                format!("{name}: {error}: see to its server, or mend index="),
            );
            Base::Silent
        }
        Some(Ok(real)) => {
            of_mounts(config, &real, table, report);
            Base::Answers
        }
    }
}

/// Whether there is somebody to ask. It need not be before Dovecot is started.
fn userdb(socket: &Path, report: &mut Report) {
    let name = socket.display();
    match std::fs::metadata(socket) {
        Ok(found) if found.file_type().is_socket() => report.ok(
            About::Base,
            format!("Dovecot's userdb, {name}, is asked where INDEX is"),
        ),
        Ok(_) => report.error(
            About::Base,
            format!("{name} is no socket, so every user is refused: name Dovecot's auth-userdb in userdb="),
        ),
        Err(_) => report.warning(
            About::Base,
            format!("{name} is missing, so every user is refused: start Dovecot, or name its auth-userdb in userdb="),
        ),
    }
}

/// Where it is when links are followed, which the administrator may have there, if it answers in time.
fn resolved(base: &Path) -> Option<io::Result<PathBuf>> {
    let base = base.to_owned();
    in_thread(WITHIN, move || {
        let real = std::fs::canonicalize(base)?;
        rustix::fs::statfs(&real)?;
        Ok(real)
    })
}

/// What it lies on, and where that does not serve, what lies below it.
fn of_mounts(config: &Config, base: &Path, table: &[u8], report: &mut Report) {
    let Some(mount) = mountinfo::holding(table, base) else {
        return;
    };
    let below = mountinfo::parse(table).filter(|mount| mount.point.starts_with(base));
    let below = below.filter(|mount| accepts(&config.index_fs, &mount.fs));
    let below: Vec<_> = below.take(MOUNTS).collect();
    match accepts(&config.index_fs, &mount.fs) {
        false if !below.is_empty() => {
            for mount in below {
                accepted(config, &mount.point, &mount, report);
            }
        }
        _ => accepted(config, base, &mount, report),
    }
}

fn accepted(config: &Config, base: &Path, mount: &Mount, report: &mut Report) {
    let (name, point, fs) = (base.display(), mount.point.display(), &mount.fs);
    if mount.is_read_only() {
        report.error(
            About::Base,
            format!("{name} is read-only, so no user can be claimed and all are refused: mount {point} read-write"),
        );
    }
    if fs == "autofs" {
        return report.ok(
            About::Base,
            format!("{name} is mounted on demand (autofs): what each user's INDEX is on is not looked at"),
        );
    }
    if !accepts(&config.index_fs, fs) {
        return report.error(
            About::Base,
            format!("{name} is on {fs} ({point}), which index_fs= does not accept, so every user is refused: mount NFS there, or say index_fs={fs} if that is right"),
        );
    }
    let any = match config.index_fs {
        IndexFs::Any => ", of which index_fs=any says that all hosts see it",
        IndexFs::Network | IndexFs::Types(_) => "",
    };
    report.ok(About::Base, format!("{name} is on {fs} ({point}){any}"));
    if matches!(fs.as_str(), "nfs" | "nfs4") {
        nfs::look_at(mount, config, report);
    }
}
