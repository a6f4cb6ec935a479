//! Ghosts: processes whose changes no longer reach the list index that others would be given.
//!
//! A ghost was refused, or held files open when they had to go. While one lives nobody is given the
//! list index: what it changes would be missing there for good.

use std::collections::HashMap;
use std::sync::Arc;

use super::process::{Process, Processes};
use super::state::Holder;
use crate::index::creds::Creds;

/// One ghost of one user.
#[derive(Clone, Debug)]
pub struct Ghost {
    /// Who it is.
    pub process: Process,
    /// With what rights it came: its fence is set with them.
    pub creds: Arc<Creds>,
    /// It has opened another user's L since: `lmtp` goes from user to user.
    pub moved_on: bool,
}

impl Ghost {
    /// Its time ends when its handles are released and it has exited or gone on to another user.
    pub fn lives(&self, holders: &HashMap<u32, Holder>, processes: &dyn Processes) -> bool {
        holders.contains_key(&self.process.pid) || (!self.moved_on && processes.alive(self.process))
    }
}

/// Adds ghosts that are not known yet.
pub fn add(known: &mut Vec<Ghost>, new: impl IntoIterator<Item = Ghost>) {
    for ghost in new {
        match known
            .iter_mut()
            .find(|g| g.process == ghost.process && ghost.process.pid != 0)
        {
            Some(back) => back.moved_on = false, // refused once more
            None => known.push(ghost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::process::Caller;

    struct Alive(Vec<Process>);
    impl Processes for Alive {
        fn started(&self, pid: u32) -> Option<u64> {
            self.0.iter().find(|p| p.pid == pid).map(|p| p.started)
        }
        fn groups(&self, _: Caller) -> Vec<u32> {
            Vec::new()
        }
    }

    fn ghost(pid: u32, started: u64) -> Ghost {
        let creds = Arc::new(Creds {
            uid: 1,
            gid: 1,
            groups: vec![],
        });
        Ghost {
            process: Process { pid, started },
            creds,
            moved_on: false,
        }
    }

    #[test]
    fn a_ghost_lives_while_it_runs_or_holds() {
        let alive = Alive(vec![Process { pid: 5, started: 9 }]);
        let none = HashMap::new();
        let holds = HashMap::from([(
            6,
            Holder {
                handles: 1,
                process: Process { pid: 6, started: 1 },
                creds: ghost(6, 1).creds,
            },
        )]);
        assert!(ghost(5, 9).lives(&none, &alive), "runs");
        assert!(
            !ghost(5, 8).lives(&none, &alive),
            "its pid is another's now"
        );
        assert!(!ghost(6, 1).lives(&none, &alive), "exited");
        assert!(
            ghost(6, 1).lives(&holds, &alive),
            "exited, but a child holds its files"
        );
        assert!(
            !Ghost {
                moved_on: true,
                ..ghost(5, 9)
            }
            .lives(&none, &alive),
            "went to another user"
        );
        assert!(
            ghost(0, 0).lives(&none, &alive),
            "one that cannot be watched"
        );
    }

    #[test]
    fn a_ghost_refused_again_is_back() {
        let mut known = vec![Ghost {
            moved_on: true,
            ..ghost(5, 9)
        }];
        add(&mut known, [ghost(5, 9), ghost(5, 10)]);
        assert_eq!(
            known
                .iter()
                .map(|g| (g.process.started, g.moved_on))
                .collect::<Vec<_>>(),
            [(9, false), (10, false)]
        );
    }
}
