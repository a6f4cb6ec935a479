//! What is done to an open file, its name known or not: every byte, size and link count is known.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::fs::{Advice, fadvise, fdatasync};

use super::{Alone, MAX_LEN, Open};
use crate::support::ops::Random;

impl Alone {
    pub(super) fn uses_open(&mut self, random: &mut Random) -> &'static str {
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
    pub(super) fn reads(&mut self, at: usize, afresh: bool) -> &'static str {
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

    pub(super) fn compare(&self, inode: usize, bytes: &[u8]) {
        let must = &self.inodes[&inode].bytes;
        if bytes != must {
            let differs = bytes.iter().zip(must).position(|(is, must)| is != must);
            let (is, must) = (bytes.len(), must.len());
            self.wrong(&format!(
                "#{inode} has {is} bytes, not {must}; the first that differs: {differs:?}"
            ));
        }
    }

    pub(super) fn writes(&mut self, at: usize, random: &mut Random) -> &'static str {
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

    pub(super) fn truncates(&mut self, at: usize, random: &mut Random) -> &'static str {
        let inode = self.open[at].inode;
        let len = random.below(self.inode(inode).bytes.len().min(MAX_LEN / 2) + 3000);
        self.told(format!("truncate #{inode} to {len}"));
        self.must(self.open[at].file.set_len(len as u64));
        self.inode(inode).bytes.resize(len, 0);
        "truncate"
    }

    pub(super) fn fstats(&mut self, at: usize) -> &'static str {
        let inode = self.open[at].inode;
        self.told(format!("fstat #{inode}"));
        let seen = self.must(self.open[at].file.metadata());
        self.attributes(inode, &seen);
        "fstat"
    }

    pub(super) fn attributes(&self, inode: usize, seen: &fs::Metadata) {
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

    pub(super) fn maps(&mut self, at: usize, random: &mut Random) -> &'static str {
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
