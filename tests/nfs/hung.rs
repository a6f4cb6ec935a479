//! A server that does not answer: its users wait as long as `check_timeout` and no longer, the others notice
//! nothing, what we hold stays bounded, and all goes on when it is back.
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use listindexfs::index::lasthost::{Instance, LASTHOST, LastHost};
use listindexfs::options::Config;
use listindexfs::store::{Node, Store};
use listindexfs::user::Kernel;
use listindexfs::user::gate::{Answer, Gate, Parts};
use listindexfs::user::process::{Caller, Processes};

use crate::guest::{Changed, changed, fresh_dir, version};
use crate::support::dovecot::as_user;
use crate::support::lab::dir_of;
use crate::support::mount::{Mount, Options, tool};
use crate::support::process::output;
use crate::support::site::LOG;
use crate::support::{GID, LIMIT, Lab, UID, eventually, within};

/// Both servers mounted by host A, with an INDEX tree on each; a user's domain names his server's mount.
pub struct Servers {
    lab: Lab,
    name: String,
    _second: Changed,
}

impl Servers {
    pub fn new(options: &str) -> Self {
        let options = format!("vers={}{options}", version());
        let second = changed(&["mount", "a", "2", &options], &["umount", "a", "2", "-l"]);
        let name = fresh_dir();
        for server in ["/srv/nfs", "/srv/nfs2"] {
            dir_of(&PathBuf::from(server).join(&name), UID, GID, 0o700);
        }
        Self {
            lab: Lab::within("/tmp".as_ref(), "/dev/shm".as_ref()),
            name,
            _second: second,
        }
    }

    fn index(&self) -> String {
        format!("/mnt/%d/{}/%n", self.name)
    }

    /// A user of the first server or of the second, with INDEX.
    pub fn user(&self, server: u32, n: u32) -> String {
        let (point, export) = match server {
            1 => ("nfs-a", "/srv/nfs"),
            _ => ("nfs2-a", "/srv/nfs2"),
        };
        let index = PathBuf::from(export).join(&self.name).join(format!("u{n}"));
        dir_of(&index, UID, GID, 0o700);
        format!("u{n}@{point}")
    }

    /// A user's INDEX as it is on the server.
    fn exported(&self, user: &str) -> PathBuf {
        let (name, domain) = user.split_once('@').expect("a domain");
        let export = match domain {
            "nfs-a" => "/srv/nfs",
            _ => "/srv/nfs2",
        };
        PathBuf::from(export).join(&self.name).join(name)
    }

    /// Another host claims a user, on the server.
    fn claims(&self, user: &str) {
        let index = self.exported(user);
        fs::write(index.join("new"), "another\n").expect("a claim");
        fs::rename(index.join("new"), index.join(".lasthost")).expect("a claim");
    }

    pub fn mount(&self, check_timeout: &str) -> Mount {
        self.options(check_timeout).mount()
    }

    fn options(&self, check_timeout: &str) -> Options {
        Options::new(&self.lab, "a")
            .without("index_fs")
            .index(&self.index())
            .layout("%d/%n")
            .option(&format!("check_timeout={check_timeout}"))
            .option("watchdog=2s") // waiting for NFS is no hanging
    }
}

/// A login as the gate sees it: the user's directory is made, and the log opened.
pub fn login(mount: &Mount, user: &str) -> Child {
    let (name, domain) = user.split_once('@').expect("a domain");
    let dir = mount.path().join(domain).join(name);
    let script = "mkdir -p \"$1\" 2>/dev/null; echo x >> \"$1/$2\"";
    let mut command = as_user(UID, GID, "sh");
    command.args(["-c", script, "sh"]).arg(dir).arg(LOG);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sh")
}

pub fn succeeds(mount: &Mount, user: &str) -> bool {
    login(mount, user).wait().expect("wait").success()
}

/// A user of a server that is well is served. A machine that stands still for as long as `check_timeout` has him refused.
#[track_caller]
fn assert_served(mount: &Mount, user: &str) {
    let served = (0..3).any(|_| succeeds(mount, user));
    assert!(served, "{user}: {}", mount.log());
}

