//! A host of one contestant: its filesystem, and a stock Dovecot whose list index is there, with users and folders.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::session::User;
use crate::contestant::{Contestant, DIRECT, LAYOUT, LISTINDEXFS, Talk};
use crate::place::Owner;
use crate::running::Running;
use crate::support::{Config, Dovecot, GID, Lab, UID};
use crate::users;

/// Whose the mail is.
const MAIL: Owner = Owner { uid: UID, gid: GID };

/// The fields are dropped in this order: sessions end before their filesystem, and all before its directories.
pub struct Host {
    pub users: Vec<User>,
    pub dovecot: Dovecot,
    pub running: Running,
    _lab: Lab,
}

impl Host {
    /// Starts filesystem and Dovecot, and makes the users.
    pub fn start(
        contestant: &Contestant,
        dir: &Path,
        part: &str,
        users: usize,
        talk: Talk,
    ) -> Result<Self> {
        let place = contestant.place(dir, part, MAIL)?;
        let names: Vec<String> = (0..users).map(|number| format!("user{number}")).collect();
        for name in &names {
            users::make_index_dir(&place.index, name, MAIL)?;
        }
        let lab = Lab::new();
        let running = Running::start(contestant, place, talk)?;
        let config = Config::new(&lab, contestant.name)
            .index_at(&format!("{}/{LAYOUT}", running.place.index.display()))
            .listindex(running.top())
            .set("mail_fsync", "always");
        let dovecot = config.start();
        let users = names
            .into_iter()
            .map(|name| User::make(&dovecot, name))
            .collect::<Result<_>>();
        let users = users.with_context(|| format!("failed to make users on {contestant}"))?;
        Ok(Self {
            users,
            dovecot,
            running,
            _lab: lab,
        })
    }

    /// Ends all. What Dovecot logged of plain tmpfs or listindexfs is a failure; of another it is told: its answers
    /// were right, or we would not be here.
    pub fn finish(mut self) -> Result<()> {
        let errors = self.dovecot.stop();
        let name = self.running.name;
        let Some(first) = errors.first() else {
            return Ok(());
        };
        ensure!(
            ![DIRECT, LISTINDEXFS].contains(&name),
            "Dovecot on {name} logged:\n{}",
            errors.join("\n")
        );
        println!(
            "note: Dovecot on {name} logged {} errors, the first being\n  {first}",
            errors.len()
        );
        Ok(())
    }
}
