//! A session with the kernel that outlives its worker: the supervisor shakes hands once, and every worker goes
//! on with what was agreed then.
//!
//! fuser begins each session with a handshake. A worker has it shake hands with a socket, as the kernel would, and
//! then puts `/dev/fuse` in the socket's place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::user::steps;
use fuser::{Filesystem, InitFlags, KernelConfig, Request, Session, SessionACL};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// The largest WRITE, bytes. A list index is smaller; each reader keeps a buffer of fuser's own size.
pub(super) const MAX_WRITE: u32 = 1 << 20;
/// `FUSE_INIT`.
const INIT: u32 = 26;
/// The length of a FUSE_INIT request: its header and `fuse_init_in`, bytes.
const INIT_LEN: u32 = 104;
/// The FUSE protocol of which the made-up handshake is, as kernel 5.10 speaks it.
const PROTOCOL: (u32, u32) = (7, 31);
/// `FUSE_DESTROY`.
const DESTROY: u32 = 38;
/// The length of `struct fuse_in_header`, bytes.
pub(super) const HEADER_LEN: u32 = 40;
/// The bit of a request's number that tells that it was sent to an earlier worker.
pub(super) const RESENT: u64 = 1 << 63;
/// `FUSE_NOTIFY_RESEND`, Linux 6.9.
const NOTIFY_RESEND: i32 = 7;
/// The length of a notification without a body, bytes.
const NOTIFY_LEN: u32 = 16;

/// What every version of this program agrees on with the kernel, for the next one goes on with it.
pub(super) fn negotiate(config: &mut KernelConfig) -> io::Result<()> {
    // A slow gate in LOOKUP then blocks nobody but its own user. Offered by every kernel we serve.
    let wanted = InitFlags::FUSE_PARALLEL_DIROPS;
    config
        .add_capabilities(wanted)
        .map_err(|_| io::Error::other("the kernel lacks FUSE_PARALLEL_DIROPS"))?;
    if let Err(nearest) = config.set_max_write(MAX_WRITE) {
        log::debug!("max_write is {nearest}");
    }
    Ok(())
}

/// Shakes hands and does nothing else.
struct Handshake;

impl Filesystem for Handshake {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config)
    }
}

/// Answers the kernel's INIT of a mount just made on `dev_fuse`. To be done once, before the first worker.
///
/// # Errors
/// When the kernel does not shake hands.
pub fn shake_hands(dev_fuse: &OwnedFd) -> io::Result<()> {
    let session = Session::from_fd(
        Handshake,
        dev_fuse.try_clone()?,
        SessionACL::All,
        super::server::session_config(),
    );
    session.map(drop)
}

/// A session that goes on where an earlier one ended.
pub(super) fn go_on<F: Filesystem>(fs: F, dev_fuse: &OwnedFd) -> io::Result<Session<F>> {
    let (_kernel, ours) = made_up_kernel()?;
    let config = super::server::session_config();
    let session = Session::from_fd(fs, ours, SessionACL::All, config)?;
    crate::sys::fd::replace(session.as_fd(), dev_fuse.as_fd())?;
    Ok(session)
}

/// A socket that shakes hands as the kernel does: its end, and ours.
pub(super) fn made_up_kernel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (kernel, ours) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::write(&kernel, &made_up_init())?;
    Ok((kernel, ours))
}

/// The request that ends a session.
pub(super) fn destroy() -> Vec<u8> {
    let mut words = vec![0; HEADER_LEN as usize / 4];
    words[0] = HEADER_LEN;
    words[1] = DESTROY;
    words[2] = 1;
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The header (length, opcode, unique, node, uid, gid, pid), then version, readahead and flags: everything is offered.
fn made_up_init() -> Vec<u8> {
    let mut words = vec![0; INIT_LEN as usize / 4];
    words[0] = INIT_LEN;
    words[1] = INIT;
    words[2] = 1;
    words[10] = PROTOCOL.0;
    words[11] = PROTOCOL.1;
    words[12] = 128 << 10;
    words[13] = u32::MAX;
    words[14] = u32::MAX;
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// Has the kernel send again what the worker before took and did not answer. `false` where it does not, before 6.9.
pub(super) fn resend(dev_fuse: BorrowedFd<'_>) -> io::Result<bool> {
    if steps::no_resend() {
        return Ok(false);
    }
    let mut message = NOTIFY_LEN.to_ne_bytes().to_vec();
    message.extend_from_slice(&NOTIFY_RESEND.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    match rustix::io::write(dev_fuse, &message) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
