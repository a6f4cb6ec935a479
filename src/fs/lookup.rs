//! LOOKUP: a name that is there needs no gate, so listing touches nothing; a missing L does.

use std::ffi::{CStr, OsStr};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::error::{FsError, Result};
use super::place::{Place, Role, is_private};
use super::{Call, Core, FOREVER, Found, c_name, stale};
use crate::store::dirs::Dir;
use crate::store::{Attr, Node};
use crate::template::LevelKind;
use crate::user::steps;

/// Everybody may make his directory in a level, and nobody remove another's.
pub(super) const LEVEL_MODE: Mode = Mode::from_bits_retain(0o1777);

impl Core {
    /// Finds `name` in `parent`.
    ///
    /// # Errors
    /// As `stat(2)`; EIO where L is missing and the gate refuses.
    pub fn lookup(&self, call: &Call, parent: Node, name: &OsStr) -> Result<Found> {
        if is_private(parent, name) {
            return Err(FsError::Absent.into());
        }
        steps::die_of(name);
        let dir = self.store.dir(parent).map_err(stale)?;
        let c_name = c_name(name)?;
        let look = || self.store.attr_at(&dir, &c_name);
        match self.store.leaving().look(look, |attr| attr.node) {
            Ok(attr) => Ok(self.found(name, attr)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                self.lookup_missing(call, &dir, name, &c_name)
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn found(&self, name: &OsStr, attr: Attr) -> Found {
        // The record is replaced behind the kernel's back.
        let name_ttl = if self.role(name) == Role::Record {
            Duration::ZERO
        } else {
            FOREVER
        };
        Found {
            attr: self.shown(attr),
            name_ttl,
        }
    }

    fn lookup_missing(&self, call: &Call, dir: &Dir, name: &OsStr, c_name: &CStr) -> Result<Found> {
        match self.role(name) {
            Role::Log => self.lookup_missing_log(call, dir, name, c_name),
            Role::Plain => self.materialise(dir, name, c_name),
            Role::Managed | Role::NewLock | Role::Temp | Role::Record => {
                Err(FsError::Absent.into())
            }
        }
    }

    /// The gate may pull L: that is what the lookup waits for.
    ///
    /// Not for who holds list index files open: before it renames `L.newlock` to L the kernel looks L up,
    /// and renames must not fail. It passed the gate when it made them, or is a ghost by now.
    fn lookup_missing_log(
        &self,
        call: &Call,
        dir: &Dir,
        name: &OsStr,
        c_name: &CStr,
    ) -> Result<Found> {
        let Place::UserDir(user) = self.place_in(dir)? else {
            return Err(self.misfit(dir).into());
        };
        let state = self.gate.user(&user);
        if state.is_held_by(call.caller.pid) {
            return Err(FsError::Absent.into());
        }
        let operation = self.admit(call, &state)?;
        match self.store.attr_at(dir, c_name) {
            Ok(attr) => Ok(self.found(name, attr)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                drop(operation);
                self.gate.drop_left_newlock(&state, dir, name)?;
                Err(FsError::Absent.into())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Hash directories exist as soon as they are looked up: whoever made one would own it, and shut
    /// out the other users of that bucket.
    fn materialise(&self, dir: &Dir, name: &OsStr, c_name: &CStr) -> Result<Found> {
        use std::os::unix::ffi::OsStrExt;
        let Place::Level(above) = self.place_in(dir)? else {
            return Err(FsError::Absent.into());
        };
        let (layout, level) = (&self.config.layout, above + 1);
        let hashed = level < layout.depth() && layout.kind(level) == LevelKind::Hashed;
        if !hashed || !layout.may_be(level, name.as_bytes()) {
            return Err(FsError::Absent.into());
        }
        self.gate
            .with_room(|| match rustix::fs::mkdirat(dir, c_name, LEVEL_MODE) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(e) => Err(e.into()),
            })?;
        rustix::fs::chmodat(dir, c_name, LEVEL_MODE, rustix::fs::AtFlags::empty())?;
        Ok(self.found(name, self.store.attr_at(dir, c_name)?))
    }
}
