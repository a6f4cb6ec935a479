//! What a worker leaves to the next: who has which file open, who is a ghost, which fences are due.
//!
//! Each change is appended to a journal in shared memory before the request that made it is answered. A
//! worker that dies leaves the journal as it is; the next one replays it. What was answered is in it, and what
//! was not is resent by the kernel and known again by its number. There are two journals, of which one is
//! used: when it has grown it is written anew, shortened, into the other.

mod entry;
mod snapshot;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use parking_lot::RwLock;
use rustix::fs::{MemfdFlags, OFlags};

pub use self::entry::{Entry, Who};
pub use self::snapshot::{Snapshot, UserPart};

/// What a journal begins with. Its number grows whenever entries change: a worker that does not know them
/// must not take over.
const MAGIC: &[u8; 8] = b"lidxjrn1";
/// The generation of a journal that no worker has had yet; every worker writes it anew.
const FIRST: u64 = 1;
/// A journal shorter than this is never written anew, bytes.
const SHORT: u64 = 4 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Memory, or a descriptor, failed.
    #[error("the worker's journal: {0}")]
    Io(#[from] io::Error),
    /// Another version of this program wrote it.
    #[error("the worker's journal is of another version: unmount and mount again to change over")]
    Version,
    /// Neither journal is whole.
    #[error("the worker's journal is broken")]
    Broken,
}

/// The journal of one mount; the default one keeps nothing.
#[derive(Debug, Default)]
pub struct Journal(Option<RwLock<Pair>>);

/// The journal in use and the other.
#[derive(Debug)]
struct Pair {
    used: File,
    other: File,
    generation: u64,
    /// How long the journal may become, bytes.
    limit: u64,
}

impl Journal {
    /// Makes the shared memory for an empty journal: what the supervisor keeps.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn make(instance: u128) -> Result<[OwnedFd; 2], JournalError> {
        let make = |name: &str| -> io::Result<OwnedFd> {
            let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&fd, OFlags::APPEND)?;
            Ok(fd)
        };
        let pair = [make("listindexfs-a")?, make("listindexfs-b")?];
        let snapshot = Snapshot {
            instance,
            ..Snapshot::default()
        };
        let mut first = File::from(pair[0].try_clone()?);
        first.write_all(&whole(FIRST, &snapshot)?)?;
        Ok(pair)
    }

    /// Whether this program understands what the last worker left, without taking it over.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn check(pair: &[OwnedFd; 2]) -> Result<(), JournalError> {
        for fd in pair {
            let mut magic = [0; MAGIC.len()];
            let len = rustix::io::pread(fd, &mut magic, 0).map_err(io::Error::from)?;
            if len == MAGIC.len() && magic != *MAGIC {
                return Err(JournalError::Version);
            }
        }
        Ok(())
    }

    /// Replays what the last worker left, and writes it anew.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(pair: [OwnedFd; 2]) -> Result<(Self, Snapshot), JournalError> {
        let [a, b] = pair.map(File::from);
        let (in_a, in_b) = (replay(&a)?, replay(&b)?);
        let (used, other, found) = match (in_a, in_b) {
            (Some(a_found), Some(b_found)) if b_found.0 > a_found.0 => (b, a, b_found),
            (Some(found), _) => (a, b, found),
            (None, Some(found)) => (b, a, found),
            (None, None) => return Err(JournalError::Broken),
        };
        let (generation, snapshot) = found;
        let mut pair = Pair {
            used,
            other,
            generation,
            limit: 0,
        };
        pair.write_anew(&snapshot)?;
        Ok((Journal(Some(RwLock::new(pair))), snapshot))
    }

    /// Whether another worker has had it before. To be asked before anything is appended.
    pub fn follows_another(&self) -> bool {
        let pair = self.0.as_ref().map(RwLock::read);
        pair.is_some_and(|pair| pair.generation > FIRST + 1)
    }

    /// Appends an entry. To be called before the request that it belongs to is answered.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn append(&self, entry: &Entry) -> io::Result<()> {
        let Some(pair) = &self.0 else { return Ok(()) };
        let frame = frame(entry)?;
        let long = {
            let pair = pair.read();
            // One write(2) at the end of the file: entries of several threads do not mix.
            (&pair.used).write_all(&frame)?;
            rustix::fs::tell(&pair.used).map_err(io::Error::from)? > pair.limit
        };
        if long {
            let mut pair = pair.write();
            if pair.used.metadata()?.len() > pair.limit {
                pair.shorten()?;
            }
        }
        Ok(())
    }

    /// The same, where nothing can be done about an error but to tell.
    pub fn note(&self, entry: &Entry) {
        if let Err(e) = self.append(entry) {
            log::error!("the worker's journal: {e}: its next worker will not know of {entry:?}");
        }
    }
}

impl Pair {
    fn shorten(&mut self) -> io::Result<()> {
        match replay(&self.used) {
            Ok(Some((_, snapshot))) => self.write_anew(&snapshot),
            Ok(None) | Err(JournalError::Broken | JournalError::Version) => {
                Err(io::Error::other("cannot be read back"))
            }
            Err(JournalError::Io(e)) => Err(e),
        }
    }

    /// Into the other journal, which counts once it is whole; then that is the one in use.
    fn write_anew(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let bytes = whole(self.generation + 1, snapshot)?;
        self.other.set_len(0)?;
        self.other.write_all(&bytes)?;
        std::mem::swap(&mut self.used, &mut self.other);
        self.generation += 1;
        self.limit = SHORT + 4 * bytes.len() as u64;
        self.other.set_len(0)
    }
}

/// A whole journal: what it is, its generation, the snapshot's entries, and word that it is whole.
fn whole(generation: u64, snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&generation.to_le_bytes());
    for entry in snapshot.entries() {
        bytes.extend_from_slice(&frame(&entry)?);
    }
    bytes.extend_from_slice(&frame(&Entry::Whole)?);
    Ok(bytes)
}

/// An entry with its length before it.
fn frame(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(entry, vec![0; 4]).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

/// A journal's generation and what its entries come to; `None` when it is not whole. What stands torn at its end
/// was never answered.
fn replay(file: &File) -> Result<Option<(u64, Snapshot)>, JournalError> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    let Some((magic, rest)) = bytes.split_at_checked(MAGIC.len()) else {
        return Ok(None);
    };
    if magic != MAGIC {
        return Err(JournalError::Version);
    }
    let Some((generation, mut rest)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    let (mut snapshot, mut is_whole) = (Snapshot::default(), false);
    while let Some((len, after)) = rest.split_first_chunk() {
        let Some((entry, after)) = after.split_at_checked(u32::from_le_bytes(*len) as usize) else {
            break;
        };
        match postcard::from_bytes(entry).map_err(|_| JournalError::Broken)? {
            Entry::Whole => is_whole = true,
            entry => snapshot.apply(entry),
        }
        rest = after;
    }
    Ok(is_whole.then_some((u64::from_le_bytes(*generation), snapshot)))
}

#[cfg(test)]
mod tests;
