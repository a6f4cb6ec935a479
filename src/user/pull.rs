//! The pull: a stock backend's list index moves from INDEX to the backing, under Dovecot's own lock.
//!
//! It is whole on one side at any moment: on NFS until the record is written, then here.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::count::room_for;
use super::gate::Gate;
use super::local::{self, Tmp};
use super::look::logs_in;
use super::state::UserState;
use super::steps::Step;
use crate::index::Trouble;
use crate::index::dir::{IndexDir, IndexFile};
use crate::index::lasthost::Identity;
use crate::index::lock::LockedLog;
use crate::stats::Cell;

/// The most that is pulled of one user, bytes: list indexes have kilobytes, a megabyte at most.
pub const MAX_PULL: u64 = 64 << 20;

/// The most files that are pulled of one prefix: Dovecot has three.
pub(super) const MAX_FILES: usize = 32;

/// One prefix's list index, locked on NFS.
#[derive(Debug)]
pub struct Source<'a> {
    /// The log's name.
    pub log: OsString,
    /// The log's identity when it was copied.
    pub identity: Identity,
    /// All its files but the log.
    others: Vec<OsString>,
    locked: LockedLog<'a>,
}

/// Locks what INDEX holds, prefix by prefix.
pub fn lock<'a>(gate: &Gate, dir: &'a IndexDir) -> Result<Vec<Source<'a>>, Trouble> {
    let mut sources = Vec::new();
    for (_, log) in gate.config.logs() {
        let Some(locked) = dir.lock_log(&log, gate.config.lock_method, gate.patience())? else {
            continue;
        };
        let others = dir.names_beside(&log)?;
        if others.len() > MAX_FILES {
            return Err(Trouble::TooMany {
                path: dir.path_of(&log),
                count: others.len(),
                limit: MAX_FILES,
            });
        }
        sources.push(Source {
            log,
            identity: locked.log.identity,
            others,
            locked,
        });
    }
    if !sources.is_empty() {
        (gate.on_step)(Step::Locked);
    }
    Ok(sources)
}

/// The same, where a look at INDEX shows that there is something: else nothing is opened.
pub fn lock_if_any<'a>(gate: &Gate, dir: &'a IndexDir) -> Result<Vec<Source<'a>>, Trouble> {
    match logs_in(gate, dir)?.is_empty() {
        true => Ok(Vec::new()),
        false => lock(gate, dir),
    }
}

/// Copies and installs them, the logs last, but for those of which .lasthost warns; returns what was
/// pulled, for the record.
pub fn fetch(
    gate: &Arc<Gate>,
    state: &Arc<UserState>,
    dir: &IndexDir,
    sources: &mut [Source<'_>],
    stale: &[u64],
) -> Result<Vec<(OsString, Identity)>, Trouble> {
    let mut copies = Vec::new();
    let mut logs = Vec::new();
    let mut pulled = Vec::new();
    let mut left = MAX_PULL;
    let mut copy =
        |name: &OsStr, file: &mut IndexFile| copy(gate, state, dir, name, file, &mut left);
    let good = |source: &&mut Source<'_>| !stale.contains(&source.identity.ino);
    for source in sources.iter_mut().filter(good) {
        for name in &source.others {
            // Gone since it was listed: Dovecot unlinks L.2 without the lock.
            let Some(mut file) = dir.open_file(name, rustix::fs::OFlags::RDONLY)? else {
                continue;
            };
            copies.push((name.clone(), copy(name, &mut file)?, file.owner));
        }
        let log = &mut source.locked.log;
        logs.push((source.log.clone(), copy(&source.log, log)?, log.owner));
        pulled.push((source.log.clone(), source.identity));
    }
    (gate.on_step)(Step::Copied);
    for (step, files) in [(Step::PartInstalled, copies), (Step::Installed, logs)] {
        for (name, tmp, owner) in files {
            local::install(gate, &state.user, tmp, owner, &name)
                .map_err(Trouble::backing("install the pulled files"))?;
        }
        (gate.on_step)(step);
    }
    Ok(pulled)
}

fn copy(
    gate: &Arc<Gate>,
    state: &Arc<UserState>,
    dir: &IndexDir,
    name: &OsStr,
    from: &mut IndexFile,
    left: &mut u64,
) -> Result<Tmp, Trouble> {
    let size = from.identity.size;
    *left = left.checked_sub(size).ok_or_else(|| Trouble::TooBig {
        path: dir.path_of(name),
        size,
        limit: MAX_PULL,
    })?;
    gate.expects(state, room_for(size));
    let tmp = (gate.with_room(|| Tmp::new(gate))).map_err(Trouble::backing("make a file"))?;
    let read = |source| Trouble::Io {
        what: "read",
        path: dir.path_of(name),
        source,
    };
    let mut bytes = Vec::with_capacity(size as usize);
    from.file.rewind().map_err(read)?;
    Read::by_ref(&mut from.file)
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    if bytes.len() as u64 != size {
        return Err(read(io::ErrorKind::UnexpectedEof.into()));
    }
    gate.with_room(|| tmp.file.write_all_at(&bytes, 0))
        .map_err(Trouble::backing("write the pulled files"))?;
    gate.stats.add(Cell::PulledBytes, size);
    Ok(tmp)
}

/// Deletes on NFS what is here now, the logs last. Under the lock, the claim re-checked.
///
/// # Errors
/// [`Trouble::Overtaken`] when the claim is not ours any more or a log is not what was copied.
pub fn delete(
    gate: &Gate,
    dir: &IndexDir,
    sources: &[Source<'_>],
    claim: Identity,
    copied: &[(OsString, Identity)],
) -> Result<(), Trouble> {
    if dir.lasthost()? != Some(claim) {
        return Err(Trouble::Overtaken);
    }
    for source in sources {
        let now = dir
            .open_file(&source.log, rustix::fs::OFlags::RDONLY)?
            .map(|file| file.identity);
        let then = copied
            .iter()
            .find(|(log, _)| *log == source.log)
            .map(|(_, identity)| *identity);
        if now != then {
            return Err(Trouble::Overtaken);
        }
    }
    (gate.on_step)(Step::Rechecked);
    for source in sources {
        source.others.iter().try_for_each(|name| dir.remove(name))?;
    }
    (gate.on_step)(Step::PartDeleted);
    sources
        .iter()
        .try_for_each(|source| dir.remove(&source.log))?;
    (gate.on_step)(Step::Deleted);
    Ok(())
}
