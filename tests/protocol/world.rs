//! The reference: every change ever made, who made it, and what a session is promised.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use listindexfs::index::lasthost::{LASTHOST, LastHost};
use listindexfs::user::giving::Given;
use listindexfs::user::steps::Step;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::host::{
    Content, Host, Invented, MAIL_UID, Open, Served, USER, bury, format, give, parse, stock_log,
};

/// What happens.
#[derive(Clone, Debug)]
pub enum Act {
    Login(usize),
    Write(usize),
    Logout(usize),
    Evict(usize),
    /// What an earlier mount left is removed.
    Sweep(usize),
    /// The pass that looks for users who have moved away looks at him.
    Look(usize),
    CrashedLogin(usize, Step),
    /// The operator drains the host, for stock backends to go on.
    GiveBack(usize),
    /// The same, and the daemon dies.
    CrashedGiveBack(usize, Step),
    /// The mount ends in order and begins again.
    Remount(usize),
    /// Supervisor and worker are killed, and it is mounted again.
    Kill(usize),
    /// INDEX cannot be used while somebody logs in.
    RefusedLogin(usize),
    /// Another host's process holds INDEX/L while somebody logs in.
    LockedLogin(usize),
    DeleteUser,
    MakeIndex,
    /// A stock backend opens, changes and closes the list index in INDEX.
    StockSession,
}

/// What may happen: the protocol is not complete for lingering sessions together with stock backends.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub hosts: usize,
    /// Sessions stay open when their user goes elsewhere.
    lingering: bool,
    pub stock: bool,
    migrate: [bool; 3],
    /// How long a login waits, and twice as long as it waits for a lock.
    check_timeout: &'static str,
}

impl Rules {
    pub const LINGERING: Rules = Rules {
        hosts: 2,
        lingering: true,
        stock: false,
        migrate: [false; 3],
        check_timeout: "1h",
    };
    pub const THREE_HOSTS: Rules = Rules {
        hosts: 3,
        lingering: true,
        stock: false,
        migrate: [true; 3],
        check_timeout: "1h",
    };
    pub const MIGRATING: Rules = Rules {
        hosts: 2,
        lingering: false,
        stock: true,
        migrate: [true; 3],
        check_timeout: "1h",
    };
    pub const MIXED: Rules = Rules {
        hosts: 2,
        lingering: true,
        stock: false,
        migrate: [true, false, true],
        check_timeout: "1h",
    };
    /// Changes made while a stock backend has a list index in INDEX are promised at their session's end only, unless
    /// .lasthost warns of that list index.
    pub const TOGETHER: Rules = Rules {
        lingering: true,
        ..Rules::MIGRATING
    };
    pub const IMPATIENT: Rules = Rules {
        lingering: true,
        check_timeout: "1s",
        ..Rules::MIGRATING
    };
    pub const LOCKED_PLAIN: Rules = Rules {
        migrate: [false; 3],
        stock: false,
        ..Rules::LOCKED
    };
    pub const LOCKED: Rules = Rules {
        hosts: 3,
        lingering: true,
        check_timeout: "4s",
        ..Rules::MIGRATING
    };
}

struct Session {
    host: usize,
    pid: u32,
    open: Option<Open>,
    /// Changes made while another host held the user: promised only after the fence at its end.
    lingering: Content,
    /// Changes made where the user is held by a session that was refused: nothing but its daemon knows of them.
    refused: Content,
}

pub struct World {
    rules: Rules,
    store: TempDir,
    hosts: Vec<Option<Host>>,
    processes: Invented,
    sessions: Vec<Session>,
    next: u32,
    /// Every change: what a list index made of the mail store contains.
    truth: Content,
    /// The changes that every list index given out must contain.
    promised: Content,
    /// What refused sessions changed whose daemon ended first: promised from the host's next login on.
    unlaid: [Content; 3],
}

