//! What may happen in a state, and what becomes of it.

use super::check::Protocol;
use super::rules::Rule;
use super::state::{At, By, Dotlock, For, Ghost, LastHost, Life, Place, STOCK, State};
use listindexfs::user::decide::Seen;

/// What happens next. Numbers are those of hosts and of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Login(usize),
    /// OPEN, or CREATE, with the verdict.
    Open(usize),
    Rename(usize),
    Write(usize),
    Spoil(usize),
    Logout(usize),
    /// `refuse_late`.
    Refuse(usize),
    /// With a mutant: who was refused is marked at last.
    Mark(usize),
    /// The gate's thread does what it is at.
    Step(usize),
    /// It fails.
    Fail(usize),
    /// A claim fails, and .lasthost is removed.
    FailRemoving(usize),
    /// A claim is put, but that is not known.
    FailDone(usize),
    /// With mutants.
    Cached(usize),
    Alike(usize),
    Crash(usize),
    /// The claim is still under way.
    CrashClaiming(usize),
    Lands(usize),
    Evict(usize),
    GiveBack(usize),
    Die(usize),
    Mount(usize),
    Unmount(usize),
    StockSession,
    /// With sessions that stay.
    StockLogin,
    DeleteUser,
    MakeIndex,
}

impl Protocol {
    /// All that may happen now.
    pub fn acts(&self, s: &State, acts: &mut Vec<Act>) {
        if s.broken.is_some() {
            return;
        }
        (0..self.rules.sessions).for_each(|n| self.session_acts(s, n, acts));
        (0..self.rules.hosts).for_each(|h| self.host_acts(s, h, acts));
        if self.rules.stock && s.lock.is_none() && self.may_go_to(s, None) {
            acts.push(Act::StockSession);
        }
        let room = self.free_slot(s).is_some();
        if self.rules.stock_lingers && room && self.may_go_to(s, Some(STOCK)) {
            acts.push(Act::StockLogin);
        }
        if self.rules.delete {
            acts.push(if s.no_index {
                Act::MakeIndex
            } else {
                Act::DeleteUser
            });
        }
    }

    fn session_acts(&self, s: &State, n: usize, acts: &mut Vec<Act>) {
        let session = &s.sessions[n];
        let host = &s.hosts[usize::from(session.host)];
        match session.at {
            Life::Free | Life::Gone => {}
            Life::Waiting | Life::Aboard => {
                if self.rules.refuse && host.run.at != At::Idle {
                    acts.push(Act::Refuse(n));
                }
            }
            Life::Verdict => {
                // Dovecot waits for who makes it.
                let made = s.of(session.host.into()).any(|x| x.at == Life::Building);
                if !host.run.taken && !made {
                    acts.push(Act::Open(n));
                }
                acts.push(Act::Logout(n));
            }
            Life::Building => {
                if !host.run.taken {
                    acts.push(Act::Rename(n));
                }
                acts.push(Act::Logout(n));
            }
            Life::Open | Life::Memory => {
                let stock = usize::from(session.host) == STOCK;
                if !stock || (session.linked && s.lock.is_none()) {
                    acts.push(Act::Write(n));
                }
                acts.push(Act::Logout(n));
                if self.rules.spoil && session.linked && !stock {
                    acts.push(Act::Spoil(n));
                }
                if session.ghost == Ghost::Unmarked {
                    acts.push(Act::Mark(n));
                }
            }
        }
    }

    fn host_acts(&self, s: &State, h: usize, acts: &mut Vec<Act>) {
        let (rules, host) = (&self.rules, &s.hosts[h]);
        if host.late.is_some() && !s.no_index {
            acts.push(Act::Lands(h));
        }
        if host.down {
            return acts.push(Act::Mount(h));
        }
        if self.free_slot(s).is_some() && self.may_go_to(s, Some(h)) && !host.ending {
            acts.push(Act::Login(h));
        }
        if rules.down {
            acts.push(Act::Die(h));
        }
        if rules.remount {
            acts.push(Act::Mount(h));
        }
        if self.may_unmount(s, h) {
            acts.push(Act::Unmount(h));
        }
        self.run_acts(s, h, acts);
        if host.ending {
            return;
        }
        let quiet = host.run.at == At::Idle && !self.is_due(s, h);
        let something = host.place != Place::Nothing || host.local.is_some();
        if rules.evict && quiet && something && !s.has_holders(h) && !s.has_ghosts(h) {
            acts.push(Act::Evict(h));
        }
        let record = matches!(host.place, Place::Record(_)) && host.local.is_some();
        if rules.give_back && quiet && record && !s.has_holders(h) && !s.has_ghosts(h) {
            acts.push(Act::GiveBack(h));
        }
        if rules.crash && (host.run.at != At::Idle || s.of(h).any(|x| x.at == Life::Verdict)) {
            acts.push(Act::Crash(h));
        }
    }

