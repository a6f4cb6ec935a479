//! The processes that call us: who they are and whether they still live.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::index::creds::Creds;
use crate::ready;

/// Room for nearly every `/proc/PID/{stat,status}`, bytes.
const PROC_LEN: usize = 4096;
/// What is read of them at most, bytes: 65,536 groups are the kernel's limit.
const PROC_MAX: u64 = 1 << 20;

/// The process behind a FUSE request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its id; 0 when it lives in a pid namespace that is not ours or below ours.
    pub pid: u32,
    /// Its fsuid.
    pub uid: u32,
    /// Its fsgid.
    pub gid: u32,
}

/// One process for ever: a pid alone may be given to another.
///
/// As sure as a pidfd, but keeps no descriptor and can be handed to the next worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What tells it from all others that ever have this id: see [`Processes::birth`].
    pub birth: u64,
}

/// Where to learn about processes: `/proc`, or a test's own list.
pub trait Processes: Send + Sync {
    /// A number that no other process with this id has until the machine starts anew; `None` when there is no such process
    /// any more.
    ///
    /// # Errors
    /// Where it cannot be told, as without free descriptors.
    fn birth(&self, pid: u32) -> io::Result<Option<u64>>;
    /// The supplementary groups of a caller.
    fn groups(&self, caller: Caller) -> Vec<u32>;
}

/// [`Process::birth`] where it could not be told: whoever has its pid is taken for it.
const UNTOLD: u64 = u64::MAX;

/// The processes of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proc;

impl Processes for Proc {
    fn birth(&self, pid: u32) -> io::Result<Option<u64>> {
        match has_pidfs()? {
            true => inode(pid),
            false => start_time(pid),
        }
    }

    fn groups(&self, caller: Caller) -> Vec<u32> {
        read_proc(caller.pid, "status", |status| parse_groups(status, caller)).unwrap_or_default()
    }
}

impl dyn Processes + '_ {
    /// Whether `process` still runs. What cannot be told counts as alive, as does a pid of 0, which cannot be watched.
    pub fn alive(&self, process: Process) -> bool {
        let is = |now| now == process.birth || process.birth == UNTOLD;
        process.pid == 0
            || self
                .birth(process.pid)
                .map_or(true, |now| now.is_some_and(is))
    }

    /// The caller as a process.
    pub fn identify(&self, caller: Caller) -> Process {
        Process {
            pid: caller.pid,
            birth: match self.birth(caller.pid) {
                Ok(birth) => birth.unwrap_or_default(),
                Err(_) => UNTOLD,
            },
        }
    }

    /// The caller's rights.
    pub fn creds(&self, caller: Caller) -> Creds {
        Creds {
            uid: caller.uid,
            gid: caller.gid,
            groups: self.groups(caller),
        }
    }
}

/// What a process calls itself, while it runs.
pub fn program(of: Process) -> Option<String> {
    let known: &dyn Processes = &Proc;
    if of.pid == 0 || !known.alive(of) {
        return None;
    }
    let name = |text: &[u8]| String::from_utf8_lossy(text.trim_ascii_end()).into_owned();
    read_proc(of.pid, "comm", name).ok()
}

/// `f_type` of pidfs (linux/magic.h).
const PIDFS_MAGIC: u64 = 0x5049_4446;
/// A pidfd of a thread, which a caller may be: its id is what FUSE tells (Linux 6.9).
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::PIDFD_THREAD);

/// Whether pidfds are files of pidfs, whose inode numbers are never given twice: from Linux 6.9 on, where they have 64 bits.
/// That number costs a third of what `/proc/PID/stat` does, which the kernel writes anew for every reader.
///
/// It is the same for every worker, as births are handed from one to the next: a want of descriptors tells nothing.
fn has_pidfs() -> io::Result<bool> {
    static HAS_PIDFS: OnceLock<bool> = OnceLock::new();
    if let Some(has) = HAS_PIDFS.get() {
        return Ok(*has);
    }
    let pidfd = pidfd_open(rustix::process::getpid(), PIDFD_THREAD);
    let has = match pidfd.and_then(rustix::fs::fstatfs) {
        Ok(fs) => cfg!(target_pointer_width = "64") && fs.f_type as u64 == PIDFS_MAGIC,
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => false,
        Err(e) => return Err(e.into()),
    };
    Ok(*HAS_PIDFS.get_or_init(|| has))
}

