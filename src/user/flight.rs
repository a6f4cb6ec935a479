//! One run of the gate: look, decide, and take the steps in the order that a crash at any point leaves safe.

use std::cell;
use std::sync::Arc;

use super::decide::{Decision, decide};
use super::directory::Taken;
use super::flaps::From;
use super::gate::Gate;
use super::history::Saw;
use super::look::{View, logs_in, sources_seen};
use super::record::{Kept, Record};
use super::state::UserState;
use super::steps::Step;
use super::{claim, fence, local, pull};
use crate::index::Trouble;
use crate::index::creds::Creds;
use crate::index::dir::IndexDir;
use crate::index::lasthost::Identity;
use crate::stats;

/// How often a run starts over when another host claims the user meanwhile.
const TRIES: usize = 5;

/// One run.
pub struct Flight<'a> {
    gate: &'a Arc<Gate>,
    state: &'a Arc<UserState>,
    creds: &'a Creds,
    /// What it saw and decided last.
    saw: cell::Cell<Option<Saw>>,
}

impl<'a> Flight<'a> {
    /// A run with one caller's rights.
    pub fn new(gate: &'a Arc<Gate>, state: &'a Arc<UserState>, creds: &'a Creds) -> Self {
        let saw = cell::Cell::new(None);
        Flight {
            gate,
            state,
            creds,
            saw,
        }
    }

    /// What it saw and decided by, if it came so far.
    pub fn saw(&self) -> Option<Saw> {
        self.saw.get()
    }

    /// Runs. `Ok`: those who wait may be served; an error has been reported.
    pub fn run(&self) -> Result<(), Trouble> {
        let mut outcome = Err(Trouble::Overtaken);
        for _ in 0..TRIES {
            outcome = self.attempt();
            if !matches!(outcome, Err(Trouble::Overtaken)) {
                break;
            }
            self.state.void();
            self.remove_record()?;
        }
        let cell = match &outcome {
            Ok(decision) => decision.cell(),
            Err(Trouble::Draining(_)) => stats::Cell::Drain,
            Err(_) => stats::Cell::Refuse,
        };
        self.gate.stats.count(cell);
        outcome
            .map(drop)
            .inspect_err(|trouble| self.gate.report(&self.state.user, trouble))
    }

    fn attempt(&self) -> Result<Decision, Trouble> {
        self.gate.fence_due(self.state);
        // Ghosts count as they were when the check began.
        let haunted = self.gate.lay_ghosts(self.state, Some(self.creds));
        let record = || self.record(haunted);
        let looked = View::look(self.gate, self.state, self.creds, record);
        let view = looked.inspect_err(|_| self.state.void())?;
        if let (true, Some(dir)) = (self.gate.is_aftermath(), &view.dir) {
            // Others would wait for it, and nobody else removes it where INDEX/L has gone already.
            let mut logs = self.gate.config.logs();
            logs.try_for_each(|(_, log)| dir.drop_left_dotlock(&log))?;
        }
        let decision = decide(view.seen, haunted);
        self.saw.set(Some(view.saw(decision)));
        log::debug!(
            "{}: {:?} -> {}",
            self.state.user,
            view.seen,
            decision.word()
        );
        if !decision.keeps_verdicts() {
            self.state.void();
        }
        self.carry_out(decision, &view).map(|()| decision)
    }

    /// Our record. Ghosts of an earlier mount are laid first: it died before it could.
    fn record(&self, haunted: bool) -> Result<Option<Record>, Trouble> {
        match local::read_as_used(self.gate, self.state)
            .map_err(Trouble::backing("read the record"))?
        {
            Kept::Record(record) => Ok(Some(record)),
            Kept::Haunted if !haunted => {
                fence::after_ghost(self.gate, self.state, self.creds)?;
                self.remove_record()?;
                Ok(None)
            }
            Kept::Haunted | Kept::Nothing => Ok(None),
        }
    }

