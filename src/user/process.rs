//! The processes that call us: who they are and whether they still live.

use std::fs::File;
use std::io::Read;

use crate::index::creds::Creds;

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
/// As sure as a pidfd, but costs no descriptor and can be handed to the next worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// Where to learn about processes: `/proc`, or a test's own list.
pub trait Processes: Send + Sync {
    /// When `pid` started, in clock ticks since boot; `None` when there is no such process any more.
    fn started(&self, pid: u32) -> Option<u64>;
    /// The supplementary groups of a caller.
    fn groups(&self, caller: Caller) -> Vec<u32>;
}

/// The processes of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proc;

impl Processes for Proc {
    fn started(&self, pid: u32) -> Option<u64> {
        read_proc(pid, "stat", parse_stat).ok()?
    }

    fn groups(&self, caller: Caller) -> Vec<u32> {
        read_proc(caller.pid, "status", |status| parse_groups(status, caller)).unwrap_or_default()
    }
}

impl dyn Processes + '_ {
    /// Whether `process` still runs. A pid of 0 cannot be watched: it counts as alive.
    pub fn alive(&self, process: Process) -> bool {
        process.pid == 0 || self.started(process.pid) == Some(process.started)
    }

    /// The caller as a process.
    pub fn identify(&self, caller: Caller) -> Process {
        Process {
            pid: caller.pid,
            started: self.started(caller.pid).unwrap_or_default(),
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
    let name = read_proc(of.pid, "comm", |name| name.trim_end().to_owned());
    name.ok()
}

/// Has a file of `/proc/PID` parsed. The kernel writes it anew for every open; with room for all of it, it is read at once.
fn read_proc<T>(pid: u32, name: &str, parse: impl FnOnce(&str) -> T) -> std::io::Result<T> {
    let mut file = File::open(format!("/proc/{pid}/{name}"))?;
    let mut text = [0; PROC_LEN];
    let len = file.read(&mut text)?;
    if len < text.len() {
        return Ok(parse(&String::from_utf8_lossy(&text[..len])));
    }
    let mut text = text.to_vec();
    file.take(PROC_MAX).read_to_end(&mut text)?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Field 22 of `/proc/PID/stat`; a zombie has exited. The name in field 2 may hold blanks and parentheses.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// The `Groups:` line, if the file is really that of the caller: its last `Uid:` and `Gid:` are fsuid and fsgid.
fn parse_groups(status: &str, caller: Caller) -> Vec<u32> {
    let numbers = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect()
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
        assert_eq!(parse_stat(&format!("12 (imap) x (y) S {tail}")), Some(4711));
        assert_eq!(
            parse_stat(&format!("12 (imap) Z {tail}")),
            None,
            "a zombie has exited"
        );
    }

    #[test]
    fn groups_count_only_when_the_ids_agree() {
        let status = "Name:\timap\nUid:\t0\t0\t0\t1000\nGid:\t0\t0\t0\t1001\nGroups:\t7 8 \n";
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
        assert!(me.started > 0 && procs.alive(me));
        assert!(!procs.alive(Process {
            started: me.started + 1,
            ..me
        }));
    }
}
