//! What the threads do meanwhile: a login's calls and what follows it, each call timed by itself.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, fstat, open, rename, stat, unlink};
use rustix::io::{Errno, pread, write};

use crate::users::{FILE_SIZE, UserFiles};

/// Told when each call began; returns how long it took to whoever counts.
pub type Timed<'a> = &'a mut dyn FnMut(Instant);

/// A login reads log and index; then the log grows, the index is written anew, and a file that is not there is looked for.
pub fn session(user: &UserFiles, timed: Timed<'_>) -> Result<()> {
    let log = reads(&user.log, timed)?;
    reads(&user.index, timed)?;
    let written = call(timed, || write(&log, b"grows").context("failed to append"))?;
    ensure!(written == 5, "short write");
    let new = call(timed, || made(&user.tmp))?;
    let content = [b'x'; FILE_SIZE];
    let written = call(timed, || write(&new, &content).context("failed to write"))?;
    ensure!(written == FILE_SIZE, "short write");
    call(timed, || {
        rename(&user.tmp, &user.index).context("failed to rename")
    })?;
    call(timed, || match stat(&user.log2) {
        Err(Errno::NOENT) => Ok(()),
        other => bail!("stat of a missing file gave {other:?}"),
    })?;
    call(timed, || {
        drop((log, new));
        Ok(())
    })
}

/// A log of its first length again.
pub fn shorten(user: &UserFiles) -> Result<()> {
    unlink(&user.log).context("failed to remove a log")?;
    let log = made(&user.log)?;
    let written = write(&log, &[b'x'; FILE_SIZE]).context("failed to write")?;
    ensure!(written == FILE_SIZE, "short write");
    Ok(())
}

fn made(path: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = open(path, flags, Mode::from_raw_mode(0o600));
    made.with_context(|| format!("failed to make {}", path.to_string_lossy()))
}

fn reads(path: &CStr, timed: Timed<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
    let file = call(timed, || {
        let opened = open(path, flags, Mode::empty());
        opened.with_context(|| format!("failed to open {}", path.to_string_lossy()))
    })?;
    let seen = call(timed, || fstat(&file).context("failed to fstat"))?;
    ensure!(seen.st_size >= FILE_SIZE as i64, "size {}", seen.st_size);
    let mut block = [0_u8; FILE_SIZE];
    let got = call(timed, || {
        pread(&file, &mut block, 0).context("failed to read")
    })?;
    ensure!(
        got == FILE_SIZE && block == [b'x'; FILE_SIZE],
        "other bytes"
    );
    Ok(file)
}

fn call<T>(timed: Timed<'_>, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let done = call();
    timed(began);
    done
}
