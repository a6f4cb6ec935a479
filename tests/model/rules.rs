//! What may happen in a configuration, and the rules of the protocol that a mutant breaks.

use super::state::HOSTS;

/// A configuration. Everything may happen any number of times, at any moment.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub hosts: usize,
    /// How many sessions there are at a time, those counted in that have ended and whose fence is due.
    pub sessions: usize,
    pub migrate: [bool; HOSTS],
    /// Sessions stay open when their user goes elsewhere.
    pub linger: bool,
    /// Stock backends open, change and close the list index in INDEX.
    pub stock: bool,
    /// The same, but their sessions stay open.
    pub stock_lingers: bool,
    /// A list index of a stock backend lies in INDEX at first.
    pub left_over: bool,
    /// The worker dies.
    pub crash: bool,
    /// The rename of a claim is carried out after its worker has died.
    pub late: bool,
    /// Supervisor and worker die, and are started again at once.
    pub remount: bool,
    /// The same, but sessions go on meanwhile.
    pub down: bool,
    /// A mount ends in order, or its files are taken from who has them open. Sessions go on meanwhile.
    pub unmount: bool,
    pub evict: bool,
    /// An idle user's list index is given back to INDEX.
    pub give_back: bool,
    /// Who waits at the gate is refused: the run hangs, and goes on some time.
    pub refuse: bool,
    /// A list index is made in two steps.
    pub builds: bool,
    /// Any operation on NFS may fail.
    pub trouble: bool,
    /// A WRITE fails for want of room.
    pub spoil: bool,
    /// The user is deleted, and made again.
    pub delete: bool,
    pub promise: Promise,
}

/// Which changes are promised while a stock backend's list index lies in INDEX: there the promise has limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Those made where .lasthost says that it is not to be fetched, unless a claim is under way that does not repeat it.
    Kept,
    /// Those too that are made while such a claim is under way.
    DuringClaims,
    /// Those too of refused sessions of which .lasthost does not say so, if their host has claimed.
    Refused,
    /// All.
    All,
}

impl Rules {
    /// Two hosts, nothing but logins, writes and logouts; sessions linger.
    pub const PLAIN: Rules = Rules {
        hosts: 2,
        sessions: 2,
        migrate: [false; HOSTS],
        linger: true,
        stock: false,
        stock_lingers: false,
        left_over: false,
        crash: false,
        late: false,
        remount: false,
        down: false,
        unmount: false,
        evict: false,
        give_back: false,
        refuse: false,
        builds: false,
        trouble: false,
        spoil: false,
        delete: false,
        promise: Promise::Kept,
    };

    /// Users go to and fro between two hosts and stock backends.
    pub const MIGRATING: Rules = Rules {
        migrate: [true; HOSTS],
        stock: true,
        ..Rules::PLAIN
    };

    /// The first of two hosts does not migrate.
    pub const MIXED: Rules = Rules {
        migrate: [false, true, true],
        left_over: true,
        ..Rules::PLAIN
    };
}

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// INDEX/L is looked at before .lasthost.
    LogBeforeLastHost,
    /// Any decision but keep and finish voids all verdicts.
    VoidVerdicts,
    /// Who comes later waits for the next run.
    NoLateJoin,
    /// The record goes first, then the local files, then comes the new record.
    RecordLast,
    /// Purge before claim.
    PurgeBeforeClaim,
    /// Claim before copy.
    ClaimBeforeCopy,
    /// .lasthost is still our claim when INDEX/L is deleted.
    RecheckClaim,
    /// INDEX/L is what was copied when it is deleted.
    CompareLog,
    /// INDEX/L is locked while it is copied and deleted.
    LockLog,
    /// The record is written before INDEX/L is deleted.
    RecordBeforeDelete,
    /// Without `migrate` INDEX/L is deleted before the record is written.
    DropBeforeRecord,
    /// Without `migrate` too, INDEX/L is looked for after the claim.
    LookAfterClaim,
    /// No record is written when somebody became a ghost meanwhile.
    NoRecordWithGhosts,
    /// Nobody is served when somebody became a ghost meanwhile.
    NoVerdictWithGhosts,
    /// Ghosts are marked before they are answered.
    MarkFirst,
    /// Ghosts outlive a worker.
    GhostsSurvive,
    /// While there are ghosts everybody is refused.
    GhostsRefuse,
    /// Who could not write is a ghost.
    SpoiledIsGhost,
    /// Nothing is purged while somebody holds it open: the holders become ghosts.
    HoldersBecomeGhosts,
    /// With ghosts .lasthost is claimed where it is another's.
    DrainClaims,
    /// With ghosts there is no record.
    GhostsDropRecord,
    AdoptPurges,
    UnclaimedPurges,
    FenceAfterWriters,
    FenceAfterGhosts,
    /// What of a user's ghosts has ended since the fence was begun waits for the next.
    LayWhoHadEnded,
    /// Fences that are due when the directory is taken are set before anything is pulled.
    WritersFirst,
    FencesSurvive,
    /// What a fence finds of a stock backend in INDEX goes.
    FenceDropsLog,
    /// A writer that ends while a stock backend's list index lies in INDEX counts as a ghost.
    WriterBesideLog,
    /// Nothing local is trusted after a mount.
    NewInstance,
    /// A claim's identity is taken before the rename.
    IdentityFirst,
    /// A claim never looks like an older one.
    UniqueClaims,
    /// The check asks the server, not the attribute cache.
    ForceSync,
    /// Eviction looks for open files when verdicts are void.
    EvictLooksLate,
    /// Eviction leaves word of ghosts alone.
    EvictSparesWord,
    /// A claim of a host that does not serve names the logs in INDEX.
    WarnOfLogs,
    /// A claim that fails leaves a .lasthost alone that may warn of logs.
    KeepWarnings,
    /// When a mount ends, who has files open has them no longer.
    EndCloses,
    /// And fences are set for ghosts that live.
    EndFences,
    /// And where that fails, .lasthost warns of the log.
    EndWarns,
    /// Word of ghosts outlives a daemon.
    WordSurvives,
    /// A fence looks for INDEX/L again after its claim.
    FenceLooksAgain,
    /// And at .lasthost.
    FenceLooksAtClaimAgain,
    /// Who gives a list index back looks at .lasthost after it is in INDEX.
    GivenLooksAfter,
    /// Who was refused while it was given back counts.
    GivenWithoutGhosts,
    /// The record goes before the list index is in INDEX.
    GivenWithoutRecord,
    /// What lies in INDEX of one that died while it gave it back is dropped.
    GivenIsMarked,
    /// What is taken back again makes whoever has the user purge.
    TakenBackIsFenced,
    /// A stock backend's list index is never replaced by one that is given back.
    GivenReplacesNone,
}
