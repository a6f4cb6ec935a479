//! The workloads: each is made for one thread and its users, and is then called again and again.

use std::ffi::CStr;
use std::hint::black_box;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail, ensure};
use memmap2::{Mmap, MmapOptions};
use rustix::fs::{
    FlockOperation, Mode, OFlags, fcntl_lock, fdatasync, fstat, ftruncate, open, rename, stat,
};
use rustix::io::{Errno, pread, write};

use crate::rate::Step;
use crate::users::{FILE_SIZE, UserFiles};

/// A named workload.
pub struct Workload {
    pub name: &'static str,
    pub prepare: fn(&[UserFiles]) -> Result<Step<'static>>,
}

pub const ALL: &[Workload] = &[
    Workload {
        name: "login",
        prepare: login,
    },
    Workload {
        name: "open",
        prepare: open_close,
    },
    Workload {
        name: "append",
        prepare: append,
    },
    Workload {
        name: "pread",
        prepare: pread_4096,
    },
    Workload {
        name: "rewrite",
        prepare: rewrite,
    },
    Workload {
        name: "stat hit",
        prepare: stat_hit,
    },
    Workload {
        name: "stat miss",
        prepare: stat_miss,
    },
    Workload {
        name: "mmap",
        prepare: mmap,
    },
    Workload {
        name: "open+mmap",
        prepare: open_mmap,
    },
    Workload {
        name: "lock",
        prepare: lock,
    },
];

const BLOCK: usize = 4096;

/// Keep the log from growing beyond what Dovecot, which rotates it, would let it grow to by orders of magnitude.
const APPENDS_BEFORE_TRUNCATION: u32 = 20_000;

/// Cycles through the users, so that no call meets the inode of the one before.
struct Turn {
    users: Vec<UserFiles>,
    at: usize,
}

impl Turn {
    fn new(users: &[UserFiles]) -> Self {
        Self {
            users: users.to_vec(),
            at: 0,
        }
    }

    fn next(&mut self) -> &UserFiles {
        self.at = (self.at + 1) % self.users.len();
        &self.users[self.at]
    }
}

fn open_file(path: &CStr, more: OFlags) -> Result<OwnedFd> {
    let opened = open(
        path,
        OFlags::RDWR | OFlags::CLOEXEC | more,
        Mode::from_raw_mode(0o600),
    );
    opened.with_context(|| format!("failed to open {}", path.to_string_lossy()))
}

/// The log of the thread's first user, held open.
fn own_log(users: &[UserFiles], more: OFlags) -> Result<OwnedFd> {
    let first = users.first().context("no users")?;
    open_file(&first.log, more)
}

fn open_and_read(path: &CStr) -> Result<()> {
    let file = open_file(path, OFlags::empty())?;
    let seen = fstat(&file).context("failed to fstat")?;
    ensure!(seen.st_size >= BLOCK as i64, "size {}", seen.st_size);
    read_block(&file)
}

fn read_block(file: &OwnedFd) -> Result<()> {
    let mut block = [0u8; BLOCK];
    let got = pread(file, &mut block, 0).context("failed to read")?;
    ensure!(got == BLOCK && block[0] == b'x', "read {got} bytes");
    Ok(())
}

fn login(users: &[UserFiles]) -> Result<Step<'static>> {
    let mut turn = Turn::new(users);
    Ok(Box::new(move || {
        let user = turn.next();
        open_and_read(&user.log)?;
        open_and_read(&user.index)
    }))
}

fn open_close(users: &[UserFiles]) -> Result<Step<'static>> {
    let mut turn = Turn::new(users);
    Ok(Box::new(move || {
        open_file(&turn.next().log, OFlags::empty()).map(drop)
    }))
}

fn append(users: &[UserFiles]) -> Result<Step<'static>> {
    let log = own_log(users, OFlags::APPEND)?;
    ftruncate(&log, FILE_SIZE as u64)?;
    let mut appended = 0;
    Ok(Box::new(move || {
        ensure!(
            write(&log, &[b'x'; 100]).context("failed to append")? == 100,
            "short write"
        );
        fdatasync(&log).context("failed to fdatasync")?;
        appended += 1;
        if appended % APPENDS_BEFORE_TRUNCATION == 0 {
            ftruncate(&log, FILE_SIZE as u64).context("failed to truncate")?;
        }
        Ok(())
    }))
}

fn pread_4096(users: &[UserFiles]) -> Result<Step<'static>> {
    let log = own_log(users, OFlags::empty())?;
    Ok(Box::new(move || read_block(&log)))
}

/// Dovecot has the log open and locked while it writes the index anew. FUSE names the thread that opened a file: so the
/// thread that writes opens them, while it warms up.
fn rewrite(users: &[UserFiles]) -> Result<Step<'static>> {
    let mut turn = Turn::new(users);
    let (mut logs, all) = (Vec::new(), users.len());
    let content = [b'x'; FILE_SIZE];
    Ok(Box::new(move || {
        let user = turn.next();
        if logs.len() < all {
            logs.push(open_file(&user.log, OFlags::empty())?);
        }
        let file = open_file(&user.tmp, OFlags::CREATE | OFlags::EXCL)?;
        ensure!(
            write(&file, &content).context("failed to write")? == FILE_SIZE,
            "short write"
        );
        rename(&user.tmp, &user.index).context("failed to rename")
    }))
}

fn stat_hit(users: &[UserFiles]) -> Result<Step<'static>> {
    let mut turn = Turn::new(users);
    Ok(Box::new(move || {
        black_box(stat(&turn.next().log).context("failed to stat")?);
        Ok(())
    }))
}

fn stat_miss(users: &[UserFiles]) -> Result<Step<'static>> {
    let mut turn = Turn::new(users);
    Ok(Box::new(move || match stat(&turn.next().log2) {
        Err(Errno::NOENT) => Ok(()),
        other => bail!("stat of a missing file gave {other:?}"),
    }))
}

fn mmap(users: &[UserFiles]) -> Result<Step<'static>> {
    let log = own_log(users, OFlags::empty())?;
    Ok(Box::new(move || touch(&map(&log)?)))
}

fn open_mmap(users: &[UserFiles]) -> Result<Step<'static>> {
    let mut turn = Turn::new(users);
    Ok(Box::new(move || {
        let log = open_file(&turn.next().log, OFlags::empty())?;
        touch(&map(&log)?)
    }))
}

/// MAP_SHARED, PROT_READ: what Dovecot maps its logs with.
#[allow(unsafe_code, reason = "mapping a file has no safe form")]
fn map(file: &OwnedFd) -> Result<Mmap> {
    // SAFETY: the file belongs to this thread of the bench, which neither writes nor truncates it while it is mapped.
    let mapped = unsafe { MmapOptions::new().len(FILE_SIZE).map(file) };
    mapped.context("failed to mmap")
}

fn touch(mapped: &Mmap) -> Result<()> {
    for page in mapped.chunks(BLOCK) {
        ensure!(black_box(page[0]) == b'x', "the map shows something else");
    }
    Ok(())
}

fn lock(users: &[UserFiles]) -> Result<Step<'static>> {
    let log = own_log(users, OFlags::empty())?;
    Ok(Box::new(move || {
        fcntl_lock(&log, FlockOperation::NonBlockingLockExclusive).context("failed to lock")?;
        fcntl_lock(&log, FlockOperation::NonBlockingUnlock).context("failed to unlock")
    }))
}
