//! Has the kernel give back what it has cached of files that nobody uses: their pages, inodes and names.
//!
//! Written straight to `/dev/fuse`, by a thread that may wait: what is to go may be a page that waits for the answer to a
//! READ, which the session, or the thread that passes answers on, still has to give.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::keep::KernelCache;
use crate::store::Node;
use crate::user::steps;

/// `FUSE_NOTIFY_INVAL_INODE`.
const INVAL_INODE: i32 = 2;
/// `FUSE_NOTIFY_PRUNE`, Linux 6.18. No lock of a directory is taken for it: a name that somebody uses or looks up stays.
const PRUNE: i32 = 9;
/// The length of `struct fuse_out_header`, bytes.
const HEADER_LEN: usize = 16;
/// So many files in one notification: what the kernel copies at a time.
const AT_ONCE: usize = 512;
/// So many files that are gone are kept in mind; what is beyond is left to the kernel's shrinker.
const MOST_GONE: usize = 1 << 16;

/// Files that are gone, of which the kernel may have something cached still.
#[derive(Clone, Default)]
pub struct Gone(Arc<Mutex<Vec<Node>>>);

impl Gone {
    /// One more. Never waits.
    pub fn add(&self, node: Node) {
        let mut gone = self.0.lock();
        if gone.len() < MOST_GONE {
            gone.push(node);
        }
    }

    fn take(&self) -> Vec<Node> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Asks the kernel.
pub struct Pruner {
    dev_fuse: OwnedFd,
    gone: Gone,
    /// Whether the kernel knows how to prune.
    prunes: OnceLock<bool>,
}

impl Pruner {
    /// For the mount of `dev_fuse`; `gone` is what will be gone of it.
    pub fn new(dev_fuse: OwnedFd, gone: Gone) -> Self {
        Pruner {
            dev_fuse,
            gone,
            prunes: OnceLock::new(),
        }
    }

    fn prunes(&self) -> Result<bool, Errno> {
        if let Some(knows) = self.prunes.get() {
            return Ok(*knows);
        }
        let knows = match self.send(&prune(&[])) {
            Ok(()) => !steps::no_prune(),
            Err(Errno::INVAL) => false,
            Err(e) => return Err(e),
        };
        if !knows {
            log::debug!("the kernel cannot be told to drop inodes: it is told to drop pages");
        }
        Ok(*self.prunes.get_or_init(|| knows))
    }

    fn send(&self, message: &[u8]) -> Result<(), Errno> {
        rustix::io::write(&self.dev_fuse, message).map(drop)
    }
}

impl KernelCache for Pruner {
    fn gone(&self) -> Vec<Node> {
        self.gone.take()
    }

    fn give_back(&self, files: &[Node]) -> io::Result<()> {
        if self.prunes()? {
            for some in files.chunks(AT_ONCE) {
                self.send(&prune(some))?;
            }
            return Ok(());
        }
        for file in files {
            match self.send(&drop_pages(*file)) {
                Ok(()) | Err(Errno::NOENT) => {} // it has nothing of that file
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// `struct fuse_notify_prune_out` (how many, and 12 bytes of nothing) and the nodes.
fn prune(nodes: &[Node]) -> Vec<u8> {
    let mut body = [nodes.len() as u32, 0, 0, 0].map(u32::to_ne_bytes).concat();
    for node in nodes {
        body.extend_from_slice(&node.0.to_ne_bytes());
    }
    notification(PRUNE, &body)
}

/// `struct fuse_notify_inval_inode_out`: the node, from its first byte to its last.
fn drop_pages(node: Node) -> Vec<u8> {
    notification(INVAL_INODE, &[node.0, 0, 0].map(u64::to_ne_bytes).concat())
}

/// `struct fuse_out_header`: the length, the code in the error's place, and no request's number.
fn notification(code: i32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend_from_slice(&((HEADER_LEN + body.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&code.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    message.extend_from_slice(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(message: &[u8]) -> Vec<u32> {
        let words = message.chunks_exact(4);
        words
            .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .collect()
    }

    #[test]
    fn a_notification_says_how_long_it_is_and_of_which_nodes() {
        let (low, high) = match cfg!(target_endian = "little") {
            true => (5, 7),
            false => (7, 5),
        };
        let node = Node(7 << 32 | 5);
        assert_eq!(words(&prune(&[node])), [40, 9, 0, 0, 1, 0, 0, 0, low, high]);
        assert_eq!(words(&prune(&[])), [32, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            words(&drop_pages(node)),
            [40, 2, 0, 0, low, high, 0, 0, 0, 0]
        );
    }

    #[test]
    fn so_many_that_are_gone_are_kept_in_mind() {
        let gone = Gone::default();
        (0..=MOST_GONE as u64).for_each(|node| gone.add(Node(node)));
        assert_eq!(gone.take().len(), MOST_GONE);
        assert_eq!(gone.take().len(), 0);
    }
}
