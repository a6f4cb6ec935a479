//! The kinds of IMAP session. Each compares every answer with what it must be: an old count is a failure, not a fast answer.

use anyhow::{Context, Result, ensure};

use crate::support::{Dovecot, Imap, message};

/// Folders of each user beside INBOX, which is not in the list index.
pub const FOLDERS: usize = 30;

/// A kind of session.
pub struct Kind {
    pub name: &'static str,
    pub run: fn(&Dovecot, &mut User) -> Result<()>,
}

pub const KINDS: &[Kind] = &[
    Kind {
        name: "reading",
        run: reading,
    },
    Kind {
        name: "appending",
        run: appending,
    },
];

/// A user, and how many messages each folder must have.
pub struct User {
    name: String,
    messages: [u32; FOLDERS],
    turn: usize,
}

impl User {
    /// A user with his folders, all of them counted in the list index.
    pub fn make(dovecot: &Dovecot, name: String) -> Result<Self> {
        let mut user = Self {
            name,
            messages: [0; FOLDERS],
            turn: 0,
        };
        let mut imap = dovecot.login(&user.name);
        for number in 0..FOLDERS {
            imap.create(&folder(number));
        }
        user.check(&mut imap)?;
        imap.logout();
        appending(dovecot, &mut user)?;
        reading(dovecot, &mut user)?;
        Ok(user)
    }

    fn check(&self, imap: &mut Imap) -> Result<()> {
        let seen = imap.list_status();
        ensure!(
            seen.len() == FOLDERS + 1,
            "{}: {} folders listed",
            self.name,
            seen.len()
        );
        for (number, expected) in self.messages.iter().enumerate() {
            let name = folder(number);
            let counts = seen.get(&name).copied().flatten();
            let counts = counts.with_context(|| format!("{}: no STATUS of {name}", self.name))?;
            let told = counts.messages;
            ensure!(
                told == *expected,
                "{}: {name} has {expected} messages, told {told}",
                self.name
            );
        }
        Ok(())
    }
}

fn folder(number: usize) -> String {
    format!("box{number:03}")
}

fn reading(dovecot: &Dovecot, user: &mut User) -> Result<()> {
    let mut imap = dovecot.login(&user.name);
    user.check(&mut imap)?;
    imap.logout();
    Ok(())
}

/// The next session of the user is told the new count, or fails.
fn appending(dovecot: &Dovecot, user: &mut User) -> Result<()> {
    let mut imap = dovecot.login(&user.name);
    user.check(&mut imap)?;
    user.turn = (user.turn + 1) % FOLDERS;
    imap.append(&folder(user.turn), "", &message("bench"));
    user.messages[user.turn] += 1;
    imap.logout();
    Ok(())
}
