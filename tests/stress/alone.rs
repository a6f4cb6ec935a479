//! What one process does to files that nobody else touches, and a model that says what each call must give: names,
//! errnos, link counts, sizes, modes, times, every byte.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{Advice, CWD, RenameFlags, fadvise, fdatasync};
use rustix::io::Errno;

use crate::crew::{Tally, names};
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
        let left = names(&self.dir);
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

    fn uses_open(&mut self, random: &mut Random) -> &'static str {
        if self.open.is_empty() {
            return self.opens(random);
        }
        let at = random.below(self.open.len());
        match random.below(10) {
            0..3 => self.reads(at, random.below(2) == 0),
            3..6 => self.writes(at, random),
            6 => self.truncates(at, random),
            7 => self.fstats(at),
            8 => self.maps(at, random),
            _ => {
                self.must(fdatasync(&self.open[at].file).map_err(Into::into));
                "fdatasync"
            }
        }
    }

    /// All of it, past the page cache perhaps.
    fn reads(&mut self, at: usize, afresh: bool) -> &'static str {
        let inode = self.open[at].inode;
        self.told(format!("read #{inode}, afresh: {afresh}"));
        if afresh {
            self.must(fadvise(&self.open[at].file, 0, None, Advice::DontNeed).map_err(Into::into));
        }
        let must = &self.inodes[&inode].bytes;
        let mut bytes = vec![0; must.len() + 1];
        let mut have = 0;
        loop {
            match self.must(self.open[at].file.read_at(&mut bytes[have..], have as u64)) {
                0 => break,
                n => have += n,
            }
        }
        bytes.truncate(have);
        self.compare(inode, &bytes);
        "read"
    }

    fn compare(&self, inode: usize, bytes: &[u8]) {
        let must = &self.inodes[&inode].bytes;
        if bytes != must {
            let differs = bytes.iter().zip(must).position(|(is, must)| is != must);
            let (is, must) = (bytes.len(), must.len());
            self.wrong(&format!(
                "#{inode} has {is} bytes, not {must}; the first that differs: {differs:?}"
            ));
        }
    }

    fn writes(&mut self, at: usize, random: &mut Random) -> &'static str {
        let Open { inode, append, .. } = self.open[at];
        let len = self.inode(inode).bytes.len();
        if len > MAX_LEN {
            return self.truncates(at, random);
        }
        let offset = if append {
            len
        } else {
            random.below(len + 5000)
        };
        let bytes = some_bytes(random, usize::MAX);
        self.told(format!(
            "write {} bytes at {offset} of #{inode}",
            bytes.len()
        ));
        let file = &self.open[at].file;
        match append {
            true => self.must(io::Write::write_all(&mut &*file, &bytes)),
            false => self.must(file.write_all_at(&bytes, offset as u64)),
        }
        put(&mut self.inode(inode).bytes, offset, &bytes);
        if append { "append" } else { "write" }
    }

    fn truncates(&mut self, at: usize, random: &mut Random) -> &'static str {
        let inode = self.open[at].inode;
        let len = random.below(self.inode(inode).bytes.len().min(MAX_LEN / 2) + 3000);
        self.told(format!("truncate #{inode} to {len}"));
        self.must(self.open[at].file.set_len(len as u64));
        self.inode(inode).bytes.resize(len, 0);
        "truncate"
    }

    fn fstats(&mut self, at: usize) -> &'static str {
        let inode = self.open[at].inode;
        self.told(format!("fstat #{inode}"));
        let seen = self.must(self.open[at].file.metadata());
        self.attributes(inode, &seen);
        "fstat"
    }

    fn attributes(&self, inode: usize, seen: &fs::Metadata) {
        let must = &self.inodes[&inode];
        let (is, must) = (
            (seen.size(), seen.nlink(), seen.mode() & 0o7777),
            (must.bytes.len() as u64, must.links, must.mode),
        );
        if is != must {
            self.wrong(&format!(
                "size, links, mode of #{inode} are {is:?}, not {must:?}"
            ));
        }
    }

    fn maps(&mut self, at: usize, random: &mut Random) -> &'static str {
        let inode = self.open[at].inode;
        let len = self.inode(inode).bytes.len();
        if len == 0 {
            return self.fstats(at);
        }
        let writes = random.below(2) == 0;
        self.told(format!("map #{inode}, write: {writes}"));
        #[expect(unsafe_code, reason = "mapping a file is")]
        // SAFETY: this process alone has the file, and nothing changes it while the map lives.
        let mut map = self.must(unsafe { memmap2::MmapMut::map_mut(&self.open[at].file) });
        self.compare(inode, &map);
        if !writes {
            return "map";
        }
        let offset = random.below(len);
        let bytes = some_bytes(random, len - offset);
        map[offset..offset + bytes.len()].copy_from_slice(&bytes);
        if random.below(2) == 0 {
            self.must(map.flush());
        }
        put(&mut self.inode(inode).bytes, offset, &bytes);
        "write through a map"
    }

    fn stats(&mut self, random: &mut Random) -> &'static str {
        let name = self.pick(random);
        self.told(format!("stat {name}"));
        let there = self.names.get(name).copied();
        let must = there.map(drop).ok_or(Errno::NOENT);
        let (kind, seen) = self.judge(fs::symlink_metadata(self.path(name)), must, "stat");
        if let (Some(inode), Some(seen)) = (there, seen) {
            self.attributes(inode, &seen);
        }
        kind
    }

    fn changes_attributes(&mut self, random: &mut Random) -> &'static str {
        let name = self.pick(random);
        let there = self.names.get(name).copied();
        let must = there.map(drop).ok_or(Errno::NOENT);
        if random.below(2) == 0 {
            let mode = [0o600, 0o640, 0o644, 0o660][random.below(4)];
            self.told(format!("chmod {name} {mode:o}"));
            let done = fs::set_permissions(self.path(name), Permissions::from_mode(mode));
            let (kind, _) = self.judge(done, must, "chmod");
            if let Some(inode) = there {
                self.inode(inode).mode = mode;
            }
            return kind;
        }
        let Some(at) = self.open.iter().position(|open| Some(open.inode) == there) else {
            return self.stats(random);
        };
        let since = Duration::new(
            random.below(2_000_000_000) as u64,
            random.below(1_000_000_000) as u32,
        );
        let time = SystemTime::UNIX_EPOCH + since;
        self.told(format!("utimens {name} {since:?}"));
        self.must(self.open[at].file.set_modified(time));
        let seen = self.must(fs::metadata(self.path(name)).and_then(|seen| seen.modified()));
        if seen != time {
            self.wrong(&format!("it was changed at {seen:?}"));
        }
        "utimens"
    }

    fn unlinks(&mut self, random: &mut Random) -> &'static str {
        let name = self.pick(random);
        self.told(format!("unlink {name}"));
        let there = self.names.remove(name);
        let must = there.map(drop).ok_or(Errno::NOENT);
        let (kind, _) = self.judge(fs::remove_file(self.path(name)), must, "unlink");
        if let Some(inode) = there {
            self.loses_a_name(inode);
        }
        kind
    }

    fn loses_a_name(&mut self, inode: usize) {
        self.inode(inode).links -= 1;
        self.forget(inode);
    }

    /// Two names that may be linked and renamed to each other.
    fn pick_two(&self, random: &mut Random) -> (&'static str, &'static str) {
        loop {
            let (from, to) = (self.pick(random), self.pick(random));
            let stays = |name: &str| !["plain", "other", "sub/plain"].contains(&name);
            // Managed files stay in their directory.
            let crosses = from.starts_with(SUB) != to.starts_with(SUB);
            if from != to && !(crosses && (stays(from) || stays(to))) {
                return (from, to);
            }
        }
    }

    fn links(&mut self, random: &mut Random) -> &'static str {
        let (from, to) = self.pick_two(random);
        let there = self.names.get(from).copied();
        let elsewhere = |(name, inode): (&&str, &usize)| {
            Some(*inode) == there && name.starts_with(SUB) != to.starts_with(SUB)
        };
        // LINK names the file, not its name: whether it is managed is told from any name that it has.
        if self.names.iter().any(elsewhere) {
            return self.stats(random);
        }
        self.told(format!("link {from} {to}"));
        let must = match there {
            None => Err(Errno::NOENT),
            Some(_) if !self.has_place(to) => Err(Errno::NOENT),
            Some(_) if self.names.contains_key(to) => Err(Errno::EXIST),
            Some(_) => Ok(()),
        };
        let done = fs::hard_link(self.path(from), self.path(to));
        let (kind, done) = self.judge(done, must, "link");
        if let (Some(inode), Some(())) = (there, done) {
            self.inode(inode).links += 1;
            self.names.insert(to, inode);
        }
        kind
    }

    fn renames(&mut self, random: &mut Random) -> &'static str {
        let (from, to) = self.pick_two(random);
        let flags = match random.below(4) {
            0 => RenameFlags::EXCHANGE,
            1 => RenameFlags::NOREPLACE,
            _ => RenameFlags::empty(),
        };
        self.told(format!("rename {from} {to} {flags:?}"));
        let (old, new) = (self.names.get(from).copied(), self.names.get(to).copied());
        let (must, kind) = match (old, new) {
            (None, _) => (Err(Errno::NOENT), ""),
            (Some(_), None) if flags == RenameFlags::EXCHANGE => (Err(Errno::NOENT), ""),
            (Some(_), None) if !self.has_place(to) => (Err(Errno::NOENT), ""),
            (Some(_), Some(_)) if flags == RenameFlags::NOREPLACE => (Err(Errno::EXIST), ""),
            (Some(_), Some(_)) if flags == RenameFlags::EXCHANGE => (Ok(()), "exchange"),
            (Some(_), Some(_)) => (Ok(()), "rename over"),
            (Some(_), None) if flags == RenameFlags::NOREPLACE => (Ok(()), "rename to no other"),
            (Some(_), None) => (Ok(()), "rename"),
        };
        let done = rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags);
        let (kind, done) = self.judge(done.map_err(Into::into), must, kind);
        if done.is_some() {
            self.renamed((from, old), (to, new), flags);
        }
        kind
    }

    fn renamed(
        &mut self,
        (from, old): (&'static str, Option<usize>),
        (to, new): (&'static str, Option<usize>),
        flags: RenameFlags,
    ) {
        // Two names of one file both stay.
        let (Some(old), true) = (old, old != new) else {
            return;
        };
        self.names.insert(to, old);
        match new {
            Some(new) if flags == RenameFlags::EXCHANGE => drop(self.names.insert(from, new)),
            Some(new) => {
                self.names.remove(from);
                self.loses_a_name(new);
            }
            None => drop(self.names.remove(from)),
        }
    }

    fn lists(&mut self) -> &'static str {
        self.told("list".to_owned());
        let below = |name: &&&str| name.starts_with("sub/");
        let mut must: Vec<String> = self
            .names
            .keys()
            .filter(|name| !below(name))
            .map(|name| (*name).to_owned())
            .collect();
        must.extend(self.has_sub.then(|| SUB.to_owned()));
        must.sort();
        self.listed(&names(&self.dir), &must);
        if self.has_sub {
            let must: Vec<String> = self
                .names
                .keys()
                .filter(below)
                .map(|name| name[4..].to_owned())
                .collect();
            self.listed(&names(&self.path(SUB)), &must);
        }
        "list"
    }

    fn listed(&self, is: &[String], must: &[String]) {
        if is != must {
            self.wrong(&format!("there are {is:?}, not {must:?}"));
        }
    }

    fn directory(&mut self, random: &mut Random) -> &'static str {
        let makes = random.below(3) > 0;
        self.told(format!("{} {SUB}", if makes { "mkdir" } else { "rmdir" }));
        let path = self.path(SUB);
        let full = self.names.keys().any(|name| name.starts_with("sub/"));
        let (done, must, kind) = match makes {
            true if self.has_sub => (fs::create_dir(&path), Err(Errno::EXIST), ""),
            true => (fs::create_dir(&path), Ok(()), "mkdir"),
            false if full => (fs::remove_dir(&path), Err(Errno::NOTEMPTY), ""),
            false if self.has_sub => (fs::remove_dir(&path), Ok(()), "rmdir"),
            false => (fs::remove_dir(&path), Err(Errno::NOENT), ""),
        };
        let (kind, done) = self.judge(done, must, kind);
        if done.is_some() {
            self.has_sub = makes;
        }
        kind
    }
}

/// One byte at least, mostly few, `most` at most.
fn some_bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let longest = [100, 5000, 20_000][random.below(3)];
    let len = most.min(1 + random.below(longest));
    let first = random.below(256);
    (first..first + len).map(|n| (n % 251) as u8).collect()
}

fn put(into: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if into.len() < offset + bytes.len() {
        into.resize(offset + bytes.len(), 0);
    }
    into[offset..offset + bytes.len()].copy_from_slice(bytes);
}
