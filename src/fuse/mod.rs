//! Stand-in for the FUSE adapter: an empty root, to try the program with.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config as SessionConfig, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, ReplyAttr, ReplyDirectory, ReplyEntry, ReplyStatfs, Request, Session, SessionACL,
};

use crate::options::Config;

/// A session with the kernel.
pub struct Server(Session<Empty>);

struct Empty;

const TTL: Duration = Duration::from_secs(1);

fn root() -> FileAttr {
    FileAttr {
        ino: INodeNo(1),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0o755,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Empty {
    fn lookup(&self, _: &Request, _: INodeNo, name: &std::ffi::OsStr, reply: ReplyEntry) {
        match name == "d0" {
            true => {
                let attr = FileAttr {
                    ino: INodeNo(2),
                    ..root()
                };
                reply.entry(&TTL, &attr, Generation(0));
            }
            false => reply.error(Errno::ENOENT),
        }
    }
    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &FileAttr { ino, ..root() });
    }
    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, reply: ReplyDirectory) {
        reply.ok();
    }
    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1, 1, 1, 1, 1, 4096, 255, 4096);
    }
}

impl Server {
    /// Answers the kernel's INIT.
    pub fn start(_: Arc<Config>, dev_fuse: OwnedFd) -> anyhow::Result<Self> {
        let config = SessionConfig::default();
        let session = Session::from_fd(Empty, dev_fuse, SessionACL::All, config)?;
        Ok(Self(session))
    }

    /// Serves until the mount is gone.
    pub fn run(self) -> io::Result<()> {
        self.0.run()
    }
}
