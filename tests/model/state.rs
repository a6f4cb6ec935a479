//! The state: INDEX, hosts, sessions, and which change of the mailbox is in which list index.
//!
//! A list index is the set of the changes it contains. Identities (inode, time, size) are not numbers but one bit
//! each, "is what is there now": one that has been replaced never comes back. So the states are finite, and runs unbounded.

use std::hash::{Hash, Hasher};

use listindexfs::user::decide::{Claim, StockLog};

/// The most hosts and sessions of any configuration.
pub const HOSTS: usize = 3;
/// Where the sessions of stock backends are.
pub const STOCK: usize = HOSTS;
pub const SESSIONS: usize = 4;
/// The most kinds of changes that are told apart; more would panic.
pub const KINDS: usize = 16;

/// Changes of the mailbox, one bit each.
pub type Changes = u16;

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct State {
    /// How many hosts and sessions there are in this configuration.
    pub size: (usize, usize),
    /// INDEX is missing: the user was deleted.
    pub no_index: bool,
    pub lasthost: LastHost,
    /// INDEX/L, of a stock backend.
    pub log: Option<Changes>,
    /// Who has locked it.
    pub lock: Option<u8>,
    /// The dotlock of a host that gives its list index back.
    pub dotlock: Option<Dotlock>,
    /// INDEX/L is what that dotlock names: nobody of ours believes it.
    pub marked: bool,
    /// The last one stands for all stock backends.
    pub hosts: [Host; HOSTS + 1],
    pub sessions: [Session; SESSIONS],
    pub kinds: u8,
    pub fates: [Fate; KINDS],
    /// What has gone wrong.
    pub broken: Option<Broken>,
}

/// Made before a list index is put in INDEX, and removed when it is known to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dotlock {
    By(u8),
    /// Of one that has died, or could not remove it.
    Left,
}

/// How the promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A list index was given out that lacks a change that was promised.
    Stale,
    /// A stock list index was deleted on NFS that is not whole here, or not accepted.
    Lost,
}

/// INDEX/.lasthost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct LastHost {
    pub by: By,
    /// It names the log that is in INDEX now as stale.
    pub stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum By {
    /// There is none.
    #[default]
    None,
    /// A fence.
    Nobody,
    /// A mount that has ended.
    Ended,
    Host(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Host {
    /// Supervisor and worker are dead.
    pub down: bool,
    /// Its mount has ended, and others are being told.
    pub ending: bool,
    pub place: Place,
    /// The local L.
    pub local: Option<Changes>,
    pub run: Run,
    /// The INDEX that the run has open was deleted.
    pub index_gone: bool,
    /// The rename of a claim whose worker has died, still under way.
    pub late: Option<LastHost>,
}

/// What the record's place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Place {
    #[default]
    Nothing,
    Haunted,
    Record(Record),
}

/// A record of this mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Record {
    /// .lasthost is the one it names.
    pub current: bool,
    /// INDEX/L is the one it says was pulled.
    pub pulled: bool,
}

/// What a host's gate is at, and what that thread has seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Run {
    pub at: At,
    /// All that was promised when it looked.
    pub need: Changes,
    /// It has the user's directory for itself.
    pub taken: bool,
    /// There were ghosts when the check began.
    pub haunted: bool,
    pub record: Option<Record>,
    pub log: Option<StockLog>,
    /// With a mutant: seen before the log.
    pub claim: Option<Claim>,
    pub then: Then,
    /// The .lasthost it goes by is what is there now.
    pub same: bool,
    /// The log it goes by is what is there now.
    pub log_same: bool,
    /// The log that is there now is to be dropped, as .lasthost warned of it.
    pub stale: bool,
    /// It found a log under the lock.
    pub source: bool,
    pub pulled: bool,
    pub recorded: bool,
}

