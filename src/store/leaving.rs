//! Directories that are to be removed unless somebody looks at them.
//!
//! Dovecot looks whether its directory is there, and a moment later makes files in it: in between it must not go, nor may the
//! kernel say from its cache that it is there. So first the kernel forgets what it knows; then, for a while, whoever looks
//! keeps the directory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Node;

/// So many at a time.
const MOST: usize = 4096;

/// Those directories, and since when.
#[derive(Debug, Default)]
pub struct Leaving {
    dirs: Mutex<HashMap<Node, Instant>>,
    /// How many they are: mostly none, and then nobody who looks waits.
    many: AtomicUsize,
}

impl Leaving {
    /// The directory is to go; `false` when it was to before, or too many are.
    pub fn begin(&self, dir: Node) -> bool {
        let mut dirs = self.dirs.lock();
        let begins = dirs.len() < MOST && !dirs.contains_key(&dir);
        if begins {
            dirs.insert(dir, Instant::now());
            self.many.store(dirs.len(), Ordering::SeqCst);
        }
        begins
    }

    /// Whether no more can be on their way.
    pub fn is_full(&self) -> bool {
        self.many.load(Ordering::SeqCst) >= MOST
    }

    /// Somebody looks at a file: a directory that he is told of stays.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn look<T, E>(
        &self,
        look: impl FnOnce() -> Result<T, E>,
        node: impl FnOnce(&T) -> Node,
    ) -> Result<T, E> {
        if self.many.load(Ordering::SeqCst) == 0 {
            return look();
        }
        let mut dirs = self.dirs.lock();
        let seen = look()?;
        if dirs.remove(&node(&seen)).is_some() {
            log::debug!("an empty directory that was to go is asked for: it stays");
        }
        self.many.store(dirs.len(), Ordering::SeqCst);
        Ok(seen)
    }

    /// The directories at which nobody has looked for so long.
    pub fn due(&self, unseen: Duration) -> Vec<Node> {
        let dirs = self.dirs.lock();
        let due = dirs.iter().filter(|(_, since)| since.elapsed() >= unseen);
        due.map(|(dir, _)| *dir).collect()
    }

    /// Does `remove`, unless somebody has looked at the directory: `None`. Nobody does meanwhile.
    pub fn end<T>(&self, dir: Node, remove: impl FnOnce() -> T) -> Option<T> {
        let mut dirs = self.dirs.lock();
        let removed = dirs.contains_key(&dir).then(remove);
        dirs.remove(&dir);
        self.many.store(dirs.len(), Ordering::SeqCst);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Node = Node(3);

    #[test]
    fn who_looks_keeps_it() {
        let leaving = Leaving::default();
        assert!(leaving.begin(DIR) && !leaving.begin(DIR));
        assert_eq!(leaving.due(Duration::ZERO), [DIR]);
        let seen = leaving.look(|| Ok::<_, ()>(DIR), |node| *node);
        assert_eq!(seen, Ok(DIR));
        assert_eq!(leaving.end(DIR, || ()), None);
        assert!(leaving.due(Duration::ZERO).is_empty());
    }

    #[test]
    fn who_looks_at_another_does_not() {
        let leaving = Leaving::default();
        leaving.begin(DIR);
        leaving
            .look(|| Ok::<_, ()>(Node(4)), |node| *node)
            .expect("seen");
        leaving
            .look(|| Err::<Node, _>(()), |node| *node)
            .expect_err("not seen");
        assert_eq!(leaving.end(DIR, || 5), Some(5));
        assert!(leaving.begin(DIR), "it has come again");
    }

    #[test]
    fn so_many_at_a_time() {
        let leaving = Leaving::default();
        let begun = (0..5000).filter(|n| leaving.begin(Node(*n))).count();
        assert!(begun == MOST && leaving.is_full());
    }
}
