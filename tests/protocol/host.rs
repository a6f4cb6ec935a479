//! One host: a core over a backing of its own, driven as the kernel would, with processes that we invent.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use listindexfs::fs::error::{Result, Stop};
use listindexfs::fs::{Call, Core, Handle};
use listindexfs::index::lasthost::{Instance, LASTHOST};
use listindexfs::journal::Snapshot;
use listindexfs::options::Config;
use listindexfs::store::usage::Stamp;
use listindexfs::store::{Node, ROOT, Store};
use listindexfs::user::Kernel;
use listindexfs::user::claim::random_u128;
use listindexfs::user::gate::{Answer, Gate, Parts};
use listindexfs::user::giving::Given;
use listindexfs::user::moved::Suspect;
use listindexfs::user::process::{Caller, Processes};
use listindexfs::user::state::Pass;
use listindexfs::user::steps::Step;
use rustix::fs::{OFlags, RenameFlags};
use tempfile::TempDir;

pub const USER: &str = "alice";
/// Whose mail it is; root would not count as a mail process.
pub const MAIL_UID: u32 = 1500;
const LOG: &str = "dovecot.list.index.log";

/// A set of changes of the mailbox, by number.
pub type Content = BTreeSet<u32>;

/// The processes of the world: alive until they are ended.
#[derive(Clone, Default)]
pub struct Invented(Arc<Mutex<HashMap<u32, u64>>>);

impl Invented {
    pub fn start(&self) -> u32 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let pid = NEXT.fetch_add(1, Ordering::Relaxed);
        self.0.lock().unwrap().insert(pid as u32, pid);
        pid as u32
    }

    pub fn end(&self, pid: u32) {
        self.0.lock().unwrap().remove(&pid);
    }
}

/// The processes as one daemon sees them: to one that has died nothing ends any more, so that it does not
/// act after its death.
struct Seen {
    processes: Invented,
    crash: Arc<Mutex<Crash>>,
}

impl Processes for Seen {
    fn birth(&self, pid: u32) -> io::Result<Option<u64>> {
        if self.crash.lock().unwrap().ended {
            return Ok(Some(pid.into()));
        }
        Ok(self.processes.0.lock().unwrap().get(&pid).copied())
    }

    fn groups(&self, _: Caller) -> Vec<u32> {
        Vec::new()
    }
}

struct NoKernel;

impl Kernel for NoKernel {
    fn gone(&self, _: Node) {}
}

/// The step at which the daemon dies, and what the backing looked like then.
#[derive(Default)]
struct Crash {
    at: Option<Step>,
    left: Option<TempDir>,
    /// It has died, or was unmounted.
    ended: bool,
    /// The step at which NFS hangs until this is dropped.
    hangs: Option<(Step, mpsc::Receiver<()>)>,
}

pub struct Host {
    pub instance: Instance,
    name: String,
    options: String,
    backing: TempDir,
    processes: Invented,
    store: Arc<Store>,
    core: Core,
    crash: Arc<Mutex<Crash>>,
}

/// What a session works on.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    pub node: Node,
    pub handle: Handle,
}

/// How a login ended.
pub enum Served {
    /// Files were there: the session believes them.
    Given(Open, Content),
    /// None were: the session makes them of the mail store.
    Made(Open),
    /// Refused: the session keeps its list index in memory.
    Refused,
}

impl Host {
    pub fn new(name: &str, options: String, processes: &Invented) -> Self {
        let instance = Instance(random_u128());
        Self::over(shm(), name.to_owned(), options, processes.clone(), instance)
    }

    fn over(
        backing: TempDir,
        name: String,
        options: String,
        processes: Invented,
        instance: Instance,
    ) -> Self {
        let config = Config::parse(
            backing.path(),
            Path::new("/nowhere"),
            std::slice::from_ref(&options),
            &name,
        )
        .unwrap();
        let (config, store) = (
            Arc::new(config),
            Arc::new(Store::open(backing.path()).unwrap()),
        );
        let crash: Arc<Mutex<Crash>> = Arc::default();
        let gate = Gate::new(Parts {
            config: Arc::clone(&config),
            store: Arc::clone(&store),
            instance,
            processes: Box::new(Seen {
                processes: processes.clone(),
                crash: Arc::clone(&crash),
            }),
            kernel: Box::new(NoKernel),
            on_step: die_at(Arc::clone(&crash), backing.path().to_owned()),
            spared_threads: 0,
            journal: Arc::default(),
            stats: Arc::default(),
        });
        let core = Core::new(config, Arc::clone(&store), gate.unwrap());
        let core = core.take_over(&Snapshot::default()).unwrap();
        Host {
            instance,
            name,
            options,
            backing,
            processes,
            store,
            core,
            crash,
        }
    }

