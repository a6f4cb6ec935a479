//! A private Dovecot, run from a host's directory, ended in Drop.
use super::config::Config;
use super::dovecot24;
use super::imap::Imap;
use super::lab::{GID, UID, dir_of};
use super::process::{self, Family};
use super::{eventually, lmtp, within};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

const MASTER: &str = "/usr/sbin/dovecot";
const DOVEADM: &str = "/usr/bin/doveadm";
const LDA: &str = "/usr/lib/dovecot/dovecot-lda";
const LMTP: &str = "/usr/lib/dovecot/lmtp";
const IMAP: &str = "/usr/lib/dovecot/imap";

/// How long Dovecot has to end before it is killed.
const GRACE: Duration = Duration::from_secs(60);

/// Whether all is there without which there is no Dovecot to test with.
pub fn is_there() -> bool {
    let root = match dovecot24::is_foreign() {
        true => dovecot24::root(),
        false => Path::new("/"),
    };
    let programs = [MASTER, DOVEADM, LDA, LMTP, IMAP];
    programs
        .iter()
        .all(|program| root.join(&program[1..]).exists())
}

/// The version of the Dovecot that the tests use, such as 2.3.19.1.
pub fn version() -> String {
    let said = process::run(own_world(MASTER).arg("--version"));
    said.split(' ').next().unwrap_or_default().trim().to_owned()
}

/// Its doveconf.
pub fn doveconf() -> Command {
    own_world("/usr/bin/doveconf")
}

/// A program of it, which needs no Dovecot that runs.
fn own_world(program: &str) -> Command {
    match dovecot24::is_foreign() {
        true => dovecot24::tied(program),
        false => process::tied(program),
    }
}

/// A running Dovecot: one "host".
pub struct Dovecot {
    config: Config,
    imap_port: u16,
    lmtp_port: u16,
    master: Option<Child>,
}

impl Config {
    /// Starts a Dovecot like this and waits until it answers.
    pub fn start(self) -> Dovecot {
        Dovecot::start(self)
    }
}

impl Dovecot {
    fn start(config: Config) -> Self {
        for dir in ["run", "state"] {
            fs::create_dir_all(config.dir.join(dir)).expect("Dovecot's directories");
        }
        // Dovecot makes a user's part of VOLATILEDIR itself, as whoever comes first.
        dir_of(&config.dir.join("volatile"), UID, GID, 0o1777);
        fs::write(config.dir.join("passwd"), config.passwd()).expect("the passwd-file");
        let mut dovecot = Self {
            config,
            imap_port: 0,
            lmtp_port: 0,
            master: None,
        };
        // A port that was free may be taken by now: then Dovecot ends at once, and other ports are tried.
        if !(0..10).any(|_| dovecot.try_start()) {
            panic!("Dovecot does not start:\n{}", dovecot.log().join("\n"));
        }
        dovecot
    }

