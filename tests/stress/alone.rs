//! What one process does to files that nobody else touches, and a model that says what each call must give: names,
//! errnos, link counts, sizes, modes, times, every byte.

mod contents;
mod names;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::crew::{Tally, names as names_in};
use crate::support::ops::Random;

/// Everything that is done.
pub const KINDS: &[&str] = &[
    "create",
    "open",
    "truncating open",
    "close",
    "read",
    "append",
    "write",
    "truncate",
    "fdatasync",
    "fstat",
    "map",
    "write through a map",
    "stat",
    "chmod",
    "utimens",
    "unlink",
    "link",
    "rename",
    "rename over",
    "exchange",
    "rename to no other",
    "list",
    "mkdir",
    "rmdir",
    "EEXIST",
    "ENOENT",
    "ENOTEMPTY",
];

/// The gate knows some of these names and not others. What is in `sub` is plain.
const NAMES: &[&str] = &[
    "dovecot.list.index.log",
    "dovecot.list.index",
    "dovecot.list.index.log.2",
    "dovecot.list.index.tmp",
    "dovecot.list.index.log.newlock",
    ".temp.mail",
    "plain",
    "other",
    "sub/plain",
];
const SUB: &str = "sub";

/// So many files are open at most, and none is longer, bytes.
const MAX_OPEN: usize = 12;
const MAX_LEN: usize = 100_000;
/// So many lines of what was done are told when something is wrong.
const TOLD: usize = 60;

#[derive(Clone, Debug)]
struct Inode {
    bytes: Vec<u8>,
    links: u64,
    mode: u32,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: usize,
    append: bool,
}

/// One process's files.
pub struct Alone {
    dir: PathBuf,
    names: BTreeMap<&'static str, usize>,
    inodes: BTreeMap<usize, Inode>,
    open: Vec<Open>,
    has_sub: bool,
    made: usize,
    story: VecDeque<String>,
}

impl Alone {
    /// In an empty directory. L is looked for first, as Dovecot does: then the user is claimed.
    pub fn new(dir: PathBuf) -> Self {
        let log = fs::metadata(dir.join(NAMES[0]));
        log.expect_err("an empty directory");
        Self {
            dir,
            names: BTreeMap::new(),
            inodes: BTreeMap::new(),
            open: Vec::new(),
            has_sub: false,
            made: 0,
            story: VecDeque::new(),
        }
    }

    /// One operation.
    pub fn step(&mut self, random: &mut Random, tally: &mut Tally) {
        let kind = match random.below(26) {
            0..4 => self.opens(random),
            4 => self.closes(random),
            5..15 => self.uses_open(random),
            15 => self.stats(random),
            16 => self.changes_attributes(random),
            17 => self.unlinks(random),
            18 => self.links(random),
            19..23 => self.renames(random),
            23 => self.lists(),
            _ => self.directory(random),
        };
        tally.count(kind);
    }

    /// Everything that is there and open is looked at once more, and goes.
    pub fn finish(&mut self) {
        self.lists();
        for at in 0..self.open.len() {
            self.fstats(at);
            self.reads(at, true);
        }
        for name in self.names.clone().into_keys() {
            self.told(format!("unlink {name}"));
            self.must(fs::remove_file(self.path(name)));
        }
        self.open.clear();
        if self.has_sub {
            self.must(fs::remove_dir(self.path(SUB)));
        }
        let left = names_in(&self.dir);
        assert!(left.is_empty(), "left in {}: {left:?}", self.dir.display());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn told(&mut self, line: String) {
        self.story.push_back(line);
        if self.story.len() > TOLD {
            self.story.pop_front();
        }
    }

    fn wrong(&self, what: &str) -> ! {
        let story: Vec<&str> = self.story.iter().map(String::as_str).collect();
        panic!(
            "{}: {what}, after:\n{}",
            self.dir.display(),
            story.join("\n")
        );
    }

    fn must<T>(&self, done: io::Result<T>) -> T {
        done.unwrap_or_else(|e| self.wrong(&e.to_string()))
    }

    /// What was done must have come out so. The kind to count is the errno's name if it had to fail.
    fn judge<T>(
        &self,
        done: io::Result<T>,
        must: Result<(), Errno>,
        kind: &'static str,
    ) -> (&'static str, Option<T>) {
        match (done, must) {
            (Ok(value), Ok(())) => (kind, Some(value)),
            (Err(e), Err(errno)) if e.raw_os_error() == Some(errno.raw_os_error()) => match errno {
                Errno::EXIST => ("EEXIST", None),
                Errno::NOENT => ("ENOENT", None),
                _ => ("ENOTEMPTY", None),
            },
            (done, must) => self.wrong(&format!("it gave {:?}, not {must:?}", done.map(drop))),
        }
    }

    fn pick(&self, random: &mut Random) -> &'static str {
        NAMES[random.below(NAMES.len())]
    }

    /// Whether the directory of this name is there.
    fn has_place(&self, name: &str) -> bool {
        self.has_sub || !name.starts_with(SUB)
    }

    fn opens(&mut self, random: &mut Random) -> &'static str {
        if self.open.len() >= MAX_OPEN {
            return self.closes(random);
        }
        let name = self.pick(random);
        let (append, truncate) = (random.below(2) == 0, random.below(4) == 0);
        let (create, new) = (random.below(3) > 0, random.below(2) == 0);
        let mut options = OpenOptions::new();
        options.read(true).write(true).append(append).mode(0o600);
        options
            .truncate(truncate && !append)
            .create(create)
            .create_new(create && new);
        self.told(format!("open {name} {options:?}"));
        let there = self.names.get(name).copied();
        let (must, kind) = match there {
            Some(_) if create && new => (Err(Errno::EXIST), ""),
            Some(_) if truncate && !append => (Ok(()), "truncating open"),
            Some(_) => (Ok(()), "open"),
            None if create && self.has_place(name) => (Ok(()), "create"),
            None => (Err(Errno::NOENT), ""),
        };
        let (kind, file) = self.judge(options.open(self.path(name)), must, kind);
        let Some(file) = file else { return kind };
        let inode = there.unwrap_or_else(|| self.make(name));
        if kind == "truncating open" {
            self.inode(inode).bytes.clear();
        }
        self.open.push(Open {
            file,
            inode,
            append,
        });
        kind
    }

    fn make(&mut self, name: &'static str) -> usize {
        self.made += 1;
        let new = Inode {
            bytes: Vec::new(),
            links: 1,
            mode: 0o600,
        };
        self.inodes.insert(self.made, new);
        self.names.insert(name, self.made);
        self.made
    }

    fn inode(&mut self, inode: usize) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("a file that is named or open")
    }

    fn closes(&mut self, random: &mut Random) -> &'static str {
        if self.open.is_empty() {
            return self.stats(random);
        }
        let at = random.below(self.open.len());
        let closed = self.open.swap_remove(at);
        self.told(format!("close #{}", closed.inode));
        self.forget(closed.inode);
        "close"
    }

    /// A file without names and users is gone.
    fn forget(&mut self, inode: usize) {
        if self.inode(inode).links == 0 && !self.open.iter().any(|open| open.inode == inode) {
            self.inodes.remove(&inode);
        }
    }
}