    fn run_acts(&self, s: &State, h: usize, acts: &mut Vec<Act>) {
        let run = &s.hosts[h].run;
        if self.may_step(s, h) {
            acts.push(Act::Step(h));
        }
        let puts = matches!(
            run.at,
            At::FencePut(_)
                | At::LastPut
                | At::BackUndoPut
                | At::DrainClaim
                | At::Claim
                | At::DistrustClaim
        );
        if self.rules.trouble && touches_nfs(run.at) {
            acts.push(Act::Fail(h));
            let warns = puts && self.puts(s, h).stale && self.on(Rule::KeepWarnings);
            if puts && s.lasthost.by != By::None && !warns {
                acts.push(Act::FailRemoving(h));
            }
            if puts && !s.no_index {
                acts.push(Act::FailDone(h));
            }
        }
        if self.rules.late && puts && !s.no_index && s.hosts[h].late.is_none() {
            acts.push(Act::CrashClaiming(h));
        }
        if run.at == At::LookClaim && run.record.is_some() && !self.on(Rule::ForceSync) {
            acts.push(Act::Cached(h));
        }
        if run.at == At::Claim && !self.on(Rule::UniqueClaims) {
            acts.push(Act::Alike(h));
        }
    }

    /// Whether it need not wait for a lock.
    pub fn may_step(&self, s: &State, h: usize) -> bool {
        match s.hosts[h].run.at {
            At::Idle => self.is_due(s, h),
            At::Lock | At::FinishLock | At::FenceLock(_) | At::BackDropLog => {
                let held = matches!(s.dotlock, Some(Dotlock::By(_)));
                s.log.is_none() || !held && s.lock.is_none_or(|by| usize::from(by) == h)
            }
            At::BackLock => s.log.is_some() || !matches!(s.dotlock, Some(Dotlock::By(_))),
            _ => true,
        }
    }

    pub fn step(&self, s: &mut State, h: usize) {
        let at = s.hosts[h].run.at;
        if may_lack_index(at) || at == At::Idle {
            s.hosts[h].index_gone = false;
        } else if touches_nfs(at) && (s.no_index || s.hosts[h].index_gone) {
            return self.fail(s, h);
        }
        match at {
            At::Idle => self.run_next(s, h),
            At::AfterWriter(whose) => self.after_writer(s, h, whose),
            At::AfterWriterClaim(whose) => self.after_writer_claim(s, h, whose),
            At::FenceLock(whose) => self.fence_lock(s, h, whose),
            At::FenceLook(whose) => self.fence_look(s, h, whose),
            At::FencePut(whose) => self.fence_put(s, h, whose),
            At::FenceRecheck(whose) => self.fence_recheck(s, h, whose),
            At::FenceDelete(whose) => self.fence_delete(s, h, whose),
            At::Attempt => self.attempt(s, h),
            At::Record => self.record(s, h),
            At::LookIndex => self.look_index(s, h),
            At::Land => self.land(s, h, true),
            At::LookLog => self.look_log(s, h),
            At::LookClaim => self.look_claim(s, h),
            At::Drain => self.drain(s, h),
            At::DrainClaim => self.drain_claim(s, h),
            At::Purge => self.purge(s, h),
            At::StaleLogs => self.stale_logs(s, h),
            At::Claim => self.claim(s, h),
            At::ClaimIdentity => self.claim_identity(s, h),
            At::Lock => self.lock(s, h),
            At::Fetch => self.fetch(s, h),
            At::WriteRecord => self.write_record(s, h),
            At::Recheck => self.recheck(s, h),
            At::Delete => self.delete(s, h),
            At::FinishLock => self.finish_lock(s, h),
            At::FinishRecheck => self.finish_recheck(s, h),
            At::FinishDelete => self.delete(s, h),
            At::Distrust => self.distrust(s, h),
            At::DistrustClaim => self.distrust_claim(s, h),
            At::FenceLogAgain(whose) => self.fence_log_again(s, h, whose),
            At::FenceClaimAgain(whose) => self.fence_claim_again(s, h, whose),
            At::BackLookClaim => self.back_look_claim(s, h),
            At::BackLookLog => self.back_look_log(s, h),
            At::BackDropLog => self.back_drop_log(s, h),
            At::BackLock => self.back_lock(s, h),
            At::BackUnrecord => self.back_unrecord(s, h),
            At::BackPut => self.back_put(s, h),
            At::BackRecheck => self.back_recheck(s, h),
            At::BackUndoPut => self.back_undo_put(s, h),
            At::BackUndo => self.back_undo(s, h),
            At::BackUnlock => self.back_unlock(s, h),
            At::LastPut => self.last_put(s, h),
            At::EvictTake => self.evict_take(s, h),
            At::EvictPurge => self.evict_purge(s, h),
        }
    }

