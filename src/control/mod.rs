//! How `listindexctl` and those who serve a mount speak: sockets in the backing, lines of JSON.
//!
//! The supervisor does nothing here that could end or block it: each client has a thread for a moment, with a bound on
//! everything. The worker has a socket of its own, for what only it can do.

pub mod clean;
pub mod client;
pub mod drain;
pub mod protocol;
pub mod socket;
pub mod users;

/// The supervisor's socket, in the private directory of the backing.
pub const SUPERVISOR: &str = "control";
/// The worker's. The worker that follows puts its own in this place.
pub const WORKER: &str = "worker";
