//! listindexfs: Dovecot's mailbox list index in the host's RAM, never stale.
//!
//! A request goes `fuse` → `fs` → `user` → (`index` | `store`) → `sys` and back; nothing imports upward.

pub mod answer;
pub mod cli;
pub mod control;
pub mod ctl;
mod daemon;
pub mod exit;
pub mod fs;
pub mod fuse;
pub mod index;
pub mod journal;
pub mod keep;
pub mod log_limit;
pub mod logging;
pub mod mountinfo;
pub mod options;
pub mod printable;
pub mod stats;
pub mod store;
pub mod supervise;
pub mod sys;
pub mod template;
pub mod unmount;
pub mod user;
pub mod userdb;
