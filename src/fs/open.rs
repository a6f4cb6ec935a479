//! OPEN and RELEASE. The gate stands at the OPEN of L; after a purge it is answered ESTALE, on which
//! the kernel walks the path again and finds what is now true.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::error::{FsError, Result, Stop};
use super::place::{Place, Role};
use super::{Call, Core, Handle, Verdict, c_name, stale};
use crate::journal::Entry;
use crate::store::known::Named;
use crate::store::{Node, PRIVATE_DIR};
use crate::template::User;
use crate::user::directory::Operation;
use crate::user::gate::DueRun;
use crate::user::process::Caller;
use crate::user::state::UserState;

/// What becomes of a list index that is changed.
pub(super) const WRITTEN: &str = "written";

impl Core {
    /// Opens a file.
    ///
    /// # Errors
    /// ESTALE when it is gone, EIO when it is L and the gate refuses.
    pub fn open(&self, call: &Call, node: Node, flags: OFlags) -> Result<Handle> {
        if self.was_done(call) {
            return Ok(handle_of(call));
        }
        let opened = match self.open_known(call, node) {
            Ok(None) => self.open_unknown(call, node, flags),
            Ok(Some(handle)) => Ok(handle),
            Err(stop) => Err(stop),
        };
        opened.inspect_err(|stop| {
            self.not_had("opened", call.caller, stop, || self.owner_of(call, node));
        })
    }

    /// Whose list index a file is, as far as that can be told without a descriptor.
    fn owner_of(&self, call: &Call, node: Node) -> Option<Arc<UserState>> {
        if let Some(Verdict::Pass(pass)) = &call.verdict {
            return Some(Arc::clone(pass.state()));
        }
        let known = || Some(self.gate.user(&self.store.known().get(node)?.user));
        self.opens.owner(node).or_else(known)
    }

    /// Where there was no room, memory or descriptor for `whose` list index Dovecot keeps it in its own memory: it is a ghost.
    pub(super) fn not_had(
        &self,
        how: &str,
        caller: Caller,
        stop: &Stop,
        whose: impl FnOnce() -> Option<Arc<UserState>>,
    ) {
        // What looks at the files as root changes no mail.
        let looks = caller.uid == 0 && how != WRITTEN;
        let Some(e) = stop.want().filter(|_| !looks) else {
            return;
        };
        if let Some(state) = whose() {
            self.gate.spoiled(&state, caller, how, e);
        }
    }

    /// Opens a file of which nothing is known yet.
    fn open_unknown(&self, call: &Call, node: Node, flags: OFlags) -> Result<Handle> {
        let mark = self.store.known().mark();
        let file = self.store.open_node(node, OFlags::PATH).map_err(stale)?;
        let mut dir = self.store.path_of(&file)?.ok_or(FsError::Stale)?;
        let name = OsString::from_vec(dir.pop().ok_or(FsError::Reserved)?);
        if dir
            .first()
            .is_some_and(|first| first == PRIVATE_DIR.as_bytes())
        {
            return Err(FsError::Stale.into()); // unlinked since the kernel looked it up
        }
        let role = self.role_of_file(&file, &dir, &name)?;
        let operation = self.may_open(call, role, &dir, flags)?;
        let (handle, told) = self.opened(call, node, operation.as_ref());
        // Purged or replaced meanwhile: the descriptor keeps the inode, but it has no name any more.
        // Asked after the file counts as open, since from then on it keeps one.
        let links = rustix::fs::fstat(&file)?.st_nlink;
        if links == 0 {
            self.closed(node, handle, None);
            return Err(FsError::Stale.into());
        }
        self.tell(node, handle, &told)?;
        if let (Some(operation), 1) = (&operation, links) {
            let user = operation.state().user.clone();
            self.opens.with(node, |open| {
                if open.is_some_and(|open| !open.orphan) {
                    self.store.known().keep(mark, node, Named { user, name });
                }
            });
        }
        Ok(handle)
    }

    /// Opens a file that is known: it has been opened before, and its name has not changed since.
    fn open_known(&self, call: &Call, node: Node) -> Result<Option<Handle>> {
        let Some(named) = self.store.known().get(node) else {
            return Ok(None);
        };
        let operation = self.open_managed(call, self.role(&named.name), &named.user)?;
        let (handle, told) = self.opened(call, node, Some(&operation));
        // As above: asked after the file counts as open.
        if !self.store.known().is_still(node, &named) {
            self.closed(node, handle, None);
            return Ok(None);
        }
        self.tell(node, handle, &told)?;
        Ok(Some(handle))
    }