impl World {
    pub fn new(rules: Rules) -> Self {
        let _ = env_logger::builder().is_test(true).try_init();
        let store = tempfile::tempdir().unwrap();
        let processes = Invented::default();
        let options = |n: usize| {
            let migrate = if rules.migrate[n] {
                "migrate"
            } else {
                "nomigrate"
            };
            let (index, timeout) = (store.path().display(), rules.check_timeout);
            format!("index={index}/%u,index_fs=any,check_timeout={timeout},{migrate}")
        };
        let host = |n: usize| Host::new(["a", "b", "c"][n], options(n), &processes);
        let hosts = (0..rules.hosts).map(host).map(Some).collect();
        make_index(&store.path().join(USER));
        std::os::unix::fs::chown(store.path(), Some(MAIL_UID), None).unwrap();
        let (truth, promised, unlaid) = Default::default();
        World {
            rules,
            store,
            hosts,
            processes,
            sessions: Vec::new(),
            next: 0,
            truth,
            promised,
            unlaid,
        }
    }

    pub fn act(&mut self, act: Act) {
        match act {
            Act::Login(host) => self.login(host),
            Act::Write(n) => self.pick(n).into_iter().for_each(|n| self.write(n)),
            Act::Logout(n) => self.pick(n).into_iter().for_each(|n| self.logout(n)),
            Act::Evict(host) => self.host(host).evict(),
            Act::Sweep(host) => self.host(host).sweep(),
            Act::Look(host) => self.host(host).look(),
            Act::CrashedLogin(host, step) => drop(self.crashed_login(host, step)),
            Act::GiveBack(host) => drop(self.give_back(host)),
            Act::CrashedGiveBack(host, step) => drop(self.crashed_give_back(host, step)),
            Act::Remount(host) => self.remount(host),
            Act::Kill(host) => self.kill(host),
            Act::RefusedLogin(host) => self.refused_login(host),
            Act::LockedLogin(host) => self.locked_login(host),
            Act::DeleteUser => self.delete_user(),
            Act::MakeIndex => make_index(&self.index()),
            Act::StockSession => self.stock_session(),
        }
        self.hosts.iter().flatten().for_each(Host::end_ghosts);
    }

    /// What `content` lacks of what is promised.
    pub fn missing(&self, content: &Content) -> Content {
        self.promised.difference(content).copied().collect()
    }

    pub fn local_content(&self, host: usize) -> Option<Content> {
        self.host(host).local_content()
    }

    pub fn stock_content(&self) -> Option<Content> {
        fs::read(stock_log(&self.index()))
            .ok()
            .map(|bytes| parse(&bytes))
    }

    /// What is in INDEX then has all that is promised.
    pub fn give_back(&mut self, host: usize) -> Given {
        let given = self.host(host).give_back().expect("the daemon dies");
        match given {
            Given::Back(_) => self.assert_given(),
            Given::Kept(ref e) | Given::Lost(ref e) => panic!("{e}"),
            Given::Dropped(_) => assert!(self.local_content(host).is_none()),
            Given::Busy | Given::Nothing => {}
        }
        given
    }

    fn assert_given(&self) {
        let content = self.stock_content().expect("it is in INDEX");
        let missing = self.missing(&content);
        assert!(missing.is_empty(), "given back without {missing:?}");
    }

    /// It hangs after a step, while somebody logs in on another host and changes something.
    pub fn give_back_while_another_claims(
        &mut self,
        host: usize,
        step: Step,
        other: usize,
    ) -> Given {
        let go_on = self.host(host).hang_at(step);
        let gate = self.host(host).gate();
        let giving = std::thread::spawn(move || {
            let user = gate.user_named(USER.as_bytes()).unwrap();
            gate.give_back(&user)
        });
        while self.host(host).is_to_hang() {
            std::thread::yield_now();
        }
        self.login(other);
        self.write(self.sessions.len() - 1);
        drop(go_on);
        giving.join().unwrap()
    }

    /// Returns whether it came to that step.
    pub fn crashed_give_back(&mut self, host: usize, step: Step) -> bool {
        // What a stock backend has made is not given back by us, and lacks what others write beside it.
        let stock = self.stock_content().is_some();
        self.host(host).die_at(step);
        let given = self.host(host).give_back();
        if !self.host(host).died() {
            assert!(given.is_some());
            return false;
        }
        if !stock && self.stock_content().is_some() && step >= Step::BackPutLog {
            self.assert_given();
        }
        bury(&self.index());
        self.kill(host);
        true
    }

