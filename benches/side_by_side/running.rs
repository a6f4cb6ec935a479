//! A contestant that is up: mounted when made, unmounted and gone when dropped.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use crate::contestant::{Contestant, Daemon, Rights, Talk};
use crate::place::{Owner, Place, ROOT};

const PATIENCE: Duration = Duration::from_secs(10);

/// A contestant one can work on. Hold it: dropping it takes the mount down.
pub struct Running {
    pub name: &'static str,
    pub place: Place,
    daemon: Option<Child>,
}

impl Running {
    /// Starts the contestant's daemon, if it has one, and waits until its mount is there.
    pub fn start(contestant: &Contestant, place: Place, talk: Talk) -> Result<Self> {
        let mut running = Self {
            name: contestant.name,
            place,
            daemon: None,
        };
        if let Some(daemon) = &contestant.daemon {
            running.daemon = Some(spawn(daemon, &running.place, talk)?);
            running
                .wait_until_mounted()
                .with_context(|| running.last_words())?;
        }
        Ok(running)
    }

    /// The daemon's process, if there is one.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// The directory under which the users' directories are made and used.
    pub fn top(&self) -> &Path {
        if self.daemon.is_some() {
            &self.place.mountpoint
        } else {
            &self.place.backing
        }
    }

    fn wait_until_mounted(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if is_mounted(&self.place.mountpoint)? {
                return Ok(());
            }
            if let Some(status) = self
                .daemon
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("{} ended ({status}) without a mount", self.name);
            }
            sleep(Duration::from_millis(10));
        }
        bail!("{} did not mount within {PATIENCE:?}", self.name)
    }

    /// The end of what the daemon printed, for an error message.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.place.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        if is_mounted(&self.place.mountpoint).unwrap_or(false) {
            if let Err(e) = unmount(&self.place.mountpoint, UnmountFlags::DETACH) {
                eprintln!("{}: failed to unmount: {e}", self.name);
            }
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if !matches!(daemon.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        eprintln!(
            "{}: still running {PATIENCE:?} after the unmount, killed",
            self.name
        );
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}

fn spawn(daemon: &Daemon, place: &Place, talk: Talk) -> Result<Child> {
    let log = File::create(&place.log)
        .with_context(|| format!("failed to make {}", place.log.display()))?;
    let mut command = if daemon.rights == Rights::MailOwners && place.mail != ROOT {
        as_mail_owner(daemon, place)
    } else {
        Command::new(&daemon.program)
    };
    command
        .args((daemon.args)(place, talk))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command
        .spawn()
        .with_context(|| format!("failed to run {}", daemon.program.display()))
}

/// Runs the daemon as the mail's owner, who keeps of root's capabilities what opening /dev/fuse and mounting take.
fn as_mail_owner(daemon: &Daemon, place: &Place) -> Command {
    const KEPT: &str = "+sys_admin,+dac_override";
    let Owner { uid, gid } = place.mail;
    let mut command = Command::new("setpriv");
    command.arg("--clear-groups");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
    command.args(["--inh-caps", KEPT, "--ambient-caps", KEPT]);
    command.arg(&daemon.program);
    command
}

/// Whether something is mounted at `path`, told from mountinfo so that the filesystem itself is not asked.
fn is_mounted(path: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read mountinfo")?;
    let path = path
        .to_str()
        .context("the bench's directory is not UTF-8")?;
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path)))
}
