//! Runs operations and answers requests: errno, log line and panic guard are in this one place.
//!
//! An operation that needs a verdict has done nothing yet; it runs again once the verdict is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
};
use rustix::fs::StatVfs;

use super::op::Op;
use super::readers::Readers;
use super::session::RESENT;
use crate::fs::error::{FsError, Result, Stop};
use crate::fs::{Call, Core, FOREVER, Found, Handle, RestOfListing};
use crate::log_limit::LogLimit;
use crate::store::Attr;
use crate::user::process::Caller;
use crate::user::steps;

/// The page cache stays over closes, and closing costs no request.
const OPENED: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// Something that can be answered with a `T` or an errno.
pub trait Replied<T>: Send + 'static {
    /// The operation succeeded.
    fn answer(self, value: T);
    /// It failed.
    fn fail(self, errno: Errno);
}

/// Runs operations of the core.
pub struct Runner {
    core: Arc<Core>,
    readers: Arc<Readers>,
    limit: Arc<LogLimit>,
    /// Whether the next worker is to know which files have been opened for somebody who has heard of it.
    notes_answers: bool,
}

/// An operation on its way to its reply.
struct Running<O, R> {
    kind: Op,
    notes_answer: bool,
    core: Arc<Core>,
    limit: Arc<LogLimit>,
    call: Call,
    op: O,
    reply: R,
}

impl Runner {
    /// A runner for one core, on the threads of `readers`. `notes_answers`: what it answers goes to the kernel itself.
    pub(super) fn new(core: Arc<Core>, readers: Arc<Readers>, notes_answers: bool) -> Self {
        Runner {
            core,
            readers,
            limit: Arc::default(),
            notes_answers,
        }
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Runs an operation that may have to wait; then it ends on another thread.
    pub fn op<T, O, R>(&self, kind: Op, req: &Request, op: O, reply: R)
    where
        O: Fn(&Core, &Call) -> Result<T> + Send + 'static,
        R: Replied<T>,
    {
        let _turn = self.readers.turn();
        self.core.gate().stats().count(kind.cell());
        Running {
            kind,
            notes_answer: self.notes_answers && matches!(kind, Op::Open | Op::Create),
            core: Arc::clone(&self.core),
            limit: Arc::clone(&self.limit),
            call: call(req),
            op,
            reply,
        }
        .begin();
    }

    /// Runs an operation that never waits.
    pub fn now<T, R: Replied<T>>(
        &self,
        kind: Op,
        req: &Request,
        op: impl Fn(&Core, &Call) -> Result<T>,
        reply: R,
    ) {
        let _turn = self.readers.turn();
        self.core.gate().stats().count(kind.cell());
        let (call, name) = (call(req), kind.word());
        let tried = self.core.dare(&call);
        match tried.and_then(|()| guarded(|| op(&self.core, &call))) {
            Ok(value) => answer(name, &call, value, reply),
            Err(Stop::Error(e)) => fail(&self.limit, name, &call, &e, reply),
            Err(Stop::Gate(_) | Stop::Directory(_) | Stop::Refuse(_)) => {
                fail(&self.limit, name, &call, &FsError::Panicked, reply)
            }
        }
    }
}

impl<O, R> Running<O, R> {
    /// Once for each worker that is asked, however often it goes on.
    fn begin<T>(self)
    where
        O: Fn(&Core, &Call) -> Result<T> + Send + 'static,
        R: Replied<T>,
    {
        match self.core.dare(&self.call) {
            Ok(()) => self.go(),
            Err(stop) => self.stopped(stop),
        }
    }

    fn go<T>(self)
    where
        O: Fn(&Core, &Call) -> Result<T> + Send + 'static,
        R: Replied<T>,
    {
        match guarded(|| (self.op)(&self.core, &self.call)) {
            Ok(value) => {
                answer(self.kind.word(), &self.call, value, self.reply);
                if self.notes_answer {
                    self.core.note_answered(&self.call);
                }
            }
            Err(stop) => self.stopped(stop),
        }
    }

