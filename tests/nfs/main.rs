//! What only real NFS can show. The tests marked `ignore` run in a guest (`scripts/nfs-vm`), which those of
//! `host` boot: `LISTINDEXFS_NFS_FILTER=freshness cargo test --test nfs` runs some of them.
#[path = "../support/mod.rs"]
mod support;

mod bench;
mod budget;
mod check;
mod claims;
mod credentials;
mod freshness;
mod guest;
mod host;
mod hung;
mod mount_guard;
mod quota;
mod readme;
mod refusals;
mod sessions;
mod two_hosts;
