//! What userdb has said, for a while: bounded in number and age. Who was asked for longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::Found;
use crate::template::User;

/// An answer serves for so long; then userdb is asked anew.
pub const AGE: Duration = Duration::from_secs(600);
/// That a user is unknown, or that his INDEX is not told, serves for so long: somebody is mending it.
pub const NEGATIVE_AGE: Duration = Duration::from_secs(5);
/// So many users are remembered, some 300 bytes each.
const MOST: usize = 100_000;

/// The answers.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<User, Entry>,
    /// By last use.
    order: BTreeMap<u64, User>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    found: Found,
    asked: Instant,
    /// It is to be asked anew before it serves again.
    doubted: bool,
    used: u64,
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        let age = if self.found.is_ok() {
            AGE
        } else {
            NEGATIVE_AGE
        };
        !self.doubted && now.duration_since(self.asked) < age
    }
}

impl Cache {
    /// The answer about this user, if it still serves.
    pub fn fresh(&mut self, user: &User, now: Instant) -> Option<Found> {
        self.touch(user);
        let entry = self.entries.get(user)?;
        entry.is_fresh(now).then(|| entry.found.clone())
    }

    /// The answer about this user, however old, if it tells where his INDEX was.
    pub fn any(&self, user: &User) -> Option<Found> {
        let entry = self.entries.get(user)?;
        entry.found.is_ok().then(|| entry.found.clone())
    }

    /// Remembers an answer.
    pub fn put(&mut self, user: &User, found: Found, now: Instant) {
        self.uses += 1;
        let entry = Entry {
            found,
            asked: now,
            doubted: false,
            used: self.uses,
        };
        self.order.insert(self.uses, user.clone());
        if let Some(old) = self.entries.insert(user.clone(), entry) {
            self.order.remove(&old.used);
        }
        while self.entries.len() > MOST {
            match self.order.pop_first() {
                Some((_, longest_ago)) => self.entries.remove(&longest_ago),
                None => return,
            };
        }
    }

    /// The answer about this user is to be asked for anew, unless that was done a moment ago.
    pub fn doubt(&mut self, user: &User, now: Instant) {
        if let Some(entry) = self.entries.get_mut(user) {
            entry.doubted |= now.duration_since(entry.asked) >= NEGATIVE_AGE;
        }
    }

    fn touch(&mut self, user: &User) {
        let Some(entry) = self.entries.get_mut(user) else {
            return;
        };
        self.uses += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.uses, user.clone());
        entry.used = self.uses;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::dir::{Base, IndexPath};
    use crate::template::Layout;
    use crate::userdb::Error;
    use std::sync::Arc;

    fn user(name: &str) -> User {
        let layout = Layout::parse("%u").expect("a layout");
        layout.user_named(name.as_bytes()).expect("a user")
    }

    fn at(path: &str) -> Found {
        Ok(Arc::new(IndexPath {
            base: "/".into(),
            rest: path.into(),
            base_is: Base::Users,
        }))
    }

    #[test]
    fn an_answer_serves_for_its_age_and_is_kept_for_worse_times() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let alice = user("alice");
        assert_eq!(cache.fresh(&alice, now), None);
        cache.put(&alice, at("a"), now);
        assert_eq!(cache.fresh(&alice, now + AGE - NEGATIVE_AGE), Some(at("a")));
        assert_eq!(cache.fresh(&alice, now + AGE), None);
        assert_eq!(cache.any(&alice), Some(at("a")));
        cache.put(&alice, at("b"), now + AGE);
        assert_eq!(cache.fresh(&alice, now + AGE), Some(at("b")));
    }

    #[test]
    fn that_there_is_no_such_user_serves_for_a_moment_and_never_longer() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let alice = user("alice");
        cache.put(&alice, Err(Error::NotFound), now);
        assert_eq!(cache.fresh(&alice, now), Some(Err(Error::NotFound)));
        assert_eq!(cache.fresh(&alice, now + NEGATIVE_AGE), None);
        assert_eq!(cache.any(&alice), None);
    }

    #[test]
    fn a_doubted_answer_serves_only_in_worse_times() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let alice = user("alice");
        cache.put(&alice, at("a"), now);
        cache.doubt(&alice, now);
        assert_eq!(cache.fresh(&alice, now), Some(at("a")), "asked just now");
        cache.doubt(&alice, now + NEGATIVE_AGE);
        assert_eq!(cache.fresh(&alice, now + NEGATIVE_AGE), None);
        assert_eq!(cache.any(&alice), Some(at("a")));
        cache.doubt(&user("bob"), now);
    }

    #[test]
    fn who_was_asked_for_longest_ago_goes_first() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let users: Vec<_> = (0..MOST + 3).map(|n| user(&n.to_string())).collect();
        for user in &users[..MOST] {
            cache.put(user, at("x"), now);
        }
        assert!(cache.fresh(&users[0], now).is_some());
        cache.put(&users[1], at("y"), now);
        for user in &users[MOST..] {
            cache.put(user, at("x"), now);
        }
        let gone = |user: &User| cache.any(user).is_none();
        let gone: Vec<_> = (0..users.len()).filter(|n| gone(&users[*n])).collect();
        assert_eq!(gone, [2, 3, 4]);
        assert_eq!((cache.entries.len(), cache.order.len()), (MOST, MOST));
    }
}
