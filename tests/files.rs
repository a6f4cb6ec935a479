//! The mount as a filesystem: what Dovecot does to files, done by processes of our own that a test tells each step.
mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode};
use rustix::io::Errno;
use support::dovecot::hashed;
use support::lab::mail_dir;
use support::mount::Options;
use support::site::LOG;
use support::{FUSE, GID, LIMIT, Lab, Mount, ROOT, UID, eventually, lacks, process};

const X: &str = "dovecot.list.index";
const X_TMP: &str = "dovecot.list.index.tmp";
const LOG_2: &str = "dovecot.list.index.log.2";
const NEWLOCK: &str = "dovecot.list.index.log.newlock";
/// Where the daemon keeps what was unlinked while open.
const ORPHANS: &str = ".listindexfs/orphans";

/// A process of the mail user that does as it is told, one line a step.
struct Mail {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Mail {
    fn new() -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.args([
            "--ignored",
            "--exact",
            "mail_process",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.uid(UID).gid(GID).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = process::spawn(command).expect("this program again");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let (send, answers) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness writes lines of its own.
                if let Some(answer) = line.strip_prefix("> ") {
                    let _ = send.send(answer.to_owned());
                }
            }
        });
        Self {
            orders: child.stdin.take(),
            child,
            answers,
        }
    }

    /// Gives an order: a verb, then paths or words without blanks. Nobody waits for the answer.
    fn tell(&mut self, verb: &str, words: &[&dyn AsRef<std::ffi::OsStr>]) {
        let words = words
            .iter()
            .map(|word| word.as_ref().to_str().expect("UTF-8"));
        let line: Vec<&str> = std::iter::once(verb).chain(words).collect();
        let orders = self.orders.as_mut().expect("a pipe");
        writeln!(orders, "{}", line.join(" ")).expect("an order");
    }

    /// The answer to the order before: text, or an errno.
    fn answer(&self) -> Result<String, i32> {
        let answer = self.answers.recv_timeout(LIMIT).expect("an answer");
        match answer.strip_prefix("errno ") {
            Some(errno) => Err(errno.parse().expect("a number")),
            None => Ok(answer),
        }
    }

    fn try_to(&mut self, verb: &str, words: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<String, i32> {
        self.tell(verb, words);
        self.answer()
    }

    fn ok(&mut self, verb: &str, words: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
        let done = self.try_to(verb, words);
        let shown = || {
            words
                .iter()
                .map(|word| word.as_ref().to_owned())
                .collect::<Vec<_>>()
        };
        done.unwrap_or_else(|errno| panic!("{verb} {:?}: errno {errno}", shown()))
    }

    /// A new list index log, made as Dovecot makes it. The handle is `log`.
    fn make_log(&mut self, dir: &Path) {
        self.ok("open", &[&"log", &dir.join(NEWLOCK), &"rwcx"]);
        self.ok("write", &[&"log", &"first"]);
        self.ok("rename", &[&dir.join(NEWLOCK), &dir.join(LOG)]);
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        drop(self.orders.take());
        process::end(&mut self.child, Duration::from_secs(5));
    }
}

/// Not a test by itself: what [`Mail`] runs. Without orders it ends.
#[test]
#[ignore = "the other tests run it"]
fn mail_process() {
    let mut hands = Hands::default();
    println!();
    for line in io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        match hands.obey(words[0], &words[1..]) {
            Ok(text) => println!("> {text}"),
            Err(e) => println!("> errno {}", e.raw_os_error().unwrap_or(0)),
        }
    }
}

/// The files that the process has open, by the names its orders give them, and its maps.
#[derive(Default)]
struct Hands {
    files: BTreeMap<String, File>,
    maps: BTreeMap<String, memmap2::Mmap>,
}

