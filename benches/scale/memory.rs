//! Memory: of the daemon's processes, and of the kernel's caches.

use std::fs;

use anyhow::{Context, Result};

use crate::support::mount::Mount;
use crate::support::process;

/// What the kernel has for all files of the machine, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    pub fuse_inodes: u64,
    pub dentries: u64,
    pub shmem_inodes: u64,
    /// Pages of files, without those of tmpfs.
    pub cached: u64,
}

impl Kernel {
    pub fn now() -> Result<Self> {
        let slabs = fs::read_to_string("/proc/slabinfo").context("failed to read slabinfo")?;
        let slab = |name: &str| {
            let line = slabs
                .lines()
                .find(|line| line.split(' ').next() == Some(name));
            // Absent where no such inode has ever been.
            line.map_or(Ok(0), slab_bytes)
        };
        Ok(Self {
            fuse_inodes: slab("fuse_inode")?,
            dentries: slab("dentry")?,
            shmem_inodes: slab("shmem_inode_cache")?,
            cached: meminfo("Cached")?.saturating_sub(meminfo("Shmem")?),
        })
    }
}

/// Whole pages, used or not: objects, size, per slab, pages per slab, …, slabs.
fn slab_bytes(line: &str) -> Result<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let both = field(5).zip(field(14));
    let (pages, slabs) = both.context("a line of slabinfo")?;
    Ok(pages * slabs * 4096)
}

/// What could be had without swapping, bytes.
pub fn available() -> Result<u64> {
    meminfo("MemAvailable")
}

fn meminfo(name: &str) -> Result<u64> {
    status("/proc/meminfo", name)
}

/// A line `NAME: NUMBER kB`, in bytes.
fn status(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("no {name} in {path}"))? * 1024)
}

/// The daemon's processes: resident bytes, and the descriptors of the worker.
#[derive(Clone, Copy, Debug)]
pub struct Daemon {
    pub worker: u64,
    pub supervisor: u64,
    pub descriptors: usize,
}

impl Daemon {
    pub fn of(mount: &Mount) -> Result<Self> {
        let worker = mount.worker().context("there is no worker")?;
        let supervisor = mount.pid().context("there is no supervisor")?;
        Ok(Self {
            worker: resident(worker)?,
            supervisor: resident(supervisor)?,
            descriptors: process::open_files(worker).len(),
        })
    }

    pub fn all(&self) -> u64 {
        self.worker + self.supervisor
    }
}

/// What a process has in RAM, bytes.
pub fn resident(pid: u32) -> Result<u64> {
    status(&format!("/proc/{pid}/status"), "VmRSS")
}

pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
