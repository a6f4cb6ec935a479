//! All users about whom something is known; the others cost nothing.

use std::collections::HashMap;
use std::sync::Arc;

use dashmap::DashMap;

use super::state::{Inner, UserState};
use crate::journal::{Journal, Snapshot};
use crate::template::User;

/// All users about whom something is known.
#[derive(Debug, Default)]
pub struct Users {
    states: DashMap<User, Arc<UserState>>,
    journal: Arc<Journal>,
}

impl Users {
    /// Nothing is known yet; what comes to be known is told to `journal`.
    pub fn new(journal: Arc<Journal>) -> Self {
        Users {
            states: DashMap::new(),
            journal,
        }
    }

    /// Takes over what an earlier worker knew. A name that the layout does not know any more has no files here. Gives the
    /// states by name: from a name to a user is a long way, and everybody waits meanwhile.
    pub(super) fn restore<'a>(
        &self,
        left: &'a Snapshot,
        named: impl Fn(&[u8]) -> Option<User>,
    ) -> HashMap<&'a [u8], Arc<UserState>> {
        let mut states = HashMap::with_capacity(left.users.len());
        for (name, part) in &left.users {
            let Some(user) = named(name) else {
                log::error!("{:?}: the layout has no place for him", name.escape_ascii());
                continue;
            };
            let state = self.get(&user);
            state.restore(part);
            states.insert(name.as_slice(), state);
        }
        states
    }

    /// The user's state.
    pub fn get(&self, user: &User) -> Arc<UserState> {
        if let Some(state) = self.states.get(user) {
            return Arc::clone(&state);
        }
        let state = self
            .states
            .entry(user.clone())
            .or_insert_with(|| Arc::new(UserState::new(user.clone(), Arc::clone(&self.journal))));
        Arc::clone(&state)
    }

    /// The user's state, if there is one.
    pub(super) fn known(&self, user: &User) -> Option<Arc<UserState>> {
        self.states.get(user).map(|state| Arc::clone(&state))
    }

    /// Forgets users about whom nothing is known any more.
    pub fn sweep(&self) {
        self.states
            .retain(|_, state| Arc::strong_count(state) > 1 || !state.is_idle());
    }

    /// How many users something is known about.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Those for whom `wanted` holds.
    pub fn matching(&self, wanted: impl Fn(&Inner) -> bool) -> Vec<Arc<UserState>> {
        let states = self.states.iter().filter(|state| wanted(&state.lock()));
        states.map(|state| Arc::clone(&state)).collect()
    }
}
