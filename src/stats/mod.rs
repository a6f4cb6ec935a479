//! What is counted, in shared memory of its own that outlives workers: numbers at fixed places, changed by relaxed atomic
//! operations and nothing else.
//!
//! The supervisor makes it, hands it to every worker, and reads it when it is asked: so there is an answer while no worker is
//! there. A process that knows fewer places than another passes over the rest.

pub mod exposition;
pub mod figures;
mod histogram;
mod names;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

pub use self::names::{Cell, Field};
use crate::sys::shared::Shared;

/// What the memory begins with. Another means that places have another meaning.
const MAGIC: u64 = u64::from_le_bytes(*b"lidxsta1");
/// Places before those of NFS mounts.
const PLAIN: usize = 1024;
/// NFS mounts, and places for each. The last one stands for all that find no other.
const SLOTS: usize = 64;
const SLOT: usize = 64;
/// Within a slot: the name's length in bytes, then the name.
const NAME: usize = 1;
const NAME_CELLS: usize = 32;
const OTHERS: &str = "(others)";
/// All of it.
const LEN: usize = PLAIN + SLOTS * SLOT;

/// The numbers of one mount; the default ones are this process's own.
#[derive(Debug)]
pub struct Stats(Memory);

#[derive(Debug)]
enum Memory {
    Shared(Shared),
    Own(Box<[AtomicU64]>),
}

/// The place of an NFS mount.
#[derive(Clone, Copy, Debug)]
pub struct Slot(usize);

/// All numbers at one moment, or nearly so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// By place.
    pub cells: Vec<u64>,
    /// NFS mounts that users' INDEX lies on.
    pub nfs: Vec<Nfs>,
}

/// The numbers of an NFS mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nfs {
    /// Where it is mounted.
    pub mount: String,
    /// By place.
    pub cells: Vec<u64>,
}

