//! One state for all that differ in names only: sessions are sorted, and changes that are alike are one.

use super::state::{At, Changes, Fate, KINDS, Life, Session, State};

impl State {
    /// One state for all that differ in names only.
    pub fn canonical(mut self) -> Self {
        let idle = self.hosts.iter_mut().filter(|h| h.run.at == At::Idle);
        idle.for_each(|h| h.index_gone = false);
        self.sort_sessions();
        self.merge_changes();
        self
    }

    /// By exchanging neighbours: most often they are sorted already.
    fn sort_sessions(&mut self) {
        let key = |x: &Session| (x.at == Life::Free, *x);
        for end in (1..self.size.1).rev() {
            for n in 0..end {
                if key(&self.sessions[n]) > key(&self.sessions[n + 1]) {
                    self.exchange_sessions(n as u8, n as u8 + 1);
                }
            }
        }
    }

    fn exchange_sessions(&mut self, a: u8, b: u8) {
        self.sessions.swap(a.into(), b.into());
        for fate in &mut self.fates[..self.kinds.into()] {
            *fate = match *fate {
                Fate::Session(n) if n == a => Fate::Session(b),
                Fate::Session(n) if n == b => Fate::Session(a),
                fate => fate,
            };
        }
    }

    /// Forgets changes that every list index contains or that are never promised, and keeps one of those that are alike.
    fn merge_changes(&mut self) {
        if self.kinds == 0 {
            return;
        }
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
        self.fates[..self.kinds.into()].fill(Fate::Promised);
        for (fate, (key, _)) in self.fates.iter_mut().zip(&kept[..count]) {
            *fate = key.1;
        }
        self.kinds = count as u8;
    }

    /// In which sets a change is.
    fn members(&self, n: usize) -> u32 {
        let mut members = 0;
        let mut add = |list: Changes| members = members << 1 | u32::from(list >> n & 1);
        add(self.log.unwrap_or_default());
        for host in &self.hosts[..self.size.0] {
            add(host.local.unwrap_or_default());
            add(host.run.need);
        }
        for session in &self.sessions[..self.size.1] {
            add(session.need);
            add(session.built);
        }
        members
    }

    fn each_set(&mut self, mut f: impl FnMut(&mut Changes)) {
        self.log.iter_mut().for_each(&mut f);
        for host in &mut self.hosts[..self.size.0] {
            host.local.iter_mut().for_each(&mut f);
            f(&mut host.run.need);
        }
        for session in &mut self.sessions[..self.size.1] {
            f(&mut session.need);
            f(&mut session.built);
        }
    }
}