    /// What an error makes of it.
    fn fail(&self, s: &mut State, h: usize) {
        match s.hosts[h].run.at {
            At::LastPut => self.fenced(s, h, For::Last, false),
            At::FenceLock(For::Last)
            | At::FenceLook(For::Last)
            | At::FencePut(For::Last)
            | At::FenceLogAgain(For::Last)
            | At::FenceClaimAgain(For::Last)
            | At::FenceRecheck(For::Last)
            | At::FenceDelete(For::Last) => self.fail_last(s, h),
            At::AfterWriter(whose)
            | At::AfterWriterClaim(whose)
            | At::FenceLock(whose)
            | At::FenceLook(whose)
            | At::FencePut(whose)
            | At::FenceLogAgain(whose)
            | At::FenceClaimAgain(whose)
            | At::FenceRecheck(whose)
            | At::FenceDelete(whose) => self.fenced(s, h, whose, false),
            At::Lock | At::Fetch | At::Recheck | At::Delete => self.fail_settle(s, h),
            At::FinishLock | At::FinishRecheck | At::FinishDelete => self.fail_settle(s, h),
            At::LookIndex | At::LookLog | At::LookClaim => self.carry_out(s, h, Seen::Trouble),
            At::BackPut | At::BackRecheck | At::BackUndoPut | At::BackUndo | At::BackUnlock => {
                self.fail_back(s, h);
            }
            _ => self.land(s, h, false),
        }
    }

    /// What a claim or a fence is about to put.
    fn puts(&self, s: &State, h: usize) -> LastHost {
        match s.hosts[h].run.at {
            At::FencePut(_) | At::LastPut | At::BackUndoPut => self.nobody(s),
            _ => self.ours(s, h),
        }
    }

    pub fn act(&self, s: &mut State, act: Act) {
        match act {
            Act::Login(h) => self.login(s, h),
            Act::Open(n) => self.open(s, n),
            Act::Rename(n) => self.rename(s, n),
            Act::Write(n) => self.write(s, n),
            Act::Spoil(n) => self.spoiled(s, n),
            Act::Logout(n) => self.logout(s, n),
            Act::Refuse(n) => self.refuse_late(s, n),
            Act::Mark(n) => self.mark(s, n),
            Act::Step(h) => self.step(s, h),
            Act::Fail(h) => self.fail(s, h),
            Act::FailRemoving(h) => {
                s.put_lasthost(Default::default());
                self.fail(s, h);
            }
            Act::FailDone(h) => {
                s.put_lasthost(self.puts(s, h));
                self.fail(s, h);
            }
            Act::Cached(h) => self.look_claim_cached(s, h),
            Act::Alike(h) => self.claim_alike(s, h),
            Act::Crash(h) => self.crash(s, h),
            Act::CrashClaiming(h) => {
                s.hosts[h].late = Some(self.puts(s, h));
                self.crash(s, h);
            }
            Act::Lands(h) => {
                let late = s.hosts[h].late.take().expect("is under way");
                s.put_lasthost(late);
            }
            Act::Evict(h) => self.evict(s, h),
            Act::GiveBack(h) => self.give_back(s, h),
            Act::Die(h) => self.die(s, h),
            Act::Mount(h) => {
                self.die(s, h);
                self.mount(s, h);
            }
            Act::Unmount(h) => self.unmount(s, h),
            Act::StockSession => self.stock_session(s),
            Act::StockLogin => self.stock_login(s),
            Act::DeleteUser => self.delete_user(s),
            Act::MakeIndex => s.no_index = false,
        }
    }
}

fn touches_nfs(at: At) -> bool {
    !matches!(
        at,
        At::Idle
            | At::Land
            | At::Purge
            | At::WriteRecord
            | At::BackUnrecord
            | At::EvictTake
            | At::EvictPurge
    )
}

/// Where a missing INDEX is not an error.
fn may_lack_index(at: At) -> bool {
    matches!(
        at,
        At::AfterWriter(_)
            | At::FenceLock(For::Ghosts | For::GhostsFirst | For::Word | For::Last)
            | At::Attempt
            | At::Record
            | At::LookIndex
    )
}

/// One line of a trace.
pub fn tell(s: &State, act: Act) -> String {
    let host = |h: usize| ["A", "B", "C", "stock"][h];
    let session = |n: usize| {
        let x = &s.sessions[n];
        let ghost = if x.ghost == Ghost::No { "" } else { ", ghost" };
        format!("session on {} ({:?}{ghost})", host(x.host.into()), x.at)
    };
    match act {
        Act::Login(h) => format!("{}: login", host(h)),
        Act::Open(n)
        | Act::Rename(n)
        | Act::Write(n)
        | Act::Spoil(n)
        | Act::Logout(n)
        | Act::Refuse(n)
        | Act::Mark(n) => {
            let word = format!("{act:?}");
            let word = word.split('(').next().unwrap_or_default().to_lowercase();
            format!("{}: {word}", session(n))
        }
        Act::Step(h) => format!("{}: {:?}", host(h), s.hosts[h].run.at),
        Act::Fail(h)
        | Act::FailRemoving(h)
        | Act::FailDone(h)
        | Act::Crash(h)
        | Act::CrashClaiming(h)
        | Act::Cached(h)
        | Act::Alike(h) => {
            format!("{}: {act:?} at {:?}", host(h), s.hosts[h].run.at)
        }
        Act::Lands(h)
        | Act::Evict(h)
        | Act::GiveBack(h)
        | Act::Die(h)
        | Act::Mount(h)
        | Act::Unmount(h) => {
            format!("{}: {act:?}", host(h))
        }
        Act::StockSession | Act::StockLogin | Act::DeleteUser | Act::MakeIndex => {
            format!("{act:?}")
        }
    }
}
