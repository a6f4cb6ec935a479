//! Each rule of the protocol, switched off: then the check must fail, with a short trace.

use super::check::{Protocol, explore};
use super::rules::{Rule, Rules};

/// The longest trace that is still short, in acts.
const SHORT: usize = 40;

fn breaks(rule: Rule, rules: Rules) {
    let protocol = Protocol {
        off: Some(rule),
        ..Protocol::new(rules)
    };
    let (states, found) = explore(protocol, 1);
    let (property, trace) =
        found.unwrap_or_else(|| panic!("without {rule:?} nothing is wrong in {states} states"));
    println!(
        "without {rule:?} ({states} states), not so: {property}\n  {}",
        trace.join("\n  ")
    );
    assert!(trace.len() <= SHORT, "{} acts", trace.len());
}

macro_rules! mutants {
    ($($name:ident: $rule:ident in $rules:expr;)*) => {
        $(#[test] fn $name() { breaks(Rule::$rule, $rules); })*
    };
}

const MIGRATING: Rules = Rules {
    migrate: [true; 3],
    stock: true,
    ..Rules::PLAIN
};
const ALONE: Rules = Rules {
    hosts: 1,
    sessions: 1,
    ..MIGRATING
};
const MIXED: Rules = Rules {
    migrate: [false, true, true],
    left_over: true,
    ..Rules::PLAIN
};
const CRASH: Rules = Rules {
    crash: true,
    ..Rules::PLAIN
};
const TROUBLE: Rules = Rules {
    trouble: true,
    ..Rules::PLAIN
};
const HANGS: Rules = Rules {
    refuse: true,
    ..Rules::PLAIN
};

mutants! {
    log_before_lasthost: LogBeforeLastHost in MIGRATING;
    void_verdicts: VoidVerdicts in MIGRATING;
    no_late_join: NoLateJoin in Rules::PLAIN;
    record_last: RecordLast in CRASH;
    purge_before_claim: PurgeBeforeClaim in CRASH;
    claim_before_copy: ClaimBeforeCopy in MIGRATING;
    recheck_claim: RecheckClaim in MIGRATING;
    compare_log: CompareLog in Rules { crash: true, ..MIGRATING };
    lock_log: LockLog in MIGRATING;
    record_before_delete: RecordBeforeDelete in MIGRATING;
    drop_before_record: DropBeforeRecord in Rules { crash: true, ..MIXED };
    look_after_claim: LookAfterClaim in MIXED;
    no_record_with_ghosts: NoRecordWithGhosts in Rules { refuse: true, remount: true, ..ALONE };
    no_verdict_with_ghosts: NoVerdictWithGhosts in HANGS;
    mark_first: MarkFirst in Rules { crash: true, ..TROUBLE };
    ghosts_survive: GhostsSurvive in Rules { crash: true, ..TROUBLE };
    ghosts_refuse: GhostsRefuse in TROUBLE;
    spoiled_is_ghost: SpoiledIsGhost in Rules { spoil: true, ..Rules::PLAIN };
    holders_become_ghosts: HoldersBecomeGhosts in Rules::PLAIN;
    drain_claims: DrainClaims in Rules { sessions: 3, ..Rules::PLAIN };
    ghosts_drop_record: GhostsDropRecord in TROUBLE;
    adopt_purges: AdoptPurges in TROUBLE;
    unclaimed_purges: UnclaimedPurges in Rules { delete: true, ..Rules::PLAIN };
    fence_after_writers: FenceAfterWriters in Rules::PLAIN;
    fence_after_ghosts: FenceAfterGhosts in TROUBLE;
    lay_who_had_ended: LayWhoHadEnded in Rules { sessions: 3, ..Rules::PLAIN };
    writers_first: WritersFirst in MIGRATING;
    fences_survive: FencesSurvive in CRASH;
    fence_drops_log: FenceDropsLog in Rules { trouble: true, ..MIGRATING };
    writer_beside_log: WriterBesideLog in MIGRATING;
    new_instance: NewInstance in Rules { down: true, ..Rules::PLAIN };
    identity_first: IdentityFirst in Rules::PLAIN;
    unique_claims: UniqueClaims in Rules::PLAIN;
    force_sync: ForceSync in Rules::PLAIN;
    evict_looks_late: EvictLooksLate in Rules { evict: true, crash: true, ..Rules::PLAIN };
    evict_spares_word: EvictSparesWord in Rules { evict: true, remount: true, refuse: true, ..ALONE };
    warn_of_logs: WarnOfLogs in Rules { trouble: true, ..MIGRATING };
    keep_warnings: KeepWarnings in Rules { trouble: true, ..MIGRATING };
    word_survives: WordSurvives in Rules { remount: true, refuse: true, ..ALONE };
}