impl Hands {
    fn obey(&mut self, verb: &str, words: &[&str]) -> io::Result<String> {
        let done = |()| String::new();
        match (verb, words) {
            ("open", [handle, path, how]) => {
                let file = open(path, how)?;
                self.files.insert((*handle).to_owned(), file);
                Ok(String::new())
            }
            ("close", [handle]) => {
                self.files.remove(*handle).expect("open");
                Ok(String::new())
            }
            ("mkdir", [path]) => fs::create_dir(path).map(done),
            ("rmdir", [path]) => fs::remove_dir(path).map(done),
            ("unlink", [path]) => fs::remove_file(path).map(done),
            ("rename", [from, to]) => fs::rename(from, to).map(done),
            ("link", [from, to]) => fs::hard_link(from, to).map(done),
            ("symlink", [target, path]) => std::os::unix::fs::symlink(target, path).map(done),
            ("mknod", [path, kind]) => {
                let kind = match *kind {
                    "fifo" => FileType::Fifo,
                    _ => FileType::RegularFile,
                };
                let mode = Mode::from_raw_mode(0o600);
                Ok(rustix::fs::mknodat(rustix::fs::CWD, *path, kind, mode, 0).map(done)?)
            }
            ("map", [handle]) => {
                #[expect(unsafe_code, reason = "mapping a file is")]
                // SAFETY: the bytes are only copied, and nobody truncates the file.
                let map = unsafe { memmap2::Mmap::map(&self.files[*handle])? };
                self.maps.insert((*handle).to_owned(), map);
                Ok(String::new())
            }
            ("mapped", [handle]) => Ok(text(&self.maps[*handle])),
            (verb, [handle, words @ ..]) => handle_order(&mut self.files, verb, handle, words),
            _ => panic!("no such order: {verb}"),
        }
    }
}

fn handle_order(
    files: &mut BTreeMap<String, File>,
    verb: &str,
    handle: &str,
    words: &[&str],
) -> io::Result<String> {
    let file = files.get_mut(handle).expect("open");
    let done = |()| String::new();
    match (verb, words) {
        ("write", [text]) => file.write_all(text.as_bytes()).map(done),
        ("write-at", [offset, text]) => {
            let offset = offset.parse().expect("a number");
            file.write_all_at(text.as_bytes(), offset).map(done)
        }
        ("lines", [count, word]) => {
            let count: usize = count.parse().expect("a number");
            let line = format!("{word}\n");
            (0..count)
                .try_for_each(|_| file.write_all(line.as_bytes()))
                .map(done)
        }
        ("read", []) => {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            Ok(text(&bytes))
        }
        ("nlink", []) => Ok(file.metadata()?.nlink().to_string()),
        (kind, [what]) => {
            let operation = match *what {
                "lock" => FlockOperation::NonBlockingLockExclusive,
                _ => FlockOperation::Unlock,
            };
            match kind {
                "flock" => Ok(rustix::fs::flock(&*file, operation).map(done)?),
                "fcntl" => Ok(rustix::fs::fcntl_lock(&*file, operation).map(done)?),
                _ => panic!("no such order: {kind}"),
            }
        }
        _ => panic!("no such order: {verb}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\n', " ")
}

fn open(path: &str, how: &str) -> io::Result<File> {
    let has = |letter| how.contains(letter);
    let mut options = OpenOptions::new();
    options.read(has('r')).write(has('w')).append(has('a'));
    options.create(has('c')).create_new(has('x')).open(path)
}

/// A mount, and the user directories in it.
struct World {
    mount: Mount,
    lab: Lab,
}

impl World {
    fn new() -> Self {
        Self::with(|options| options)
    }

    fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let lab = Lab::new();
        let mount = change(Options::new(&lab, "a")).mount();
        Self { mount, lab }
    }

    /// The directory in the mount of a user who has an INDEX.
    fn user(&self, mail: &mut Mail, name: &str) -> PathBuf {
        self.make_index(name);
        self.user_without_index(mail, name)
    }

    fn user_without_index(&self, mail: &mut Mail, name: &str) -> PathBuf {
        let dir = hashed(self.mount.path(), name);
        mail.ok("mkdir", &[&dir]);
        dir
    }

    /// Makes INDEX. The levels above it are anybody's to walk through.
    fn make_index(&self, name: &str) -> PathBuf {
        let index = hashed(&self.lab.index(), name);
        mail_dir(index.parent().expect("a bucket"));
        mail_dir(&index);
        index
    }

    fn backing_of(&self, name: &str) -> PathBuf {
        hashed(self.mount.backing(), name)
    }

    fn orphans(&self) -> Vec<OsString> {
        names(&self.mount.backing().join(ORPHANS))
    }

    fn wait_no_orphans(&self) {
        eventually("nothing unlinked is kept", || {
            self.orphans().is_empty().then_some(())
        });
    }
}

fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned()
}