impl Default for Stats {
    fn default() -> Self {
        Stats(Memory::Own((0..LEN).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Stats {
    /// Makes the shared memory: what the supervisor keeps.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn make() -> io::Result<OwnedFd> {
        Ok(rustix::fs::memfd_create(
            "listindexfs-stats",
            MemfdFlags::CLOEXEC,
        )?)
    }

    /// Uses shared memory that was made by this or another version.
    ///
    /// # Errors
    /// As `mmap(2)`; `InvalidData` where its places have another meaning.
    pub fn open(memory: OwnedFd) -> io::Result<Self> {
        let stats = Stats(Memory::Shared(Shared::map(
            &File::from(memory),
            0,
            LEN * size_of::<u64>(),
        )?));
        match stats.cells()[0].compare_exchange(0, MAGIC, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(MAGIC) => Ok(stats),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// A new worker serves: what only described the one before is forgotten.
    pub fn begin(&self) {
        use Cell::{ActiveUsers, Ghosts, OpenFiles};
        for gauge in [ActiveUsers, Ghosts, OpenFiles] {
            self.set(gauge, 0);
        }
        for slot in (0..SLOTS).map(Slot) {
            for gauge in [Field::Busy, Field::Queued, Field::SilentSince] {
                self.nfs_set(slot, gauge, 0);
            }
        }
        self.set(Cell::WorkerStart, now());
    }

    /// One more.
    pub fn count(&self, cell: Cell) {
        self.add(cell, 1);
    }

    /// So many more.
    pub fn add(&self, cell: Cell, by: u64) {
        self.cells()[cell as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// So many less.
    pub fn sub(&self, cell: Cell, by: u64) {
        self.cells()[cell as usize].fetch_sub(by, Ordering::Relaxed);
    }

    /// It is so now.
    pub fn set(&self, cell: Cell, to: u64) {
        self.cells()[cell as usize].store(to, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self, cell: Cell) -> u64 {
        self.cells()[cell as usize].load(Ordering::Relaxed)
    }

    /// It took so long. `first` is where the buckets begin.
    pub fn took(&self, first: Cell, time: Duration) {
        let (first, cells) = (first as usize, self.cells());
        cells[first + histogram::bucket(time)].fetch_add(1, Ordering::Relaxed);
        cells[first + histogram::SUM].fetch_add(histogram::nanos(time), Ordering::Relaxed);
    }

    /// The place of the NFS mount at `mount`. To be asked for by one thread at a time, once for each mount.
    pub fn nfs(&self, mount: &str) -> Slot {
        let mount = cut(mount);
        let known = (0..SLOTS).find(|at| self.name(*at).is_none_or(|name| name == mount));
        let slot = known.filter(|at| at + 1 < SLOTS);
        let (at, name) = slot.map_or((SLOTS - 1, OTHERS), |at| (at, mount));
        if self.name(at).is_none() {
            self.write_name(at, name);
        }
        Slot(at)
    }

    /// So many more there.
    pub fn nfs_add(&self, slot: Slot, field: Field, by: u64) {
        self.of(slot.0)[field as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// So many less there.
    pub fn nfs_sub(&self, slot: Slot, field: Field, by: u64) {
        self.of(slot.0)[field as usize].fetch_sub(by, Ordering::Relaxed);
    }

    /// It is so there now.
    pub fn nfs_set(&self, slot: Slot, field: Field, to: u64) {
        self.of(slot.0)[field as usize].store(to, Ordering::Relaxed);
    }

    /// All numbers, those at places that this version does not know among them.
    pub fn read(&self) -> Reading {
        let read = |cells: &[AtomicU64]| -> Vec<u64> {
            let mut all: Vec<_> = cells
                .iter()
                .map(|cell| cell.load(Ordering::Relaxed))
                .collect();
            let used = all.iter().rposition(|cell| *cell != 0);
            all.truncate(used.map_or(0, |last| last + 1));
            all
        };
        let nfs = (0..SLOTS).filter_map(|at| {
            let (mount, cells) = (self.name(at)?, read(self.of(at)));
            Some(Nfs { mount, cells })
        });
        Reading {
            cells: read(&self.cells()[..PLAIN]),
            nfs: nfs.collect(),
        }
    }

    fn cells(&self) -> &[AtomicU64] {
        match &self.0 {
            Memory::Shared(shared) => shared.cells(),
            Memory::Own(own) => own,
        }
    }

    fn of(&self, slot: usize) -> &[AtomicU64] {
        let from = PLAIN + slot * SLOT;
        &self.cells()[from..from + SLOT]
    }

    fn name(&self, slot: usize) -> Option<String> {
        let cells = self.of(slot);
        let len = usize::try_from(cells[0].load(Ordering::Acquire)).ok()?;
        if len == 0 {
            return None;
        }
        let words = &cells[NAME..NAME + NAME_CELLS];
        let bytes = words
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        let bytes: Vec<u8> = bytes.take(len).collect();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its length last: who reads meanwhile finds no name or the whole one.
    fn write_name(&self, slot: usize, name: &str) {
        let cells = self.of(slot);
        for (word, bytes) in cells[NAME..]
            .iter()
            .zip(name.as_bytes().chunks(size_of::<u64>()))
        {
            let mut whole = [0; size_of::<u64>()];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        cells[0].store(name.len() as u64, Ordering::Release);
    }
}

impl Reading {
    /// A number; 0 where the other side does not know it.
    pub fn get(&self, cell: Cell) -> u64 {
        self.at(cell as usize)
    }

    /// The buckets and the sum that begin here.
    pub fn times(&self, first: Cell) -> Vec<u64> {
        let first = first as usize;
        (first..first + histogram::CELLS)
            .map(|at| self.at(at))
            .collect()
    }

    fn at(&self, place: usize) -> u64 {
        self.cells.get(place).copied().unwrap_or(0)
    }
}

impl Nfs {
    /// A number; 0 where the other side does not know it.
    pub fn get(&self, field: Field) -> u64 {
        self.cells.get(field as usize).copied().unwrap_or(0)
    }
}

/// What there is room for of a name.
fn cut(name: &str) -> &str {
    let most = (NAME_CELLS * size_of::<u64>()).min(name.len());
    let whole = (0..=most).rev().find(|at| name.is_char_boundary(*at));
    &name[..whole.unwrap_or(0)]
}

/// This moment, seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(memory: &OwnedFd) -> Stats {
        Stats::open(memory.try_clone().expect("dup")).expect("mapped")
    }

    #[test]
    fn what_one_process_counts_the_next_one_goes_on_with() {
        let memory = Stats::make().expect("memory");
        let (supervisor, worker) = (shared(&memory), shared(&memory));
        worker.begin();
        worker.add(Cell::PulledBytes, 7);
        worker.add(Cell::Ghosts, 2);
        worker.took(Cell::GateWait, Duration::from_millis(3));
        let slot = worker.nfs("/nfs");
        worker.nfs_add(slot, Field::Silences, 1);
        worker.nfs_add(slot, Field::Busy, 16);
        drop(worker);
        let next = shared(&memory);
        next.begin();
        next.add(Cell::PulledBytes, 1);
        let slot = next.nfs("/nfs");
        next.nfs_add(slot, Field::Silences, 1);
        let read = supervisor.read();
        assert_eq!(
            (read.get(Cell::PulledBytes), read.get(Cell::Ghosts)),
            (8, 0)
        );
        assert_eq!(histogram::count(&read.times(Cell::GateWait)), 1);
        assert_eq!(read.nfs.len(), 1);
        let nfs = &read.nfs[0];
        assert_eq!(nfs.mount, "/nfs");
        assert_eq!((nfs.get(Field::Silences), nfs.get(Field::Busy)), (2, 0));
    }

    /// As one of another version makes it.
    #[test]
    fn memory_of_another_size_is_taken_and_of_another_meaning_refused() {
        let memory = Stats::make().expect("memory");
        let short = File::from(memory.try_clone().expect("dup"));
        short.set_len(4096).expect("shorter");
        let theirs = Shared::map(&short, 0, 4096).expect("mapped");
        theirs.cells()[0].store(MAGIC, Ordering::Relaxed);
        theirs.cells()[Cell::Keep as usize].store(3, Ordering::Relaxed);
        let ours = shared(&memory);
        ours.count(Cell::Keep);
        ours.nfs("/nfs");
        assert_eq!(
            theirs.cells()[Cell::Keep as usize].load(Ordering::Relaxed),
            4
        );

        theirs.cells()[0].store(MAGIC + 1, Ordering::Relaxed);
        let refused = Stats::open(memory).expect_err("another meaning");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn more_nfs_mounts_than_places_share_the_last_one() {
        let stats = Stats::default();
        for number in 0..100 {
            let slot = stats.nfs(&format!("/nfs/{number}"));
            stats.nfs_add(slot, Field::Silences, 1);
        }
        let read = stats.read();
        assert_eq!(read.nfs.len(), SLOTS);
        let last = read.nfs.last().expect("others");
        assert_eq!(last.mount, OTHERS);
        assert_eq!(last.get(Field::Silences), 100 - (SLOTS as u64 - 1));
        let long = "ä".repeat(200);
        let stats = Stats::default();
        stats.nfs(&long);
        assert_eq!(stats.read().nfs[0].mount, "ä".repeat(128));
        assert_eq!(stats.nfs(&long).0, 0, "it is known again");
    }

    #[test]
    fn a_reading_of_one_that_knows_less_has_zeros() {
        let stats = Stats::default();
        assert_eq!(stats.read().cells.len(), 0);
        stats.count(Cell::OpLookup);
        let read = stats.read();
        assert_eq!(read.cells.len(), Cell::OpLookup as usize + 1);
        assert_eq!(read.get(Cell::WorkerStarts), 0);
        assert_eq!(read.times(Cell::GateWait).len(), histogram::CELLS);
    }
}
