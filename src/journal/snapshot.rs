//! What a journal's entries come to, and the fewest entries that come to the same.

use std::collections::{HashMap, VecDeque};

use super::entry::{BLAME, Entry, Who, ghost};
use crate::user::ghosts::Ghost;
use crate::user::process::Process;

/// So many requests are remembered as done. Only those that were not answered are asked for again, as many as
/// there are threads at most.
const REMEMBERED: usize = 4096;

/// All that the next worker has to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The mount's instance.
    pub instance: u128,
    /// How often each node is open, and whose list index it belongs to.
    pub open: HashMap<u64, (u32, Option<Vec<u8>>)>,
    /// By user.
    pub users: HashMap<Vec<u8>, UserPart>,
    /// What an earlier mount left in the backing has been removed.
    pub swept: bool,
    /// How much lies in the backing, bytes.
    pub bytes: u64,
    /// The requests that were taken and not answered, where the kernel does not send them again.
    pub taken: HashMap<u64, Vec<u8>>,
    /// The requests that have opened a list index file and are not known to be answered: the file, and who asked.
    pub unanswered: HashMap<u64, (u64, Process)>,
    pub(super) done: VecDeque<u64>,
    pub(super) renames: VecDeque<(u64, u64)>,
    /// What each request is blamed with that workers have died with in their hands, and its user if he is known.
    pub(super) tried: HashMap<u64, (u32, Option<Vec<u8>>)>,
}

/// What is kept of one user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserPart {
    /// Those who have files open: how many handles, who, whether they wrote.
    pub holders: Vec<(u32, Who, bool)>,
    /// Fences that are due.
    pub due: Vec<Who>,
    ghosts: Vec<(Who, u8)>,
}

impl UserPart {
    /// The user's ghosts.
    pub fn ghosts(&self) -> impl Iterator<Item = Ghost> {
        self.ghosts.iter().map(ghost)
    }

    fn holder(&mut self, pid: u32) -> Option<usize> {
        let is = |(_, who, _): &(u32, Who, bool)| who.process().pid == pid;
        self.holders.iter().position(is)
    }

    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.due.is_empty() && self.ghosts.is_empty()
    }
}

impl Snapshot {
    /// Whether the request was carried out, though the kernel may not have been told.
    pub fn is_done(&self, unique: u64) -> bool {
        self.done.contains(&unique)
    }

    /// The node that a rename was to move, where its result alone does not tell whether it has.
    pub fn renamed(&self, unique: u64) -> Option<u64> {
        let of = |(request, _): &&(u64, u64)| *request == unique;
        self.renames.iter().find(of).map(|(_, node)| *node)
    }

    /// What a request is blamed with that workers which did not live long have begun again, and its user if he is known.
    pub fn tried(&self, unique: u64) -> (u32, Option<&[u8]>) {
        let tried = self.tried.get(&unique);
        tried.map_or((0, None), |(blame, user)| (*blame, user.as_deref()))
    }

    /// What tells of requests that are resent, and nothing else: the rest may be much.
    pub fn of_requests(&self) -> Self {
        Snapshot {
            done: self.done.clone(),
            renames: self.renames.clone(),
            tried: self.tried.clone(),
            ..Snapshot::default()
        }
    }