    fn login(&mut self, host: usize) {
        self.leave_others(Some(host));
        let pid = self.processes.start();
        let served = self.host(host).login(pid, &self.truth);
        let unlaid = std::mem::take(&mut self.unlaid[host]);
        self.promised.extend(unlaid);
        self.admit(host, pid, served);
    }

    fn admit(&mut self, host: usize, pid: u32, served: Served) {
        let open = match served {
            Served::Given(open, content) => {
                let missing = self.missing(&content);
                assert!(
                    missing.is_empty(),
                    "host {host} gives a list index without {missing:?}"
                );
                Some(open)
            }
            Served::Made(open) => Some(open),
            Served::Refused => None,
        };
        self.sessions.push(Session {
            host,
            pid,
            open,
            lingering: Content::new(),
            refused: Content::new(),
        });
    }

    fn write(&mut self, n: usize) {
        let change = self.change();
        let Session {
            host, pid, open, ..
        } = self.sessions[n];
        if let Some(open) = open {
            self.host(host).write(pid, open, &Content::from([change]));
        }
        if self.is_held_by(host, open.is_some()) {
            self.promised.insert(change);
            if open.is_none() {
                self.sessions[n].refused.insert(change);
            }
        } else {
            self.sessions[n].lingering.insert(change);
        }
    }

    fn change(&mut self) -> u32 {
        self.next += 1;
        self.truth.insert(self.next);
        self.next
    }

    fn logout(&mut self, n: usize) {
        let session = self.sessions.swap_remove(n);
        if let Some(open) = session.open {
            self.host(session.host).release(open);
        }
        self.processes.end(session.pid);
        self.host(session.host).end_ghosts(); // and the fences
        self.promised.extend(session.lingering);
    }

    /// NFS hangs after a step for longer than the login waits; its session changes something and ends.
    pub fn login_that_hangs(&mut self, host: usize, step: Step) {
        let go_on = self.host(host).hang_at(step);
        self.login(host);
        let session = self.sessions.len() - 1;
        assert!(
            self.sessions[session].open.is_none(),
            "served while NFS hangs at {step:?}"
        );
        self.write(session);
        drop(go_on);
        self.logout(session);
    }

    /// Returns whether the login came to that step.
    pub fn crashed_login(&mut self, host: usize, step: Step) -> bool {
        self.leave_others(Some(host));
        let pid = self.processes.start();
        self.host(host).die_at(step);
        let served = self.host(host).login(pid, &self.truth);
        if !self.host(host).died() {
            self.admit(host, pid, served);
            return false;
        }
        self.processes.end(pid);
        self.lose_word_of_refused(host);
        self.kill(host);
        true
    }

    /// A login that pulls what a stock backend has left, and does not come to delete it there; then its session ends.
    pub fn login_that_deletes_nothing(&mut self, host: usize) {
        let (log, stays) = (stock_log(&self.index()), self.store.path().join("stays"));
        fs::hard_link(&log, &stays).unwrap();
        self.login(host);
        self.logout(self.sessions.len() - 1);
        fs::rename(&stays, &log).unwrap();
    }

    /// A login whose run comes to a step when a stock backend makes a list index, which then stays locked.
    pub fn login_that_meets_a_locked_log(&mut self, host: usize, step: Step) {
        let go_on = self.host(host).hang_at(step);
        let (pid, change) = (self.processes.start(), self.change());
        self.promised.insert(change);
        let (on, truth, log) = (self.host(host), &self.truth, stock_log(&self.index()));
        let lock = log.with_extension("log.lock");
        let served = std::thread::scope(|scope| {
            let login = scope.spawn(|| on.login(pid, truth));
            while on.is_to_hang() {
                std::thread::yield_now();
            }
            fs::write(&log, format(truth)).unwrap();
            give(&log);
            fs::write(&lock, "1:elsewhere").unwrap();
            drop(go_on);
            login.join().unwrap()
        });
        on.wait_quiet();
        fs::remove_file(&lock).unwrap();
        self.admit(host, pid, served);
    }

