//! The worker dies when it has carried a request out and not answered it. The kernel sends it to the next worker, which
//! must answer as if it had come but once; where the kernel does not, before 6.9, the next worker knows it from the
//! journal.
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rstest::rstest;
use rustix::fs::RenameFlags;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use support::mount::Options;
use support::vm::Guest;
use support::{FUSE, Lab, Light, Mount, ROOT, VM, eventually, lacks, process};

/// A mount whose workers die after each request of one kind.
struct Dying {
    mount: Mount,
    kernel: Kernel,
    _lab: Lab,
}

/// Whether the kernel sends again what a worker has not answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Resends,
    Before6_9,
}

impl Kernel {
    /// The kernel we run on.
    fn here() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) if (major, minor) < (6, 9) => Kernel::Before6_9,
            _ => Kernel::Resends,
        }
    }

    fn options(self, lab: &Lab) -> Options {
        let options = Options::new(lab, "a").debug();
        match self {
            Kernel::Resends => options,
            Kernel::Before6_9 => options.env("LISTINDEXFS_NO_RESEND", "1"),
        }
    }
}

impl Dying {
    fn after(request: &str, kernel: Kernel) -> Self {
        let lab = Lab::new();
        let options = kernel
            .options(&lab)
            .env("LISTINDEXFS_WORKER_DIES_AFTER", request);
        Self {
            mount: options.mount(),
            kernel,
            _lab: lab,
        }
    }