    /// Everybody who has something here was here last then.
    pub fn were_here(&self, then: Stamp) {
        let usage = self.store.usage();
        while let Some(kept) = usage.oldest().filter(|kept| kept.last != then) {
            usage.left(kept.dir, then);
        }
    }

    /// The daemon starts again over what is left: with a new instance.
    pub fn again(self) -> Self {
        let instance = Instance(random_u128());
        self.next(instance)
    }

    /// A worker takes over that of one which had no files open and no ghosts.
    pub fn next_worker(self) -> Self {
        let instance = self.instance;
        self.next(instance)
    }

    fn next(self, instance: Instance) -> Self {
        let left = {
            let mut crash = self.crash.lock().unwrap();
            crash.ended = true;
            crash.left.take()
        };
        let backing = left.unwrap_or(self.backing);
        Self::over(backing, self.name, self.options, self.processes, instance)
    }

    /// The daemon does nothing more: else it would see the end of sessions that end with it, and act beside the next.
    pub fn stop(&self) {
        if !std::mem::replace(&mut self.crash.lock().unwrap().ended, true) {
            self.wait_quiet();
        }
    }

    /// The mount ends; then as above.
    pub fn unmount(&self) {
        let told = self.core.gate().end(Duration::from_secs(60));
        assert!(told, "not all fences are set");
        self.crash.lock().unwrap().ended = true;
    }

    /// The next login's daemon dies after this step.
    pub fn die_at(&self, step: Step) {
        self.crash.lock().unwrap().at = Some(step);
    }

    /// The next run hangs after this step until what is returned is dropped.
    pub fn hang_at(&self, step: Step) -> mpsc::Sender<()> {
        let (go_on, hangs) = mpsc::channel();
        self.crash.lock().unwrap().hangs = Some((step, hangs));
        go_on
    }

    /// Whether no run has hung yet since then.
    pub fn is_to_hang(&self) -> bool {
        self.crash.lock().unwrap().hangs.is_some()
    }

    /// Whether it has died.
    pub fn died(&self) -> bool {
        let mut crash = self.crash.lock().unwrap();
        crash.at = None;
        crash.left.is_some()
    }

    pub fn evict(&self) {
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        self.core
            .gate()
            .evict(&user, listindexfs::user::told::Reason::Clean)
            .unwrap();
    }

    pub fn sweep(&self) {
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        self.core.gate().drop_leftovers(&user).unwrap();
    }

    /// The user as one who may have moved; `None` when he is in use or has nothing here.
    pub fn suspect(&self) -> Option<Suspect> {
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        self.core.gate().suspect(&user).unwrap()
    }

    /// The pass that looks for users who have moved comes to him.
    pub fn look(&self) {
        if let Some(suspect) = self.suspect() {
            self.core.gate().compare(&suspect).unwrap();
        }
    }

