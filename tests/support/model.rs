//! What a user's folders must look like: a trivial model that is changed along with the real mailbox.
use super::imap::{Counts, Imap, ListStatus};
use super::message;
use std::collections::BTreeMap;

/// One change of a mailbox.
#[derive(Clone, Debug)]
pub enum Op {
    /// A new folder.
    Create(String),
    /// A folder and all in it goes.
    Delete(String),
    /// A folder, with those below it, gets another name.
    Rename(String, String),
    /// A new message, seen or not.
    Append(String, bool),
    /// A message is seen now, or not.
    Seen(String, u32, bool),
    /// A message goes.
    Expunge(String, u32),
}

impl Op {
    /// The IMAP command that does it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "CREATE",
            Self::Delete(_) => "DELETE",
            Self::Rename(..) => "RENAME",
            Self::Append(..) => "APPEND",
            Self::Seen(..) => "STORE",
            Self::Expunge(..) => "EXPUNGE",
        }
    }
}

/// One folder.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Not known before it was seen once; never changes then.
    uidvalidity: Option<u32>,
    uidnext: u32,
    /// UID to "seen".
    pub mails: BTreeMap<u32, bool>,
}

impl Default for Folder {
    fn default() -> Self {
        Self {
            uidvalidity: None,
            uidnext: 1,
            mails: BTreeMap::new(),
        }
    }
}

/// The folders of one user.
#[derive(Clone, Debug)]
pub struct Model {
    /// By name.
    pub folders: BTreeMap<String, Folder>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            folders: BTreeMap::from([("INBOX".to_owned(), Folder::default())]),
        }
    }
}

impl Model {
    /// A user who has only an empty INBOX.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does `op` through a session, and here.
    pub fn apply(&mut self, op: &Op, imap: &mut Imap) {
        match op {
            Op::Create(name) => {
                imap.create(name);
                self.folders.insert(name.clone(), Folder::default());
            }
            Op::Delete(name) => {
                imap.delete(name);
                self.folders.remove(name);
            }
            Op::Rename(from, to) => {
                imap.rename(from, to);
                self.rename(from, to);
            }
            Op::Append(name, seen) => {
                let ids = imap.append(name, if *seen { "\\Seen" } else { "" }, &message("model"));
                self.arrived(name, *seen, ids);
            }
            Op::Seen(name, uid, seen) => {
                imap.select(name);
                imap.store(*uid, if *seen { "+FLAGS" } else { "-FLAGS" }, "\\Seen");
                imap.unselect();
                self.folder(name).mails.insert(*uid, *seen);
            }
            Op::Expunge(name, uid) => {
                imap.select(name);
                imap.expunge(*uid);
                imap.unselect();
                self.folder(name).mails.remove(uid);
            }
        }
    }

    /// Notes a message that was delivered otherwise, as by LMTP.
    pub fn delivered(&mut self, name: &str) {
        let folder = self.folder(name);
        folder.mails.insert(folder.uidnext, false);
        folder.uidnext += 1;
    }

    fn arrived(&mut self, name: &str, seen: bool, (uidvalidity, uid): (u32, u32)) {
        let folder = self.folder(name);
        assert_eq!(
            *folder.uidvalidity.get_or_insert(uidvalidity),
            uidvalidity,
            "UIDVALIDITY of {name} changed"
        );
        assert_eq!(uid, folder.uidnext, "UID of the message appended to {name}");
        folder.mails.insert(uid, seen);
        folder.uidnext = uid + 1;
    }

    fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moved: Vec<String> = self
            .folders
            .keys()
            .filter(|n| *n == from || n.starts_with(&below))
            .cloned()
            .collect();
        for name in moved {
            if let Some(folder) = self.folders.remove(&name) {
                self.folders
                    .insert(format!("{to}{}", &name[from.len()..]), folder);
            }
        }
    }

    fn folder(&mut self, name: &str) -> &mut Folder {
        self.folders
            .get_mut(name)
            .unwrap_or_else(|| panic!("the model has no folder {name}"))
    }

    /// Compares what a session was told; learns UIDVALIDITY where it was not known. All differences, if any.
    pub fn check(&mut self, seen: &ListStatus) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (name, folder) in &mut self.folders {
            let counts = seen.get(name).copied().flatten();
            let expected = folder.counts(counts.map_or(0, |c| c.uidvalidity));
            if counts == Some(expected) {
                folder.uidvalidity = Some(expected.uidvalidity);
            } else {
                wrong.push(format!("{name}: {counts:?}, but it is {expected:?}"));
            }
        }
        let strange = seen.keys().filter(|name| !self.folders.contains_key(*name));
        wrong.extend(strange.map(|name| format!("{name}: it is not there any more")));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// Panics unless a session was told what is true.
    pub fn assert_matches(&mut self, seen: &ListStatus, when: &str) {
        if let Err(wrong) = self.check(seen) {
            panic!("stale or wrong answer {when}:\n{wrong}");
        }
    }
}

impl Folder {
    fn counts(&self, seen_uidvalidity: u32) -> Counts {
        Counts {
            messages: u32::try_from(self.mails.len()).unwrap_or(u32::MAX),
            uidnext: self.uidnext,
            uidvalidity: self.uidvalidity.unwrap_or(seen_uidvalidity),
            unseen: u32::try_from(self.mails.values().filter(|seen| !**seen).count())
                .unwrap_or(u32::MAX),
        }
    }
}
