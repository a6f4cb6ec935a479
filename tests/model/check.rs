//! What must hold, in all states there are: the model as `stateright` takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use listindexfs::user::decide::Decision;
use listindexfs::user::steps::Step;
use stateright::{Checker, Model, Property};

use super::acts::{Act, tell};
use super::rules::{Rule, Rules};
use super::state::{At, Broken, Life, Place, State};

/// The steps and decisions that were come to: a check that never comes to them shows nothing.
#[derive(Debug, Default)]
pub struct Reached(AtomicU64);

impl Reached {
    pub fn step(&self, step: Step) {
        self.0.fetch_or(1 << step as u8, Ordering::Relaxed);
    }

    pub fn decision(&self, decision: Decision) {
        let n = WORDS.iter().position(|word| *word == decision.word());
        self.0
            .fetch_or(1 << (32 + n.expect("a word of all")), Ordering::Relaxed);
    }

    pub fn words(&self) -> Vec<&'static str> {
        let been = self.0.load(Ordering::Relaxed);
        let steps = Step::ALL
            .iter()
            .chain(&Step::BACK)
            .filter(|step| been >> **step as u8 & 1 == 1);
        let decisions = (0..WORDS.len()).filter(|n| been >> (32 + n) & 1 == 1);
        steps
            .map(|step| step.name())
            .chain(decisions.map(|n| WORDS[n]))
            .collect()
    }
}

/// All decisions.
const WORDS: [&str; 8] = [
    "refuse",
    "drain",
    "unclaimed",
    "finish",
    "pull",
    "keep",
    "adopt",
    "claim",
];

/// The protocol under some rules, one of which may be switched off.
#[derive(Debug)]
pub struct Protocol {
    pub rules: Rules,
    pub off: Option<Rule>,
    pub reached: Arc<Reached>,
}

impl Protocol {
    pub fn new(rules: Rules) -> Self {
        Protocol {
            rules,
            off: None,
            reached: Arc::default(),
        }
    }

    pub fn on(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// Once everybody has gone each host serves at its first check, and has nothing to do at the next.
    fn serves_again(&self, s: &State) -> bool {
        let gone = s.sessions.iter().all(|x| x.at == Life::Free);
        let quiet = s
            .hosts
            .iter()
            .all(|h| h.run.at == At::Idle && !h.down && !h.ending && h.late.is_none());
        if !gone || !quiet || s.no_index {
            return true;
        }
        (0..self.rules.hosts).all(|h| {
            let mut s = *s;
            self.serves(&mut s, h) && self.serves(&mut s, h) && {
                // What nobody believes stays where nobody looks for it.
                let looks = self.rules.migrate[h] || !s.marked;
                let left = s.log.is_some() && looks;
                !left && matches!(s.hosts[h].place, Place::Record(r) if r.current)
            }
        })
    }

    fn serves(&self, s: &mut State, h: usize) -> bool {
        self.login(s, h);
        for _ in 0..50 {
            match s.sessions[0].at {
                Life::Waiting | Life::Aboard if self.may_step(s, h) => self.step(s, h),
                Life::Verdict => {
                    self.open(s, 0);
                    if s.sessions[0].at == Life::Building {
                        self.rename(s, 0);
                    }
                    s.sessions[0].wrote = false;
                    self.logout(s, 0);
                    return s.broken.is_none();
                }
                _ => return false,
            }
        }
        false
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let mut s = State {
            size: (self.rules.hosts, self.rules.sessions),
            ..State::default()
        };
        if self.rules.left_over {
            s.log = Some(0);
        }
        vec![s]
    }

    fn actions(&self, s: &State, acts: &mut Vec<Act>) {
        self.acts(s, acts);
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut s = *last;
        self.act(&mut s, act);
        Some(s.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no list index is given out that lacks what was promised",
                |_, s: &State| s.broken != Some(Broken::Stale),
            ),
            Property::always(
                "a list index that moves is whole on one side",
                |_, s: &State| s.broken != Some(Broken::Lost),
            ),
            Property::always("one host at most holds the user", |_, s: &State| {
                let holds =
                    |h: &&super::state::Host| matches!(h.place, Place::Record(r) if r.current);
                s.hosts.iter().filter(holds).count() <= 1
            }),
            Property::always("all hosts serve once everybody has gone", |p: &Self, s| {
                p.off.is_some() || p.serves_again(s)
            }),
        ]
    }
}

/// Runs the check; returns how many states there are, and the shortest way to break a property.
pub fn explore(protocol: Protocol, threads: usize) -> (usize, Option<(&'static str, Vec<String>)>) {
    let checker = protocol
        .checker()
        .threads(threads)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    let found = checker
        .discoveries()
        .into_iter()
        .min_by_key(|(_, path)| path.clone().into_actions().len());
    let found = found.map(|(name, path)| {
        let steps = path.into_vec();
        let told = steps
            .into_iter()
            .filter_map(|(s, act)| act.map(|act| tell(&s, act)));
        (name, told.collect())
    });
    (states, found)
}
