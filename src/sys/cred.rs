//! Acting as somebody else for a moment, on this thread only.
//!
//! The raw system calls change the calling thread alone (glibc's wrappers would change all threads).
//! Both guards go back to root on Drop; a thread that could not go back must not go on, so that aborts.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::sync::OnceLock;

const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// User id, group id and supplementary groups.
type Ids = (u32, u32, Vec<u32>);

thread_local! {
    /// Whom this thread acts as.
    static ACTING: RefCell<Option<Ids>> = const { RefCell::new(None) };
}

/// Until dropped, files are accessed with another's user id, group id and groups, *and with no more
/// rights than those give*: the kernel takes root's file capabilities away with the user id.
#[must_use]
pub struct ActAs {
    /// The thread acted so before, and goes on.
    nested: bool,
    _this_thread: PhantomData<*const ()>,
}

/// Until dropped, files are made with another's user and group id but root's rights: for the backing,
/// where the kernel has checked the caller's permissions already (`default_permissions`).
#[must_use]
pub struct OwnAs {
    _this_thread: PhantomData<*const ()>,
}

impl ActAs {
    /// Takes on `uid`, `gid` and `groups`. Where the thread acts so already this costs nothing.
    ///
    /// # Errors
    /// When the process lacks `CAP_SETUID` or `CAP_SETGID`; `EBUSY` when the thread acts as another.
    pub fn new(uid: u32, gid: u32, groups: &[u32]) -> io::Result<Self> {
        let acting = ACTING.with_borrow(|acting| {
            acting
                .as_ref()
                .map(|ids| (ids.0, ids.1, ids.2.as_slice()) == (uid, gid, groups))
        });
        match acting {
            Some(true) => return Ok(ActAs::guard(true)),
            Some(false) => return Err(io::Error::from_raw_os_error(libc::EBUSY)),
            None => {}
        }
        // Asked for while they still are ours.
        if our_groups()? != groups {
            set_groups(groups)?;
        }
        ACTING.set(Some((uid, gid, groups.to_vec())));
        let guard = ActAs::guard(false);
        set_fs_ids(uid, gid)?; // an error drops the guard, which goes back
        Ok(guard)
    }

    fn guard(nested: bool) -> Self {
        ActAs {
            nested,
            _this_thread: PhantomData,
        }
    }
}

impl Drop for ActAs {
    fn drop(&mut self) {
        if self.nested {
            return;
        }
        let acted = ACTING.take();
        let back = || {
            set_fs_ids(0, 0)?;
            match our_groups()? {
                ours if acted.is_some_and(|ids| ids.2 == ours) => Ok(()), // they were never others
                ours => set_groups(ours),
            }
        };
        if back().is_err() {
            std::process::abort();
        }
    }
}

impl OwnAs {
    /// Takes on `uid` and `gid`; nothing is to be done for root.
    ///
    /// # Errors
    /// When the process lacks `CAP_SETUID`, `CAP_SETGID` or `CAP_SETPCAP`.
    pub fn new(uid: u32, gid: u32) -> io::Result<Option<Self>> {
        if (uid, gid) == (0, 0) {
            return Ok(None);
        }
        secure_bits(SECBIT_NO_SETUID_FIXUP)?;
        let guard = OwnAs {
            _this_thread: PhantomData,
        };
        set_fs_ids(uid, gid)?;
        Ok(Some(guard))
    }
}

impl Drop for OwnAs {
    fn drop(&mut self) {
        if set_fs_ids(0, 0).is_err() || secure_bits(0).is_err() {
            std::process::abort();
        }
    }
}

fn secure_bits(bits: libc::c_ulong) -> io::Result<()> {
    // SAFETY: takes integers only and changes this thread's credentials, no memory.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0)
    }))
}

