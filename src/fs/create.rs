//! CREATE and MKDIR: what is made belongs to the caller from its first moment.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::sync::Arc;

use super::error::{FsError, Result};
use super::lookup::LEVEL_MODE;
use super::open::{WRITTEN, handle_of};
use super::place::{Place, Role, is_private};
use super::{Call, Core, Found, Handle, c_name, stale};
use crate::store::Node;
use crate::store::dirs::Dir;
use crate::store::usage::Stamp;
use crate::sys::cred::OwnAs;
use crate::template::LevelKind;
use crate::user::directory::Operation;

impl Core {
    /// Makes and opens a regular file.
    ///
    /// # Errors
    /// As `open(2)`; EPERM for names the mount keeps for itself; EIO for L and `L.newlock` when the gate refuses.
    pub fn create(
        &self,
        call: &Call,
        parent: Node,
        name: &OsStr,
        mode: u32,
        flags: OFlags,
    ) -> Result<(Found, Handle)> {
        let dir = self.dir_to_change(parent, name)?;
        if self.was_done(call) {
            let attr = self.store.attr_at(&dir, &c_name(name)?)?;
            return Ok((self.found(name, attr), handle_of(call)));
        }
        let operation = self.may_change(call, &dir, name)?;
        let made = self.make(call, &dir, name, (mode, flags), operation.as_ref());
        made.inspect_err(|stop| {
            let whose = || operation.as_ref().map(|o| Arc::clone(o.state()));
            self.not_had(WRITTEN, call.caller, stop, whose);
        })
    }

    fn make(
        &self,
        call: &Call,
        dir: &Dir,
        name: &OsStr,
        (mode, flags): (u32, OFlags),
        operation: Option<&Operation>,
    ) -> Result<(Found, Handle)> {
        let mut flags = flags.intersection(OFlags::EXCL | OFlags::TRUNC);
        // What is there was made by the worker before: the kernel lets nobody else make a name meanwhile.
        flags.set(OFlags::EXCL, flags.contains(OFlags::EXCL) && !call.resent);
        let flags = flags
            | OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let (c_name, mode) = (c_name(name)?, Mode::from_raw_mode(mode & 0o7777));
        let made = self.gate.with_room(|| {
            let _own = OwnAs::new(call.caller.uid, call.caller.gid)?;
            Ok(rustix::fs::openat(dir, &c_name, flags, mode)?)
        });
        let file = made?;
        let node = self.store.node_of(&file)?;
        let attr = self.store.attr_of(node, &file)?;
        let (handle, told) = self.opened(call, node, operation);
        self.tell(node, handle, &told)?;
        if let Some(operation) = operation {
            operation.state().wrote(call.caller.pid);
        }
        Ok((self.found(name, attr), handle))
    }

    /// Makes a directory. Never waits and never asks the gate: a directory call that fails is a mail outage.
    ///
    /// # Errors
    /// As `mkdir(2)`; EPERM for names the mount keeps for itself.
    pub fn mkdir(&self, call: &Call, parent: Node, name: &OsStr, mode: u32) -> Result<Found> {
        let dir = self.dir_to_change(parent, name)?;
        let c_name = c_name(name)?;
        let level = self.makes_level(&dir, name)?;
        let mode = match level {
            true => LEVEL_MODE,
            false => Mode::from_raw_mode(mode & 0o7777),
        };
        let make = || {
            let _own = OwnAs::new(call.caller.uid, call.caller.gid)?;
            match rustix::fs::mkdirat(&dir, &c_name, mode) {
                Err(Errno::EXIST) if call.resent => Ok(()), // made by the worker before
                made => Ok(made?),
            }
        };
        self.gate.with_room(make)?;
        if level {
            // A setgid parent may have changed the mode.
            rustix::fs::chmodat(&dir, &c_name, LEVEL_MODE, rustix::fs::AtFlags::empty())?;
        }
        let attr = self.store.attr_at(&dir, &c_name)?;
        if matches!(self.place_in(&dir)?, Place::Level(above) if above + 1 == self.config.layout.depth())
        {
            // Were nothing ever made in it, nothing else would tell that it is there.
            self.store.usage().used(attr.node, Stamp::now());
        }
        Ok(self.found(name, attr))
    }

    /// Whether this would be a level that all users of a domain share: then it must be open to all of them.
    fn makes_level(&self, dir: &Dir, name: &OsStr) -> Result<bool> {
        use std::os::unix::ffi::OsStrExt;
        let Place::Level(above) = self.place_in(dir)? else {
            return Ok(false);
        };
        let (layout, level) = (&self.config.layout, above + 1);
        let named = level < layout.depth() && layout.kind(level) == LevelKind::Named;
        Ok(named && layout.may_be(level, name.as_bytes()))
    }

    /// Refuses to have anything but a directory where all users of a domain have to have theirs.
    pub(super) fn spare_levels(&self, dir: &Dir, name: &OsStr) -> Result<()> {
        match self.makes_level(dir, name)? {
            true => Err(FsError::Reserved.into()),
            false => Ok(()),
        }
    }

    /// Opens a directory in which `name` is to be made, renamed or linked.
    pub(super) fn dir_to_change(&self, parent: Node, name: &OsStr) -> Result<Arc<Dir>> {
        if is_private(parent, name) || self.role(name) == Role::Record {
            return Err(FsError::Reserved.into());
        }
        Ok(self.store.dir(parent).map_err(stale)?)
    }

    /// Asks the gate where it stands for a name that comes into being; `None` where it has nothing to do.
    fn may_change(&self, call: &Call, dir: &Dir, name: &OsStr) -> Result<Option<Operation>> {
        match self.role(name) {
            Role::Plain | Role::Record => self.spare_levels(dir, name).map(|()| None),
            role => match (role, self.place_in(dir)?) {
                (Role::Log | Role::NewLock, Place::UserDir(user)) => {
                    self.admit(call, &self.gate.user(&user)).map(Some)
                }
                (_, Place::UserDir(user)) => self.enter(&self.gate.user(&user)).map(Some),
                (Role::Log | Role::NewLock, _) => Err(self.misfit(dir).into()),
                (_, _) => self.spare_levels(dir, name).map(|()| None),
            },
        }
    }

    /// Lets a change of managed names in a user's directory begin; `None` elsewhere.
    pub(super) fn change(
        &self,
        call: &Call,
        dir: &Dir,
        names: &[&OsStr],
    ) -> Result<Option<Operation>> {
        if !names.iter().any(|name| self.is_counted(name)) {
            return Ok(None);
        }
        let Place::UserDir(user) = self.place_in(dir)? else {
            return Ok(None);
        };
        let operation = self.enter(&self.gate.user(&user))?;
        operation.state().wrote(call.caller.pid);
        Ok(Some(operation))
    }
}