/// What the gate found serves for one second: waits until that is over.
fn verdict_expires() {
    let start = Instant::now();
    eventually("a verdict has expired", || {
        (start.elapsed() > Duration::from_millis(1200)).then_some(())
    });
}

/// The kernel looks the new name up before it renames, and L is not there yet: the gate must not stand in the way.
#[test]
fn renames_never_fail() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let mut mail = Mail::new();
    let mut other = Mail::new();

    let dir = world.user(&mut mail, "alice");
    mail.ok("open", &[&"log", &dir.join(NEWLOCK), &"rwcx"]);
    mail.ok("write", &[&"log", &"alice"]);
    verdict_expires();
    // Who asks the gate now is refused, as the user is nobody's.
    let claim = world.make_index("alice").join(".lasthost");
    fs::remove_file(&claim).expect("our claim");
    mail.ok("rename", &[&dir.join(NEWLOCK), &dir.join(LOG)]);
    assert_eq!(read(&world.backing_of("alice").join(LOG)), "alice");
    assert!(!claim.exists());

    let dir = world.user(&mut mail, "carol");
    mail.ok("open", &[&"log", &dir.join(NEWLOCK), &"rwcx"]);
    mail.ok("write", &[&"log", &"carol"]);
    mail.ok("close", &[&"log"]);
    verdict_expires();
    mail.ok("rename", &[&dir.join(NEWLOCK), &dir.join(LOG)]);
    assert_eq!(read(&dir.join(LOG)), "carol");

    // Who cannot be claimed is refused while somebody else has files open.
    let dir = world.user_without_index(&mut mail, "bob");
    mail.ok("open", &[&"log", &dir.join(NEWLOCK), &"rwcx"]);
    mail.ok("write", &[&"log", &"bob"]);
    let refused = other.try_to("open", &[&"log", &dir.join(LOG), &"rw"]);
    assert_eq!(refused, Err(libc::EIO));
    verdict_expires();
    mail.ok("rename", &[&dir.join(NEWLOCK), &dir.join(LOG)]);
    assert_eq!(mail.ok("read", &[&"log"]), "bob");
    assert_eq!(read(&world.backing_of("bob").join(LOG)), "bob");
}

#[test]
fn what_is_unlinked_while_open_lives_until_it_is_closed() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let [mut mail, mut other] = [Mail::new(), Mail::new()];
    let dir = world.user(&mut mail, "alice");
    mail.ok("open", &[&"old", &dir.join(X), &"rwcx"]);
    mail.ok("write", &[&"old", &"old"]);
    other.ok("open", &[&"new", &dir.join(X_TMP), &"rwcx"]);
    other.ok("write", &[&"new", &"new"]);
    other.ok("rename", &[&dir.join(X_TMP), &dir.join(X)]);

    assert_eq!(mail.ok("nlink", &[&"old"]), "0");
    assert_eq!(other.ok("nlink", &[&"new"]), "1");
    mail.ok("write-at", &[&"old", &"3", &",still"]);
    assert_eq!(mail.ok("read", &[&"old"]), "old,still");
    assert_eq!(read(&dir.join(X)), "new");
    assert_eq!(names(&world.backing_of("alice")), [X]);
    assert_eq!(world.orphans().len(), 1);

    other.ok("unlink", &[&dir.join(X)]);
    assert_eq!(other.ok("nlink", &[&"new"]), "0");
    assert_eq!(other.ok("read", &[&"new"]), "new");
    assert!(names(&dir).is_empty());
    other.ok("rmdir", &[&dir]);
    assert_eq!(mail.ok("read", &[&"old"]), "old,still");
    assert_eq!(other.ok("read", &[&"new"]), "new");
    mail.ok("close", &[&"old"]);
    other.ok("close", &[&"new"]);
    world.wait_no_orphans();
}

