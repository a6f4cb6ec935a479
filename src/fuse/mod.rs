//! The FUSE adapter: turns requests into calls of the core and results into replies, and nothing else.

mod abort;
mod between;
mod notify;
mod op;
mod prune;
mod readers;
mod reply;
mod server;
mod session;
mod times;

use std::ffi::OsStr;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use rustix::fs::OFlags;

pub use self::abort::take_from_users;
use self::op::Op;
use self::reply::{Replied, Runner};
pub use self::server::{Server, is_unmounted};
pub use self::session::shake_hands;
use crate::fs::{Change, Core, Handle};
use crate::store::Node;
use crate::user::gate::DueRun;

/// The callbacks: each names an operation of the core and what its result looks like to the kernel.
struct Adapter {
    run: Runner,
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        session::negotiate(config)
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (parent, name) = (Node(parent.0), name.to_owned());
        self.run.op(
            Op::Lookup,
            req,
            move |fs, call| fs.lookup(call, parent, &name),
            reply,
        );
    }

    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {}

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.run.op(
            Op::Getattr,
            req,
            move |fs, _| fs.getattr(Node(ino.0)),
            reply,
        );
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change {
            mode,
            uid,
            gid,
            size,
            times: times::of(atime, mtime),
        };
        self.run.op(
            Op::Setattr,
            req,
            move |fs, call| fs.setattr(call, Node(ino.0), &change),
            reply,
        );
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (parent, name) = (Node(parent.0), name.to_owned());
        self.run.op(
            Op::Mkdir,
            req,
            move |fs, call| fs.mkdir(call, parent, &name, mode & !umask),
            reply,
        );
    }

    fn mknod(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn symlink(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &std::path::Path,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.run.op(
            Op::Unlink,
            req,
            move |fs, call| fs.unlink(call, Node(parent.0), &name),
            reply,
        );
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.run.op(
            Op::Rmdir,
            req,
            move |fs, call| fs.rmdir(call, Node(parent.0), &name),
            reply,
        );
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, newname) = (name.to_owned(), newname.to_owned());
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        let op = move |fs: &Core, call: &_| {
            fs.rename(
                call,
                (Node(parent.0), &name),
                (Node(newparent.0), &newname),
                flags,
            )
        };
        self.run.op(Op::Rename, req, op, reply);
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let newname = newname.to_owned();
        self.run.op(
            Op::Link,
            req,
            move |fs, call| fs.link(call, Node(ino.0), Node(newparent.0), &newname),
            reply,
        );
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let flags = OFlags::from_bits_retain(flags.0 as u32);
        self.run.op(
            Op::Open,
            req,
            move |fs, call| fs.open(call, Node(ino.0), flags),
            reply,
        );
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (parent, name, mode) = (Node(parent.0), name.to_owned(), mode & !umask);
        let flags = OFlags::from_bits_retain(flags as u32);
        self.run.op(
            Op::Create,
            req,
            move |fs, call| fs.create(call, parent, &name, mode, flags),
            reply,
        );
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.run.op(
            Op::Read,
            req,
            move |fs, call| fs.read(call, Node(ino.0), Handle(fh.0), offset, size),
            reply,
        );
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.run.now(
            Op::Write,
            req,
            |fs, call| fs.write(call, Node(ino.0), Handle(fh.0), offset, data),
            reply,
        );
    }

    // The kernel asks once and never again: nothing is delayed that would need flushing to tmpfs.
    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.run.now(
            Op::Release,
            req,
            |fs, call| fs.release(call, Node(ino.0), Handle(fh.0)),
            reply,
        );
    }

    // A listing goes on in the next worker: its handle must be none that that worker gives to another.
    fn opendir(&self, req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(reply::number(req)), fuser::FopenFlags::empty());
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.run.op(
            Op::Readdir,
            req,
            move |fs, _| fs.readdir(Node(ino.0), Handle(fh.0), offset),
            reply,
        );
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.run.core().releasedir(Handle(fh.0));
        reply.ok();
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.run.op(Op::Statfs, req, |fs, _| fs.statfs(), reply);
    }

    fn getxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    // The kernel asks each time, as for every isatty(3), and fuser would log each.
    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // Dovecot makes do without, and a caller could reserve what others need.
    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }
}

/// The last close of a process that wrote: what is due then may wait for NFS, and nobody waits for it.
impl Replied<DueRun> for ReplyEmpty {
    fn answer(self, due: DueRun) {
        self.ok();
        due.run();
    }

    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}

impl Replied<()> for ReplyEmpty {
    fn answer(self, (): ()) {
        self.ok();
    }

    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}
