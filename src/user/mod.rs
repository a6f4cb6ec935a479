//! One user's list index: who may have it now. The gate, its decision and its steps.

pub mod about;
mod answer;
pub mod claim;
pub mod clean;
pub mod count;
pub mod decide;
pub mod directory;
mod ending;
mod evict;
mod fence;
mod flaps;
pub mod flight;
pub mod gate;
pub mod ghosts;
pub mod giving;
mod haunt;
pub mod history;
mod housekeeper;
pub mod local;
mod look;
pub mod moved;
mod parcel;
mod passing;
pub mod process;
mod pull;
pub mod record;
mod records;
mod room;
mod server;
pub mod state;
pub mod steps;
pub mod told;
mod users;

use crate::store::Node;

/// The side of the kernel, which asks and caches.
pub trait Kernel: Send + Sync {
    /// The file was removed behind the kernel's back. Must not wait.
    fn gone(&self, node: Node);

    /// This thread, on which the kernel asked something, may wait for a server: others are to hear what it asks next.
    fn step_aside(&self) {}
}