#[test]
fn a_log_that_is_rotated_has_the_right_number_of_names() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let [mut mail, mut other] = [Mail::new(), Mail::new()];
    let dir = world.user(&mut mail, "alice");
    mail.make_log(&dir);
    other.ok("open", &[&"old", &dir.join(LOG), &"rw"]);
    assert_eq!(other.ok("nlink", &[&"old"]), "1");

    mail.ok("open", &[&"new", &dir.join(NEWLOCK), &"rwcx"]);
    mail.ok("write", &[&"new", &"second"]);
    mail.ok("link", &[&dir.join(LOG), &dir.join(LOG_2)]);
    assert_eq!(other.ok("nlink", &[&"old"]), "2");
    mail.ok("rename", &[&dir.join(NEWLOCK), &dir.join(LOG)]);
    for (who, handle) in [(&mut other, "old"), (&mut mail, "log")] {
        assert_eq!(who.ok("nlink", &[&handle]), "1");
        assert_eq!(who.ok("read", &[&handle]), "first");
    }
    assert_eq!(mail.ok("nlink", &[&"new"]), "1");
    assert_eq!(read(&dir.join(LOG)), "second");
    assert_eq!(read(&dir.join(LOG_2)), "first");

    mail.ok("unlink", &[&dir.join(LOG_2)]);
    assert_eq!(other.ok("nlink", &[&"old"]), "0");
    other.ok("write-at", &[&"old", &"5", &",last"]);
    assert_eq!(mail.ok("read", &[&"log"]), "first,last");
    assert_eq!(world.orphans().len(), 1);
    other.ok("close", &[&"old"]);
    mail.ok("close", &[&"log"]);
    world.wait_no_orphans();
    assert_eq!(read(&dir.join(LOG)), "second");
}

#[test]
fn two_processes_that_append_at_once_lose_nothing() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let mut both = [Mail::new(), Mail::new()];
    let dir = world.user(&mut both[0], "alice");
    both[0].make_log(&dir);
    both[0].ok("unlink", &[&dir.join(LOG)]);
    let log = dir.join(X);
    let count = 2000;
    let words = ["one", "another"].map(|word| word.repeat(20));
    for mail in &mut both {
        mail.ok("open", &[&"x", &log, &"ac"]);
    }
    for (mail, word) in both.iter_mut().zip(&words) {
        mail.tell("lines", &[&"x", &count.to_string(), word]);
    }
    for mail in &both {
        mail.answer().expect("written");
    }
    let text = read(&log);
    for word in &words {
        assert_eq!(text.lines().filter(|line| line == word).count(), count);
    }
    assert_eq!(text.lines().count(), 2 * count);
    assert_eq!(text, read(&world.backing_of("alice").join(X)));
}

#[test]
fn locks_exclude_other_processes_and_follow_the_file() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let [mut mail, mut other] = [Mail::new(), Mail::new()];
    let dir = world.user(&mut mail, "alice");
    for kind in ["fcntl", "flock"] {
        mail.ok("open", &[&"mine", &dir.join(X), &"rwc"]);
        mail.ok(kind, &[&"mine", &"lock"]);
        other.ok("open", &[&"before", &dir.join(X), &"rw"]);
        assert_eq!(other.try_to(kind, &[&"before", &"lock"]), Err(libc::EAGAIN));
        // Another file of the same name is not locked; this one is, whatever its name.
        mail.ok("rename", &[&dir.join(X), &dir.join(LOG_2)]);
        mail.ok("open", &[&"new", &dir.join(X_TMP), &"rwcx"]);
        mail.ok("rename", &[&dir.join(X_TMP), &dir.join(X)]);
        other.ok("open", &[&"after", &dir.join(LOG_2), &"rw"]);
        other.ok("open", &[&"new", &dir.join(X), &"rw"]);
        assert_eq!(other.try_to(kind, &[&"before", &"lock"]), Err(libc::EAGAIN));
        assert_eq!(other.try_to(kind, &[&"after", &"lock"]), Err(libc::EAGAIN));
        other.ok(kind, &[&"new", &"lock"]);
        assert_eq!(mail.try_to(kind, &[&"new", &"lock"]), Err(libc::EAGAIN));
        mail.ok(kind, &[&"mine", &"unlock"]);
        other.ok(kind, &[&"after", &"lock"]);
        assert_eq!(mail.try_to(kind, &[&"mine", &"lock"]), Err(libc::EAGAIN));
        for handle in ["before", "after", "new"] {
            other.ok("close", &[&handle]);
        }
        for handle in ["mine", "new"] {
            mail.ok("close", &[&handle]);
        }
        mail.ok("unlink", &[&dir.join(X)]);
        mail.ok("unlink", &[&dir.join(LOG_2)]);
    }
}