    /// His list index is given back to INDEX. `None`: the daemon has died over it.
    pub fn give_back(&self) -> Option<Given> {
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        let give = std::panic::AssertUnwindSafe(|| self.core.gate().give_back(&user));
        std::panic::catch_unwind(give).ok()
    }

    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(self.core.gate())
    }

    /// A process has made this and died.
    pub fn leave(&self, end: &str, text: &str) {
        let path = self.path_of(end);
        fs::write(&path, text).unwrap();
        give(&path);
    }

    /// Whether it is there still.
    pub fn has(&self, end: &str) -> bool {
        self.path_of(end).exists()
    }

    fn path_of(&self, end: &str) -> PathBuf {
        let log = local_log(self.backing.path()).unwrap();
        log.with_file_name(format!("dovecot.list.index{end}"))
    }

    /// Where the record is.
    pub fn record(&self) -> PathBuf {
        let log = local_log(self.backing.path()).unwrap();
        log.with_file_name(LASTHOST)
    }

    /// What lies here is counted.
    pub fn count(&self) {
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        self.core
            .gate()
            .recount(&self.core.gate().user(&user))
            .unwrap();
    }

    /// Fences are set in the background: they are part of the promise once they are set.
    pub fn wait_quiet(&self) {
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        while !self.core.gate().is_quiet(&user) {
            std::thread::yield_now();
        }
    }

    /// Ghosts end when the gate looks: here, at once.
    pub fn end_ghosts(&self) {
        self.wait_quiet();
        self.core.gate().look_at_ghosts(true);
        self.wait_quiet();
    }

    /// What Dovecot does at a login.
    pub fn login(&self, pid: u32, truth: &Content) -> Served {
        let dir = self.user_dir(pid);
        match self.run(pid, |fs, call| fs.lookup(call, dir, OsStr::new(LOG))) {
            Ok(found) => match self.open(pid, found.attr.node) {
                Ok(open) => Served::Given(open, self.content(open)),
                Err(libc::ESTALE) => self.login(pid, truth), // as the kernel does: walk again
                Err(_) => Served::Refused,
            },
            Err(libc::ENOENT) => self.make(pid, dir, truth),
            Err(_) => Served::Refused,
        }
    }

    /// A verdict for who has files open already.
    pub fn pass(&self, holder: u32) -> Pass {
        let (tell, answer) = mpsc::channel();
        let tell = Box::new(move |a| tell.send(a).unwrap());
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        self.core.gate().ask(&user, caller(holder), tell);
        match answer.recv().unwrap() {
            Answer::Serve(pass) => pass,
            Answer::Refuse => panic!("who has the files open is refused"),
        }
    }

    /// A login; `meanwhile` runs when a run has decided that the files have to go, and has not taken them yet.
    pub fn login_while(
        &self,
        pid: u32,
        pass: &Pass,
        truth: &Content,
        meanwhile: impl FnOnce(),
    ) -> Served {
        let user = self.core.gate().user_named(USER.as_bytes()).unwrap();
        let state = self.core.gate().user(&user);
        let operation = state.enter().unwrap(); // the directory is not taken while it lives
        std::thread::scope(|scope| {
            let login = scope.spawn(|| self.login(pid, truth));
            while state.admit(0, Some(pass)).is_ok() {
                std::thread::yield_now(); // until verdicts are void
            }
            meanwhile();
            drop(operation);
            login.join().unwrap()
        })
    }

    fn make(&self, pid: u32, dir: Node, truth: &Content) -> Served {
        let newlock = format!("{LOG}.newlock");
        let flags = OFlags::RDWR | OFlags::EXCL;
        let made = self.run(pid, |fs, call| {
            fs.create(call, dir, OsStr::new(&newlock), 0o600, flags)
        });
        let Ok((found, handle)) = made else {
            return Served::Refused;
        };
        let open = Open {
            node: found.attr.node,
            handle,
        };
        self.write(pid, open, truth);
        // The kernel looks the rename's target up.
        let target = self.run(pid, |fs, call| fs.lookup(call, dir, OsStr::new(LOG)));
        assert!(
            matches!(target, Ok(_) | Err(libc::ENOENT)),
            "renames never fail"
        );
        self.run(pid, |fs, call| {
            fs.rename(
                call,
                (dir, OsStr::new(&newlock)),
                (dir, OsStr::new(LOG)),
                RenameFlags::empty(),
            )
        })
        .expect("renames never fail");
        Served::Made(open)
    }

    fn user_dir(&self, pid: u32) -> Node {
        // %2.256Nu of the user, by the library itself
        let bucket = listindexfs::template::Template::parse("%2.256Nu")
            .unwrap()
            .expand(USER.as_bytes())
            .unwrap();
        let bucket = String::from_utf8(bucket).unwrap();
        let bucket = self
            .run(pid, |fs, call| fs.lookup(call, ROOT, OsStr::new(&bucket)))
            .unwrap()
            .attr
            .node;
        match self.run(pid, |fs, call| fs.lookup(call, bucket, OsStr::new(USER))) {
            Ok(found) => found.attr.node,
            Err(_) => {
                self.run(pid, |fs, call| {
                    fs.mkdir(call, bucket, OsStr::new(USER), 0o700)
                })
                .unwrap()
                .attr
                .node
            }
        }
    }

    fn open(&self, pid: u32, node: Node) -> std::result::Result<Open, i32> {
        let handle = self.run(pid, |fs, call| fs.open(call, node, OFlags::RDWR))?;
        Ok(Open { node, handle })
    }

    fn content(&self, open: Open) -> Content {
        parse(
            &self
                .run(0, |fs, call| {
                    fs.read(call, open.node, open.handle, 0, 1 << 16)
                })
                .unwrap(),
        )
    }

    /// Appends changes to a session's own file, wherever that may be by now.
    pub fn write(&self, pid: u32, open: Open, changes: &Content) {
        let at = self
            .run(pid, |fs, _| fs.getattr(open.node))
            .unwrap()
            .stat
            .st_size as u64;
        self.run(pid, |fs, call| {
            fs.write(call, open.node, open.handle, at, format(changes).as_bytes())
        })
        .unwrap();
    }

    /// Writes into a file that is mapped, as the kernel does: its own request, of nobody's.
    pub fn write_back(&self, open: Open, at: u64) -> std::result::Result<usize, i32> {
        self.run(0, |fs, call| {
            let caller = Caller {
                pid: 0,
                uid: 0,
                gid: 0,
            };
            let call = Call {
                caller,
                ..call.clone()
            };
            fs.write(&call, open.node, open.handle, at, b"x")
        })
    }

    pub fn release(&self, open: Open) {
        self.run(0, |fs, call| fs.release(call, open.node, open.handle))
            .unwrap();
    }

    /// The local L as it lies in the backing, whoever may have it.
    pub fn local_content(&self) -> Option<Content> {
        let crash = self.crash.lock().unwrap();
        local(crash.left.as_ref().unwrap_or(&self.backing).path())
    }

    /// Runs an operation, waiting for the gate as the adapter does.
    fn run<T>(
        &self,
        pid: u32,
        op: impl Fn(&Core, &Call) -> Result<T>,
    ) -> std::result::Result<T, i32> {
        let mut call = Call {
            caller: caller(pid),
            verdict: None,
            unique: 0,
            resent: false,
        };
        loop {
            match op(&self.core, &call) {
                Ok(value) => return Ok(value),
                Err(Stop::Error(e)) => return Err(e.errno()),
                Err(Stop::Refuse(_)) => unreachable!("nothing is resent here"),
                Err(Stop::Gate(user)) => {
                    let (tell, answer) = mpsc::channel();
                    self.core.gate().ask(
                        &user,
                        call.caller,
                        Box::new(move |a| tell.send(a).unwrap()),
                    );
                    call.verdict = Some(answer.recv().unwrap().into());
                }
                Err(Stop::Directory(state)) => {
                    let (tell, free) = mpsc::channel();
                    state.park(Box::new(move || tell.send(()).unwrap()));
                    free.recv().unwrap();
                }
            }
        }
    }
}