    fn stopped<T>(mut self, stop: Stop)
    where
        O: Fn(&Core, &Call) -> Result<T> + Send + 'static,
        R: Replied<T>,
    {
        match stop {
            Stop::Error(e) => fail(&self.limit, self.kind.word(), &self.call, &e, self.reply),
            Stop::Directory(state) => state.park(Box::new(move || self.go())),
            Stop::Refuse(user) => {
                self.core.gate().refuse_at_once(&user, self.call.caller);
                fail(
                    &self.limit,
                    self.kind.word(),
                    &self.call,
                    &FsError::Deadly,
                    self.reply,
                );
            }
            Stop::Gate(user) => {
                let gate = Arc::clone(self.core.gate());
                self.core.note_gate(&self.call, &user);
                let caller = self.call.caller;
                let resume = move |answer: crate::user::gate::Answer| {
                    self.call.verdict = Some(answer.into());
                    self.go();
                };
                gate.ask(&user, caller, Box::new(resume));
            }
        }
    }
}

/// A request's number, which no other of the mount has; the same when it is resent.
pub fn number(req: &Request) -> u64 {
    req.unique().0 & !RESENT
}

fn call(req: &Request) -> Call {
    Call {
        caller: Caller {
            pid: req.pid(),
            uid: req.uid(),
            gid: req.gid(),
        },
        verdict: None,
        unique: number(req),
        resent: req.unique().0 & RESENT != 0,
    }
}

/// Answers a request that succeeded.
fn answer<T>(name: &str, call: &Call, value: T, reply: impl Replied<T>) {
    if !call.resent {
        steps::die_after(name);
    }
    reply.answer(value);
}

/// A panic costs its caller an EIO and nobody else anything; the panic hook has logged it.
fn guarded<T>(op: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(op)).unwrap_or(Err(FsError::Panicked.into()))
}

/// Answers with the errno. What is worth a line gets one, but a caller cannot fill the log.
fn fail<T>(limit: &LogLimit, name: &'static str, call: &Call, e: &FsError, reply: impl Replied<T>) {
    let caller = call.caller;
    match e.level() {
        log::Level::Debug => log::debug!("{name} by pid {}: {e}", caller.pid),
        level => {
            let line = format!("{name} by uid {} (pid {}): {e}", caller.uid, caller.pid);
            limit.log(level, &caller.uid.to_ne_bytes(), name, &line);
        }
    }
    reply.fail(Errno::from_i32(e.errno()));
}

/// Declares what a reply looks like when it succeeds.
macro_rules! replied {
    ($reply:ty, $value:ty, |$r:ident, $v:pat_param| $answer:expr) => {
        impl Replied<$value> for $reply {
            fn answer(self, value: $value) {
                #[allow(unused_mut)]
                let (mut $r, $v) = (self, value);
                $answer
            }

            fn fail(self, errno: Errno) {
                self.error(errno);
            }
        }
    };
}

replied!(ReplyEntry, Found, |r, found| r.entry_with_ttls(
    &FOREVER,
    &found.name_ttl,
    &attr(&found.attr),
    Generation(0)
));
replied!(ReplyAttr, Attr, |r, found| r.attr(&FOREVER, &attr(&found)));
replied!(ReplyOpen, Handle, |r, handle| r
    .opened(FileHandle(handle.0), OPENED));
replied!(ReplyCreate, (Found, Handle), |r, (found, handle)| {
    r.created(
        &FOREVER,
        &attr(&found.attr),
        Generation(0),
        FileHandle(handle.0),
        OPENED,
    )
});
replied!(ReplyData, Vec<u8>, |r, bytes| r.data(&bytes));
replied!(ReplyWrite, usize, |r, len| r.written(len as u32));
replied!(ReplyStatfs, StatVfs, |r, s| r.statfs(
    s.f_blocks,
    s.f_bfree,
    s.f_bavail,
    s.f_files,
    s.f_ffree,
    s.f_bsize as u32,
    s.f_namemax as u32,
    s.f_frsize as u32
));
replied!(ReplyDirectory, RestOfListing, |r, rest| {
    for e in rest.entries() {
        if r.add(INodeNo(e.ino), e.offset, kind(e.kind), &e.name) {
            break;
        }
    }
    r.ok()
});

fn attr(from: &Attr) -> FileAttr {
    let s = &from.stat;
    FileAttr {
        ino: INodeNo(from.node.0),
        size: s.st_size as u64,
        blocks: s.st_blocks as u64,
        atime: time(s.st_atime, s.st_atime_nsec),
        mtime: time(s.st_mtime, s.st_mtime_nsec),
        ctime: time(s.st_ctime, s.st_ctime_nsec),
        crtime: UNIX_EPOCH,
        kind: kind(rustix::fs::FileType::from_raw_mode(s.st_mode)),
        perm: (s.st_mode & 0o7777) as u16,
        nlink: s.st_nlink as u32,
        uid: s.st_uid,
        gid: s.st_gid,
        rdev: s.st_rdev as u32,
        blksize: s.st_blksize as u32,
        flags: 0,
    }
}

fn time(seconds: i64, nanos: u64) -> SystemTime {
    let nanos = Duration::from_nanos(nanos);
    match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds) + nanos,
        Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + nanos,
    }
}

fn kind(kind: rustix::fs::FileType) -> FileType {
    match kind {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}
