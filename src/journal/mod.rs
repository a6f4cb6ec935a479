//! What a worker leaves to the next: who has which file open, who is a ghost, which fences are due.
//!
//! Each change is appended to a journal in shared memory before the request that made it is answered: its bytes
//! are copied behind the journal's end, then the end is moved. A worker that dies between the two leaves the journal as
//! it was; the next one replays it. What was answered is in it, and what was not is resent by the kernel and known
//! again by its number. There are two journals, of which one is used: when it is full it is written anew, shortened, into
//! the other.

mod entry;
mod snapshot;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use parking_lot::Mutex;
use rustix::fs::MemfdFlags;

pub use self::entry::{BLAME, Entry, Who};
pub use self::snapshot::{Snapshot, UserPart};
use crate::sys::shared::Shared;

/// What a journal begins with. Its number grows whenever entries change: a worker that does not know them
/// must not take over.
const MAGIC: &[u8; 8] = b"lidxjrn5";
/// Where its generation stands, and where the end of its entries: 0 while it is being written anew.
const GENERATION: usize = 8;
const END: usize = 16;
const HEADER: usize = 24;
/// What there is room for behind what a journal begins with, at least, bytes. Written anew takes milliseconds then.
const ROOM: usize = 1 << 20;
/// The generation of a journal that no worker has had yet; every worker writes it anew.
const FIRST: u64 = 1;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Memory, or a descriptor, failed.
    #[error("the worker's journal: {0}")]
    Io(#[from] io::Error),
    /// Another version of this program wrote it.
    #[error(
        "it does not understand the journal of the worker before, which is of another version: unmount and mount again to change over"
    )]
    Version,
    /// Neither journal is whole.
    #[error("the worker's journal is broken")]
    Broken,
}

/// The journal of one mount; the default one keeps nothing.
#[derive(Debug, Default)]
pub struct Journal(Option<Mutex<Pair>>);

/// The journal in use and the other.
#[derive(Debug)]
struct Pair {
    used: Half,
    other: Half,
    generation: u64,
}

/// One of the two.
#[derive(Debug)]
struct Half {
    file: File,
    memory: Shared,
    end: usize,
}

impl Journal {
    /// Makes the shared memory for an empty journal: what the supervisor keeps.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn make(instance: u128) -> Result<[OwnedFd; 2], JournalError> {
        let make = |name: &str| -> io::Result<File> {
            Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
        };
        let pair = [make("listindexfs-a")?, make("listindexfs-b")?];
        let snapshot = Snapshot {
            instance,
            ..Snapshot::default()
        };
        Half::new(pair[0].try_clone()?)?.write_anew(FIRST, &snapshot, 0)?;
        Ok(pair.map(OwnedFd::from))
    }

    /// Whether this program understands what the last worker left, without taking it over.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn check(pair: &[OwnedFd; 2]) -> Result<(), JournalError> {
        for fd in pair {
            let mut magic = [0; MAGIC.len()];
            let len = rustix::io::pread(fd, &mut magic, 0).map_err(io::Error::from)?;
            if len == MAGIC.len() && magic != expected() && magic != [0; MAGIC.len()] {
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
            used: Half::new(used)?,
            other: Half::new(other)?,
            generation,
        };
        pair.write_anew(&snapshot, 0)?;
        Ok((Journal(Some(Mutex::new(pair))), snapshot))
    }

    /// Whether another worker has had it before. To be asked before anything is appended.
    pub fn follows_another(&self) -> bool {
        let pair = self.0.as_ref().map(Mutex::lock);
        pair.is_some_and(|pair| pair.generation > FIRST + 1)
    }

    /// Appends an entry. To be called before the request that it belongs to is answered.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn append(&self, entry: &Entry) -> io::Result<()> {
        let Some(pair) = &self.0 else { return Ok(()) };
        let frame = frame(entry)?;
        let mut pair = pair.lock();
        if !pair.used.has_room(frame.len()) {
            pair.shorten(frame.len())?;
        }
        pair.used.append(&frame)
    }

    /// The same, where nothing can be done about an error but to tell.
    pub fn note(&self, entry: &Entry) {
        if let Err(e) = self.append(entry) {
            log::error!("the worker's journal: {e}: its next worker will not know of {entry:?}");
        }
    }
}