fn threads_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Server 2 dies. Its users wait, are refused in the end, and are served again when it is back; those of server 1
/// are served all the time.
/// `answered` says what an operator may be told of a user of the dead server.
fn only_its_own_users_are_harmed(options: &str, answered: fn(&serde_json::Value) -> bool) {
    let servers = Servers::new(options);
    let mount = servers.mount("5s");
    let (well, ill) = (servers.user(1, 0), servers.user(2, 0));
    for user in [&well, &ill] {
        eventually("served", || succeeds(&mount, user).then_some(()));
    }
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let before = threads_of(mount.worker().expect("a worker"));
    // More of them than there are threads for one mount.
    let ill_ones: Vec<String> = (1..=40).map(|n| servers.user(2, n)).collect();
    let mut waiting: Vec<Child> = ill_ones.iter().map(|user| login(&mount, user)).collect();
    for n in 1..=20 {
        assert_served(&mount, &servers.user(1, n));
    }
    let threads = threads_of(mount.worker().expect("a worker"));
    assert!(threads <= before + 40, "{threads} threads, {before} before");
    for login in &mut waiting {
        let status = eventually("a user of the dead server is answered", || {
            login.try_wait().expect("wait")
        });
        assert!(!status.success(), "served without a check");
    }
    assert_served(&mount, &well);
    assert!(!mount.log().contains("the worker has"), "{}", mount.log());
    // An operator who asks does not wait for it either.
    eventually("it is told of the one that is well", || {
        (lasthost(&mount, &well)["host"] == "a").then_some(())
    });
    let told = lasthost(&mount, &ill);
    assert!(answered(&told), "{told}");
    drop(cut);
    wait_for_server();
    eventually("the users of the dead server are served again", || {
        succeeds(&mount, &ill).then_some(())
    });
    eventually("it is told again", || {
        (lasthost(&mount, &ill)["ours"] == true).then_some(())
    });
}

/// What `listindexctl user` says of INDEX/.lasthost.
fn lasthost(mount: &Mount, user: &str) -> serde_json::Value {
    let mut command = Command::new(tool());
    command.args(["user", user, "--json", "--mount"]);
    let ran = output(command.arg(mount.path()), LIMIT).expect("it does not hang");
    let about: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    about["lasthost"].clone()
}

/// A server that has just died: whoever asks is told so, and not for ever.
#[test]
#[ignore = "runs in the NFS guest"]
fn who_asks_about_a_user_of_a_dead_server_is_answered() {
    let servers = Servers::new("");
    let mount = servers.mount("30s");
    let ill = servers.user(2, 0);
    eventually("served", || succeeds(&mount, &ill).then_some(()));
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    // What the client remembers of INDEX serves for a while.
    eventually("nothing is heard", || {
        let told = lasthost(&mount, &ill);
        (told["kind"] == "not-asked").then_some(())
    });
    // So many questions and no more wait for it, and the user's gate is not troubled.
    let mut waited = 0;
    let at_once = (0..100).any(|_| {
        let why = lasthost(&mount, &ill)["why"].to_string();
        waited += u32::from(why.contains("no answer within"));
        why.contains("earlier questions")
    });
    assert!(at_once && (1..=8).contains(&waited), "{waited} waited");
    drop(cut);
    wait_for_server();
    eventually("it is told again", || {
        (lasthost(&mount, &ill)["ours"] == true).then_some(())
    });
}

#[test]
#[ignore = "runs in the NFS guest"]
fn only_its_own_users_are_harmed_by_a_hard_mount() {
    // All of its threads wait: it is known to be silent.
    let silent = |told: &serde_json::Value| {
        told["kind"] == "not-asked" && told["why"].to_string().contains("is silent")
    };
    only_its_own_users_are_harmed("", silent);
}

#[test]
#[ignore = "runs in the NFS guest"]
fn only_its_own_users_are_harmed_by_a_soft_mount() {
    // The client gives up before the check does, or after it.
    let unheard = |told: &serde_json::Value| {
        let why = told["why"].to_string();
        match told["kind"].as_str() {
            Some("not-asked") => why.contains("is silent") || why.contains("no answer within"),
            Some("trouble") => why.contains("Input/output error"),
            _ => false,
        }
    };
    only_its_own_users_are_harmed(",soft,timeo=10,retrans=1", unheard);
}

