//! One line for each event about a user, with what was decided and why: so many of a kind a minute by name, then their number.

use log::Level;

use super::gate::Gate;
use crate::stats::Cell;
use crate::template::User;

/// So many lines a minute of each kind about one user.
const OF_ONE: u32 = 5;
/// So many where it is not his doing, about all users together: a sweep may let a hundred thousand go.
const OF_ALL: u32 = 60;

/// Why what lay here of somebody went, other than that he came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `max_bytes=` or `max_users=` is near.
    Bounds,
    /// No room in the backing.
    Full,
    /// `max_age=`.
    Age,
    /// Another host has had him since.
    Moved,
    /// `listindexctl clean` or `evict`.
    Clean,
    /// `listindexctl drain`.
    Drain,
    /// `listindexctl drain --stock`, and INDEX is not to have it.
    NotGivenBack,
}

impl Reason {
    /// Where it is counted.
    fn cell(self) -> Cell {
        match self {
            Reason::Bounds => Cell::EvictedBounds,
            Reason::Full => Cell::EvictedFull,
            Reason::Age => Cell::EvictedAge,
            Reason::Moved => Cell::EvictedMoved,
            Reason::Clean | Reason::Drain => Cell::EvictedClean,
            Reason::NotGivenBack => Cell::EvictedGivenBack,
        }
    }

    /// Each has a limit of its own.
    fn kind(self) -> &'static str {
        match self {
            Reason::Bounds => "evicted: bounds",
            Reason::Full => "evicted: full",
            Reason::Age => "evicted: age",
            Reason::Moved => "evicted: moved",
            Reason::Clean => "evicted: clean",
            Reason::Drain => "evicted: drain",
            Reason::NotGivenBack => "evicted: not given back",
        }
    }
}

impl Gate {
    /// What lay here of an idle user has gone.
    pub(super) fn evicted(&self, user: &User, why: Reason) {
        self.stats.count(why.cell());
        let age = self.config.bounds.max_age.unwrap_or_default();
        let text = match why {
            Reason::Bounds => "max_bytes= or max_users= is near".to_owned(),
            Reason::Full => "the backing is full".to_owned(),
            Reason::Age => format!("not used for {}", humantime::format_duration(age)),
            Reason::Moved => "another host has had him since".to_owned(),
            Reason::Clean => "listindexctl clean or evict".to_owned(),
            Reason::Drain => "listindexctl drain".to_owned(),
            Reason::NotGivenBack => {
                "listindexctl drain --stock, INDEX has no use for it".to_owned()
            }
        };
        let line = format!("list index evicted: {text}");
        self.happened(Level::Info, why.kind(), user, &line);
    }

    /// Something that becomes of many users at once.
    pub(super) fn happened(&self, level: Level, kind: &'static str, user: &User, what: &str) {
        let line = format!("{user}: {what}");
        self.limit.some(level, b"", (kind, OF_ALL), &line);
    }

    /// Something that comes of the user's own sessions.
    pub(super) fn did(&self, user: &User, kind: &'static str, what: &str) {
        let line = format!("{user}: {what}");
        let whom = user.as_bytes();
        self.limit.some(Level::Info, whom, (kind, OF_ONE), &line);
    }

    /// Tells how many lines were left out within the minutes that are over. To be called now and then.
    pub fn tell_left_out(&self) {
        self.limit.tell_left_out();
    }

    /// The same of all, where the mount ends.
    pub fn tell_all_left_out(&self) {
        self.limit.end();
    }
}
