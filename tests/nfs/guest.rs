//! What the tests in the guest share: its two clients and two servers, RPC counts, and a world on real NFS.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::config::HASHED;
use crate::support::dovecot::hashed;
use crate::support::lab::{dir_of, mail_dir};
use crate::support::mount::Options;
use crate::support::{Config, Lab, Site};
use rustix::mount::UnmountFlags;

/// Set in the guest only: the NFS version of both clients' mounts.
pub const VERSION: &str = "LISTINDEXFS_NFS_VERSION";
/// What the first server exports, seen by itself.
pub const EXPORT: &str = "/srv/nfs";

/// A client: a host that has mounted the first server's export, and the second's if a test asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    A,
    B,
}

impl Client {
    /// Its name for `lab`.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// Where the first server's export is mounted.
    pub fn mount(self) -> PathBuf {
        format!("/mnt/nfs-{}", self.name()).into()
    }
}

/// The NFS version. Ends the test where there is no guest around it.
pub fn version() -> String {
    std::env::var(VERSION)
        .expect("this test runs in the NFS guest: run `cargo test --test nfs` without --ignored")
}

/// Whether this is NFSv3.
pub fn is_v3() -> bool {
    version() == "3"
}

/// Runs the guest's helper: `lab help` lists what it does.
pub fn lab(args: &[&str]) {
    let ran = Command::new("lab").args(args).output().expect("lab");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "lab {args:?}: {}: {said}", ran.status);
}

/// Something that `lab` changed, put right on Drop, so that a test that fails spoils no other.
pub struct Changed {
    back: Vec<String>,
}

/// Runs `lab` with `args` now, and with `back` at the end.
pub fn changed(args: &[&str], back: &[&str]) -> Changed {
    let changed = Changed {
        back: back.iter().map(|arg| (*arg).to_owned()).collect(),
    };
    lab(args);
    changed
}

impl Drop for Changed {
    fn drop(&mut self) {
        let _ = Command::new("lab").args(&self.back).status(); // a later test tells
    }
}

/// The RPCs of a mount since it was made, by operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpcs(BTreeMap<String, u64>);

impl Rpcs {
    /// As `/proc/self/mountstats` has them. Renewing a lease is not the doing of who is watched.
    pub fn of(mount: &Path) -> Self {
        let stats = fs::read_to_string("/proc/self/mountstats").expect("mountstats");
        let device = format!(" mounted on {} with ", mount.display());
        let lines = stats
            .lines()
            .skip_while(|line| !line.contains(&device))
            .skip(1);
        let lines = lines.take_while(|line| !line.starts_with("device "));
        let ops = lines
            .skip_while(|line| !line.contains("per-op statistics"))
            .skip(1);
        let counts = ops.filter_map(|line| {
            let (op, rest) = line.trim().split_once(": ")?;
            let count = rest.split(' ').next()?.parse().ok()?;
            (count > 0 && !["SEQUENCE", "RENEW", "NULL"].contains(&op))
                .then(|| (op.to_owned(), count))
        });
        Self(counts.collect())
    }

    /// What has come since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let new = self
            .0
            .iter()
            .map(|(op, n)| (op.clone(), n - before.0.get(op).unwrap_or(&0)));
        Self(new.filter(|(_, n)| *n > 0).collect())
    }

    /// How many of one operation.
    pub fn count(&self, op: &str) -> u64 {
        self.0.get(op).copied().unwrap_or_default()
    }

    /// How many in all.
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The RPCs that `doing` costs a mount.
pub fn cost(mount: &Path, doing: impl FnOnce()) -> Rpcs {
    let before = Rpcs::of(mount);
    doing();
    Rpcs::of(mount).since(&before)
}

/// A fresh directory on the first server, by its name there and on both clients.
pub fn fresh_dir() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    fs::create_dir(Path::new(EXPORT).join(&name)).expect("a directory on the server");
    name
}

/// A directory seen at another place. Where nothing is cached, each part of a path is asked for, each time: as the
/// root of a mount that is near it, a user's directory costs half of the RPCs.
struct Bound(PathBuf);

impl Bound {
    fn new(far: &Path, near: PathBuf) -> Self {
        dir_of(&near, 0, 0, 0o755);
        rustix::mount::mount_bind(far, &near).expect("a bind mount");
        Self(near)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A test's world, its store on the first server: what host a sees of it, and host b.
pub struct World {
    // Before the directories that they are in.
    _bound: Vec<Bound>,
    /// The store as the server itself sees it, where no permissions and no caches are in the way.
    pub on_server: PathBuf,
    /// What Dovecot sees.
    labs: [Lab; 2],
    /// Where we see INDEX.
    index: [PathBuf; 2],
    _mounts: Vec<Changed>,
}

impl World {
    /// A store with mail and INDEX trees of the mail user.
    pub fn new() -> Self {
        version();
        let name = fresh_dir();
        let on_server = Path::new(EXPORT).join(&name);
        for dir in ["mail", "index"] {
            mail_dir(&on_server.join(dir));
        }
        let lab = Lab::within(Path::new("/tmp"), Path::new("/dev/shm"));
        let seen = |client: Client| lab.with_store(client.mount().join(&name));
        let labs = [Client::A, Client::B].map(seen);
        Self {
            index: labs.each_ref().map(Lab::index),
            labs,
            on_server,
            _mounts: Vec::new(),
            _bound: Vec::new(),
        }
    }

    /// The same, but Dovecot sees `user`'s directories through mounts of its own that cache nothing: with default
    /// options it is wrong by itself about what another host did a moment ago. We see INDEX with default options still.
    pub fn coherent(user: &str) -> Self {
        let mut world = Self::new();
        let options = format!("vers={},noac,lookupcache=none", version());
        for client in [Client::A, Client::B] {
            let point = format!("/mnt/nfs-noac-{}", client.name());
            let (how, back) = (
                ["mount", client.name(), "1", &options, &point],
                ["umount", client.name(), "1", "", &point],
            );
            world._mounts.push(changed(&how, &back));
            let far = Path::new(&point).join(world.on_server.file_name().expect("a name"));
            let near = world.lab(client).host(client.name()).join("nfs");
            for tree in ["mail", "index"] {
                let [server, far, near] =
                    [&world.on_server, &far, &near].map(|root| hashed(&root.join(tree), user));
                mail_dir(server.parent().expect("a bucket"));
                mail_dir(&server);
                world._bound.push(Bound::new(&far, near));
            }
            world.labs[client as usize] = world.labs[client as usize].with_store(near);
        }
        world
    }

    /// How a host's list index is mounted: as documented, so that INDEX must be on a network filesystem, but that nobody looks for
    /// users who have moved away.
    pub fn options(&self, client: Client) -> Options {
        let index = self.index[client as usize].display();
        Options::new(self.lab(client), client.name())
            .without("index_fs")
            .option("moved_rate=off") // RPCs are counted
            .index(&format!("{index}/{HASHED}"))
    }

    /// A host's Dovecot.
    pub fn config(&self, client: Client) -> Config {
        Config::new(self.lab(client), client.name())
    }

    /// A host as documented.
    pub fn site(&self, client: Client) -> Site {
        Site::with(self.options(client), self.config(client))
    }

    /// Both hosts as documented.
    pub fn sites(&self) -> [Site; 2] {
        [Client::A, Client::B].map(|client| self.site(client))
    }

    /// What a host sees.
    pub fn lab(&self, client: Client) -> &Lab {
        &self.labs[client as usize]
    }
}