    /// Whoever was refused last has changed what a stock backend's list index lacks, and other hosts know.
    pub fn assert_others_are_warned(&self) {
        let last = self.sessions.last().unwrap();
        assert!(last.open.is_none(), "not refused");
        assert!(self.stock_content().is_some() && self.is_warned_of_stock_log());
    }

    /// Whether .lasthost warns of what a stock backend has left, if it has.
    fn is_warned_of_stock_log(&self) -> bool {
        let lasthost = fs::read(self.index().join(LASTHOST)).unwrap_or_default();
        let lasthost = LastHost::parse(&lasthost);
        let log = stock_log(&self.index()).metadata();
        log.map_or(true, |log| {
            lasthost.is_some_and(|lasthost| lasthost.stale.contains(&log.ino()))
        })
    }

    /// The daemon has ended before it could say what sessions changed that it refused. If a stock backend has left a list
    /// index, another host fetches it without that, until this host has been logged in to again.
    fn lose_word_of_refused(&mut self, host: usize) {
        if self.stock_content().is_none() {
            return;
        }
        let refused = |s: &&mut Session| s.host == host && s.open.is_none();
        for session in self.sessions.iter_mut().filter(refused) {
            let changes = std::mem::take(&mut session.refused);
            self.promised.retain(|change| !changes.contains(change));
            self.unlaid[host].extend(changes);
        }
    }

    /// A login whose worker dies after a step; the next worker goes on.
    pub fn login_whose_worker_dies(&mut self, host: usize, step: Step) {
        let pid = self.processes.start();
        self.host(host).die_at(step);
        self.host(host).login(pid, &self.truth);
        assert!(self.host(host).died(), "{} is on the way", step.name());
        self.processes.end(pid);
        self.host(host).stop();
        self.hosts[host] = self.hosts[host].take().map(Host::next_worker);
    }

    /// A stock backend is used; a session logs in that has seen its list index already, when another writes and ends.
    pub fn writes_and_ends_during_a_pull(&mut self, n: usize) {
        let Session {
            host, pid, open, ..
        } = self.sessions[n];
        let pass = self.host(host).pass(pid);
        self.stock_session();
        let change = self.change();
        self.sessions.swap_remove(n);
        let (next, open) = (self.processes.start(), open.unwrap());
        let on = self.host(host);
        let served = on.login_while(next, &pass, &self.truth, || {
            on.write(pid, open, &Content::from([change]));
            on.release(open);
            self.processes.end(pid);
        });
        self.admit(host, next, served);
        self.host(host).end_ghosts(); // and the fences
        self.promised.insert(change);
    }

    /// The mount ends in order, when all files are closed, and begins again. Its sessions are still there when it ends: what they
    /// have changed by then is known. Then they go too, as the unit restarts Dovecot.
    fn remount(&mut self, host: usize) {
        self.host(host).unmount();
        for session in self.begin_again(host) {
            self.promised.extend(session.lingering);
        }
    }

    /// All processes of the host are killed and it begins again, as does its Dovecot.
    fn kill(&mut self, host: usize) {
        self.host(host).stop();
        if !self.is_warned_of_stock_log() {
            self.lose_word_of_refused(host);
        }
        for session in self.begin_again(host) {
            if session.open.is_none() {
                self.unlaid[host].extend(session.lingering);
            }
        }
    }

