//! `listindexctl check` against real set-ups: mounts, fstab and units in a mount namespace, Dovecot's configuration through the
//! real doveconf. Each has one thing wrong, and what is said of it names that and the mend; nothing else is complained of.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod good;
mod host;
mod new;