    /// The first worker dies when it has read a request of this number and not noted it yet, on a kernel that does not
    /// send it again.
    fn unnoted(operation: u32) -> Self {
        let (lab, kernel) = (Lab::new(), Kernel::Before6_9);
        let options = kernel
            .options(&lab)
            .env("LISTINDEXFS_WORKER_LOSES", &operation.to_string());
        Self {
            mount: options.mount(),
            kernel,
            _lab: lab,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    fn orphans(&self) -> usize {
        let dir = self.mount.backing().join(".listindexfs/orphans");
        fs::read_dir(dir).map_or(0, Iterator::count)
    }

    /// What was closed does not count as open: an orphan goes with the last who has it open.
    fn assert_no_orphans(&self) {
        eventually("no orphan is left", || (self.orphans() == 0).then_some(()));
    }

    /// At least one worker died, or nothing was tried.
    fn assert_died(&self) {
        let log = self.mount.log();
        assert!(log.contains("the worker has died"), "{log}");
        let mut found = log
            .lines()
            .filter(|line| line.contains("left unanswered by the worker before"));
        let by_itself = found.any(|line| !line.contains(" 0 requests were"));
        let old = [self.kernel, Kernel::here()].contains(&Kernel::Before6_9);
        assert_eq!(by_itself, old, "{log}");
    }
}

/// A mount that is asked for a file of which every worker dies, in the way that its name tells. Gives the errno.
fn asked_for(deadly: &str, kernel: Kernel) -> (Lab, Mount, Option<i32>) {
    let lab = Lab::new();
    let options = kernel
        .options(&lab)
        .env("LISTINDEXFS_WORKER_DIES_OF", deadly);
    let mount = options.mount();
    fs::write(mount.path().join("other"), "one").expect("write");
    let answer = fs::metadata(mount.path().join(deadly));
    let errno = answer.expect_err("an answer").raw_os_error();
    assert_eq!(text(&mount.path().join("other")), "one");
    (lab, mount, errno)
}

/// A request of which every worker dies is answered after the third, so that all others are served.
#[rstest]
fn a_request_that_kills_every_worker_is_given_up(
    #[values("aborts", "exit")] deadly: &str,
    #[values(Kernel::Resends, Kernel::Before6_9)] kernel: Kernel,
) {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let (_lab, mount, errno) = asked_for(deadly, kernel);
    assert_eq!(errno, Some(libc::EIO));
    let log = mount.log();
    assert_eq!(log.matches("the worker has died").count(), 3, "{log}");
    assert!(log.contains("three workers have died of it"), "{log}");
}

/// A panic costs its caller an error and nobody else anything.
#[test]
fn a_panic_kills_no_worker() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let (_lab, mount, errno) = asked_for("panic", Kernel::Resends);
    assert_eq!(errno, Some(libc::EIO));
    let log = mount.log();
    assert!(!log.contains("the worker has died"), "{log}");
    assert!(log.contains("of \"panic\""), "it did not panic: {log}");
}

/// A directory that is listed while its worker dies goes on where it was, whatever the next worker lists meanwhile.
#[test]
fn a_listing_goes_on_in_the_next_worker() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    let [long, other] = ["long", "other"].map(|name| mount.path().join(name));
    // More than one READDIR gives.
    let name = |number| format!("{number:0200}");
    for (dir, numbers) in [(&long, 0..1000), (&other, 1000..2000)] {
        fs::create_dir(dir).expect("mkdir");
        for number in numbers {
            File::create(dir.join(name(number))).expect("create");
        }
    }
    let listed = |listing: fs::ReadDir| {
        let names = listing.map(|entry| entry.expect("a name").file_name().into_string());
        let mut names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
        names.sort();
        names
    };
    let mut listing = fs::read_dir(&long).expect("a listing");
    let first = listing.next().expect("a name").expect("a name");
    let worker = mount.worker().expect("a worker");
    process::signal(worker, Signal::KILL);
    // Its first listing, as that was of the worker before; begun, not ended.
    let mut meanwhile = fs::read_dir(&other).expect("another listing");
    meanwhile.next().expect("a name").expect("a name");
    let mut names = listed(listing);
    names.push(first.file_name().into_string().expect("UTF-8"));
    names.sort();
    assert!(
        names == (0..1000).map(name).collect::<Vec<_>>(),
        "{} names, the last is {:?}",
        names.len(),
        names.last()
    );
    assert_eq!(listed(meanwhile).len(), 999);
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

fn is(done: io::Result<()>, kind: io::ErrorKind) -> bool {
    done.is_err_and(|e| e.kind() == kind)
}

fn makes_a_directory(dying: &Dying) {
    let dir = dying.path("plain");
    fs::create_dir(&dir).expect("mkdir");
    assert!(dir.is_dir());
    assert!(is(fs::create_dir(&dir), io::ErrorKind::AlreadyExists));
}

fn removes_a_directory(dying: &Dying) {
    let dir = dying.path("plain");
    fs::create_dir(&dir).expect("mkdir");
    fs::remove_dir(&dir).expect("rmdir");
    assert!(is(fs::remove_dir(&dir), io::ErrorKind::NotFound));
}

fn makes_a_file(dying: &Dying) {
    let path = dying.path("plain");
    let mut file = File::create_new(&path).expect("create");
    file.write_all(b"one").expect("write");
    assert_eq!(text(&path), "one");
    assert!(is(
        File::create_new(&path).map(drop),
        io::ErrorKind::AlreadyExists
    ));
    fs::remove_file(&path).expect("unlink");
    assert_eq!(dying.orphans(), 1, "it is open");
    drop(file);
    dying.assert_no_orphans();
}

fn opens_and_closes(dying: &Dying) {
    let path = dying.path("plain");
    fs::write(&path, "one").expect("write");
    let mut first = File::open(&path).expect("open");
    let second = File::open(&path).expect("open");
    fs::remove_file(&path).expect("unlink");
    drop(second);
    let mut seen = String::new();
    first.read_to_string(&mut seen).expect("read");
    assert_eq!(seen, "one");
    drop(first);
    dying.assert_no_orphans();
}

fn writes(dying: &Dying) {
    let path = dying.path("plain");
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .expect("open");
    for part in ["a", "b", "c"] {
        file.write_all(part.as_bytes()).expect("append");
    }
    assert_eq!(text(&path), "abc");
}

fn unlinks(dying: &Dying) {
    let path = dying.path("plain");
    fs::write(&path, "one").expect("write");
    fs::remove_file(&path).expect("unlink");
    assert!(is(fs::remove_file(&path), io::ErrorKind::NotFound));
}

fn unlinks_what_is_open(dying: &Dying) {
    let path = dying.path("plain");
    fs::write(&path, "one").expect("write");
    let mut open = File::open(&path).expect("open");
    fs::remove_file(&path).expect("unlink");
    assert_eq!(open.metadata().expect("fstat").nlink(), 0);
    let mut seen = String::new();
    open.read_to_string(&mut seen).expect("read");
    assert_eq!(seen, "one");
    drop(open);
    dying.assert_no_orphans();
}

fn renames(dying: &Dying) {
    let (from, to) = (dying.path("from"), dying.path("to"));
    fs::write(&from, "one").expect("write");
    fs::rename(&from, &to).expect("rename");
    assert_eq!(text(&to), "one");
    assert!(is(fs::rename(&from, &to), io::ErrorKind::NotFound));
}

fn renames_over_what_is_open(dying: &Dying) {
    let (from, to) = (dying.path("from"), dying.path("to"));
    fs::write(&from, "new").expect("write");
    fs::write(&to, "old").expect("write");
    let mut open = File::open(&to).expect("open");
    fs::rename(&from, &to).expect("rename");
    assert!(!from.exists());
    assert_eq!(text(&to), "new");
    let mut seen = String::new();
    open.read_to_string(&mut seen).expect("read");
    assert_eq!(seen, "old");
    drop(open);
    dying.assert_no_orphans();
}

fn exchanges(dying: &Dying) {
    let (one, two) = (dying.path("one"), dying.path("two"));
    fs::write(&one, "one").expect("write");
    fs::write(&two, "two").expect("write");
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, &one, cwd, &two, RenameFlags::EXCHANGE).expect("exchange");
    assert_eq!((text(&one), text(&two)), ("two".into(), "one".into()));
    // What the kernel remembers does not tell: done twice, it would be undone.
    let behind = |name: &str| text(&dying.mount.backing().join(name));
    assert_eq!((behind("one"), behind("two")), ("two".into(), "one".into()));
}

