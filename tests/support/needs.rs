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
    met: || {
        super::dovecot::programs()
            .iter()
            .all(|p| Path::new(p).exists())
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
