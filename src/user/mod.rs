//! One user's list index: who may have it now. The gate, its decision and its steps.

pub mod claim;
pub mod decide;
pub mod fence;
pub mod flight;
pub mod gate;
pub mod ghosts;
pub mod housekeeper;
pub mod local;
pub mod process;
pub mod pull;
pub mod record;
pub mod state;
pub mod steps;

use crate::store::Node;
use std::ffi::OsStr;

/// Tells the kernel that a name no longer means what it has cached.
pub trait Kernel: Send + Sync {
    /// `name` in `parent` was removed or replaced behind the kernel's back. Must not wait.
    fn forget_entry(&self, parent: Node, name: &OsStr);
}
