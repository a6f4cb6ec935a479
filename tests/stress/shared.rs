//! What all processes do to the same files: append, take locks of three kinds, replace a file, look at it through
//! maps. Each says of what it sees only what must be so whatever the others do; the sums are right at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock, flock};

use crate::crew::{MEMBERS, Tally};
use crate::support::ops::Random;

/// Everything that is done.
pub const KINDS: &[&str] = &[
    "shared append",
    "shared counting",
    "shared flock",
    "dotlock",
    "dotlock taken",
    "link lock",
    "link lock taken",
    "replace",
    "replaced seen",
    "board",
];

/// On our mount only, and seldom.
pub const REPLACED_TWICE: &str = "replaced twice";

const LOG: &str = "dovecot.list.index.log";
const INDEX: &str = "dovecot.list.index";
const NEWLOCK: &str = "dovecot.list.index.log.newlock";
/// Each line of the log ends in one of these, and none is in it otherwise.
const END: u8 = b'\n';
/// A slot of the board, bytes: slots lie on pages of their own and on shared ones.
const SLOT: usize = 1500;

/// The files, as one process has them.
pub struct Shared {
    dir: PathBuf,
    member: usize,
    log: File,
    appended: u64,
    counter: File,
    flocked: File,
    board: File,
    map: memmap2::Mmap,
    seen: [u64; MEMBERS],
    posted: u64,
    old: Option<(File, Vec<u8>)>,
    replaced: u64,
}

impl Shared {
    /// Opens them, L first as Dovecot does; who comes first makes them.
    pub fn new(dir: PathBuf, member: usize) -> Self {
        let log = open(&dir.join(LOG), true);
        let board = open(&dir.join("board"), false);
        board
            .set_len((SLOT * MEMBERS) as u64)
            .expect("the board's length");
        #[expect(unsafe_code, reason = "mapping a file is")]
        // SAFETY: its length never changes, and its bytes are only copied.
        let map = unsafe { memmap2::Mmap::map(&board) }.expect("a map");
        Self {
            counter: open(&dir.join("counter"), false),
            flocked: open(&dir.join("dovecot.list.index.lock"), false),
            dir,
            member,
            log,
            appended: 0,
            board,
            map,
            seen: [0; MEMBERS],
            posted: 0,
            old: None,
            replaced: 0,
        }
    }

    /// One operation.
    pub fn step(&mut self, random: &mut Random, tally: &mut Tally) {
        let kind = match random.below(9) {
            0..2 => self.append(random),
            2 => {
                fcntl_lock(&self.counter, FlockOperation::LockExclusive).expect("a lock");
                add_one(&self.counter);
                fcntl_lock(&self.counter, FlockOperation::Unlock).expect("unlocked");
                "shared counting"
            }
            3 => {
                flock(&self.flocked, FlockOperation::LockExclusive).expect("a lock");
                add_one(&self.flocked);
                flock(&self.flocked, FlockOperation::Unlock).expect("unlocked");
                "shared flock"
            }
            4 => self.dotlock(),
            5 => self.link_lock(),
            6 => self.replace(random),
            7 => self.look_at_replaced(tally),
            _ => self.look_at_board(),
        };
        tally.count(kind);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A line of any length that tells whose it is and the how-manieth; through another descriptor now and then.
    fn append(&mut self, random: &mut Random) -> &'static str {
        if random.below(8) == 0 {
            self.log = open(&self.path(LOG), true);
        }
        self.appended += 1;
        let mut line = format!("{} {} ", self.member, self.appended).into_bytes();
        line.resize(line.len() + random.below(300), b'x');
        line.push(END);
        let written = (&self.log).write(&line).expect("an append");
        assert_eq!(written, line.len(), "a short append");
        "shared append"
    }