    /// Applies one more entry.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Instance(instance) => self.instance = instance,
            Entry::Opened { unique, node, by } => self.opened(unique, node, by),
            Entry::Released {
                unique,
                node,
                user,
                pid,
            } => self.released(unique, node, user, pid),
            Entry::Wrote { user, pid } => self.change(user, |part| {
                if let Some(at) = part.holder(pid) {
                    part.holders[at].2 = true;
                }
            }),
            Entry::Due { user, who } => self.users.entry(user).or_default().due.push(who),
            Entry::Fenced { user, who } => self.change(user, |part| {
                if let Some(at) = part.due.iter().position(|due| *due == who) {
                    part.due.remove(at);
                }
            }),
            Entry::Ghosts { user, ghosts } => self.change(user, |part| part.ghosts = ghosts),
            Entry::Renames { unique, node } => {
                remember(&mut self.renames, (unique, node));
            }
            Entry::Done { unique } => self.done(unique),
            Entry::Tried {
                unique,
                blame,
                user,
            } => {
                let tried = self.tried.entry(unique).or_default();
                tried.0 += blame;
                tried.1 = user.or(tried.1.take());
            }
            Entry::Survived => self.tried.clear(),
            Entry::Killed => self.tried.values_mut().for_each(|(blame, _)| {
                *blame = blame.saturating_sub(BLAME - 1);
            }),
            Entry::Swept => self.swept = true,
            Entry::Kept { bytes } => self.bytes = bytes,
            Entry::Taken { unique, request } => drop(self.taken.insert(unique, request)),
            Entry::Answered { unique } => {
                self.taken.remove(&unique);
                self.unanswered.remove(&unique);
            }
            Entry::Unanswered {
                unique,
                node,
                pid,
                birth,
            } => {
                let by = Process { pid, birth };
                self.unanswered.insert(unique, (node, by));
            }
            Entry::Open { node, times, user } => {
                self.open.insert(node, (times, user));
            }
            Entry::Holds {
                user,
                handles,
                who,
                wrote,
            } => {
                let part = self.users.entry(user).or_default();
                part.holders.push((handles, who, wrote));
            }
        }
    }

    fn opened(&mut self, unique: u64, node: u64, by: Option<(Vec<u8>, Who)>) {
        self.done(unique);
        let open = self.open.entry(node).or_default();
        open.0 += 1;
        let Some((user, who)) = by else { return };
        self.unanswered.insert(unique, (node, who.process()));
        open.1.get_or_insert_with(|| user.clone());
        let part = self.users.entry(user).or_default();
        match part.holder(who.process().pid) {
            Some(at) => part.holders[at].0 += 1,
            None => part.holders.push((1, who, false)),
        }
    }

    fn released(&mut self, unique: u64, node: u64, user: Option<Vec<u8>>, pid: u32) {
        self.done(unique);
        self.unanswered.remove(&unique); // closed for who was killed before he was answered
        if let Some(open) = self.open.get_mut(&node) {
            open.0 = open.0.saturating_sub(1);
            if open.0 == 0 {
                self.open.remove(&node);
            }
        }
        let Some(user) = user else { return };
        self.change(user, |part| {
            let Some(at) = part.holder(pid) else { return };
            part.holders[at].0 = part.holders[at].0.saturating_sub(1);
            if part.holders[at].0 == 0 {
                let (_, who, wrote) = part.holders.swap_remove(at);
                if wrote {
                    part.due.push(who);
                }
            }
        });
    }

    /// A user about whom nothing is known any more is forgotten.
    fn change(&mut self, user: Vec<u8>, change: impl FnOnce(&mut UserPart)) {
        let part = self.users.entry(user.clone()).or_default();
        change(part);
        if part.is_empty() {
            self.users.remove(&user);
        }
    }

    fn done(&mut self, unique: u64) {
        remember(&mut self.done, unique);
    }

    /// The fewest entries that come to this.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let done = self
            .done
            .iter()
            .map(|unique| Entry::Done { unique: *unique });
        let renames = self.renames.iter().map(|(unique, node)| Entry::Renames {
            unique: *unique,
            node: *node,
        });
        let tried = self
            .tried
            .iter()
            .map(|(unique, (blame, user))| Entry::Tried {
                unique: *unique,
                blame: *blame,
                user: user.clone(),
            });
        let taken = self.taken.iter().map(|(unique, request)| Entry::Taken {
            unique: *unique,
            request: request.clone(),
        });
        std::iter::once(Entry::Instance(self.instance))
            .chain(self.swept.then_some(Entry::Swept))
            .chain(std::iter::once(Entry::Kept { bytes: self.bytes }))
            .chain(taken)
            .chain(done)
            .chain(renames)
            .chain(tried)
            .chain(self.unanswered_entries())
            .chain(self.open_entries())
            .chain(
                self.users
                    .iter()
                    .flat_map(|(user, part)| part.entries(user)),
            )
    }

    fn unanswered_entries(&self) -> impl Iterator<Item = Entry> {
        self.unanswered
            .iter()
            .map(|(unique, (node, by))| Entry::Unanswered {
                unique: *unique,
                node: *node,
                pid: by.pid,
                birth: by.birth,
            })
    }

    /// The holders are counted apart from the nodes: which holder has which node open nobody asks.
    fn open_entries(&self) -> impl Iterator<Item = Entry> {
        self.open.iter().map(|(node, (times, user))| Entry::Open {
            node: *node,
            times: *times,
            user: user.clone(),
        })
    }
}

impl UserPart {
    fn entries(&self, user: &[u8]) -> Vec<Entry> {
        let user = || user.to_vec();
        let holders = self
            .holders
            .iter()
            .map(|(handles, who, wrote)| Entry::Holds {
                user: user(),
                handles: *handles,
                who: who.clone(),
                wrote: *wrote,
            });
        let due = self.due.iter().map(|who| Entry::Due {
            user: user(),
            who: who.clone(),
        });
        let ghosts = (!self.ghosts.is_empty()).then(|| Entry::Ghosts {
            user: user(),
            ghosts: self.ghosts.clone(),
        });
        holders.chain(due).chain(ghosts).collect()
    }
}

fn remember<T>(requests: &mut VecDeque<T>, request: T) {
    requests.push_back(request);
    if requests.len() > REMEMBERED {
        requests.pop_front();
    }
}