fn caller(pid: u32) -> Caller {
    Caller {
        pid,
        uid: MAIL_UID,
        gid: MAIL_UID,
    }
}

/// Dies once: from then on the backing is what it was at that moment, whatever the dying thread still does.
fn die_at(crash: Arc<Mutex<Crash>>, backing: PathBuf) -> listindexfs::user::steps::OnStep {
    Arc::new(move |step| {
        let mut crash = crash.lock().unwrap();
        if crash.hangs.as_ref().is_some_and(|(at, _)| *at == step) {
            let (_, hangs) = crash.hangs.take().unwrap();
            drop(crash);
            let _dropped = hangs.recv();
            return;
        }
        if crash.at == Some(step) {
            crash.at = None;
            crash.left = Some(copy_of(&backing));
            crash.ended = true;
            drop(crash);
            std::panic::resume_unwind(Box::new("the daemon dies"));
        }
    })
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = shm();
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(dir.join("."))
        .arg(copy.path())
        .status();
    assert!(status.unwrap().success());
    copy
}

fn shm() -> TempDir {
    tempfile::Builder::new()
        .prefix("lidx-protocol-")
        .tempdir_in("/dev/shm")
        .unwrap()
}

fn local(backing: &Path) -> Option<Content> {
    Some(parse(&fs::read(local_log(backing)?).unwrap()))
}

fn local_log(backing: &Path) -> Option<PathBuf> {
    let buckets = fs::read_dir(backing)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    buckets
        .map(|bucket| bucket.join(USER).join(LOG))
        .find(|log| log.exists())
}

pub fn parse(bytes: &[u8]) -> Content {
    let text = std::str::from_utf8(bytes).unwrap();
    text.split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect()
}

pub fn format(changes: &Content) -> String {
    changes.iter().map(|n| format!("{n} ")).collect()
}

/// INDEX/L of a stock backend.
pub fn stock_log(index: &Path) -> PathBuf {
    index.join(LOG)
}

/// The dotlock of who has died is that of a process that is no more; here all live in one process.
pub fn bury(index: &Path) {
    let dotlock = stock_log(index).with_extension("log.lock");
    let Ok(text) = fs::read_to_string(&dotlock) else {
        return;
    };
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let (dead, live) = (child.id().to_string(), std::process::id().to_string());
    child.wait().unwrap();
    fs::write(&dotlock, text.replacen(&live, &dead, 1)).unwrap();
}

/// Gives a file of the store to the mail user.
pub fn give(path: &Path) {
    std::os::unix::fs::chown(path, Some(MAIL_UID), Some(MAIL_UID)).unwrap();
}