#[test]
fn a_shared_map_shows_what_another_process_writes() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let [mut mail, mut other] = [Mail::new(), Mail::new()];
    let dir = world.user(&mut mail, "alice");
    mail.ok("open", &[&"x", &dir.join(X), &"rwcx"]);
    mail.ok("write", &[&"x", &"aaaaaaaa"]);
    other.ok("open", &[&"x", &dir.join(X), &"rw"]);
    other.ok("map", &[&"x"]);
    assert_eq!(other.ok("mapped", &[&"x"]), "aaaaaaaa");
    mail.ok("write-at", &[&"x", &"2", &"bb"]);
    assert_eq!(other.ok("mapped", &[&"x"]), "aabbaaaa");
    other.ok("write-at", &[&"x", &"6", &"cc"]);
    assert_eq!(other.ok("mapped", &[&"x"]), "aabbaacc");
    assert_eq!(mail.ok("read", &[&"x"]), "aabbaacc");
}

/// Everything below a directory: path, inode number, mode, owner, size, times of change.
fn everything(dir: &Path) -> Vec<(PathBuf, [i64; 9])> {
    let mut all = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).expect("stat");
        if meta.is_dir() {
            left.extend(names(&path).into_iter().map(|name| path.join(name)));
        }
        let numbers = [
            meta.ino() as i64,
            i64::from(meta.mode()),
            i64::from(meta.uid()),
            meta.nlink() as i64,
            meta.size() as i64,
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ];
        all.push((path, numbers));
    }
    all.sort();
    all
}

/// The decisions of the gate in a part of the daemon's log.
fn decisions(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" -> ")).collect()
}

#[test]
fn listing_touches_nothing() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::with(Options::debug);
    let mut indexes = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let mut mail = Mail::new();
        let dir = match name {
            "carol" => world.user_without_index(&mut mail, name),
            _ => world.user(&mut mail, name),
        };
        mail.make_log(&dir);
        mail.ok("open", &[&"x", &dir.join(X), &"rwcx"]);
        mail.ok("close", &[&"x"]);
        mail.ok("close", &[&"log"]);
        indexes.push(world.make_index(name));
    }
    // Nobody's, so that whoever asked the gate would claim them.
    for index in &indexes {
        let _ = fs::remove_file(index.join(".lasthost"));
    }
    let [backing, point] = [world.mount.backing(), world.mount.path()];
    let before = (everything(backing), everything(&world.lab.index()));
    let log = world.mount.log().len();
    for uid in [0, UID] {
        for (program, argument) in [("find", None), ("ls", Some("-lR"))] {
            let mut command = support::dovecot::as_user(uid, GID, program);
            let found = process::run(command.current_dir("/").args(argument).arg(point));
            assert_eq!(found.lines().filter(|line| line.ends_with(LOG)).count(), 3);
        }
        let mut command = support::dovecot::as_user(uid, GID, "find");
        process::run(
            command
                .current_dir("/")
                .arg(point)
                .args(["-type", "f", "-size", "+9"]),
        );
    }
    let after = (everything(backing), everything(&world.lab.index()));
    assert_eq!(after, before);
    let said = world.mount.log()[log..].to_owned();
    assert!(said.contains(" ino "), "no request is logged:\n{said}");
    assert!(decisions(&said).is_empty(), "{:#?}", decisions(&said));
    // That is what it looks like when somebody does ask.
    let mut mail = Mail::new();
    let dir = hashed(point, "alice");
    mail.ok("open", &[&"log", &dir.join(LOG), &"rwc"]);
    assert!(indexes[0].join(".lasthost").exists());
    assert!(!decisions(&world.mount.log()[log..]).is_empty());
}