fn links(dying: &Dying) {
    let (one, two) = (dying.path("one"), dying.path("two"));
    fs::write(&one, "one").expect("write");
    fs::hard_link(&one, &two).expect("link");
    assert_eq!(fs::metadata(&one).expect("stat").nlink(), 2);
    assert!(is(fs::hard_link(&one, &two), io::ErrorKind::AlreadyExists));
}

fn changes_attributes(dying: &Dying) {
    let path = dying.path("plain");
    fs::write(&path, "one").expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    file.set_len(2).expect("truncate");
    let now = fs::metadata(&path).expect("stat");
    assert_eq!((now.mode() & 0o777, now.size()), (0o640, 2));
    assert_eq!(text(&path), "on");
}

fn lists(dying: &Dying) {
    for name in ["a", "b"] {
        fs::write(dying.path(name), name).expect("write");
    }
    let names = fs::read_dir(dying.mount.path()).expect("a listing");
    let names: Vec<_> = names
        .map(|name| name.expect("a name").file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[rstest]
#[case("mkdir", makes_a_directory)]
#[case("rmdir", removes_a_directory)]
#[case("create", makes_a_file)]
#[case("open", opens_and_closes)]
#[case("release", opens_and_closes)]
#[case("release", makes_a_file)]
#[case("write", writes)]
#[case("read", opens_and_closes)]
#[case("unlink", unlinks)]
#[case("unlink", unlinks_what_is_open)]
#[case("rename", renames)]
#[case("rename", renames_over_what_is_open)]
#[case("rename", exchanges)]
#[case("link", links)]
#[case("setattr", changes_attributes)]
#[case("getattr", changes_attributes)]
#[case("readdir", lists)]
fn done_and_not_answered(
    #[case] request: &str,
    #[case] story: fn(&Dying),
    #[values(Kernel::Resends, Kernel::Before6_9)] kernel: Kernel,
) {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let dying = Dying::after(request, kernel);
    story(&dying);
    dying.assert_died();
}

/// The worker's memory outlives it: what its reader had read is found there.
#[rstest]
#[case::lookup(1, makes_a_file)]
#[case::getattr(3, changes_attributes)]
#[case::setattr(4, changes_attributes)]
#[case::mkdir(9, makes_a_directory)]
#[case::rmdir(11, removes_a_directory)]
#[case::unlink(10, unlinks)]
#[case::unlink(10, unlinks_what_is_open)]
#[case::link(13, links)]
#[case::open(14, opens_and_closes)]
#[case::read(15, opens_and_closes)]
#[case::write(16, writes)]
#[case::release(18, opens_and_closes)]
#[case::readdir(28, lists)]
#[case::create(35, makes_a_file)]
#[case::rename(12, renames_over_what_is_open)]
#[case::rename(45, exchanges)]
fn read_and_not_noted(#[case] operation: u32, #[case] story: fn(&Dying)) {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let dying = Dying::unnoted(operation);
    story(&dying);
    dying.assert_died();
    let log = dying.mount.log();
    assert!(log.contains("was taken and not noted"), "{log}");
}

/// `/dev/fuse` as the supervisor has it.
fn dev_fuse(supervisor: u32) -> OwnedFd {
    let fds = fs::read_dir(format!("/proc/{supervisor}/fd")).expect("its descriptors");
    let mut paths = fds.map(|fd| fd.expect("a descriptor").path());
    let is = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to == Path::new("/dev/fuse"));
    let path = paths.find(is).expect("/dev/fuse");
    let fd = path
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    let process = Pid::from_raw(supervisor as i32).expect("a pid");
    let process = pidfd_open(process, PidfdFlags::empty()).expect("the supervisor");
    pidfd_getfd(&process, fd.expect("a number"), PidfdGetfdFlags::empty()).expect("its descriptor")
}

/// A process that opens a file, and keeps it open.
fn opener(path: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3>>$0"]).arg(path);
    process::spawn(command).expect("a process")
}

/// The kernel has been told to send an OPEN again, and nobody has read it yet: then it drops the request of who is killed, of
/// whom the next worker knows that he has the file open. That one may die before it has closed it.
#[rstest]
fn who_is_killed_before_his_open_is_read_again_has_nothing_open(
    #[values(false, true)] the_next_dies_too: bool,
) {
    if Kernel::here() == Kernel::Before6_9 || lacks(&[ROOT, FUSE]) {
        return;
    }
    let dying = Dying::after("open", Kernel::Resends);
    let alice = Light::new(dying.mount.path(), &dying._lab.index(), "alice");
    drop(alice.first().expect("a first session"));
    let plain = dying.path("plain");
    drop(File::create(&plain).expect("a file"));
    let supervisor = dying.mount.pid().expect("a supervisor");
    let worker = dying.mount.worker().expect("a worker");
    process::signal(supervisor, Signal::STOP);
    let mut killed = opener(&alice.log());
    eventually("the worker has opened it, and died", || {
        let dead = fs::read_to_string(format!("/proc/{worker}/stat"))
            .ok()?
            .contains(") Z ");
        let threads = fs::read_dir(format!("/proc/{worker}/task")).ok()?.count();
        (dead && threads == 1).then_some(())
    });
    let resend = [16_u32, 7, 0, 0].map(u32::to_ne_bytes).concat();
    rustix::io::write(dev_fuse(supervisor), &resend).expect("told");
    killed.kill().expect("killed");
    eventually("it has ended", || killed.try_wait().expect("waited"));
    let other = the_next_dies_too.then(|| opener(&plain));
    process::signal(supervisor, Signal::CONT);
    if let Some(mut other) = other {
        eventually("its open is answered, by the worker after the next", || {
            other.try_wait().expect("waited")
        });
    }
    eventually("nobody has it open", || {
        let alice = dying.mount.about("alice")?;
        alice["holders"].as_array()?.is_empty().then_some(())
    });
    dying.assert_died();
}

/// All of it on the kernel of Debian 12.
#[test]
fn on_linux_6_1() {
    if Kernel::here() == Kernel::Before6_9 || lacks(&[ROOT, VM]) {
        return;
    }
    let guest = Guest {
        options: &["--kernel", "bookworm", "--no-mount"],
        env: &[],
        args: &["--test-threads=4"],
    };
    println!("{}", guest.run());
}