    fn try_start(&mut self) -> bool {
        (self.imap_port, self.lmtp_port) = (free_port(), free_port());
        let text = self.config.text(self.imap_port, self.lmtp_port);
        fs::write(self.conf(), text).expect("dovecot.conf");
        let output =
            fs::File::create(self.config.dir.join("master.out")).expect("the master's output");
        let mut command = own_world(MASTER);
        command.arg("-F").arg("-c").arg(self.conf());
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("dup"))
            .stderr(output);
        let mut master = process::spawn(command).expect("the Dovecot master");
        let up = eventually("Dovecot answers or ends", || match master.try_wait() {
            Ok(None) => (self.is_pid(master.id()) && self.answers()).then_some(true),
            _ => Some(false),
        });
        self.master = up.then_some(master);
        up
    }

    fn is_pid(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.config.dir.join("run/master.pid")).unwrap_or_default();
        text.trim().parse() == Ok(pid)
    }

    fn answers(&self) -> bool {
        [self.imap_port, self.lmtp_port]
            .iter()
            .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
    }

    /// Ends this Dovecot with all its sessions and gives what [`Dovecot::errors`] finds then.
    pub fn stop(&mut self) -> Vec<String> {
        if let Some(mut master) = self.master.take() {
            process::end(&mut master, GRACE);
        }
        self.errors()
    }

    /// The same host again, with other options perhaps.
    pub fn restart(&mut self, change: impl FnOnce(Config) -> Config) {
        self.stop();
        let config = change(self.config.clone());
        *self = Self::start(config);
    }

    /// Ends this Dovecot and asserts that it complained of nothing.
    pub fn finish(mut self) {
        let errors = self.stop();
        assert!(
            errors.is_empty(),
            "Dovecot complains:\n{}",
            errors.join("\n")
        );
    }

    fn conf(&self) -> PathBuf {
        self.config.dir.join("dovecot.conf")
    }

    /// All lines of the log. Lines of sessions come through a process of their own, so a moment late.
    pub fn log(&self) -> Vec<String> {
        let read = |name: &str| fs::read(self.config.dir.join(name)).unwrap_or_default();
        let bytes = [read("dovecot.log"), read("master.out")].concat();
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The lines of the log that complain.
    pub fn errors(&self) -> Vec<String> {
        let bad = |line: &String| {
            ["Error:", "Fatal:", "Panic:", "Warning:"]
                .iter()
                .any(|word| line.contains(word))
        };
        // That we ended it, that a port was taken before another was tried, and that the machine stood still for a while.
        let harmless = [
            "Killed with signal 15",
            "Address already in use",
            "Failed to start listeners",
            "Timeout waiting for handshake response",
            "Time jumped forwards",
        ];
        let ours = |line: &String| harmless.iter().any(|words| line.contains(words));
        self.log()
            .into_iter()
            .filter(|line| bad(line) && !ours(line))
            .collect()
    }

    /// A session of this user.
    pub fn login(&self, user: &str) -> Imap {
        Imap::login(self.imap_port, user)
    }

    /// Runs doveadm and panics unless it succeeds.
    pub fn doveadm(&self, args: &[&str]) -> String {
        process::run(self.tool(DOVEADM).args(args))
    }

    /// A program of this Dovecot's, with its configuration.
    fn tool(&self, program: &str) -> Command {
        let master = self.master.as_ref().filter(|_| dovecot24::is_foreign());
        let mut command = match master {
            Some(master) => dovecot24::beside(master.id(), program),
            None => Command::new(program),
        };
        command.arg("-c").arg(self.conf());
        command
    }

    /// Delivers a message through LMTP.
    pub fn deliver_lmtp(&self, user: &str, message: &[u8]) {
        lmtp::deliver(self.lmtp_port, user, message);
    }

    /// A connection to the LMTP service, to deliver to more than one user with one process.
    pub fn lmtp(&self) -> lmtp::Lmtp {
        lmtp::Lmtp::connect(self.lmtp_port)
    }

    /// Delivers a message through dovecot-lda.
    pub fn deliver_lda(&self, user: &str, message: &[u8]) {
        let file = self.config.dir.join(format!("message-{}", unique()));
        fs::write(&file, message).expect("the message");
        let mut command = self.tool(LDA);
        command.args(["-d", user]);
        process::run(command.stdin(fs::File::open(&file).expect("the message")));
        let _ = fs::remove_file(file);
    }

    /// The socket at which its userdb is asked.
    pub fn auth_userdb(&self) -> PathBuf {
        self.config.dir.join("run/auth-userdb")
    }

    /// Its passwd-file.
    pub fn passwd(&self) -> PathBuf {
        self.config.dir.join("passwd")
    }

    /// The auth process; `None` while there is none.
    pub fn auth(&self) -> Option<u32> {
        let is_auth = |pid: &u32| process::title(*pid).starts_with("dovecot/auth");
        self.processes().into_iter().find(is_auth)
    }

    /// How often auth was asked for a user by us: with `auth_debug` only.
    pub fn lookups(&self) -> usize {
        let ours = |line: &String| {
            line.contains("master in: USER") && line.contains("service=listindexfs")
        };
        self.log().iter().filter(|line| ours(line)).count()
    }

    /// The imap processes of this user. One that only starts or ends tells no user.
    pub fn process_pids_of(&self, user: &str) -> Vec<u32> {
        let mine = |pid: &u32| process::title(*pid).starts_with(&format!("dovecot/imap [{user} "));
        self.processes().into_iter().filter(mine).collect()
    }

    /// Waits until no session is open here. A process may hold files a moment longer than its client is served.
    pub fn wait_no_sessions(&self) {
        eventually("all imap sessions have ended", || {
            self.sessions().is_empty().then_some(())
        });
    }

    /// Waits until none of these processes is one of ours any more.
    pub fn wait_ended(&self, processes: &[u32]) {
        eventually("the sessions have ended", || {
            let still = self.processes();
            (!processes.iter().any(|pid| still.contains(pid))).then_some(())
        });
    }

    fn sessions(&self) -> Vec<u32> {
        // One that has no title any more is about to close its files.
        let imap = |pid: &u32| {
            let title = process::title(*pid);
            ["dovecot/imap", ""].contains(&title.split(' ').next().unwrap_or_default())
        };
        self.processes().into_iter().filter(imap).collect()
    }

    fn processes(&self) -> Vec<u32> {
        self.master
            .as_ref()
            .map(|m| Family::of(m.id()).pids().collect())
            .unwrap_or_default()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (log, errors) = (self.log(), self.errors().join("\n"));
            let tail = log[log.len().saturating_sub(8)..].join("\n");
            eprintln!(
                "--- {}: complaints:\n{errors}\n--- end of the log:\n{tail}",
                self.config.dir.display()
            );
        }
        // What it does in the second that an orderly end takes is of no interest any more.
        if let Some(mut master) = self.master.take() {
            process::kill9(&mut master);
        }
    }
}

/// Ends some Dovecots at a time, as each needs a second for it, and asserts that none complained.
pub fn finish(hosts: impl IntoIterator<Item = Dovecot>) {
    std::thread::scope(|scope| {
        for host in hosts {
            scope.spawn(|| host.finish());
        }
    });
}

/// A port that is free now, from below those the system gives to outgoing connections.
fn free_port() -> u16 {
    let clock = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |t| t.subsec_nanos())
    };
    let try_one = || {
        let mixed = (clock()
            ^ unique().wrapping_mul(0x9E37_79B9)
            ^ std::process::id().wrapping_mul(0x85EB_CA6B))
            >> 3;
        let port = 20_000 + u16::try_from(mixed % 12_000).ok()?;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    };
    within(super::LIMIT, try_one).expect("a free port")
}

/// A number unlike any other in this program.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs a program as this user, without any other group: what a mail process may do.
pub fn as_user(uid: u32, gid: u32, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &uid.to_string(),
        "--regid",
        &gid.to_string(),
        "--clear-groups",
        "--",
        program,
    ]);
    command
}

/// Where a user's directory is under a root hashed as documented.
pub fn hashed(root: &Path, user: &str) -> PathBuf {
    use md5::Digest as _;
    let digest = md5::Md5::digest(user.as_bytes());
    root.join(format!("{:02x}", digest[7])).join(user)
}