#[test]
fn only_hash_directories_exist_as_soon_as_they_are_looked_up() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let [backing, point] = [world.mount.backing(), world.mount.path()];
    for name in ["d", "d0d0", "zz", "D0", "alice", ".hidden", "-1", "d0."] {
        let found = fs::symlink_metadata(point.join(name));
        assert_eq!(
            found.expect_err(name).raw_os_error(),
            Some(libc::ENOENT),
            "{name}"
        );
    }
    assert_eq!(names(backing), [".listindexfs"]);
    let made = fs::symlink_metadata(point.join("d0")).expect("a hash directory");
    assert_eq!((made.mode(), made.uid()), (libc::S_IFDIR | 0o1777, 0));
    let found = fs::symlink_metadata(point.join("d0/alice"));
    assert_eq!(found.expect_err("none").raw_os_error(), Some(libc::ENOENT));
    assert_eq!(names(backing), [".listindexfs", "d0"]);
    assert!(names(&backing.join("d0")).is_empty());
}

#[test]
fn names_that_the_mount_keeps_for_itself() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    let point = world.mount.path().to_owned();
    let mut mail = Mail::new();
    let alice = world.user(&mut mail, "alice");
    let bob = world.user(&mut mail, "bob");
    let record = alice.join(".lasthost");
    #[track_caller]
    fn refused(done: Result<String, i32>) {
        assert_eq!(done, Err(libc::EPERM));
    }
    mail.ok("open", &[&"plain", &alice.join("plain"), &"rwcx"]);

    // The record: not there, then there.
    for there in [false, true] {
        assert_eq!(world.backing_of("alice").join(".lasthost").exists(), there);
        for name in ["plain", X].into_iter().take(1 + usize::from(there)) {
            refused(mail.try_to("rename", &[&alice.join(name), &record]));
            refused(mail.try_to("link", &[&alice.join(name), &bob.join(".lasthost")]));
        }
        // A record is root's, and is not root's to change either.
        let errno = if there { libc::EACCES } else { libc::EPERM };
        let done = mail.try_to("open", &[&"r", &record, &"rwc"]);
        assert_eq!(done.map(drop), Err(errno));
        let as_root = open(record.to_str().expect("UTF-8"), "wc");
        let as_root = as_root.expect_err("nor root");
        assert_eq!(as_root.raw_os_error(), Some(libc::EPERM));
        refused(mail.try_to("open", &[&"r", &bob.join(".lasthost"), &"rwc"]));
        refused(mail.try_to("mkdir", &[&bob.join(".lasthost")]));
        if !there {
            mail.make_log(&alice);
            mail.ok("open", &[&"x", &alice.join(X), &"rwcx"]);
        }
    }
    mail.ok("open", &[&"r", &record, &"r"]);
    assert!(!mail.ok("read", &[&"r"]).is_empty());
    mail.ok("close", &[&"r"]);
    refused(mail.try_to("rename", &[&record, &alice.join("mine")]));

    // The private directory.
    let private = point.join(".listindexfs");
    assert!(!names(&point).contains(&OsString::from(".listindexfs")));
    for inside in [private.clone(), private.join("orphans")] {
        let found = fs::symlink_metadata(&inside);
        assert_eq!(found.expect_err("none").raw_os_error(), Some(libc::ENOENT));
    }
    refused(mail.try_to("mkdir", &[&private]));
    refused(mail.try_to("open", &[&"p", &private, &"rwc"]));
    let as_root = fs::create_dir(&private).expect_err("root may not either");
    assert_eq!(as_root.raw_os_error(), Some(libc::EPERM));

    // Users' directories stay, and managed files in them.
    refused(mail.try_to("rename", &[&alice, &alice.with_file_name("carol")]));
    refused(mail.try_to("rename", &[&alice, &bob]));
    let as_root = fs::rename(&alice, alice.with_file_name("carol")).expect_err("nor root");
    assert_eq!(as_root.raw_os_error(), Some(libc::EPERM));
    // Nor does one come to be by a rename: it would have its maker's mode, and not be counted.
    mail.ok("mkdir", &[&alice.join("below")]);
    for to in [
        alice.with_file_name("carol"),
        point.join("d1"),
        point.join("new"),
    ] {
        refused(mail.try_to("rename", &[&alice.join("below"), &to]));
    }
    mail.ok("rename", &[&alice.join("below"), &bob.join("below")]);
    mail.ok("rmdir", &[&bob.join("below")]);
    for (from, to) in [(X, X), (X, "plain"), ("plain", X)] {
        for verb in ["rename", "link"] {
            let done = mail.try_to(verb, &[&alice.join(from), &bob.join(to)]);
            assert_eq!(done, Err(libc::EXDEV), "{verb} {from} {to}");
        }
    }
    mail.ok("rename", &[&alice.join("plain"), &bob.join("plain")]);

    // Kinds of files there are none of.
    refused(mail.try_to("symlink", &[&"plain", &alice.join("link")]));
    for kind in ["fifo", "file"] {
        refused(mail.try_to("mknod", &[&alice.join("node"), &kind]));
    }

    // The record alone does not keep a directory; a file does.
    for handle in ["x", "log"] {
        mail.ok("close", &[&handle]);
    }
    mail.ok("unlink", &[&alice.join(X)]);
    assert_eq!(mail.try_to("rmdir", &[&alice]), Err(libc::ENOTEMPTY));
    assert!(world.backing_of("alice").join(".lasthost").exists());
    mail.ok("unlink", &[&alice.join(LOG)]);
    assert_eq!(names(&world.backing_of("alice")), [".lasthost"]);
    mail.ok("rmdir", &[&alice]);
    assert!(!world.backing_of("alice").exists());
}

