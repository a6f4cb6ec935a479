//! One state for all that differ in names only: sessions are sorted, and changes that are alike are one.

use super::state::{At, Changes, Fate, KINDS, Life, SESSIONS, State};

impl State {
    /// One state for all that differ in names only.
    pub fn canonical(mut self) -> Self {
        let idle = self.hosts.iter_mut().filter(|h| h.run.at == At::Idle);
        idle.for_each(|h| h.index_gone = false);
        self.sort_sessions();
        self.merge_changes();
        self
    }

    fn sort_sessions(&mut self) {
        let old = self.sessions;
        let mut order: [usize; SESSIONS] = std::array::from_fn(|n| n);
        order.sort_by_key(|n| {
            let s = old[*n];
            (s.at == Life::Free, s)
        });
        let fates = self.fates;
        for (new, old_n) in order.into_iter().enumerate() {
            self.sessions[new] = old[old_n];
            for (fate, was) in self.fates.iter_mut().zip(fates) {
                if was == Fate::Session(old_n as u8) {
                    *fate = Fate::Session(new as u8);
                }
            }
        }
    }

    /// Forgets changes that every list index contains or that are never promised, and keeps one of those that are alike.
    fn merge_changes(&mut self) {
        let lists = self.hosts.iter().map(|h| h.local).chain([self.log]);
        let building = self.sessions.iter().filter(|x| x.at == Life::Building);
        let lists = lists.chain(building.map(|x| Some(x.built)));
        let everywhere = lists.flatten().fold(Changes::MAX, |all, list| all & list);
        let mut kept = [((0, Fate::Lost), 0); KINDS];
        let mut count = 0;
        for n in 0..usize::from(self.kinds) {
            if everywhere >> n & 1 == 1 || self.fates[n] == Fate::Lost {
                continue;
            }
            let key = (self.members(n), self.fates[n]);
            if !kept[..count].iter().any(|(other, _)| *other == key) {
                kept[count] = (key, n);
                count += 1;
            }
        }
        kept[..count].sort();
        let renamed = |list: Changes| {
            let kept = kept[..count].iter().enumerate();
            kept.fold(0, |new, (to, (_, from))| new | (list >> from & 1) << to)
        };
        self.each_set(|list| *list = renamed(*list));
        self.fates = [Fate::Promised; KINDS];
        for (to, (key, _)) in kept[..count].iter().enumerate() {
            self.fates[to] = key.1;
        }
        self.kinds = count as u8;
    }

    /// In which sets a change is.
    fn members(&self, n: usize) -> u32 {
        let mut members = 0;
        let mut copy = *self;
        copy.each_set(|list| members = members << 1 | u32::from(*list >> n & 1));
        members
    }

    fn each_set(&mut self, mut f: impl FnMut(&mut Changes)) {
        self.log.iter_mut().for_each(&mut f);
        for host in &mut self.hosts {
            host.local.iter_mut().for_each(&mut f);
            f(&mut host.run.need);
        }
        for session in &mut self.sessions {
            f(&mut session.need);
            f(&mut session.built);
        }
    }
}