/// The inode number of its pidfd. One that waits for its parent to hear of it has exited.
fn inode(pid: u32) -> io::Result<Option<u64>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pidfd = match pid.map_or(Err(Errno::SRCH), |pid| pidfd_open(pid, PIDFD_THREAD)) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    match ready::now(&pidfd, PollFlags::IN)?.is_empty() {
        true => Ok(Some(rustix::fs::fstat(&pidfd)?.st_ino)),
        false => Ok(None),
    }
}

/// When it started, in clock ticks since boot.
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    match read_proc(pid, "stat", parse_stat) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        read => read,
    }
}

/// Has a file of `/proc/PID` parsed. The kernel writes it anew for every open; with room for all of it, it is read at once.
fn read_proc<T>(pid: u32, name: &str, parse: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let mut file = File::open(format!("/proc/{pid}/{name}"))?;
    let mut text = [0; PROC_LEN];
    let len = file.read(&mut text)?;
    if len < text.len() {
        return Ok(parse(&text[..len]));
    }
    let mut text = text.to_vec();
    file.take(PROC_MAX).read_to_end(&mut text)?;
    Ok(parse(&text))
}

/// Field 22 of `/proc/PID/stat`; a zombie has exited. The name in field 2 may hold blanks and parentheses.
fn parse_stat(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(name_end + 2..)?)
        .ok()?
        .split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// The `Groups:` line, if the file is really that of the caller: its last `Uid:` and `Gid:` are fsuid and fsgid.
fn parse_groups(status: &[u8], caller: Caller) -> Vec<u32> {
    let numbers = |key: &str| -> Vec<u32> {
        let mut lines = status.split(|byte| *byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(key.as_bytes()));
        let line = std::str::from_utf8(line.unwrap_or_default()).unwrap_or_default();
        let numbers = line.split_whitespace().filter_map(|n| n.parse().ok());
        numbers.collect()
    };
    let same =
        numbers("Uid:").last() == Some(&caller.uid) && numbers("Gid:").last() == Some(&caller.gid);
    if same { numbers("Groups:") } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(
            parse_stat(format!("12 (imap) x (y) S {tail}").as_bytes()),
            Some(4711)
        );
        assert_eq!(
            parse_stat(format!("12 (imap) Z {tail}").as_bytes()),
            None,
            "a zombie has exited"
        );
    }

    #[test]
    fn groups_count_only_when_the_ids_agree() {
        let status = b"Name:\timap\nUid:\t0\t0\t0\t1000\nGid:\t0\t0\t0\t1001\nGroups:\t7 8 \n";
        let caller = Caller {
            pid: 1,
            uid: 1000,
            gid: 1001,
        };
        assert_eq!(parse_groups(status, caller), [7, 8]);
        assert!(parse_groups(status, Caller { uid: 0, ..caller }).is_empty());
    }

    #[test]
    fn we_are_alive_and_an_impossible_process_is_not() {
        let procs: &dyn Processes = &Proc;
        let me = procs.identify(Caller {
            pid: std::process::id(),
            uid: 0,
            gid: 0,
        });
        assert!(me.birth > 0 && procs.alive(me));
        assert!(!procs.alive(Process {
            birth: me.birth + 1,
            ..me
        }));
    }

    type Birth = fn(u32) -> io::Result<Option<u64>>;

    fn ways() -> Vec<(&'static str, Birth)> {
        let mut ways: Vec<(_, Birth)> = vec![("stat", start_time)];
        match has_pidfs().unwrap() {
            true => ways.push(("pidfs", inode)),
            false => eprintln!("without pidfs: not tested"),
        }
        ways
    }

    #[test]
    fn a_process_is_the_same_until_it_exits_whether_or_not_its_parent_knows() {
        for (way, birth) in ways() {
            let mut child = std::process::Command::new("cat")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let born = birth(child.id()).unwrap();
            assert!(
                born.is_some() && born != birth(std::process::id()).unwrap(),
                "{way}"
            );
            assert_eq!(birth(child.id()).unwrap(), born, "{way}");
            drop(child.stdin.take());
            while birth(child.id()).unwrap().is_some() {
                std::thread::yield_now();
            }
            child.wait().unwrap();
            assert_eq!(birth(child.id()).unwrap(), None, "{way}");
        }
    }

    #[test]
    fn a_thread_has_a_number_of_its_own() {
        for (way, birth) in ways() {
            let of_a_thread = std::thread::spawn(move || {
                let id = rustix::thread::gettid().as_raw_nonzero().get();
                birth(id.cast_unsigned()).unwrap()
            });
            let of_a_thread = of_a_thread.join().unwrap();
            assert!(of_a_thread.is_some(), "{way}");
        }
    }
}
