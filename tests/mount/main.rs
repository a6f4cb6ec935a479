//! Real mounts by the built program, as operators and mount(8) make them.
//!
//! Without root or /dev/fuse each test says that it was skipped.

#![allow(clippy::unwrap_used)]

mod clean;
mod ctl;
mod fstab;
mod life;
mod paths;
mod refusals;
mod rig;
mod users;