/// The next thing a run does. The names are those of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum At {
    #[default]
    Idle,
    /// `fence::after_writer`: looks for INDEX/L.
    AfterWriter(For),
    /// Then at .lasthost.
    AfterWriterClaim(For),
    /// `fence::set`: `lock_if_any`, `look`, `claim::put`, `pull::delete`.
    FenceLock(For),
    FenceLook(For),
    FencePut(For),
    /// The same looks again, after the claim.
    FenceLogAgain(For),
    FenceClaimAgain(For),
    FenceRecheck(For),
    FenceDelete(For),
    /// `Flight::attempt`: `lay_ghosts`, `record`.
    Attempt,
    Record,
    /// `Flight::look`: INDEX, INDEX/L, .lasthost; then `decide`.
    LookIndex,
    LookLog,
    LookClaim,
    /// `Flight::drain`.
    Drain,
    DrainClaim,
    /// `with_directory`, `clear`.
    Purge,
    /// `stale_logs`, `claim`; with a mutant the identity is looked at afterwards.
    StaleLogs,
    Claim,
    ClaimIdentity,
    /// `settle`.
    Lock,
    Fetch,
    WriteRecord,
    Recheck,
    Delete,
    /// `finish`.
    FinishLock,
    FinishRecheck,
    FinishDelete,
    /// `distrust`.
    Distrust,
    DistrustClaim,
    /// `land`, with a mutant only: else it is one with the step before, as nothing that happens between can be told.
    Land,
    /// `Gate::give_back`: `to_index`, `lock_to_put`, `put`, and what follows it.
    BackLookClaim,
    BackLookLog,
    BackDropLog,
    BackLock,
    BackUnrecord,
    BackPut,
    BackRecheck,
    BackUndoPut,
    BackUndo,
    BackUnlock,
    /// `fence::at_the_end`, where the fence fails.
    LastPut,
    /// `Gate::evict`.
    EvictTake,
    EvictPurge,
}

/// Whose fence it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum For {
    /// Processes that wrote.
    Writers,
    /// The same, at the beginning of a check.
    WritersFirst,
    /// Ghosts, for the housekeeper.
    Ghosts,
    /// Ghosts, at the beginning of a check.
    GhostsFirst,
    /// The word in the record's place, of ghosts of a daemon that died.
    Word,
    /// All ghosts, when the mount has ended.
    Last,
}

/// Why the directory was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Then {
    #[default]
    Nothing,
    Unclaimed,
    Adopt,
    Claim,
    /// With a mutant: the purge comes after the claim.
    Claimed,
}

/// A mail session, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Session {
    pub host: u8,
    pub at: Life,
    pub wrote: bool,
    /// What it writes goes into the local L.
    pub linked: bool,
    pub ghost: Ghost,
    pub fence: Fence,
    /// With a mutant: others were to be told that the user is changed here.
    pub holds: bool,
    /// What its verdict promises.
    pub need: Changes,
    /// Its L.newlock.
    pub built: Changes,
}

impl Session {
    pub fn holds_files(&self) -> bool {
        matches!(self.at, Life::Building | Life::Open)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Life {
    #[default]
    Free,
    /// At the gate.
    Waiting,
    /// In the run that is under way.
    Aboard,
    /// Let in; opens next.
    Verdict,
    /// It has made L.newlock, and renames it next.
    Building,
    Open,
    /// Its list index is in memory.
    Memory,
    /// Has ended, which is still to be dealt with.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Ghost {
    #[default]
    No,
    Yes,
    /// Its time is over, and the fence is being set.
    Laying,
    /// Refused and answered, but (with a mutant) not marked yet.
    Unmarked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Fence {
    #[default]
    No,
    Due,
    /// It is being set.
    Begun,
}

/// What is promised of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Fate {
    #[default]
    Promised,
    /// Once the session with this number is no more.
    Session(u8),
    /// With this host's next check: a daemon that has died left word.
    Word(u8),
    /// When this host, whose mount has ended, has told others.
    Last(u8),
    /// Never.
    Lost,
}

/// What is never used is not hashed: a build without optimisation takes long for it.
impl Hash for State {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.no_index.hash(to);
        self.lasthost.hash(to);
        self.log.hash(to);
        self.lock.hash(to);
        self.dotlock.hash(to);
        self.marked.hash(to);
        self.hosts[..self.size.0].hash(to);
        self.sessions[..self.size.1].hash(to);
        self.fates[..self.kinds.into()].hash(to);
        self.broken.hash(to);
    }
}

impl State {
    pub fn all(&self) -> Changes {
        ((1u32 << self.kinds) - 1) as Changes
    }

