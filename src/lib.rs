//! listindexfs: Dovecot's mailbox list index in the host's RAM, never stale.
//!
//! A request goes `fuse` → `fs` → `user` → (`index` | `store`) → `sys` and back; nothing imports upward.

pub mod fuse;
pub mod options;
pub mod template;
