//! Dovecot 2.4: that of this machine, or, with `LISTINDEXFS_DOVECOT=2.4`, that of a Debian 13 beside it.
//!
//! The latter runs in a mount namespace in which `/usr` and `/etc` are those of the other Debian, and everything else is
//! where it is outside. What is mounted later in a [`Shared`] directory is seen there too.
use super::process;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Whether the Dovecot that the tests use is a 2.4.
pub fn is_used() -> bool {
    is_foreign() || own_is_2_4()
}

/// Whether it is not this machine's.
pub fn is_foreign() -> bool {
    match std::env::var("LISTINDEXFS_DOVECOT").as_deref() {
        Err(_) | Ok("") => false,
        Ok("2.4") => !own_is_2_4(),
        Ok("2.3") if !own_is_2_4() => false,
        Ok(other) => panic!("LISTINDEXFS_DOVECOT={other}: there is no such Dovecot"),
    }
}

fn own_is_2_4() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| {
        let version = Command::new("/usr/sbin/dovecot").arg("--version").output();
        version.is_ok_and(|output| output.stdout.starts_with(b"2.4."))
    })
}

/// The root of the other Debian. It is fetched by who is the first to want it.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/debian-root");
        let made = Command::new(script).arg("trixie").output();
        let made = made.expect("scripts/debian-root");
        assert!(made.status.success(), "{}", process::said(&made));
        PathBuf::from(String::from_utf8_lossy(&made.stdout).trim_end())
    })
}

/// A command in such a namespace of its own. It gets SIGTERM when this program dies.
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    let enter = "for dir in etc usr; do mount -o bind,ro \"$1/$dir\" \"/$dir\" || exit; done; shift; exec \"$@\"";
    let mut command = process::tied("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-c", enter, "sh"]);
    command.arg(root()).arg(program);
    command
}

/// A command in the namespace of a process.
pub fn beside(pid: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &pid.to_string(), "--"]);
    command.arg(program);
    command
}

/// A path in the variables of 2.3, as the tests have them, in those of 2.4.
pub fn path(template: &str) -> String {
    let hash = "%{user | md5 | substr(0, 8) % 256 | hex(2)}";
    let names = [
        ("%2.256Nu", hash),
        ("%1.16Nu", "%{user | md5 | substr(0, 8) % 16 | hex(1)}"),
        ("%u", "%{user}"),
        ("%h", "%{home}"),
        ("%n", "%{user | username}"),
        ("%d", "%{user | domain}"),
    ];
    let text = names
        .iter()
        .fold(template.to_owned(), |text, (of_2_3, of_2_4)| {
            text.replace(of_2_3, of_2_4)
        });
    let left = text.replace("%{", "").replace(" % ", "");
    assert!(!left.contains('%'), "{template} in 2.4's variables?");
    text
}

/// A directory whose later mounts are seen in the namespaces that are made after this.
pub struct Shared(PathBuf);

impl Shared {
    /// Makes it so, by mounting it over itself.
    pub fn new(dir: &Path) -> Self {
        process::run(Command::new("mount").arg("--bind").args([dir, dir]));
        let shared = Self(dir.to_owned());
        process::run(Command::new("mount").arg("--make-shared").arg(dir));
        shared
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
