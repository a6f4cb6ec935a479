//! What a daemon prints of each request: libfuse's `unique: 6, opcode: LOOKUP (1), …` and fuser's
//! `FUSE(  6) ino 0x0000000000000001 LOOKUP name …`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The printed requests of one daemon, read on from where the last reading ended.
pub struct Printed {
    path: PathBuf,
    at: u64,
}

impl Printed {
    pub fn of(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            at: 0,
        }
    }

    /// Counts the requests printed since the last call, by opcode. A line that has no end yet is left for the next.
    pub fn more(&mut self) -> Result<BTreeMap<String, u32>> {
        let mut file = File::open(&self.path)
            .with_context(|| format!("failed to open {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        self.at += whole as u64;
        let mut counts = BTreeMap::new();
        for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
            if let Some(opcode) = opcode(line) {
                *counts.entry(opcode.to_owned()).or_insert(0) += 1;
            }
        }
        Ok(counts)
    }
}

fn opcode(line: &str) -> Option<&str> {
    let after = match line.split_once("opcode: ") {
        Some((_, after)) => after,
        None => {
            line.split_once("FUSE(")?
                .1
                .split_once(") ino 0x")?
                .1
                .split_once(' ')?
                .1
        }
    };
    after.split_ascii_whitespace().next()
}