    fn carry_out(&self, decision: Decision, view: &View) -> Result<(), Trouble> {
        match (decision, &view.dir, view.lasthost) {
            (Decision::Keep, ..) => Ok(()),
            (Decision::Finish, Some(dir), Some(claim)) => self
                .finish(dir, claim, view.record.as_ref())
                .inspect_err(|e| self.distrust(dir, e)),
            (Decision::Unclaimed, ..) => self.with_directory(view, |_| self.clear()),
            (Decision::Adopt, Some(dir), Some(claim)) => self.with_directory(view, |taken| {
                self.clear()?;
                self.settle(taken, dir, claim, &[])
                    .inspect_err(|e| self.distrust(dir, e))
            }),
            (Decision::Claim | Decision::Pull, Some(dir), _) => {
                self.with_directory(view, |taken| {
                    self.clear()?;
                    let stale = self.stale_logs(dir)?;
                    let claim = self.claim_seen_as(view, dir, stale.clone())?;
                    self.settle(taken, dir, claim, &stale)
                        .inspect_err(|e| self.distrust(dir, e))
                })
            }
            (Decision::Drain { claim }, ..) => self.drain(view, claim),
            // A refusal comes as an error of look(); the other pairs do not exist.
            (
                Decision::Refuse
                | Decision::Finish
                | Decision::Adopt
                | Decision::Claim
                | Decision::Pull,
                ..,
            ) => Err(Trouble::Overtaken),
        }
    }

    /// Runs `steps` with the directory taken; holders of open files become ghosts instead, and it is a drain.
    fn with_directory(
        &self,
        view: &View,
        steps: impl FnOnce(&Taken) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        match self.state.take() {
            Ok(taken) => {
                (self.gate.on_step)(Step::Taken);
                // Who wrote and has closed its files since we looked: what is pulled lacks that, and its fence, which
                // would tell, looks for INDEX/L.
                if self.state.has_fences_due() {
                    return Err(Trouble::Overtaken);
                }
                steps(&taken)
            }
            Err(holders) => {
                self.gate.haunt(self.state, &mut self.state.lock(), holders);
                self.drain(view, view.is_foreign())
            }
        }
    }

    /// Record first: without it nothing local is trusted, whatever happens next.
    fn clear(&self) -> Result<(), Trouble> {
        self.remove_record()?;
        (self.gate.on_step)(Step::RecordRemoved);
        local::purge(self.gate, &self.state.user).map_err(Trouble::backing("purge"))?;
        (self.gate.on_step)(Step::Purged);
        Ok(())
    }

    fn claim(&self, dir: &IndexDir, stale: Vec<u64>, from: &From) -> Result<Identity, Trouble> {
        let host = &self.gate.config.host;
        let ours = self.gate.own_claim().warning_of(stale);
        let claim = claim::put(dir, host, &ours, &self.gate.on_step)?;
        let line = format!("claimed for {host}, {from}");
        self.gate.did(&self.state.user, "claimed", &line);
        Ok(claim)
    }

    /// Claims the user, and tells of one who is claimed back and forth.
    fn claim_seen_as(
        &self,
        view: &View,
        dir: &IndexDir,
        stale: Vec<u64>,
    ) -> Result<Identity, Trouble> {
        let from = self.taken_from(view, dir);
        let claim = self.claim(dir, stale, &from)?;
        self.gate.claimed_from(&self.state.user, from);
        Ok(claim)
    }

    /// From whom he is claimed. Where .lasthost has not been read it is only for one who is claimed again and again: a login
    /// is not to wait for what is said in the log.
    fn taken_from(&self, view: &View, dir: &IndexDir) -> From {
        let ours = self.gate.own_claim();
        match (&view.owner, &view.record, view.lasthost) {
            _ if !view.is_foreign() => From::Us,
            (Some(owner), ..) => From::of(owner, &ours),
            (None, Some(_), Some(_)) if self.gate.flaps.is_notable(&self.state.user) => {
                // It is told of without a name where that fails.
                let read = dir.read_lasthost().ok().flatten();
                let owner = read.and_then(|(_, owner)| owner);
                owner.map_or(From::Another(None), |owner| From::of(&owner, &ours))
            }
            // Not ours any more, though we have a record of it: another has replaced it.
            (None, Some(_), Some(_)) => From::Another(None),
            (None, None, Some(_)) => From::Unknown,
            (None, _, None) => From::Nobody,
        }
    }

    /// The stock logs of which .lasthost warns: sessions that were refused elsewhere have changed what is
    /// in them. The next claim warns of them too, until they are gone.
    fn stale_logs(&self, dir: &IndexDir) -> Result<Vec<u64>, Trouble> {
        if logs_in(self.gate, dir)?.is_empty() {
            return Ok(Vec::new());
        }
        let lasthost = dir.read_lasthost()?.and_then(|(_, lasthost)| lasthost);
        Ok(lasthost.map(|lasthost| lasthost.stale).unwrap_or_default())
    }