    /// `O_EXCL` lets one of all make it; who made it removes it.
    fn dotlock(&self) -> &'static str {
        let lock = self.path(NEWLOCK);
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&lock)
        {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return "dotlock taken",
            made => drop(made.expect("a dotlock")),
        }
        add_one(&open(&self.path("dotlocked"), false));
        fs::remove_file(&lock).expect("who made it removes it");
        "dotlock"
    }

    /// As Dovecot without `O_EXCL`: a file of one's own is linked to a name that but one can have.
    fn link_lock(&self) -> &'static str {
        let (own, lock) = (
            self.path(&format!(".temp.{}", self.member)),
            self.path("dovecot.list.index.link"),
        );
        drop(open(&own, false));
        let linked = fs::hard_link(&own, &lock);
        let links = fs::metadata(&own).expect("one's own").nlink();
        let kind = match linked {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                assert_eq!(links, 1, "it was not linked");
                "link lock taken"
            }
            linked => {
                linked.expect("a link");
                assert_eq!(links, 2, "it was linked");
                add_one(&open(&self.path("linklocked"), false));
                fs::remove_file(&lock).expect("who linked it removes it");
                "link lock"
            }
        };
        fs::remove_file(&own).expect("one's own");
        kind
    }

    /// A new index is written beside the old one and renamed over it.
    fn replace(&mut self, random: &mut Random) -> &'static str {
        let new = self.path(&format!("dovecot.list.index.tmp{}", self.member));
        self.replaced += 1;
        let len = 8 + random.below(9000);
        let mut bytes = format!("{} {} {len} ", self.member, self.replaced).into_bytes();
        let fill = bytes.len() as u8;
        bytes.resize(bytes.len() + len, fill);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .expect("one's own");
        file.write_all(&bytes).expect("write");
        fs::rename(&new, self.path(INDEX)).expect("rename");
        "replace"
    }

    /// Whatever was opened last time still is what it was, though it has been replaced since; what is there now is whole.
    fn look_at_replaced(&mut self, tally: &mut Tally) -> &'static str {
        if let Some((file, bytes)) = self.old.take() {
            assert_eq!(whole(&file), bytes, "an open file has changed");
        }
        let Some(file) = self.open_index(tally) else {
            return "replaced seen";
        };
        let bytes = whole(&file);
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        assert_eq!(words.len(), 4, "an index that is not whole: {text:?}");
        let head = words[..3].iter().map(|word| word.len() + 1).sum::<usize>();
        assert_eq!(
            words[2].parse(),
            Ok(bytes.len() - head),
            "an index that is not whole: {text:?}"
        );
        assert!(
            bytes[head..].iter().all(|byte| usize::from(*byte) == head),
            "an index of two"
        );
        self.old = Some((file, bytes));
        "replaced seen"
    }

    /// A file that is replaced between its LOOKUP and its OPEN, and once more when the kernel looks it up again, is
    /// answered ESTALE, on which Dovecot tries again up to ten times.
    fn open_index(&self, tally: &mut Tally) -> Option<File> {
        for _ in 0..10 {
            match File::open(self.path(INDEX)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
                Err(e) if e.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                    tally.count(REPLACED_TWICE);
                }
                opened => return Some(opened.expect("the index")),
            }
        }
        panic!("replaced again and again");
    }

    /// Under a lock each posts a number. What others posted never goes back, and a map shows what a read gives.
    fn look_at_board(&mut self) -> &'static str {
        fcntl_lock(&self.board, FlockOperation::LockExclusive).expect("a lock");
        self.posted += 1;
        let slot = |member: usize| member * SLOT..member * SLOT + 8;
        self.board
            .write_all_at(&self.posted.to_le_bytes(), (self.member * SLOT) as u64)
            .expect("a post");
        for member in 0..MEMBERS {
            let mut read = [0; 8];
            self.board
                .read_exact_at(&mut read, (member * SLOT) as u64)
                .expect("a read");
            assert_eq!(self.map[slot(member)], read, "the map of {member}'s slot");
            let now = u64::from_le_bytes(read);
            let least = if member == self.member {
                self.posted
            } else {
                self.seen[member]
            };
            assert!(
                now >= least,
                "{member}'s slot went back from {least} to {now}"
            );
            self.seen[member] = now;
        }
        fcntl_lock(&self.board, FlockOperation::Unlock).expect("unlocked");
        "board"
    }
}

fn open(path: &Path, append: bool) -> File {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .append(append)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
        .open(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn whole(file: &File) -> Vec<u8> {
    let len = file.metadata().expect("fstat").size();
    let mut bytes = vec![0; usize::try_from(len).expect("small")];
    file.read_exact_at(&mut bytes, 0).expect("a read");
    bytes
}

/// Reads a number and writes the next one, which loses some unless others are kept out.
fn add_one(file: &File) {
    let mut number = [0; 8];
    let len = file.read_at(&mut number, 0).expect("a read");
    assert!(len == 0 || len == 8, "half a number");
    let next = u64::from_le_bytes(number) + 1;
    file.write_all_at(&next.to_le_bytes(), 0).expect("a write");
}

/// After all have ended: nothing was lost and nothing is there twice.
pub fn check(dir: &Path, tally: &Tally) {
    let number = |name: &str| {
        let bytes = fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        u64::from_le_bytes(bytes.try_into().expect("a number"))
    };
    assert_eq!(
        number("counter"),
        tally.of("shared counting"),
        "under fcntl locks"
    );
    assert_eq!(
        number("dovecot.list.index.lock"),
        tally.of("shared flock"),
        "under flock"
    );
    assert_eq!(number("dotlocked"), tally.of("dotlock"), "under dotlocks");
    assert_eq!(
        number("linklocked"),
        tally.of("link lock"),
        "under linked dotlocks"
    );
    let log = fs::read(dir.join(LOG)).expect("the log");
    let mut last = [0_u64; MEMBERS];
    for line in log.split_inclusive(|byte| *byte == END) {
        let text = String::from_utf8_lossy(line);
        let mut words = text
            .splitn(3, ' ')
            .map_while(|word| word.parse::<u64>().ok());
        let (Some(member), Some(at)) = (words.next(), words.next()) else {
            panic!("a torn line: {text:?}");
        };
        let last = &mut last[usize::try_from(member).expect("small")];
        assert_eq!(at, *last + 1, "a line of {member} lost or there twice");
        *last = at;
    }
    assert_eq!(
        last.iter().sum::<u64>(),
        tally.of("shared append"),
        "lines appended"
    );
}