    /// Gives the sessions that have gone.
    fn begin_again(&mut self, host: usize) -> Vec<Session> {
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sessions)
            .into_iter()
            .partition(|s| s.host == host);
        self.sessions = stay;
        gone.iter().for_each(|s| self.processes.end(s.pid));
        self.hosts[host] = self.hosts[host].take().map(Host::again);
        gone
    }

    fn refused_login(&mut self, host: usize) {
        self.leave_others(Some(host));
        let (index, away) = (self.index(), self.store.path().join("away"));
        if !index.exists() {
            return;
        }
        fs::rename(&index, &away).unwrap();
        std::os::unix::fs::symlink(&away, &index).unwrap();
        let pid = self.processes.start();
        let served = self.host(host).login(pid, &self.truth);
        assert!(
            matches!(served, Served::Refused),
            "a symbolic link is followed"
        );
        self.admit(host, pid, served);
        fs::remove_file(&index).unwrap();
        fs::rename(&away, &index).unwrap();
    }

    fn locked_login(&mut self, host: usize) {
        self.while_locked(|world| world.login(host));
    }

    /// What was changed beside INDEX/L, which cannot be dropped, is promised too.
    pub fn remount_while_locked(&mut self, host: usize) {
        self.while_locked(|world| world.remount(host));
    }

    fn while_locked(&mut self, act: impl FnOnce(&mut Self)) {
        let lock = stock_log(&self.index()).with_extension("log.lock");
        fs::write(&lock, "1:elsewhere").unwrap();
        act(self);
        fs::remove_file(&lock).unwrap();
    }

    /// A login while the host's claims fail: where it writes them beside .lasthost there is a directory.
    pub fn login_that_cannot_claim(&mut self, host: usize, name: &str) {
        let digest = Sha256::digest(name.as_bytes());
        let hex: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        fs::create_dir(self.index().join(format!("{LASTHOST}.{hex}"))).unwrap();
        self.login(host);
        let last = self.sessions.last().unwrap();
        assert!(last.open.is_none(), "served without a claim");
    }

    fn delete_user(&mut self) {
        let _ = fs::remove_dir_all(self.index());
        let change = self.change();
        self.promised.insert(change);
    }

    fn stock_session(&mut self) {
        self.leave_others(None);
        make_index(&self.index());
        let change = self.change();
        let mut content = self.stock_content().unwrap_or_else(|| self.truth.clone());
        content.insert(change);
        self.promised.insert(change);
        fs::write(stock_log(&self.index()), format(&content)).unwrap();
        give(&stock_log(&self.index()));
    }

    /// Where sessions do not linger they end before the user goes elsewhere.
    fn leave_others(&mut self, stays: Option<usize>) {
        while !self.rules.lingering {
            let Some(n) = self.sessions.iter().position(|s| Some(s.host) != stays) else {
                return;
            };
            self.logout(n);
        }
    }

    pub fn everybody_goes_and_list_indexes_are_used_again(&mut self) {
        while !self.sessions.is_empty() {
            self.logout(0);
        }
        make_index(&self.index());
        for host in 0..self.rules.hosts {
            self.login(host);
            assert!(
                self.sessions[0].open.is_some(),
                "host {host} refuses though nobody is there"
            );
            self.write(0);
            self.logout(0);
        }
    }

    /// The promise covers changes made where the user is held: by its .lasthost, or by nobody.
    /// A refused session's host holds the user only by a claim. Where sessions linger beside a stock backend's list index
    /// only while .lasthost warns of that.
    fn is_held_by(&self, host: usize, served: bool) -> bool {
        let drops = served && !self.rules.migrate[host];
        let beside_stock = self.rules.lingering && !drops;
        let log = stock_log(&self.index())
            .metadata()
            .ok()
            .filter(|_| beside_stock);
        let Ok(text) = fs::read(self.index().join(LASTHOST)) else {
            return served && log.is_none();
        };
        let lasthost = LastHost::parse(&text).expect("only we write it");
        if let Some(log) = log {
            let ours = lasthost.instance == Some(self.host(host).instance);
            return ours && lasthost.stale.contains(&log.ino());
        }
        (served && lasthost.instance.is_none())
            || lasthost.instance == Some(self.host(host).instance)
    }

    fn pick(&self, n: usize) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| n % self.sessions.len())
    }

    pub fn host(&self, host: usize) -> &Host {
        self.hosts[host].as_ref().unwrap()
    }

    fn index(&self) -> PathBuf {
        self.store.path().join(USER)
    }
}

/// INDEX, unless it is there.
fn make_index(index: &Path) {
    if fs::create_dir(index).is_ok() {
        give(index);
    }
}
