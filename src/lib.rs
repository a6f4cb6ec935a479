//! listindexfs: Dovecot's mailbox list index in the host's RAM, never stale.
//!
//! A request goes `fuse` → `fs` → `user` → (`userdb` | `index` | `store`) → `sys` and back; nothing imports upward.

mod answer;
pub mod cli;
mod control;
pub mod ctl;
mod daemon;
mod exit;
pub mod fs;
pub mod fuse;
pub mod index;
pub mod journal;
pub mod keep;
mod log_limit;
mod logging;
mod mountinfo;
pub mod options;
mod printable;
mod ready;
mod stats;
pub mod store;
pub mod supervise;
mod sys;
pub mod template;
mod unmount;
pub mod user;
pub mod userdb;
