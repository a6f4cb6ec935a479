//! Tells the kernel of names that changed behind its back, from one thread that holds no lock.
//!
//! Sent from within LOOKUP, CREATE, RENAME or UNLINK of the same directory, an invalidation deadlocks.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;

use crate::store::Node;
use crate::user::Kernel;

type Names = Receiver<(Node, OsString)>;

/// Queues invalidations.
#[derive(Clone)]
pub struct Invalidator {
    queue: Sender<(Node, OsString)>,
    waiting: Arc<Mutex<Option<Names>>>,
}

impl Default for Invalidator {
    fn default() -> Self {
        let (queue, waiting) = channel();
        Invalidator {
            queue,
            waiting: Arc::new(Mutex::new(Some(waiting))),
        }
    }
}

impl Invalidator {
    /// Starts the thread, once there is a session; it ends with the last clone.
    pub fn start(&self, notifier: Notifier) -> std::io::Result<()> {
        let Some(waiting) = self.waiting.lock().take() else {
            return Ok(());
        };
        std::thread::Builder::new()
            .name("notifier".into())
            .spawn(move || {
                for (parent, name) in waiting {
                    // ENOENT: the kernel does not know the name; ENODEV: the mount has ended.
                    if let Err(e) = notifier.inval_entry(INodeNo(parent.0), &name) {
                        log::debug!("invalidation of {}: {e}", name.to_string_lossy());
                    }
                }
            })?;
        Ok(())
    }
}

impl Kernel for Invalidator {
    fn forget_entry(&self, parent: Node, name: &OsStr) {
        // Without a receiver the session has ended, and with it the kernel's cache.
        let _ = self.queue.send((parent, name.to_owned()));
    }
}
