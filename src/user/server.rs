//! Where a user's INDEX lies and which threads wait for its server: found once for each user, and the threads anew
//! when the mount table has changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::gate::Gate;
use super::state::UserState;
use crate::index::Trouble;
use crate::index::dir::IndexPath;
use crate::index::pool::Pool;
use crate::template::User;

/// What has been found for one user.
#[derive(Debug, Default)]
pub(super) struct Server {
    index: OnceLock<Arc<IndexPath>>,
    /// The threads, and of which version of the mount table that is.
    pool: Mutex<Option<(u64, Arc<Pool>)>>,
}

impl Gate {
    /// Where the user's INDEX lies.
    pub(super) fn index_path(&self, state: &UserState) -> Result<Arc<IndexPath>, Trouble> {
        let index = &state.server.index;
        if let Some(path) = index.get() {
            return Ok(Arc::clone(path));
        }
        let found = self.expand_index(&state.user)?;
        Ok(Arc::clone(index.get_or_init(|| Arc::new(found))))
    }

    /// The same of a user of whom nothing is known.
    pub(super) fn expand_index(&self, user: &User) -> Result<IndexPath, Trouble> {
        let no_path = |e: &dyn std::fmt::Display| Trouble::NoPath(e.to_string());
        let template = &self.config.index;
        let base = template.literal_prefix();
        let path = template.expand(user).map_err(|e| no_path(&e))?;
        let rest = path.strip_prefix(base).map_err(|e| no_path(&e))?;
        Ok(IndexPath {
            base: base.to_owned(),
            rest: rest.to_owned(),
        })
    }

    /// The threads that wait for the server of the user's INDEX.
    pub(super) fn pool_of(&self, state: &UserState) -> Arc<Pool> {
        // Asked first: what is found then is of that version or of a later one.
        let version = self.mounts.version();
        let mut known = state.server.pool.lock();
        match (&*known, &version) {
            (Some((of, pool)), Ok(version)) if of == version => return Arc::clone(pool),
            _ => {}
        }
        let path = self.index_path(state).map(|at| at.path());
        let mount = self.mounts.point_above(&path.unwrap_or_default());
        let pool = self.pools.of(mount.unwrap_or_else(|e| {
            log::error!("cannot read mountinfo: {e}");
            "/".into()
        }));
        *known = version.ok().map(|version| (version, Arc::clone(&pool)));
        pool
    }

    /// The mount point of the NFS that holds the user's INDEX.
    pub fn nfs_of(&self, user: &User) -> PathBuf {
        self.pool_of(&self.user(user)).mount().to_owned()
    }

    /// Whether the server of that NFS has not answered in time, and not since.
    pub fn is_silent(&self, mount: &Path) -> bool {
        self.pools.is_silent(mount)
    }

    /// Has something done on a thread that waits for the server of the user's INDEX.
    pub fn in_pool(&self, user: &User, work: impl FnOnce() + Send + 'static) {
        self.pool_of(&self.user(user)).run(work);
    }

    /// One line for all users of a server, however many wait for it.
    pub(super) fn server_is_silent(&self, state: &UserState) {
        let (pool, user) = (self.pool_of(state), &state.user);
        let (mount, trouble) = (pool.mount(), Trouble::TimedOut(self.config.check_timeout));
        let line = format!("{}: {user}: list index refused: {trouble}", mount.display());
        let whom = mount.as_os_str().as_encoded_bytes();
        self.limit.warn(whom, trouble.kind(), &line);
        self.pools.silent(&pool);
    }

    pub(super) fn server_answers(&self, state: &UserState) {
        if let Some(pool) = self.pools.answers(|| self.pool_of(state)) {
            log::info!("{}: the server answers again", pool.mount().display());
        }
    }
}