    fn fated(&self, wanted: impl Fn(Fate) -> bool) -> Changes {
        let fates = self.fates.iter().take(self.kinds.into()).enumerate();
        fates
            .filter(|(_, fate)| wanted(**fate))
            .fold(0, |all, (i, _)| all | 1 << i)
    }

    pub fn promised(&self) -> Changes {
        self.fated(|fate| fate == Fate::Promised)
    }

    /// A change happens; returns it.
    pub fn change(&mut self, fate: Fate) -> Changes {
        let n = usize::from(self.kinds);
        assert!(n < KINDS, "more kinds of changes than expected");
        self.fates[n] = fate;
        self.kinds += 1;
        1 << n
    }

    pub fn refate(&mut self, from: Fate, to: Fate) {
        let fates = self.fates.iter_mut().filter(|fate| **fate == from);
        fates.for_each(|fate| *fate = to);
    }

    /// Another .lasthost: no identity that anybody knows is that of what is there now.
    pub fn put_lasthost(&mut self, lasthost: LastHost) {
        self.lasthost = lasthost;
        for host in &mut self.hosts {
            host.run.same = false;
            let seen = host.run.record.as_mut();
            let place = match &mut host.place {
                Place::Record(record) => Some(record),
                _ => None,
            };
            seen.into_iter()
                .chain(place)
                .for_each(|record| record.current = false);
        }
        let by = lasthost.by;
        let sessions = self.sessions.iter_mut();
        sessions.for_each(|s| s.holds &= by == By::Host(s.host));
    }

    /// INDEX/L is another, or none.
    pub fn put_log(&mut self, log: Option<Changes>) {
        self.log_changed();
        self.log = log;
        self.marked = false;
        self.lasthost.stale = false;
        for host in &mut self.hosts {
            host.run.stale = false;
            host.late.iter_mut().for_each(|late| late.stale = false);
        }
        self.of_mut(STOCK).for_each(|x| x.linked = false);
    }

    /// A stock backend writes into it.
    pub fn log_changed(&mut self) {
        for host in &mut self.hosts {
            host.run.log_same = false;
            let seen = host.run.record.as_mut();
            let place = match &mut host.place {
                Place::Record(record) => Some(record),
                _ => None,
            };
            seen.into_iter()
                .chain(place)
                .for_each(|record| record.pulled = false);
        }
    }

    pub fn of(&self, host: usize) -> impl Iterator<Item = &Session> {
        self.sessions
            .iter()
            .filter(move |s| s.at != Life::Free && usize::from(s.host) == host)
    }

    pub fn of_mut(&mut self, host: usize) -> impl Iterator<Item = &mut Session> {
        self.sessions
            .iter_mut()
            .filter(move |s| s.at != Life::Free && usize::from(s.host) == host)
    }

    /// Whether the host's gate knows of ghosts.
    pub fn has_ghosts(&self, host: usize) -> bool {
        self.of(host)
            .any(|s| matches!(s.ghost, Ghost::Yes | Ghost::Laying))
    }

    pub fn has_holders(&self, host: usize) -> bool {
        self.of(host).any(Session::holds_files)
    }

    /// Frees what is left of a session once nothing is to be done about it any more.
    pub fn let_go(&mut self, n: usize) {
        let session = self.sessions[n];
        if session.at == Life::Gone && session.ghost == Ghost::No && session.fence == Fence::No {
            self.end(n, Fate::Promised);
        }
    }

    pub fn end(&mut self, n: usize, fate: Fate) {
        self.refate(Fate::Session(n as u8), fate);
        self.sessions[n] = Session::default();
    }
}
