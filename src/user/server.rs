//! Where a user's INDEX lies and which threads wait for its server: found once for each user, and the threads anew
//! when the mount table has changed. Where userdb has to be asked for INDEX, a run begins when that has answered.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::gate::Gate;
use super::state::UserState;
use crate::index::Trouble;
use crate::index::dir::{Base, IndexPath};
use crate::index::pool::Pool;
use crate::template::User;
use crate::userdb::{self, Found};

/// What has been found for one user.
#[derive(Debug, Default)]
pub(super) struct Server {
    index: OnceLock<Arc<IndexPath>>,
    /// What userdb tells the run under way, where it has to be asked; `None` while it is being asked.
    told: Mutex<Option<Found>>,
    threads: Mutex<Option<Threads>>,
}

/// The threads that wait for INDEX.
#[derive(Debug)]
struct Threads {
    /// That of the mount table by which they were found.
    version: u64,
    at: Arc<IndexPath>,
    pool: Arc<Pool>,
}

impl Gate {
    /// Where the user's INDEX lies.
    pub(super) fn index_path(&self, state: &UserState) -> Result<Arc<IndexPath>, Trouble> {
        if let Some(userdb) = &self.userdb {
            let told = state.server.told.lock().clone();
            // No run is under way, or one waits for it: who asks wants to know what was so far.
            let found = told.or_else(|| userdb.remembered(&state.user));
            return Ok(found.unwrap_or(Err(userdb::Error::Silent(userdb.patience())))?);
        }
        let index = &state.server.index;
        if let Some(path) = index.get() {
            return Ok(Arc::clone(path));
        }
        let found = self.find_index(&state.user)?;
        Ok(Arc::clone(index.get_or_init(|| found)))
    }

    /// The same of a user of whom nothing is known. May wait for userdb, so it is not for threads on which others wait.
    pub(super) fn find_index(&self, user: &User) -> Result<Arc<IndexPath>, Trouble> {
        match (&self.userdb, self.config.index.template()) {
            (Some(userdb), _) => Ok(userdb.find(user)?),
            (None, Some(template)) => {
                let expanded = template.expand_with(user, None);
                let expanded = expanded.map_err(|e| Trouble::NoPath(e.to_string()))?;
                Ok(Arc::new(IndexPath {
                    base: expanded.base,
                    rest: expanded.rest,
                    base_is: Base::Fixed,
                }))
            }
            (None, None) => Err(Trouble::NoPath("userdb is not asked".to_owned())),
        }
    }

    /// Starts a run that is due: on this very thread if that can be spared, or on a thread of the pool, when it is known where
    /// INDEX is. Waits for nothing else.
    pub(super) fn start(self: &Arc<Self>, state: Arc<UserState>, here: bool) {
        let gate = Arc::clone(self);
        let Some(userdb) = &self.userdb else {
            return gate.start_located(state, here);
        };
        let known = userdb.known(&state.user);
        let ask = known.is_none();
        *state.server.told.lock() = known;
        match ask {
            false => gate.start_located(state, here),
            true => userdb.ask(&state.user.clone(), move |found| {
                *state.server.told.lock() = Some(found);
                gate.start_located(state, false);
            }),
        }
    }

    fn start_located(self: Arc<Self>, state: Arc<UserState>, here: bool) {
        let pool = self.pool_of(&state);
        let (gate, spared) = (Arc::clone(&self), self.spared_threads());
        let run = move || gate.run_next(&state);
        match here {
            true => {
                let step_aside = || self.kernel.step_aside();
                self.pools.run_here(spared, &pool, step_aside, run);
            }
            false => pool.run(run),
        }
    }

    /// INDEX is not where it should be: userdb may say another place by now.
    pub(super) fn doubt_index(&self, user: &User) {
        if let Some(userdb) = &self.userdb {
            userdb.doubt(user);
        }
    }

    /// The threads that wait for the server of the user's INDEX.
    pub(super) fn pool_of(&self, state: &UserState) -> Arc<Pool> {
        // Asked first: what is found then is of that version or of a later one.
        let version = self.mounts.version();
        let Ok(at) = self.index_path(state) else {
            // There is no server to wait for.
            let none = self.userdb.as_ref().map_or(Path::new("/"), |u| u.socket());
            return self.pools.aside(none.to_owned());
        };
        let mut known = state.server.threads.lock();
        match (&*known, &version) {
            (Some(threads), Ok(now)) if threads.version == *now && threads.at == at => {
                return Arc::clone(&threads.pool);
            }
            _ => {}
        }
        let mount = self.mounts.point_above(&at.path());
        let pool = self.pools.of(mount.unwrap_or_else(|e| {
            log::error!("cannot read mountinfo: {e}");
            "/".into()
        }));
        *known = version.ok().map(|version| Threads {
            version,
            at,
            pool: Arc::clone(&pool),
        });
        pool
    }

    /// The mount point of the NFS that holds the user's INDEX. May wait for userdb, so it is not for threads on which others
    /// wait.
    pub fn nfs_of(&self, user: &User) -> PathBuf {
        if let Some(userdb) = &self.userdb {
            let _remembered = userdb.find(user);
        }
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
        let told = state.server.told.lock().clone();
        if let Some(userdb) = self.userdb.as_ref().filter(|_| told.is_none()) {
            let silent = userdb::Error::Silent(userdb.patience());
            return self.report(&state.user, &silent.into());
        }
        if let Err(trouble) = self.index_path(state) {
            return self.report(&state.user, &trouble);
        }
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