    /// The user is ours but cannot be served: what the refused session changes is lacking in INDEX/L.
    fn distrust(&self, dir: &IndexDir, e: &Trouble) {
        if matches!(e, Trouble::Overtaken) {
            return;
        }
        let warned = logs_in(self.gate, dir).and_then(|stale| match stale.is_empty() {
            true => Ok(()),
            false => self.claim(dir, stale, &From::Us).map(drop),
        });
        if let Err(e) = warned {
            log::warn!(
                "{}: other hosts may pull a stale list index: {e}",
                self.state.user
            );
        }
    }

    /// After the claim: INDEX/L is looked for again, since a stock backend may have made it meanwhile.
    /// With `migrate` it is pulled, else it goes: a later host with `migrate` would pull a stale one.
    fn settle(
        &self,
        _taken: &Taken,
        dir: &IndexDir,
        claim: Identity,
        stale: &[u64],
    ) -> Result<(), Trouble> {
        let gate = self.gate;
        let mut sources = pull::lock_if_any(gate, dir)?;
        let pulled = match gate.config.migrate {
            true => pull::fetch(gate, self.state, dir, &mut sources, stale)?,
            false => Vec::new(),
        };
        let there = sources_seen(&sources);
        // What is not wanted goes before the record: with one nobody would look for it again.
        if !sources.is_empty() && !gate.config.migrate {
            pull::delete(gate, dir, &sources, claim, &there)?;
            self.migrated("list index dropped on INDEX: it is not wanted without migrate");
        }
        let fetched = pulled.len();
        let record = Record {
            lasthost: claim,
            instance: gate.instance,
            pulled,
        };
        self.write_record(&record)?;
        if !sources.is_empty() && gate.config.migrate {
            pull::delete(gate, dir, &sources, claim, &there)?;
            self.migrated(match fetched {
                0 => "list index dropped on INDEX: it lacks what a refused session changed",
                all if all == there.len() => "list index pulled from INDEX",
                _ => {
                    "list index pulled from INDEX, and dropped there where it lacks what a refused session changed"
                }
            });
        }
        Ok(())
    }

    /// All but the deletion on NFS was done before.
    fn finish(
        &self,
        dir: &IndexDir,
        claim: Identity,
        record: Option<&Record>,
    ) -> Result<(), Trouble> {
        let pulled = record
            .map(|record| record.pulled.clone())
            .unwrap_or_default();
        let sources = pull::lock(self.gate, dir)?;
        pull::delete(self.gate, dir, &sources, claim, &pulled)?;
        self.migrated("list index removed from INDEX, from which it was pulled before");
        Ok(())
    }

    fn migrated(&self, line: &str) {
        self.gate.did(&self.state.user, "migrated", line);
    }

    /// Ghosts live: the other host must learn that the user is changed here, and nobody is served.
    fn drain(&self, view: &View, claim: bool) -> Result<(), Trouble> {
        if let Some(dir) = &view.dir {
            let logs = logs_in(self.gate, dir)?;
            let warned_of = self.stale_logs(dir)?;
            if claim || !logs.iter().all(|log| warned_of.contains(log)) {
                self.claim_seen_as(view, dir, logs)?;
            }
        }
        Err(self.state.lock().draining())
    }

    /// With ghosts there is no record but word of them, which stays.
    fn remove_record(&self) -> Result<(), Trouble> {
        let inner = self.state.lock();
        match inner.ghosts.is_empty() {
            true => local::remove_record(self.gate, &self.state.user)
                .map_err(Trouble::backing("remove the record")),
            false => Ok(()),
        }
    }

    /// Under the lock under which ghosts are marked: with a ghost there must be no record.
    fn write_record(&self, record: &Record) -> Result<(), Trouble> {
        let mut haunted = None;
        let written = self.gate.with_room(|| {
            let inner = self.state.lock();
            haunted = (!inner.ghosts.is_empty()).then(|| inner.draining());
            match &haunted {
                Some(_) => Ok(()),
                None => local::write_record(self.gate, &self.state.user, record),
            }
        });
        written.map_err(Trouble::backing("write the record"))?;
        haunted.map_or(Ok(()), Err)?;
        (self.gate.settled(self.state)).map_err(Trouble::backing("count what lies here"))?;
        (self.gate.on_step)(Step::Recorded);
        Ok(())
    }
}
