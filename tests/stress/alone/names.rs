//! What is done to names: made, linked, renamed and removed, and told by listings.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{Alone, SUB};
use crate::crew::names;
use crate::support::ops::Random;

impl Alone {
    pub(super) fn stats(&mut self, random: &mut Random) -> &'static str {
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

    pub(super) fn changes_attributes(&mut self, random: &mut Random) -> &'static str {
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

    pub(super) fn unlinks(&mut self, random: &mut Random) -> &'static str {
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

    pub(super) fn loses_a_name(&mut self, inode: usize) {
        self.inode(inode).links -= 1;
        self.forget(inode);
    }

    /// Two names that may be linked and renamed to each other.
    pub(super) fn pick_two(&self, random: &mut Random) -> (&'static str, &'static str) {
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

    pub(super) fn links(&mut self, random: &mut Random) -> &'static str {
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

    pub(super) fn renames(&mut self, random: &mut Random) -> &'static str {
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

    pub(super) fn renamed(
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

    pub(super) fn lists(&mut self) -> &'static str {
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

    pub(super) fn listed(&self, is: &[String], must: &[String]) {
        if is != must {
            self.wrong(&format!("there are {is:?}, not {must:?}"));
        }
    }

    pub(super) fn directory(&mut self, random: &mut Random) -> &'static str {
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