/// Users of either server have moved to another host. Those of the server that is dead stay until it is back; those of the other
/// go, and who logs in meanwhile does not wait.
#[test]
#[ignore = "runs in the NFS guest"]
fn who_has_moved_is_dropped_though_another_server_is_dead() {
    let servers = Servers::new("");
    let options = servers.options("5s").option("moved_rate=1000");
    let mount = options.env("RUST_LOG", "debug").mount();
    let users: Vec<String> = (0..8)
        .flat_map(|n| [servers.user(2, n), servers.user(1, n)])
        .collect();
    for user in &users {
        // A server of NFSv4 that has just been started makes everybody wait.
        eventually("served", || succeeds(&mount, user).then_some(()));
    }
    let log = |user: &str| {
        let (name, domain) = user.split_once('@').expect("a domain");
        mount.backing().join(domain).join(name).join(LOG)
    };
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let before = threads_of(mount.worker().expect("a worker"));
    for user in &users {
        servers.claims(user);
    }
    let (ill, well): (Vec<_>, Vec<_>) = users.iter().partition(|user| user.ends_with("nfs2-a"));
    eventually("the users of the server that is well are dropped", || {
        assert_served(&mount, &servers.user(1, 100));
        (!well.iter().any(|user| log(user).exists())).then_some(())
    });
    let threads = threads_of(mount.worker().expect("a worker"));
    assert!(threads <= before + 4, "{threads} threads, {before} before");
    assert!(ill.iter().all(|user| log(user).exists()));
    assert!(!mount.log().contains("the worker has"), "{}", mount.log());
    drop(cut);
    wait_for_server();
    eventually("so are the others when it is back", || {
        (!ill.iter().any(|user| log(user).exists())).then_some(())
    });
    assert!(log(&servers.user(1, 100)).exists(), "he has not moved");
}

/// Users of both servers are given back. Those of the server that is dead are here still, and are told of; those of the other go, and
/// who logs in meanwhile does not wait.
#[test]
#[ignore = "runs in the NFS guest"]
fn who_is_given_back_does_not_wait_for_another_server() {
    let servers = Servers::new("");
    let mount = servers.options("5s").option("moved_rate=off").mount();
    let users: Vec<String> = (0..8)
        .flat_map(|n| [servers.user(2, n), servers.user(1, n)])
        .collect();
    for user in &users {
        eventually("served", || succeeds(&mount, user).then_some(()));
    }
    let log = |root: PathBuf, user: &str| {
        let (name, domain) = user.split_once('@').expect("a domain");
        root.join(domain).join(name).join(LOG)
    };
    let here = |user: &str| log(mount.backing().to_owned(), user).exists();
    let given = |user: &str| {
        let (name, domain) = user.split_once('@').expect("a domain");
        let export = if domain == "nfs-a" {
            "/srv/nfs"
        } else {
            "/srv/nfs2"
        };
        let index = PathBuf::from(export).join(&servers.name).join(name);
        index.join(LOG).exists()
    };
    let (ill, well): (Vec<_>, Vec<_>) = users.iter().partition(|user| user.ends_with("nfs2-a"));
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    // Once, mostly: the worker may not have heard yet that the last one has gone.
    let mut given_back = 0;
    let report = eventually("those of the server that is well are given back", || {
        let (code, report) = mount.drain(&["--stock", "--within", "1s"]);
        assert_eq!(code, Some(75), "{report}");
        given_back += report["given_back"].as_u64().expect("a number");
        (given_back == 8).then_some(report)
    });
    assert_eq!(report["left"], 8, "{report}");
    assert_eq!(report["users"][0]["outcome"], "running", "{report}");
    assert!(well.iter().all(|user| given(user) && !here(user)));
    assert!(ill.iter().all(|user| here(user)));
    assert_served(&mount, &servers.user(1, 100));
    drop(cut);
    wait_for_server();
    let (code, report) = mount.drain(&["--stock", "--within", "1h"]);
    assert_eq!((code, &report["left"]), (Some(0), &0.into()), "{report}");
    assert!(users.iter().all(|user| given(user) && !here(user)));
}

/// With these the client answers from its cache when the server is gone, and calls that the truth.
#[test]
#[ignore = "runs in the NFS guest"]
fn softerr_and_softreval_are_refused() {
    for option in ["softerr", "softreval", "soft,softreval"] {
        let servers = Servers::new(&format!(",{option},timeo=10,retrans=1"));
        let mount = servers.mount("5s");
        assert!(
            !succeeds(&mount, &servers.user(2, 0)),
            "served on a {option} mount"
        );
        assert_served(&mount, &servers.user(1, 0));
        let log = mount.log();
        let told = log
            .lines()
            .filter(|line| line.contains("mounted with soft"));
        assert_eq!(told.count(), 1, "{log}");
    }
}

