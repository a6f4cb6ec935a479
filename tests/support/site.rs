//! A host as a site has it: a mount of ours, and a Dovecot whose list index is in it.
use super::config::{Config, HASHED};
use super::dovecot::{Dovecot, hashed};
use super::imap::Imap;
use super::lab::{GID, Lab, UID};
use super::mount::{Mount, Options};
use super::process;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What every file of a list index begins with.
pub const PREFIX: &str = "dovecot.list.index";
/// The log, which Dovecot opens first.
pub const LOG: &str = "dovecot.list.index.log";

/// A host. Dovecot ends before the mount does.
pub struct Site {
    /// Its Dovecot.
    pub dovecot: Dovecot,
    /// Its mount.
    pub mount: Mount,
}

impl Site {
    /// A host of this name, as documented.
    pub fn new(lab: &Lab, name: &str) -> Self {
        Self::with(Options::new(lab, name), Config::new(lab, name))
    }

    /// A host mounted so, with such a Dovecot; its list index is in the mount, hashed as documented.
    pub fn with(options: Options, config: Config) -> Self {
        Self::with_layout(options, config, HASHED)
    }

    /// The same with another layout.
    pub fn with_layout(options: Options, config: Config, layout: &str) -> Self {
        let mount = options.mount();
        let dovecot = config
            .listindex_at(&format!("{}/{layout}", mount.path().display()))
            .start();
        Self { dovecot, mount }
    }

    /// A session of this user.
    pub fn login(&self, user: &str) -> Imap {
        self.dovecot.login(user)
    }

    /// Lets a new user's first session come and go. It makes INDEX, and nobody can claim a user who has none: so
    /// sessions that begin while it lasts are refused, which is right but not what most tests are about.
    pub fn settle(&self, user: &str) {
        let mut imap = self.login(user);
        imap.list_status();
        imap.logout();
        self.wait_no_sessions();
    }

    /// The user's directory in the backing, which nobody guards: to look at only.
    pub fn backing_of(&self, user: &str) -> PathBuf {
        hashed(self.mount.backing(), user)
    }

    /// The user's directory in the mount.
    pub fn dir_of(&self, user: &str) -> PathBuf {
        hashed(self.mount.path(), user)
    }

    /// Whether a session of this user has the list index in the mount open: it was not refused, and what it
    /// has was not taken from under it.
    pub fn is_served(&self, user: &str) -> bool {
        let log = self.dir_of(user).join(LOG);
        self.dovecot
            .process_pids_of(user)
            .into_iter()
            .any(|pid| process::open_files(pid).contains(&log))
    }

    /// See [`Mount::drain`].
    pub fn drain(&self, args: &[&str]) -> (Option<i32>, serde_json::Value) {
        self.mount.drain(args)
    }

    /// Opens the log through the mount and reads it, as a mail process would. `None` if that hangs.
    pub fn open_log(&self, user: &str) -> Option<Output> {
        open_log_as(&self.dir_of(user), UID, GID)
    }

    /// Waits until nothing of earlier sessions is left, so that their files are closed.
    pub fn wait_no_sessions(&self) {
        self.dovecot.wait_no_sessions();
    }

    /// Waits until the worker knows it too: that files are closed it hears a moment later.
    pub fn wait_idle(&self, user: &str) {
        let mut tool = Command::new(super::mount::tool());
        tool.args(["user", user, "--json", "--mount"]);
        tool.arg(self.mount.path());
        super::eventually("nobody is busy with him", || {
            let about: serde_json::Value = serde_json::from_str(&process::run(&mut tool)).ok()?;
            (about["state"] == "idle").then_some(())
        });
    }
}

/// Makes the user's directory as Dovecot does, opens the log in it and reads it. `None` if that hangs.
pub fn open_log_as(dir: &Path, uid: u32, gid: u32) -> Option<Output> {
    let script = "mkdir -p \"$1\" 2>/dev/null; exec cat \"$1/dovecot.list.index.log\"";
    let mut command: Command = super::dovecot::as_user(uid, gid, "sh");
    process::output(command.args(["-c", script, "sh"]).arg(dir), super::LIMIT)
}

/// The files of a list index in a directory, without what is only for a moment.
pub fn list_index(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let lasting = |name: &String| {
        name.starts_with(PREFIX)
            && ![".newlock", ".lock", ".tmp"]
                .iter()
                .any(|end| name.ends_with(end))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(lasting);
    names
        .filter_map(|name| Some((name.clone(), fs::read(dir.join(&name)).ok()?)))
        .collect()
}
