//! How `listindexctl` and the supervisor speak: a socket in the backing, one line of JSON each way.
//!
//! The supervisor does nothing here that could end or block it: each client has a thread for a moment, with a bound on
//! everything.

pub mod client;
pub mod protocol;
pub mod socket;

/// The socket's name in the private directory of the backing.
const NAME: &str = "control";