/// The end of the mount does not wait for a dead server either.
#[test]
#[ignore = "runs in the NFS guest"]
fn it_ends_though_a_server_is_dead() {
    let servers = Servers::new("");
    let mut mount = servers.mount("60s");
    assert_served(&mount, &servers.user(2, 0));
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let mut waiting: Vec<Child> = (1..=20)
        .map(|n| login(&mount, &servers.user(2, n)))
        .collect();
    assert_served(&mount, &servers.user(1, 0));
    tear_away(&mount);
    for login in &mut waiting {
        eventually("who waited is let go", || login.try_wait().expect("wait"));
    }
    eventually("the daemon has ended", || mount.has_died().then_some(()));
    drop(cut);
}

/// Sessions of both servers live on when the mount ends. That of the one that is well is told of, and those of the dead one hold the
/// end up for so long only.
#[test]
#[ignore = "runs in the NFS guest"]
fn who_lives_on_is_told_of_though_another_server_is_dead() {
    let servers = Servers::new("");
    let mut mount = servers.mount("5s");
    let well = servers.user(1, 0);
    eventually("served", || succeeds(&mount, &well).then_some(()));
    let lives = || {
        fs::read_to_string(mount.backing().join(log_of(&well)))
            .is_ok_and(|log| log.contains("lives"))
            .then_some(())
    };
    // It is refused where the machine stands still meanwhile.
    let writes = (0..3).find_map(|_| {
        let writes = Lives::begin(&mount, &well);
        within(LIMIT / 3, lives).map(|()| writes)
    });
    let writes = writes.unwrap_or_else(|| panic!("it has no file open: {}", mount.log()));
    servers.claims(&well);
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let refused = refused(&servers, &mount);
    tear_away(&mount);
    eventually("the daemon has ended", || mount.has_died().then_some(()));
    assert!(
        mount.log().contains("not all fences are set"),
        "{}",
        mount.log()
    );
    let lasthost = fs::read(servers.exported(&well).join(LASTHOST)).expect(".lasthost");
    let lasthost = LastHost::parse(&lasthost).expect("ours");
    assert_eq!(lasthost.host, LastHost::nobody().host);
    drop((writes, refused, cut));
}

/// Told to end, the supervisor gives the worker its time for that.
#[test]
#[ignore = "runs in the NFS guest"]
fn told_to_end_the_worker_says_what_it_could_not_tell() {
    let servers = Servers::new("");
    let mut mount = servers.mount("2s");
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let refused = refused(&servers, &mount);
    mount.unmount();
    let log = mount.log();
    assert!(log.contains("not all fences are set"), "{log}");
    assert!(!log.contains("files open"), "{log}");
    drop((refused, cut));
}

/// Sessions of the second server's users, which is dead.
fn refused(servers: &Servers, mount: &Mount) -> Vec<Lives> {
    // More of them than there are threads for one mount.
    let ill = (1..=20).map(|n| servers.user(2, n));
    let refused = ill.map(|user| Lives::begin(mount, &user)).collect();
    eventually("they are refused", || {
        let metrics = mount.metrics();
        let ghosts = metrics.lines().find(|line| line.starts_with(GHOSTS));
        ghosts
            .is_some_and(|line| line.ends_with(" 20"))
            .then_some(())
    });
    refused
}

const GHOSTS: &str = "listindexfs_ghosts{";

/// Where the user's log is in the mount, and below it.
fn log_of(user: &str) -> PathBuf {
    let (name, domain) = user.split_once('@').expect("a domain");
    PathBuf::from(domain).join(name).join(LOG)
}

/// A session that opens the log, and lives until this is dropped, whether it was refused or not.
struct Lives(Child);

impl Lives {
    fn begin(mount: &Mount, user: &str) -> Self {
        let log = mount.path().join(log_of(user));
        let dir = log.parent().expect("a directory");
        let script = "mkdir -p \"$1\" 2>/dev/null; { echo lives >&3; read x; } 3>>\"$2\" || read x";
        let mut command = as_user(UID, GID, "sh");
        command.args(["-c", script, "sh"]).arg(dir).arg(&log);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("sh"))
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("it ends");
    }
}

fn tear_away(mount: &Mount) {
    let done = Command::new("umount")
        .arg("-f")
        .arg("-l")
        .arg(mount.path())
        .status();
    assert!(done.is_ok_and(|status| status.success()));
}

/// Processes that live as long as the test: 10,000 real ones would not fit into the guest.
struct Everybody;