#[test]
fn statfs_tells_what_the_backing_has() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let world = World::new();
    // Others use the same tmpfs meanwhile.
    eventually("the mount's figures are the backing's", || {
        let [mount, backing] = [world.mount.path(), world.mount.backing()]
            .map(|dir| rustix::fs::statvfs(dir).expect("statvfs"));
        assert_eq!(
            (mount.f_blocks, mount.f_frsize, mount.f_files),
            (backing.f_blocks, backing.f_frsize, backing.f_files)
        );
        let free = |of: &rustix::fs::StatVfs| (of.f_bfree, of.f_bavail, of.f_ffree);
        (free(&mount) == free(&backing)).then_some(())
    });
}

#[test]
fn times_are_kept_to_the_nanosecond_whenever_they_are() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    let file = File::create(mount.path().join("file")).expect("a file");
    let times = [(1 << 33, 7), (0, 0), (-1, 999_999_999), (-5, 300_000_000)];
    for (tv_sec, tv_nsec) in times.into_iter().chain([(i64::MIN, 0), (i64::MAX, 0)]) {
        let time = rustix::fs::Timespec { tv_sec, tv_nsec };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(&file, &times).expect("set");
        let found = file.metadata().expect("its status");
        assert_eq!((found.mtime(), found.mtime_nsec()), (tv_sec, tv_nsec));
        assert_eq!((found.atime(), found.atime_nsec()), (tv_sec, tv_nsec));
    }
}

/// Who asks whether a file is a terminal, as every program does that prints, costs the log nothing.
#[test]
fn an_ioctl_is_no_line_in_the_log() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    let file = File::create(mount.path().join("file")).expect("a file");
    assert_eq!(
        rustix::termios::tcgetattr(&file).map(drop),
        Err(Errno::NOTTY)
    );
    assert!(!mount.log().contains("ioctl"), "{}", mount.log());
}

#[test]
fn a_large_file_where_a_user_should_have_his_directory_is_like_any_other() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").option("max_user_bytes=64k").mount();
    let file = File::create(hashed(mount.path(), "alice")).expect("a file");
    file.set_len(1 << 20).expect("a file's length");
}
