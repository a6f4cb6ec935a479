//! Tells the kernel of files that are gone without its doing.
//!
//! The attributes of the inode are invalidated, never the directory entry: `INVAL_ENTRY` waits, beyond
//! the reach of SIGKILL, for every LOOKUP in that directory, and a LOOKUP of L may be waiting for us.
//! With the attributes gone, a `stat` asks for them, is answered ESTALE, and the kernel looks up again.

use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier};

use super::prune::Gone;
use super::readers::Readers;
use crate::store::Node;
use crate::user::Kernel;

/// Sends invalidations, once there is a session to send them through.
#[derive(Clone)]
pub struct Invalidator {
    readers: Arc<Readers>,
    notifier: Arc<OnceLock<Notifier>>,
    /// What is left to be given back is not waited for.
    pub gone: Gone,
}

impl Invalidator {
    /// There is no session yet; it will have these readers.
    pub fn new(readers: Arc<Readers>) -> Self {
        Invalidator {
            readers,
            notifier: Arc::default(),
            gone: Gone::default(),
        }
    }

    /// From now on there is a session.
    pub fn attach(&self, notifier: Notifier) {
        // Attached once, by the one session.
        let _ = self.notifier.set(notifier);
    }
}

impl Kernel for Invalidator {
    fn gone(&self, node: Node) {
        self.gone.add(node);
        let Some(notifier) = self.notifier.get() else {
            return;
        };
        // An offset below 0 means the attributes alone.
        if let Err(e) = notifier.inval_inode(INodeNo(node.0), -1, 0) {
            // ENOENT: the kernel does not know the node; ENODEV: the mount has ended.
            log::debug!("invalidation of node {:x}: {e}", node.0);
        }
    }

    fn step_aside(&self) {
        self.readers.step_aside();
    }
}
