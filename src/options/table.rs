//! The options that every mount knows: what mount(8), fstab and mount.fuse(8) hand us.

use rustix::mount::MountFlags;

/// What such an option means to us.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// Sets a flag of mount(2).
    Set(MountFlags),
    /// Clears one.
    Clear(MountFlags),
    /// For mount(8) or systemd, always on, or without meaning here.
    Nothing,
    /// Cannot be: says why, and what to do.
    Refused(&'static str),
}

use Meaning::{Clear, Nothing, Refused, Set};

/// Name, whether a value may follow, meaning.
const TABLE: &[(&str, bool, Meaning)] = &[
    ("rw", false, Clear(MountFlags::RDONLY)),
    ("ro", false, Set(MountFlags::RDONLY)),
    ("exec", false, Clear(MountFlags::NOEXEC)),
    ("noexec", false, Set(MountFlags::NOEXEC)),
    ("noatime", false, Set(MountFlags::NOATIME)),
    ("atime", false, Clear(MountFlags::NOATIME)),
    ("relatime", false, Clear(MountFlags::NOATIME)),
    ("strictatime", false, Clear(MountFlags::NOATIME)),
    // mount.fuse appends `dev` and `suid` on its own where fstab does not say otherwise: they
    // change nothing, for nosuid and nodev are always on.
    ("dev", false, Nothing),
    ("nodev", false, Nothing),
    ("suid", false, Nothing),
    ("nosuid", false, Nothing),
    ("allow_other", false, Nothing),
    ("default_permissions", false, Nothing),
    ("norelatime", false, Nothing),
    ("nostrictatime", false, Nothing),
    ("diratime", false, Nothing),
    ("nodiratime", false, Nothing),
    ("lazytime", false, Nothing),
    ("nolazytime", false, Nothing),
    ("sync", false, Nothing),
    ("async", false, Nothing),
    ("dirsync", false, Nothing),
    ("mand", false, Nothing),
    ("nomand", false, Nothing),
    ("iversion", false, Nothing),
    ("noiversion", false, Nothing),
    ("symfollow", false, Nothing),
    ("silent", false, Nothing),
    ("loud", false, Nothing),
    ("defaults", false, Nothing),
    ("auto", false, Nothing),
    ("noauto", false, Nothing),
    ("user", true, Nothing),
    ("nouser", false, Nothing),
    ("users", false, Nothing),
    ("nousers", false, Nothing),
    ("owner", false, Nothing),
    ("noowner", false, Nothing),
    ("group", false, Nothing),
    ("nogroup", false, Nothing),
    ("nofail", false, Nothing),
    ("_netdev", false, Nothing),
    ("_rnetdev", false, Nothing),
    ("comment", true, Nothing),
    (
        "remount",
        false,
        Refused("a mount cannot be changed in place: unmount it and mount it again"),
    ),
    (
        "fsname",
        true,
        Refused("the source shown is always BACKING: leave it out"),
    ),
    (
        "subtype",
        true,
        Refused("the type is always fuse.listindexfs: leave it out"),
    ),
    (
        "allow_root",
        false,
        Refused("every user's Dovecot comes here, allow_other is always on: leave it out"),
    ),
];

/// The row of an option, with the table's own copy of its name.
pub fn find(name: &str) -> Option<(&'static str, bool, Meaning)> {
    TABLE.iter().find(|row| row.0 == name).copied()
}

/// All names, for "did you mean".
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

/// `x-…` and `X-…` are kept in fstab for other programs.
pub fn is_for_others(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-")
}
