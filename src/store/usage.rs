//! How much lies here of whom, and who was here last: what cleaning and eviction go by.
//!
//! One small entry for each user's directory, by its node: no names, no paths. What is written is added at once; what a
//! directory really holds is counted a moment later.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::Node;

/// The last of all nodes.
const LAST: Node = Node(u64::MAX);
/// Where the order of use begins.
pub const FIRST: (Stamp, Node) = (Stamp(0), Node(0));

/// A moment, milliseconds since 1970: the host's clock, since it is compared with the times of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl Stamp {
    /// This moment.
    pub fn now() -> Self {
        Stamp::at(SystemTime::now())
    }

    /// That of a file's time.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// That of a time as `stat(2)` has it.
    pub fn of(seconds: i64, nanoseconds: i64) -> Self {
        let millis = seconds
            .saturating_mul(1000)
            .saturating_add(nanoseconds / 1_000_000);
        Stamp(u64::try_from(millis).unwrap_or(0))
    }

    /// So long after.
    pub fn after(self, age: Duration) -> Self {
        Stamp(
            self.0
                .saturating_add(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// So long before.
    pub fn before(self, age: Duration) -> Self {
        Stamp(
            self.0
                .saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// What lies in a user's directory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What an eviction would remove: the list index and the record.
    pub managed: u64,
    /// What it would not.
    pub plain: u64,
}

impl Bytes {
    /// All of it.
    pub fn all(self) -> u64 {
        self.managed + self.plain
    }
}

/// A user's directory as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The directory.
    pub dir: Node,
    /// When the user last asked for his list index, or closed it.
    pub last: Stamp,
    /// What lies there.
    pub bytes: Bytes,
}

impl Kept {
    /// Where a walk in the order of use goes on after this one.
    pub fn mark(&self) -> (Stamp, Node) {
        (self.last, self.dir)
    }
}

/// All users' directories.
#[derive(Debug, Default)]
pub struct Usage {
    table: Mutex<Table>,
    /// Written since it was last counted, bytes.
    growing: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    users: HashMap<Node, (Stamp, Bytes)>,
    /// Those who have something to evict, who was here longest ago first.
    full: BTreeSet<(Stamp, Node)>,
    /// Directories without, likewise.
    bare: BTreeSet<(Stamp, Node)>,
    /// What lies in all of them, bytes.
    bytes: u64,
    /// What the worker before had counted, until all has been counted anew, bytes.
    inherited: u64,
    /// Whether the first walk has counted all; `None` while it is under way.
    walked: Option<bool>,
}

impl Table {
    fn set(&mut self, dir: Node, last: Stamp, bytes: Bytes) {
        self.remove(dir);
        self.users.insert(dir, (last, bytes));
        self.bytes += bytes.all();
        self.order(bytes).insert((last, dir));
    }

    fn remove(&mut self, dir: Node) -> Option<(Stamp, Bytes)> {
        let (last, bytes) = self.users.remove(&dir)?;
        self.bytes -= bytes.all();
        self.order(bytes).remove(&(last, dir));
        Some((last, bytes))
    }

    fn after(&self, order: &BTreeSet<(Stamp, Node)>, mark: (Stamp, Node)) -> Option<Kept> {
        let (last, dir) = *order
            .range((Bound::Excluded(mark), Bound::Unbounded))
            .next()?;
        let bytes = self.users.get(&dir)?.1;
        Some(Kept { dir, last, bytes })
    }

    fn order(&mut self, bytes: Bytes) -> &mut BTreeSet<(Stamp, Node)> {
        match bytes.managed {
            0 => &mut self.bare,
            _ => &mut self.full,
        }
    }
}

impl Usage {
    /// The user asks for his list index.
    pub fn used(&self, dir: Node, now: Stamp) {
        let mut table = self.table.lock();
        let bytes = table.users.get(&dir).map(|(_, bytes)| *bytes);
        table.set(dir, now, bytes.unwrap_or_default());
    }

    /// The user has closed his list index.
    pub fn left(&self, dir: Node, now: Stamp) {
        let mut table = self.table.lock();
        if let Some((_, bytes)) = table.users.get(&dir).copied() {
            table.set(dir, now, bytes);
        }
    }

    /// Nobody was here later than now, as who was here before the clock was set back seems to have been: he would never go.
    pub fn clock_is(&self, now: Stamp) {
        let mut table = self.table.lock();
        let later = (Bound::Excluded((now, LAST)), Bound::Unbounded);
        let ahead: Vec<_> = [&table.full, &table.bare]
            .into_iter()
            .flat_map(|order| order.range(later))
            .map(|(_, dir)| *dir)
            .collect();
        for dir in ahead {
            if let Some((_, bytes)) = table.users.get(&dir).copied() {
                table.set(dir, now, bytes);
            }
        }
    }

    /// What lies in the directory has been counted. When it is not known yet it was last used at `last`.
    pub fn counted(&self, dir: Node, last: Stamp, bytes: Bytes) {
        let mut table = self.table.lock();
        let last = table.users.get(&dir).map_or(last, |(known, _)| *known);
        table.set(dir, last, bytes);
    }

    /// Something grows by so many bytes, to be counted later.
    pub fn grows(&self, by: u64) {
        self.growing.fetch_add(by, Ordering::Relaxed);
    }

    /// So much of what grew has been counted.
    pub fn grown(&self, by: u64) {
        self.growing.fetch_sub(by, Ordering::Relaxed);
    }

    /// The user's list index and record have been removed.
    pub fn emptied(&self, dir: Node) {
        let mut table = self.table.lock();
        if let Some((last, Bytes { managed, plain })) = table.users.get(&dir).copied() {
            table.set(dir, last, Bytes { managed: 0, plain });
            table.inherited = table.inherited.saturating_sub(managed);
        }
    }

    /// The directory is gone.
    pub fn forget(&self, dir: Node) {
        let mut table = self.table.lock();
        if let Some((_, bytes)) = table.remove(dir) {
            table.inherited = table.inherited.saturating_sub(bytes.all());
        }
    }

    /// The worker before had counted so many bytes. They count until all has been counted anew: [`Usage::walked`].
    pub fn inherit(&self, bytes: u64) {
        self.table.lock().inherited = bytes;
    }

    /// The first walk through the backing is over: every directory has been counted by this worker, or not all could be.
    pub fn walked(&self, all: bool) {
        let mut table = self.table.lock();
        table.walked = Some(all);
        if all {
            table.inherited = 0;
        }
        // It has grown by doubling.
        table.users.shrink_to_fit();
    }

    /// Whether every directory has been counted; `None` while that is under way.
    pub fn is_walked(&self) -> Option<bool> {
        self.table.lock().walked
    }

    /// How many, of the next `most` after `mark` of those who have something to evict, were here at `before` at the latest;
    /// and where to go on, unless that was all.
    pub fn older(
        &self,
        before: Stamp,
        mark: (Stamp, Node),
        most: usize,
    ) -> (u64, Option<(Stamp, Node)>) {
        let table = self.table.lock();
        let range = (Bound::Excluded(mark), Bound::Included((before, LAST)));
        // One that is used meanwhile may have passed the end.
        let old = (mark < (before, LAST)).then(|| table.full.range(range).take(most));
        let (mut count, mut last) = (0, None);
        for mark in old.into_iter().flatten() {
            (count, last) = (count + 1, Some(*mark));
        }
        (count, last.filter(|_| count == most as u64))
    }

    /// What one user has, without what has not been counted yet, bytes.
    pub fn bytes_of(&self, dir: Node) -> u64 {
        self.get(dir).map_or(0, |kept| kept.bytes.all())
    }

    /// One user's entry.
    pub fn get(&self, dir: Node) -> Option<Kept> {
        let (last, bytes) = self.table.lock().users.get(&dir).copied()?;
        Some(Kept { dir, last, bytes })
    }

    /// What all have, bytes.
    pub fn bytes(&self) -> u64 {
        let table = self.table.lock();
        table.bytes.max(table.inherited) + self.growing.load(Ordering::Relaxed)
    }

    /// How many have something to evict.
    pub fn users(&self) -> u64 {
        self.table.lock().full.len() as u64
    }

    /// How many directories are known.
    pub fn directories(&self) -> u64 {
        self.table.lock().users.len() as u64
    }

    /// Who has something to evict and was here longest ago.
    pub fn oldest(&self) -> Option<Kept> {
        self.after(FIRST)
    }

    /// Those who have something to evict in the order of use. Nothing is locked between two of them: who is used meanwhile goes
    /// to the end, and is met again.
    pub fn in_order(&self) -> impl Iterator<Item = Kept> + '_ {
        let mut mark = FIRST;
        std::iter::from_fn(move || {
            let next = self.after(mark)?;
            mark = next.mark();
            Some(next)
        })
    }

    fn after(&self, mark: (Stamp, Node)) -> Option<Kept> {
        let table = self.table.lock();
        table.after(&table.full, mark)
    }

    /// The next of the directories without, likewise.
    pub fn bare_after(&self, mark: (Stamp, Node)) -> Option<Kept> {
        let table = self.table.lock();
        table.after(&table.bare, mark)
    }

    /// The next of all directories in the order of use, after `mark`.
    pub fn any_after(&self, mark: (Stamp, Node)) -> Option<Kept> {
        let table = self.table.lock();
        let next = [&table.full, &table.bare].map(|order| table.after(order, mark));
        next.into_iter().flatten().min_by_key(Kept::mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Used(u64, u64),
        Counted(u64, u64, u64),
        Emptied(u64),
        Forget(u64),
        ClockIs(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let (dir, at, bytes) = (1..8u64, 1..100u64, 0..4u64);
        prop_oneof![
            (dir.clone(), at.clone()).prop_map(|(dir, at)| Op::Used(dir, at)),
            (dir.clone(), at.clone(), bytes)
                .prop_map(|(dir, at, bytes)| Op::Counted(dir, at, bytes)),
            dir.clone().prop_map(Op::Emptied),
            dir.prop_map(Op::Forget),
            at.prop_map(Op::ClockIs),
        ]
    }

    fn bytes_of(managed: u64) -> Bytes {
        Bytes { managed, plain: 0 }
    }

    fn walk(next: impl Fn((Stamp, Node)) -> Option<Kept>) -> Vec<(u64, u64, u64)> {
        let (mut mark, mut all) = ((Stamp(0), Node(0)), Vec::new());
        while let Some(kept) = next(mark) {
            all.push((kept.last.0, kept.dir.0, kept.bytes.managed));
            mark = kept.mark();
        }
        all
    }

    fn older(usage: &Usage, before: Stamp) -> u64 {
        let (mut mark, mut all) = (Some((Stamp(0), Node(0))), 0);
        while let Some(from) = mark {
            let (count, next) = usage.older(before, from, 2);
            (all, mark) = (all + count, next);
        }
        all
    }

    proptest! {
        #[test]
        fn it_says_what_a_plain_list_says(ops in prop::collection::vec(op(), 0..60)) {
            let (usage, mut plain) = (Usage::default(), HashMap::<u64, (u64, u64)>::new());
            for op in ops {
                match op {
                    Op::Used(dir, at) => {
                        let bytes = plain.get(&dir).map_or(0, |(_, bytes)| *bytes);
                        plain.insert(dir, (at, bytes));
                        usage.used(Node(dir), Stamp(at));
                    }
                    Op::Counted(dir, at, bytes) => {
                        let last = plain.get(&dir).map_or(at, |(last, _)| *last);
                        plain.insert(dir, (last, bytes));
                        usage.counted(Node(dir), Stamp(at), bytes_of(bytes));
                    }
                    Op::Emptied(dir) => {
                        plain.entry(dir).and_modify(|(_, bytes)| *bytes = 0);
                        usage.emptied(Node(dir));
                    }
                    Op::Forget(dir) => {
                        plain.remove(&dir);
                        usage.forget(Node(dir));
                    }
                    Op::ClockIs(at) => {
                        plain.values_mut().for_each(|(last, _)| *last = at.min(*last));
                        usage.clock_is(Stamp(at));
                    }
                }
                let all = plain.values().map(|(_, bytes)| bytes).sum::<u64>();
                prop_assert_eq!(usage.bytes(), all);
            }
            let mut sorted: Vec<_> = plain.iter().map(|(dir, (last, bytes))| (*last, *dir, *bytes)).collect();
            sorted.sort_unstable();
            prop_assert_eq!(walk(|mark| usage.any_after(mark)), sorted.clone());
            let (full, bare): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|(_, _, bytes)| *bytes > 0);
            prop_assert_eq!(usage.users(), full.len() as u64);
            let old = full.iter().filter(|(last, ..)| *last <= 50).count();
            prop_assert_eq!(older(&usage, Stamp(50)), old as u64);
            prop_assert_eq!(walk(|mark| usage.after(mark)), full);
            prop_assert_eq!(walk(|mark| usage.bare_after(mark)), bare);
        }
    }

    #[test]
    fn what_the_worker_before_counted_holds_until_all_is_counted() {
        let usage = Usage::default();
        usage.inherit(100);
        usage.counted(Node(1), Stamp(1), bytes_of(30));
        usage.grows(5);
        assert_eq!(usage.bytes(), 105);
        usage.emptied(Node(1));
        assert_eq!(usage.bytes(), 75);
        usage.walked(true);
        assert_eq!(usage.bytes(), 5);
        usage.grown(5);
        assert_eq!(usage.bytes(), 0);
    }

    #[test]
    fn who_has_plain_files_alone_has_nothing_to_evict() {
        let usage = Usage::default();
        let (managed, plain) = (7, 3);
        usage.counted(Node(1), Stamp(1), Bytes { managed, plain });
        usage.emptied(Node(1));
        assert_eq!((usage.oldest(), usage.users(), usage.bytes()), (None, 0, 3));
        let bare = usage.bare_after((Stamp(0), Node(0)));
        assert_eq!(bare.map(|kept| kept.dir), Some(Node(1)));
        assert_eq!(usage.directories(), 1);
    }
}
