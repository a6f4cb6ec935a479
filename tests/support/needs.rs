//! What a test needs of the machine. Where that lacks, the test is skipped and says why; with
//! `LISTINDEXFS_NO_SKIP` set (continuous integration) that is a failure instead.
use std::path::Path;

/// One thing a test cannot do without.
pub struct Need {
    what: &'static str,
    met: fn() -> bool,
}

/// Other uids, mounts and Dovecot's master process all need root.
pub const ROOT: Need = Need {
    what: "root",
    met: || rustix::process::geteuid().is_root(),
};
/// A stock Dovecot with LMTP.
pub const DOVECOT: Need = Need {
    what: "Dovecot (imapd and lmtpd)",
    met: super::dovecot::is_there,
};
/// What boots a guest with real NFS.
pub const VM: Need = Need {
    what: "QEMU and what makes its guest (scripts/test installs them)",
    met: || {
        ["qemu-system-x86_64", "debootstrap", "mke2fs", "cpio"]
            .iter()
            .all(|tool| on_path(tool))
    },
};
/// What makes another Debian in a directory.
pub const DEBIAN: Need = Need {
    what: "debootstrap (scripts/test installs it)",
    met: || on_path("debootstrap"),
};
/// A systemd that is pid 1 of a namespace, with a cgroup of its own.
pub const SYSTEMD: Need = Need {
    what: "systemd and cgroup2",
    met: || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let has_cgroup2 = mounts.lines().any(|line| line.contains(" cgroup2 "));
        Path::new("/lib/systemd/systemd").exists() && has_cgroup2
    },
};
/// A kernel with FUSE that we may use.
pub const FUSE: Need = Need {
    what: "/dev/fuse",
    met: || {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .is_ok()
    },
};

/// What makes a host in a mount namespace.
pub const TOOLS: Need = Need {
    what: "unshare and mount.fuse",
    met: || ["unshare", "mount.fuse"].iter().all(|tool| on_path(tool)),
};

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .any(|dir| dir.join(program).exists())
}

/// The first of `needs` that the machine lacks.
pub fn missing(needs: &[Need]) -> Option<&'static str> {
    let need = needs.iter().find(|need| !(need.met)())?;
    Some(need.what)
}

/// Tells, and prints, that the machine lacks one of `needs`: then the test returns at once.
pub fn lacks(needs: &[Need]) -> bool {
    let Some(what) = missing(needs) else {
        return false;
    };
    assert!(
        std::env::var_os("LISTINDEXFS_NO_SKIP").is_none(),
        "this test needs {what}"
    );
    eprintln!("skipped: this test needs {what}");
    true
}
