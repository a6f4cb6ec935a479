//! The four processes: how they are started, told what to do, and watched.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::shared::{self, Shared};
use crate::support::dovecot::hashed;
use crate::support::lab::mail_dir;
use crate::support::mount::Options;
use crate::support::ops::Random;
use crate::support::{GID, LIMIT, Lab, Mount, UID, eventually, process};

/// How many processes.
pub const MEMBERS: usize = 4;
/// What a process's last line begins with.
pub const TALLY: &str = "> ";
/// The user whose files all processes share.
pub const TOGETHER: &str = "together";

/// The user whose files one process has for itself.
pub fn user(member: usize) -> String {
    format!("alone{member}")
}

fn users() -> impl Iterator<Item = String> {
    (0..MEMBERS).map(user).chain([TOGETHER.to_owned()])
}

/// Makes users' directories as mail processes would find or make them.
pub fn make_dirs(root: &Path) {
    for user in users() {
        let dir = hashed(root, &user);
        mail_dir(dir.parent().expect("a bucket"));
        mail_dir(&dir);
    }
}

/// A mount whose users all have an INDEX.
pub fn mount(lab: &Lab, change: impl FnOnce(Options) -> Options) -> Mount {
    make_dirs(&lab.index());
    let mount = change(Options::new(lab, "a")).mount();
    for user in users() {
        // The mount has the buckets.
        mail_dir(&hashed(mount.path(), &user));
    }
    mount
}

/// What was done, by kind, and what others check against.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// One more of this kind.
    pub fn count(&mut self, kind: &str) {
        self.add(kind, 1);
    }

    fn add(&mut self, kind: &str, times: u64) {
        *self.0.entry(kind.to_owned()).or_default() += times;
    }

    /// How many of this kind.
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or_default()
    }

    /// How many of all kinds.
    pub fn operations(&self) -> u64 {
        self.0.values().sum()
    }

    /// For the process that started this one.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("JSON")
    }

    /// Whether so many operations were done, and some of each kind.
    pub fn is_enough(&self, operations: u64) -> bool {
        let mut kinds = crate::alone::KINDS.iter().chain(shared::KINDS);
        self.operations() >= operations && kinds.all(|kind| self.of(kind) > 0)
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        other.0.iter().for_each(|(kind, n)| self.add(kind, *n));
    }
}

/// What one process has to do.
pub struct Orders {
    member: usize,
    root: PathBuf,
    seed: u64,
    time: Duration,
}

impl Orders {
    /// Process `member` works below `root` for `time`.
    pub fn new(member: usize, root: &Path, seed: u64, time: Duration) -> Self {
        Self {
            member,
            root: root.to_owned(),
            seed,
            time,
        }
    }

    /// What the environment says, if this program was started to do it.
    pub fn given() -> Option<Self> {
        let text = std::env::var("LISTINDEXFS_STRESS_ORDERS").ok()?;
        let mut words = text.splitn(4, ' ');
        let mut next = || words.next().expect("four words");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let (member, seed, time) = (number(next()), number(next()), number(next()));
        Some(Self {
            member: usize::try_from(member).expect("small"),
            root: next().into(),
            seed,
            time: Duration::from_millis(time),
        })
    }

    fn to_env(&self) -> String {
        let (time, root) = (self.time.as_millis(), self.root.display());
        format!("{} {} {time} {root}", self.member, self.seed)
    }

    /// Works until the time is over.
    pub fn carry_out(&self) -> Tally {
        let seed = self.seed.wrapping_add(self.member as u64);
        let mut random = Random::from_seed(seed);
        let mut tally = Tally::default();
        let mut alone = Alone::new(hashed(&self.root, &user(self.member)));
        let mut shared = Shared::new(hashed(&self.root, TOGETHER), self.member);
        let (until, starter) = (
            Instant::now() + self.time,
            std::os::unix::process::parent_id(),
        );
        // Who started this has died otherwise.
        while Instant::now() < until && std::os::unix::process::parent_id() == starter {
            match random.below(4) {
                0 => shared.step(&mut random, &mut tally),
                _ => alone.step(&mut random, &mut tally),
            }
        }
        alone.finish();
        tally
    }
}

/// The processes at work. Dropping this ends them.
pub struct Crew {
    members: Vec<Child>,
    seed: u64,
    until: Instant,
}

impl Crew {
    /// Starts them.
    pub fn start(root: &Path, time: Duration) -> Self {
        let seed = Random::new().seed;
        let start = |member| {
            let mut command = Command::new("/proc/self/exe");
            command.args([
                "--exact",
                "one_process_on_tmpfs",
                "--nocapture",
                "--test-threads=1",
            ]);
            let orders = Orders::new(member, root, seed, time);
            command.env("LISTINDEXFS_STRESS_ORDERS", orders.to_env());
            command.env("RUST_BACKTRACE", "0");
            command.uid(UID).gid(GID).current_dir("/");
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            process::spawn(command).expect("this program again")
        };
        Self {
            members: (0..MEMBERS).map(start).collect(),
            seed,
            until: Instant::now() + time + LIMIT,
        }
    }

    /// Whether one still works.
    pub fn works(&mut self) -> bool {
        assert!(
            Instant::now() < self.until,
            "a process hangs; LISTINDEXFS_SEED={}",
            self.seed
        );
        self.members
            .iter_mut()
            .any(|member| matches!(member.try_wait(), Ok(None)))
    }

    /// What they did. Panics with what they said unless each found everything as it must be.
    pub fn finish(mut self, root: &Path) -> Tally {
        let mut all = Tally::default();
        for member in &mut self.members {
            let status = eventually("it ends", || member.try_wait().ok().flatten());
            let (mut said, mut complaint) = (String::new(), String::new());
            let read = member
                .stdout
                .take()
                .map(|mut out| out.read_to_string(&mut said));
            read.expect("a pipe").expect("its output");
            let read = member
                .stderr
                .take()
                .map(|mut out| out.read_to_string(&mut complaint));
            read.expect("a pipe").expect("its output");
            assert!(
                status.success(),
                "LISTINDEXFS_SEED={}: {complaint}{said}",
                self.seed
            );
            let tally = said
                .lines()
                .find_map(|line| Some(line.split_once(TALLY)?.1));
            let tally = tally.unwrap_or_else(|| panic!("no tally: {said}"));
            let tally: BTreeMap<String, u64> = serde_json::from_str(tally).expect("JSON");
            tally.iter().for_each(|(kind, times)| all.add(kind, *times));
        }
        shared::check(&hashed(root, TOGETHER), &all);
        all
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            process::reap(member);
        }
    }
}

/// A directory's names, but for the record, which plain tmpfs has not.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("UTF-8")
    };
    let mut names: Vec<String> = entries
        .map(name)
        .filter(|name| name != ".lasthost")
        .collect();
    names.sort();
    names
}