fn set_fs_ids(uid: u32, gid: u32) -> io::Result<()> {
    // setfsuid(2) reports the *previous* id and no error: a second call with an impossible id tells.
    // On the way to root the user id comes first, on the way down last: only root may set either.
    if uid == 0 {
        set_fs_id(libc::SYS_setfsuid, uid)?;
        set_fs_id(libc::SYS_setfsgid, gid)
    } else {
        set_fs_id(libc::SYS_setfsgid, gid)?;
        set_fs_id(libc::SYS_setfsuid, uid)
    }
}

fn set_fs_id(call: libc::c_long, id: u32) -> io::Result<()> {
    // SAFETY: takes an integer only and changes this thread's credentials, no memory.
    let now = unsafe {
        libc::syscall(call, id);
        libc::syscall(call, -1)
    };
    if now as u32 == id {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// The groups of this process, which every thread goes back to: asked for once.
fn our_groups() -> io::Result<&'static [libc::gid_t]> {
    static OURS: OnceLock<Vec<libc::gid_t>> = OnceLock::new();
    if let Some(ours) = OURS.get() {
        return Ok(ours);
    }
    let now = current_groups()?;
    Ok(OURS.get_or_init(|| now))
}

fn current_groups() -> io::Result<Vec<libc::gid_t>> {
    // SAFETY: a size of 0 makes the kernel write nothing and report the number of groups.
    let n = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    check(i64::from(n))?;
    let mut groups = vec![0; n as usize];
    // SAFETY: `groups` has room for the `n` entries announced.
    let n = unsafe { libc::getgroups(n, groups.as_mut_ptr()) };
    check(i64::from(n))?;
    groups.truncate(n as usize);
    Ok(groups)
}

fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: the kernel reads `len` ids from a slice of that length.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

fn check(rc: i64) -> io::Result<()> {
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// Run in a thread of its own: a failed assertion must not leave a test thread with foreign ids.
    fn as_root(test: impl FnOnce() + Send + 'static) {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: needs root");
        }
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn acting_as_a_user_takes_his_rights_and_no_more() {
        as_root(|| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
            let secret = dir.path().join("secret");
            std::fs::write(&secret, "root's").unwrap();
            std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
            let shared = dir.path().join("shared");
            std::fs::write(&shared, "the group's").unwrap();
            std::os::unix::fs::chown(&shared, Some(0), Some(4711)).unwrap();
            std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o640)).unwrap();
            {
                let _as = ActAs::new(1234, 1235, &[4711]).unwrap();
                drop(ActAs::new(1234, 1235, &[4711]).unwrap()); // within it: changes nothing
                assert!(ActAs::new(1236, 1235, &[4711]).is_err());
                assert!(std::fs::read(&secret).is_err());
                assert!(std::fs::read(&shared).is_ok(), "supplementary groups count");
                std::fs::write(dir.path().join("mine"), "x").unwrap();
            }
            assert!(std::fs::read(&secret).is_ok(), "root again");
            let made = std::fs::metadata(dir.path().join("mine")).unwrap();
            assert_eq!((made.uid(), made.gid()), (1234, 1235));
        });
    }

    #[test]
    fn groups_are_the_others_and_then_ours_again() {
        as_root(|| {
            let ours = our_groups().unwrap();
            for groups in [ours, &[4711], &[]] {
                let acting = ActAs::new(1234, 1235, groups).unwrap();
                assert_eq!(current_groups().unwrap(), groups);
                drop(acting);
                assert_eq!(current_groups().unwrap(), ours);
            }
        });
    }

    #[test]
    fn owning_as_a_user_keeps_roots_rights() {
        as_root(|| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
            let file = dir.path().join("made");
            {
                let _own = OwnAs::new(1234, 1235).unwrap();
                std::fs::write(&file, "x").unwrap();
            }
            let made = std::fs::metadata(&file).unwrap();
            assert_eq!((made.uid(), made.gid()), (1234, 1235));
            let _as = ActAs::new(1234, 1235, &[]).unwrap();
            assert!(
                std::fs::read(&file).is_err(),
                "rights are dropped again with ActAs"
            );
        });
    }
}