/// What a journal that a worker in waiting could take over begins with.
#[cfg(not(debug_assertions))]
fn expected() -> [u8; 8] {
    *MAGIC
}

/// In debug builds: with another number where `LISTINDEXFS_NEXT_JOURNAL` is set, as in a later version of this program.
#[cfg(debug_assertions)]
fn expected() -> [u8; 8] {
    let mut expected = *MAGIC;
    if std::env::var_os("LISTINDEXFS_NEXT_JOURNAL").is_some() {
        expected[7] = b'?';
    }
    expected
}

impl Pair {
    /// With room for `more` bytes.
    fn shorten(&mut self, more: usize) -> io::Result<()> {
        match replay(&self.used.file) {
            Ok(Some((_, snapshot))) => self.write_anew(&snapshot, more),
            Ok(None) | Err(JournalError::Broken | JournalError::Version) => {
                Err(io::Error::other("cannot be read back"))
            }
            Err(JournalError::Io(e)) => Err(e),
        }
    }

    /// Into the other journal, which counts once it is whole; then that is the one in use.
    fn write_anew(&mut self, snapshot: &Snapshot, more: usize) -> io::Result<()> {
        self.other.write_anew(self.generation + 1, snapshot, more)?;
        std::mem::swap(&mut self.used, &mut self.other);
        self.generation += 1;
        self.other.clear();
        Ok(())
    }
}

impl Half {
    fn new(file: File) -> io::Result<Self> {
        let memory = Shared::map(&file, 0, ROOM)?;
        Ok(Half {
            file,
            memory,
            end: HEADER,
        })
    }

    fn clear(&mut self) {
        self.memory.store(END, 0);
        self.end = HEADER;
    }

    fn has_room(&self, more: usize) -> bool {
        more <= self.memory.len() - self.end
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if !self.has_room(frame.len()) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.memory.write(self.end, frame);
        self.end += frame.len();
        self.memory.store(END, self.end as u64);
        Ok(())
    }

    /// What it is, its generation, the snapshot's entries, and last that it is whole.
    fn write_anew(&mut self, generation: u64, snapshot: &Snapshot, more: usize) -> io::Result<()> {
        self.clear();
        let mut entries = Vec::new();
        for entry in snapshot.entries() {
            entries.extend_from_slice(&frame(&entry)?);
        }
        let len = HEADER + 2 * entries.len() + more + ROOM;
        if len > self.memory.len() {
            self.memory = Shared::map(&self.file, 0, len)?;
        }
        self.memory.write(0, MAGIC);
        self.memory.store(GENERATION, generation);
        self.memory.write(HEADER, &entries);
        self.end = HEADER + entries.len();
        self.memory.store(END, self.end as u64);
        Ok(())
    }
}

/// Room for nearly every entry, bytes: it is written without being moved as it grows.
const FRAME_LEN: usize = 128;

/// An entry with its length before it.
fn frame(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FRAME_LEN);
    bytes.extend_from_slice(&[0; 4]);
    let mut bytes = postcard::to_extend(entry, bytes).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

/// A journal's generation and what its entries come to; `None` when it is not whole.
fn replay(file: &File) -> Result<Option<(u64, Snapshot)>, JournalError> {
    let mut header = [0; HEADER];
    if file.read_at(&mut header, 0)? < HEADER {
        return Ok(None);
    }
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    let end = usize::try_from(number(END)).map_err(io::Error::other)?;
    if header[..MAGIC.len()] != *MAGIC && header[..MAGIC.len()] != [0; MAGIC.len()] {
        return Err(JournalError::Version);
    }
    let Some(len) = end.checked_sub(HEADER) else {
        return Ok(None);
    };
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, HEADER as u64)?;
    let (mut snapshot, mut rest) = (Snapshot::default(), bytes.as_slice());
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = u32::from_le_bytes(*len) as usize;
        let (entry, after) = after.split_at_checked(len).ok_or(JournalError::Broken)?;
        snapshot.apply(postcard::from_bytes(entry).map_err(|_| JournalError::Broken)?);
        rest = after;
    }
    Ok(Some((number(GENERATION), snapshot)))
}

#[cfg(test)]
mod tests;
