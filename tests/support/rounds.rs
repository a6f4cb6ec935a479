//! A user who moves between hosts while the mailbox changes: each session must be told the truth at once.
//! This does not care how the hosts keep their list indexes, so it tells a stale one as well.
use super::dovecot::Dovecot;
use super::model::{Model, Op};
use super::ops::Random;
use std::collections::BTreeMap;

/// A session that was told something wrong.
#[derive(Debug)]
pub struct Stale {
    /// In which round.
    pub round: usize,
    /// What was wrong, and how it came to it.
    pub story: String,
}

/// One user, several hosts.
pub struct Rounds<'a> {
    hosts: &'a [&'a Dovecot],
    user: &'a str,
    random: Random,
    model: Model,
    story: Vec<String>,
    tidy: bool,
    done: BTreeMap<&'static str, usize>,
    after: Option<After<'a>>,
}

/// What is done after a session on a host.
type After<'a> = Box<dyn Fn(usize) + 'a>;

impl<'a> Rounds<'a> {
    /// A user who has nothing yet.
    pub fn new(hosts: &'a [&'a Dovecot], user: &'a str) -> Self {
        Self {
            hosts,
            user,
            random: Random::new(),
            model: Model::new(),
            story: Vec::new(),
            tidy: false,
            done: BTreeMap::new(),
            after: None,
        }
    }

    /// A user who has these folders already.
    pub fn starting_with(mut self, model: Model) -> Self {
        self.model = model;
        self
    }

    /// No session of the user begins before the last one's process has ended. Without this they overlap now and then.
    pub fn tidy(mut self) -> Self {
        self.tidy = true;
        self
    }

    /// After each session `after` is called with the number of its host.
    pub fn after_each(mut self, after: impl Fn(usize) + 'a) -> Self {
        self.after = Some(Box::new(after));
        self
    }

    /// Does this many rounds: a session on another host than before, or now and then on the same, that lists
    /// all folders, makes a few changes, and lists them again.
    pub fn run(mut self, rounds: usize) -> Result<Model, Stale> {
        self.run_while(|round| round < rounds)?;
        Ok(self.model)
    }

    /// The same as long as `go_on` says of the next round; tells how many were done.
    pub fn run_while(&mut self, go_on: impl Fn(usize) -> bool) -> Result<usize, Stale> {
        let (mut host, mut round) = (0, 0);
        while go_on(round) {
            if self.random.below(4) > 0 {
                host = (host + 1) % self.hosts.len();
            }
            if let Err(wrong) = self.round(host) {
                let seed = self.random.seed;
                let story = format!(
                    "round {round}, LISTINDEXFS_SEED={seed}: {wrong}\nafter:\n{}",
                    self.story.join("\n")
                );
                return Err(Stale { round, story });
            }
            round += 1;
        }
        Ok(round)
    }

    /// How many changes of each kind were made.
    pub fn done(&self) -> &BTreeMap<&'static str, usize> {
        &self.done
    }

    fn round(&mut self, host: usize) -> Result<(), String> {
        let mut imap = self.hosts[host].login(self.user);
        self.story.push(format!("host {host}: login"));
        self.model
            .check(&imap.list_status())
            .map_err(|wrong| format!("at login on host {host}:\n{wrong}"))?;
        for _ in 0..=self.random.below(3) {
            let op = self.random.op(&self.model);
            self.story.push(format!("host {host}: {op:?}"));
            *self.done.entry(op.name()).or_default() += 1;
            self.model.apply(&op, &mut imap);
        }
        self.model
            .check(&imap.list_status())
            .map_err(|wrong| format!("after changes on host {host}:\n{wrong}"))?;
        // Looking through /proc costs an emulated guest more than the session does.
        let processes = self
            .tidy
            .then(|| self.hosts[host].process_pids_of(self.user));
        imap.logout();
        if let Some(processes) = processes {
            self.hosts[host].wait_ended(&processes);
        }
        if let Some(after) = &self.after {
            after(host);
        }
        Ok(())
    }
}