    /// Counts a file as open. What the next worker has to know is still to be told.
    pub(super) fn opened(
        &self,
        call: &Call,
        node: Node,
        operation: Option<&Operation>,
    ) -> (Handle, Entry) {
        let by = operation.map(|operation| self.hold(call, operation));
        self.opens
            .add(node, operation.map(|o| Arc::clone(o.state())));
        let told = Entry::Opened {
            unique: call.unique,
            node: node.0,
            by,
        };
        (handle_of(call), told)
    }

    /// Tells the next worker of an open file; one of which it would not know is closed again.
    pub(super) fn tell(&self, node: Node, handle: Handle, opened: &Entry) -> Result<()> {
        let told = self.gate.journal().append(opened);
        told.inspect_err(|_| drop(self.closed(node, handle, None)))?;
        Ok(())
    }

    /// Asks the gate where it stands; `None` for files it has nothing to do with.
    fn may_open(
        &self,
        call: &Call,
        role: Role,
        path: &[Vec<u8>],
        flags: OFlags,
    ) -> Result<Option<Operation>> {
        let writes = flags.intersection(OFlags::RWMODE) != OFlags::RDONLY;
        match (role, self.place(path)) {
            (Role::Plain, _) => Ok(None),
            (Role::Record, _) if writes => Err(FsError::Reserved.into()),
            (Role::Record, _) => Ok(None),
            (_, Place::UserDir(user)) => self.open_managed(call, role, &user).map(Some),
            (Role::Log, _) => Err(self.misfit_at(path).into()),
            (Role::NewLock | Role::Managed | Role::Temp, _) => Ok(None),
        }
    }

    /// Asks the gate for a file in a user's directory.
    fn open_managed(&self, call: &Call, role: Role, user: &User) -> Result<Operation> {
        let state = self.gate.user(user);
        match role {
            Role::Log => self.admit(call, &state),
            _ => self.enter(&state),
        }
    }

    /// While Dovecot rotates, L bears a second name, and the path tells either.
    fn role_of_file(&self, file: &OwnedFd, path: &[Vec<u8>], name: &OsStr) -> Result<Role> {
        let role = self.role(name);
        if role == Role::Log || rustix::fs::fstat(file)?.st_nlink < 2 {
            return Ok(role);
        }
        let dir = self
            .store
            .open_path(OsStr::from_bytes(&path.join(&b'/')))
            .map_err(stale)?;
        let node = self.store.node_of(file)?;
        for (_, log) in self.config.logs() {
            if self
                .store
                .node_at(&dir, &c_name(&log)?)
                .is_ok_and(|log| log == node)
            {
                return Ok(Role::Log);
            }
        }
        Ok(role)
    }

    fn misfit_at(&self, path: &[Vec<u8>]) -> FsError {
        match self.store.open_path(OsStr::from_bytes(&path.join(&b'/'))) {
            Ok(dir) => self.misfit(&dir),
            Err(_gone) => FsError::Stale,
        }
    }

    /// The last reference to an open file is gone. Gives the run of the gate that is due then, to be begun once the request
    /// has been answered.
    pub fn release(&self, call: &Call, node: Node, handle: Handle) -> Result<DueRun> {
        let due = match self.was_done(call) {
            true => None,
            false => self.closed(node, handle, Some(call.unique)),
        };
        Ok(due.unwrap_or_default())
    }

    /// Counts a file as closed; the next worker is told of it if it is by a request.
    pub(super) fn closed(
        &self,
        node: Node,
        handle: Handle,
        request: Option<u64>,
    ) -> Option<DueRun> {
        let owner = self.opens.remove(node, || self.store.drop_orphan(node));
        let pid = handle.0 as u32;
        let told = request.map(|unique| Entry::Released {
            unique,
            node: node.0,
            user: owner.as_ref().map(|state| state.user.as_bytes().to_vec()),
            pid,
        });
        match owner {
            Some(state) => self.gate.released(&state, pid, told.as_ref()),
            None => {
                let told = told.iter();
                told.for_each(|entry| self.gate.journal().note(entry));
                None
            }
        }
    }
}

/// A handle is its opener's pid: RELEASE tells whose it was, to any worker.
pub(super) fn handle_of(call: &Call) -> Handle {
    Handle(u64::from(call.caller.pid))
}
