//! Random changes of a mailbox that are possible in its present state, from a seed.
use super::model::{Model, Op};
use std::collections::BTreeSet;
use std::time::SystemTime;

/// How many folders there may be. Else there are 40 after 200 rounds, and on real NFS a session that lists
/// them anew takes ten seconds.
const MOST: usize = 8;

/// splitmix64: small, and the same everywhere.
pub struct Random {
    /// What the sequence began with. A test names it when it fails.
    pub seed: u64,
    state: u64,
    names: usize,
    /// Names of folders that were deleted, and have not been renamed since.
    deleted: BTreeSet<String>,
}

impl Random {
    /// From `LISTINDEXFS_SEED`, so that a failure can be repeated, or else from the clock.
    pub fn new() -> Self {
        let clock = || {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(1, |t| t.as_secs() ^ u64::from(t.subsec_nanos()) << 32)
        };
        let given = std::env::var("LISTINDEXFS_SEED")
            .ok()
            .map(|text| text.parse().expect("LISTINDEXFS_SEED is a number"));
        Self::from_seed(given.unwrap_or_else(clock))
    }

    /// From this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self {
            seed,
            state: seed,
            names: 0,
            deleted: BTreeSet::new(),
        }
    }

    /// Less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() {
            None
        } else {
            all.get(self.below(all.len()))
        }
    }

    /// A change that can be made now. Half of them change folders, of which there are [`MOST`] at most, half messages.
    pub fn op(&mut self, model: &Model) -> Op {
        let folders: Vec<&String> = model
            .folders
            .keys()
            .filter(|name| *name != "INBOX")
            .collect();
        let mails: Vec<(&String, u32, bool)> = model
            .folders
            .iter()
            .flat_map(|(name, f)| f.mails.iter().map(move |(uid, seen)| (name, *uid, *seen)))
            .collect();
        let leaves: Vec<&String> = folders
            .iter()
            .copied()
            .filter(|n| !folders.iter().any(|m| m.starts_with(&format!("{n}/"))))
            .collect();
        let choice = match self.below(8) {
            2 | 3 if folders.len() >= MOST => 0,
            other => other,
        };
        let op = match choice {
            0 if folders.len() > 3 => self.pick(&leaves).map(|name| Op::Delete((*name).clone())),
            1 => self
                .pick(&folders)
                .map(|name| (*name).clone())
                .map(|name| Op::Rename(name, self.name(model))),
            2 => Some(Op::Create(self.name(model))),
            3 => self
                .pick(&folders)
                .map(|name| (*name).clone())
                .filter(|name| !name.contains('/'))
                .map(|name| Op::Create(format!("{name}/{}", self.name(model)))),
            4 => self
                .pick(&mails)
                .map(|(name, uid, seen)| Op::Seen((*name).clone(), *uid, !seen)),
            5 => self
                .pick(&mails)
                .map(|(name, uid, _)| Op::Expunge((*name).clone(), *uid)),
            _ => None,
        };
        match &op {
            Some(Op::Delete(name)) => drop(self.deleted.insert(leaf(name).to_owned())),
            Some(Op::Rename(name, _)) => drop(self.deleted.remove(leaf(name))),
            _ => {}
        }
        op.unwrap_or_else(|| {
            let seen = self.below(3) == 0;
            let name = self.pick(&folders).map_or("INBOX", |name| name.as_str());
            Op::Append(name.to_owned(), seen)
        })
    }

    /// A name that no folder has now. One in four is that of a folder deleted before: it must not be taken for the
    /// old one. Not of one that was renamed: stock 2.3.19, on any filesystem, gives a folder that takes its
    /// place in the same session the counts of the old one.
    fn name(&mut self, model: &Model) -> String {
        if self.below(4) == 0 {
            let free = |old: &&String| !model.folders.keys().any(|name| leaf(name) == old.as_str());
            let old: Vec<String> = self.deleted.iter().filter(free).cloned().collect();
            if let Some(old) = self.pick(&old) {
                return old.clone();
            }
        }
        self.names += 1;
        format!("box{}", self.names - 1)
    }
}

fn leaf(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