impl Processes for Everybody {
    fn birth(&self, pid: u32) -> io::Result<Option<u64>> {
        Ok(Some(pid.into()))
    }

    fn groups(&self, _: Caller) -> Vec<u32> {
        Vec::new()
    }
}

struct NoKernel;

impl Kernel for NoKernel {
    fn gone(&self, _: Node) {}
}

/// 10,000 users of a dead server at the gate, through the library.
#[test]
#[ignore = "runs in the NFS guest"]
fn ten_thousand_blocked_logins_are_bounded() {
    const LOGINS: u32 = 10_000;
    let servers = Servers::new("");
    let backing = tempfile::tempdir_in("/dev/shm").expect("a backing");
    let options = format!(
        "index={},layout=%d/%n,check_timeout=20s,host=a",
        servers.index()
    );
    let config =
        Config::parse(backing.path(), "/nowhere".as_ref(), &[options], "a").expect("options");
    let store = Arc::new(Store::open(backing.path()).expect("the backing"));
    let gate = Gate::new(Parts {
        config: Arc::new(config),
        store,
        instance: Instance(1),
        processes: Box::new(Everybody),
        kernel: Box::new(NoKernel),
        on_step: Arc::new(|_| ()),
        spared_threads: 0,
        journal: Arc::default(),
        stats: Arc::default(),
    });
    let gate = gate.expect("a gate");
    let cut = changed(&["cut", "a", "2"], &["heal", "a", "2"]);
    let (before, threads) = (resident(), threads_of(std::process::id()));
    let (answers, answered) = mpsc::channel();
    let refused = Arc::new(AtomicU32::new(0));
    for n in 0..LOGINS {
        let user = gate
            .user_named(format!("u{n}@nfs2-a").as_bytes())
            .expect("a user");
        let caller = Caller {
            pid: n + 1,
            uid: UID,
            gid: GID,
        };
        let (answers, refused) = (answers.clone(), Arc::clone(&refused));
        gate.ask(
            &user,
            caller,
            Box::new(move |answer| {
                refused.fetch_add(
                    u32::from(matches!(answer, Answer::Refuse)),
                    Ordering::Relaxed,
                );
                let _ = answers.send(n);
            }),
        );
    }
    let (now, more) = (
        resident() - before,
        threads_of(std::process::id()) - threads,
    );
    eprintln!(
        "{LOGINS} blocked logins: {more} more threads, {} bytes each",
        now / u64::from(LOGINS)
    );
    assert!(more <= 20, "{more} threads");
    assert!(
        now / u64::from(LOGINS) < 8192,
        "{now} bytes for {LOGINS} blocked logins"
    );
    let all: HashSet<u32> = (0..LOGINS)
        .map(|n| {
            answered
                .recv_timeout(Duration::from_secs(120))
                .unwrap_or_else(|_| panic!("only {n} answered"))
        })
        .collect();
    assert_eq!(all.len(), LOGINS as usize);
    assert_eq!(
        refused.load(Ordering::Relaxed),
        LOGINS,
        "served without a check"
    );
    drop(cut);
    wait_for_server();
    // What was queued costs nothing any more: logins are served as soon as the server answers.
    let mut n = LOGINS;
    eventually("served again", || {
        n += 1; // who was refused stays a ghost
        let user = servers.user(2, n);
        dir_of(
            &backing.path().join(format!("nfs2-a/u{n}")),
            UID,
            GID,
            0o700,
        );
        let user = gate.user_named(user.as_bytes()).expect("a user");
        let (answers, answered) = mpsc::channel();
        let caller = Caller {
            pid: n,
            uid: UID,
            gid: GID,
        };
        gate.ask(
            &user,
            caller,
            Box::new(move |answer| {
                let _ = answers.send(matches!(answer, Answer::Serve(_)));
            }),
        );
        answered
            .recv_timeout(Duration::from_secs(60))
            .ok()?
            .then_some(())
    });
}

/// Waits until the second server answers anybody: after a long cut TCP itself takes up to a minute to try again.
pub fn wait_for_server() {
    const LONGEST: Duration = Duration::from_secs(240);
    let asked = output(
        Command::new("ls").arg("/mnt/nfs2-a/never-asked-for-before"),
        LONGEST,
    );
    assert!(
        asked.is_some(),
        "the server does not answer within {LONGEST:?}"
    );
}

/// Bytes of memory in use by this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib * 1024
}
