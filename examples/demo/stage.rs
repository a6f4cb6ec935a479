//! Everything around the story: signals, panics of the harness, and that nothing is left at the end.

use std::any::Any;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::story;
use crate::support::process::Family;
use crate::support::{Dovecot, Lab, Site, within};

/// All that is made, in the order in which it goes: Dovecots before the mounts they use, directories last.
pub struct World {
    /// The stock backend.
    pub stock: Option<Dovecot>,
    /// Dovecots with their list index in plain RAM.
    pub plain: Vec<Dovecot>,
    /// Hosts with a mount of ours.
    pub sites: Vec<Site>,
    /// The directories.
    pub lab: Lab,
}

/// Where the story is told.
pub struct Stage {
    /// The signal that came, or 0. A signal ends nothing by itself.
    signal: Arc<AtomicUsize>,
}

impl Stage {
    /// Watches signals. Nothing has been made before that.
    pub fn new() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Self { signal })
    }

    /// The signal that interrupted the story.
    pub fn interrupted(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => u8::try_from(signal).ok(),
        }
    }

    /// Says whether to go on; the story asks before each of its steps.
    pub fn go_on(&self) -> Result<()> {
        match self.interrupted() {
            None => Ok(()),
            Some(_) => bail!("interrupted"),
        }
    }

    /// Makes a world, tells the story in it, takes the world away, and sees whether it is gone.
    pub fn play(&self, disk: &Path, ram: &Path) -> Result<()> {
        // What the harness has to say when it panics is told once, as the reason of the failure.
        std::panic::set_hook(Box::new(|_| {}));
        let lab = caught(|| Ok(Lab::within(disk, ram)))?;
        let dirs = lab.dirs();
        let mut world = World {
            stock: None,
            plain: Vec::new(),
            sites: Vec::new(),
            lab,
        };
        let told = caught(|| story::tell(self, &mut world));
        let told = told.map_err(|error| match self.interrupted() {
            Some(_) => error,
            None => anyhow!("{error:#}\n{}", complaints(&world)),
        });
        let family = Family::of(std::process::id());
        let gone = caught(|| {
            drop(world);
            Ok(())
        });
        let left = left_behind(&family, &dirs);
        told.and(gone).and(left)
    }
}

/// The harness panics where a test would fail: here that is an error.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(anyhow!(words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panic").to_owned()
}

/// What the hosts' own logs have to say about a failure.
fn complaints(world: &World) -> String {
    let mut lines = Vec::new();
    for site in &world.sites {
        let log = site.mount.log();
        let bad = log
            .lines()
            .filter(|line| line.starts_with("[WARN") || line.starts_with("[ERROR"));
        lines.extend(bad.map(str::to_owned));
    }
    let dovecots = world.stock.iter().chain(&world.plain);
    for dovecot in dovecots.chain(world.sites.iter().map(|site| &site.dovecot)) {
        lines.extend(dovecot.errors());
    }
    match lines.is_empty() {
        true => "The hosts logged no complaint.".to_owned(),
        false => format!("The hosts logged:\n{}", lines.join("\n")),
    }
}

/// An error if a process, a mount or a directory of the demonstration is still there.
fn left_behind(family: &Family, dirs: &[PathBuf]) -> Result<()> {
    // A killed process takes a moment.
    let ended = || family.alive().next().is_none().then_some(());
    let pids: Vec<u32> = match within(Duration::from_secs(10), ended) {
        Some(()) => Vec::new(),
        None => family.alive().collect(),
    };
    ensure!(pids.is_empty(), "processes are left: {pids:?}");
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    for dir in dirs {
        let dir = dir.to_string_lossy();
        let mount = mounts.lines().find(|line| line.contains(&*dir));
        ensure!(mount.is_none(), "a mount is left: {mount:?}");
        ensure!(fs::symlink_metadata(&*dir).is_err(), "{dir} is left");
    }
    Ok(())
}
