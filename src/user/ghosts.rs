//! Ghosts: processes whose changes no longer reach the list index that others would be given.
//!
//! A ghost was refused, or held files open when they had to go. While one lives nobody is given the
//! list index: what it changes would be missing there for good.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::process::{Process, Processes};
use super::state::Holder;
use crate::index::creds::Creds;

/// How long a fence that could not be set is left alone, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// One ghost of one user.
#[derive(Clone, Debug)]
pub struct Ghost {
    /// Who it is.
    pub process: Process,
    /// With what rights it came: its fence is set with them.
    pub creds: Arc<Creds>,
    /// How it came to be one.
    pub why: Why,
}

/// How a process came to be a ghost, which tells when its time ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was refused, and keeps its list index in memory.
    Refused,
    /// It held files open that had to go, or could not write them.
    Held,
    /// It has opened another user's L since: `lmtp` goes from user to user. Or its fence failed.
    MovedOn,
}

impl Ghost {
    /// Its time ends when its handles are released and it has exited or gone on to another user.
    pub fn lives(&self, holders: &HashMap<u32, Holder>, processes: &dyn Processes) -> bool {
        let runs = || match (self.process.pid, self.why) {
            (_, Why::MovedOn) => false,
            // In a pid namespace that we cannot see: nothing tells when it exits.
            (0, why) => why == Why::Refused,
            _ => processes.alive(self.process),
        };
        holders.contains_key(&self.process.pid) || runs()
    }

    fn is(&self, other: &Ghost) -> bool {
        self.process == other.process && (self.process.pid != 0 || self.creds == other.creds)
    }
}

/// Adds ghosts that are not known yet.
pub fn add(known: &mut Vec<Ghost>, new: impl IntoIterator<Item = Ghost>) {
    for ghost in new {
        match known.iter_mut().find(|g| g.is(&ghost)) {
            // Refused in between or since: that lasts longest.
            Some(back) if back.why == Why::Refused && ghost.why == Why::Held => {}
            Some(back) => back.why = ghost.why,
            None => known.push(ghost),
        }
    }
}

/// When ghosts whose fence could not be set are tried again: later and later.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackOff {
    pause: Duration,
    until: Option<Instant>,
}

impl BackOff {
    /// Whether it is time.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// Whether it has failed and not succeeded since.
    pub fn has_failed(&self) -> bool {
        self.until.is_some()
    }

    /// It has failed again.
    pub fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        self.until = Some(now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::user::process::Caller;

    struct Alive(Vec<Process>);

    impl Processes for Alive {
        fn birth(&self, pid: u32) -> io::Result<Option<u64>> {
            Ok(self.0.iter().find(|p| p.pid == pid).map(|p| p.birth))
        }

        fn groups(&self, _: Caller) -> Vec<u32> {
            Vec::new()
        }
    }

    fn ghost(pid: u32, birth: u64, why: Why) -> Ghost {
        let creds = Arc::new(Creds {
            uid: 1,
            gid: 1,
            groups: vec![],
        });
        Ghost {
            process: Process { pid, birth },
            creds,
            why,
        }
    }

    fn holds(ghost: &Ghost) -> HashMap<u32, Holder> {
        let Ghost { process, creds, .. } = ghost.clone();
        HashMap::from([(
            process.pid,
            Holder {
                handles: 1,
                process,
                creds,
                wrote: false,
            },
        )])
    }

    #[test]
    fn a_ghost_lives_while_it_runs_or_holds() {
        let alive = Alive(vec![Process { pid: 5, birth: 9 }]);
        let none = HashMap::new();
        assert!(ghost(5, 9, Why::Refused).lives(&none, &alive), "runs");
        assert!(
            !ghost(5, 8, Why::Refused).lives(&none, &alive),
            "its pid is another's now"
        );
        assert!(!ghost(6, 1, Why::Held).lives(&none, &alive), "exited");
        let child = ghost(6, 1, Why::Held);
        assert!(
            child.lives(&holds(&child), &alive),
            "exited, but a child holds its files"
        );
        assert!(
            !ghost(5, 9, Why::MovedOn).lives(&none, &alive),
            "went to another user"
        );
    }

    #[test]
    fn one_that_cannot_be_watched_ends_with_its_handles_unless_it_was_refused() {
        let (alive, none) = (Alive(Vec::new()), HashMap::new());
        let held = ghost(0, 0, Why::Held);
        assert!(held.lives(&holds(&held), &alive));
        assert!(!held.lives(&none, &alive));
        assert!(ghost(0, 0, Why::Refused).lives(&none, &alive));
    }

    #[test]
    fn a_ghost_refused_again_is_back_and_none_is_counted_twice() {
        let mut known = vec![ghost(5, 9, Why::MovedOn)];
        add(
            &mut known,
            [
                ghost(5, 9, Why::Refused),
                ghost(5, 10, Why::Held),
                ghost(5, 9, Why::Held),
            ],
        );
        add(
            &mut known,
            [ghost(0, 0, Why::Refused), ghost(0, 0, Why::Refused)],
        );
        let seen: Vec<_> = known.iter().map(|g| (g.process.birth, g.why)).collect();
        assert_eq!(
            seen,
            [(9, Why::Refused), (10, Why::Held), (0, Why::Refused)]
        );
    }
}
