//! Users whose INDEX the user name alone does not tell: Dovecot's userdb is asked for it, through its auth-userdb socket.
//!
//! Nobody waits for an answer on a thread of the mount's: who asks leaves what is to be done then. What was answered serves
//! for ten minutes, and for longer while nobody answers.

mod cache;
mod client;
mod locate;
mod protocol;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::cache::Cache;
use self::client::Client;
use self::protocol::Answer;
use crate::index::dir::IndexPath;
use crate::options::{Config, Index};
use crate::template::User;

/// Auth is given so long for an answer, and no more than half of `check_timeout=`: then NFS still has its time.
const MAX_PATIENCE: Duration = Duration::from_secs(10);

/// Where a user's INDEX is, or why that is not known.
pub type Found = Result<Arc<IndexPath>, Error>;

/// Why userdb does not tell a user's INDEX. The text is the operator's log line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The socket is not there, or nobody listens.
    #[error(
        "cannot connect to userdb: {0}: start Dovecot, or name its auth-userdb socket in userdb="
    )]
    Unreachable(String),
    /// Whoever listens does not answer.
    #[error("no answer from userdb within {0:?}: is Dovecot's auth alive?")]
    Silent(Duration),
    /// Others are answered meanwhile.
    #[error("no answer from userdb about this user within {0:?}: see Dovecot's log")]
    Late(Duration),
    /// The connection was closed twice without an answer.
    #[error("userdb hangs up without an answer: see Dovecot's log")]
    HungUp,
    /// It speaks another protocol.
    #[error("this is no auth-userdb socket that is understood here: name Dovecot's in userdb=")]
    Foreign,
    /// The lookup failed in Dovecot.
    #[error("userdb fails to look this user up{0}: see Dovecot's log")]
    Failed(String),
    /// There is no such user.
    #[error(
        "userdb knows no such user: has he been deleted, or does layout= give another name than Dovecot's?"
    )]
    NotFound,
    /// Auth reads no lines that long.
    #[error("the user name is longer than userdb takes: leave LISTINDEX= out for him")]
    NameTooLong,
    /// The reply lacks the home directory.
    #[error(
        "userdb gives no home (it does not tell mail_home): have it give home=, or write index= without it"
    )]
    NoHome,
    /// The reply lacks the place of the mail.
    #[error(
        "userdb gives no mail= that names a directory: have it give mail=…:INDEX=…, or write Dovecot's INDEX as index=, with %h for the home"
    )]
    NoMail,
    /// A reply of 2.4's that does not tell INDEX.
    #[error(
        "userdb gives mail_path but not mail_index_path, which Dovecot's settings may have: have it give both, or write index= with %h for the home"
    )]
    NoIndexPath,
    /// There is no INDEX.
    #[error(
        "INDEX=MEMORY: this user's index files are in memory, so there is nothing to keep: leave LISTINDEX= out for him"
    )]
    InMemory,
    /// A path that is not used.
    #[error("{0}")]
    BadPath(String),
}

impl Error {
    /// Whether nobody is answered, and not this user alone: one line tells of all.
    pub fn is_of_all(&self) -> bool {
        use Error::*;
        matches!(self, Unreachable(_) | Silent(_) | HungUp | Foreign)
    }

    /// Whether asking again may be answered otherwise though nobody changes anything in userdb.
    fn is_of_the_moment(&self) -> bool {
        self.is_of_all() || matches!(self, Error::Late(_) | Error::Failed(_))
    }
}

/// Asks, and remembers.
#[derive(Debug)]
pub struct Userdb {
    index: Index,
    patience: Duration,
    cache: Mutex<Cache>,
    client: Client,
}

impl Userdb {
    /// For a mount whose `index=` needs it.
    ///
    /// # Errors
    /// When there are no file descriptors.
    pub fn new(config: &Config) -> std::io::Result<Option<Arc<Self>>> {
        let Some(socket) = config.userdb.clone() else {
            return Ok(None);
        };
        let patience = MAX_PATIENCE.min(config.check_timeout / 2);
        Ok(Some(Arc::new(Self {
            index: config.index.clone(),
            patience,
            cache: Mutex::default(),
            client: Client::new(socket, patience)?,
        })))
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        self.client.socket()
    }

    /// How long an answer is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// What is remembered of a user and still serves. Waits for nothing.
    pub fn known(&self, user: &User) -> Option<Found> {
        self.cache.lock().fresh(user, Instant::now())
    }

    /// The same, or what was told earlier where that does not serve any more. Waits for nothing.
    pub fn remembered(&self, user: &User) -> Option<Found> {
        let mut cache = self.cache.lock();
        (cache.fresh(user, Instant::now())).or_else(|| cache.any(user))
    }

    /// Asks for a user. `done` is told within [`Userdb::patience`], on a thread on which it must not wait: on this one, if
    /// nobody answers anybody just now. Waits for nothing.
    pub fn ask(self: &Arc<Self>, user: &User, done: impl FnOnce(Found) + Send + 'static) {
        let (userdb, asked) = (Arc::clone(self), user.clone());
        let answered = move |answer| done(userdb.conclude(&asked, answer));
        self.client.ask(user.as_bytes(), Box::new(answered));
    }

    /// What is remembered, or what is answered. Waits for that, so it is not for threads on which others wait.
    pub fn find(self: &Arc<Self>, user: &User) -> Found {
        if let Some(found) = self.known(user) {
            return found;
        }
        let (done, answer) = channel();
        self.ask(user, move |found| drop(done.send(found)));
        // It is told in any case; should it not be, he is not found.
        answer.recv().unwrap_or(Err(Error::HungUp))
    }

    /// What is remembered of this user may not be true any more: his INDEX is not where it should be, or an operator asks.
    pub fn doubt(&self, user: &User) {
        self.cache.lock().doubt(user, Instant::now());
    }

    fn conclude(&self, user: &User, answer: Result<Answer, Error>) -> Found {
        let found = match answer {
            Ok(Answer::User(fields)) => locate::locate(&self.index, user, &fields).map(Arc::new),
            Ok(Answer::NotFound) => Err(Error::NotFound),
            Ok(Answer::Failed(reason)) if reason.is_empty() => Err(Error::Failed(reason)),
            Ok(Answer::Failed(reason)) => Err(Error::Failed(format!(" ({reason})"))),
            Err(error) => Err(error),
        };
        let mut cache = self.cache.lock();
        match &found {
            // What was known before serves on.
            Err(error) if error.is_of_the_moment() => cache.any(user).unwrap_or(found),
            _ => {
                cache.put(user, found.clone(), Instant::now());
                found
            }
        }
    }
}
