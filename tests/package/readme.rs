//! A new user's host: a fresh Debian 12 with systemd and a stock Dovecot that serves somebody, and nothing but README and
//! docs/operating.md to go by. Each command is run there as it is printed, files get the lines that are printed.
//!
//! What is not as on his host: a local directory stands for NFS, so `index_fs=any` is added; what fetches packages does so by
//! this machine's network; and Rust, which is asked for, is this machine's.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::guest::{Guest, Session, put, put_programs};
use crate::printed::{self, README, block, commands, step};
use crate::script;
use crate::support::{DEBIAN, FUSE, ROOT, SYSTEMD, eventually, lacks, process};

/// Whose directory is shown in the documents.
pub const USER: &str = "testuser";
/// Where the source is.
const SOURCE: &str = "/root/listindexfs";
/// Only a hang takes longer than a build on a slow machine.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The site's Dovecot, without where mail is.
const SITE: &str = include_str!("site.conf");
const MAIL: &str = "/etc/dovecot/mail.conf";

/// Printed, and not run here: why, and what.
const NOT_RUN: &[(&str, &[&str])] = &[
    (
        "it runs this test, and others",
        &[
            ".ci/run",
            "scripts/test",
            "scripts/test NAME",
            "scripts/test --test lingering",
            "LISTINDEXFS_DOVECOT=2.4 scripts/test --test migration",
            "LISTINDEXFS_NFS_FILTER=NAME scripts/test --test nfs",
            "LISTINDEXFS_NFS_FILTER=hung scripts/test --test nfs",
        ],
    ),
    (
        "it takes long: a model of which CI runs the small one, and benches",
        &[
            "LISTINDEXFS_MODEL=large scripts/test --release --test model",
            "LISTINDEXFS_MODEL=large scripts/test --release --test model -- --nocapture --test-threads=1",
            "scripts/bench --only imap --contestants direct,listindexfs",
            "scripts/bench --only kills",
            "scripts/bench-nfs --chart docs/rpcs.svg",
            "scripts/bench-scale --no-wait",
        ],
    ),
    (
        "the package is installed and purged in main.rs",
        &["apt install ./FILE.deb", "apt purge listindexfs"],
    ),
    (
        "a Debian as small as this one has no man(1)",
        &["man -l mount/listindexctl.8", "man -l mount/listindexfs.8"],
    ),
    ("of Dovecot 2.4", &["doveconf mailbox_list_index_prefix"]),
    (
        "of Dovecot Pro, beside ours",
        &[
            "doveadm nfs usercache clean",
            "doveadm nfs usercache clean AGE",
            "doveadm nfs usercache clean AGE USERDIR",
        ],
    ),
    (
        "a name for what is run elsewhere, without what it is done to",
        &[
            "chmod 755",
            "chown root",
            "doveadm kick",
            "listindexctl clean",
            "listindexctl clean --backing",
            "listindexctl log",
            "listindexctl prepare",
            "ls -ld",
            "umount -l",
        ],
    ),
];
/// Run with a build from nothing only, as they build.
const BUILDS: &[&str] = &["cargo build --release --locked", "scripts/demo"];

/// The host, and what of all that is printed has not been run yet.
pub struct Newcomer {
    pub guest: Guest,
    printed: BTreeSet<String>,
    left: BTreeSet<String>,
    builds: bool,
    began: Instant,
}

impl Newcomer {
    fn boot(builds: bool) -> Option<Self> {
        if lacks(&[ROOT, FUSE, SYSTEMD, DEBIAN]) {
            return None;
        }
        // From nothing: without mount.fuse3. Else the one that the other tests have, as it is there.
        let root = match builds {
            true => script(
                "debian-root",
                &["bookworm", "dovecot-imapd", "systemd", "procps"],
            ),
            false => script("debian-root", &["bookworm"]),
        };
        let mut sysroot = Command::new("rustc");
        let sysroot = process::run(sysroot.args(["--print", "sysroot"]));
        let lent = [
            (PathBuf::from(sysroot.trim()), "/opt/rust"),
            // Whoever has fetched Rust has them.
            ("/etc/ssl/certs".into(), "/etc/ssl/certs"),
        ];
        let began = Instant::now();
        let guest = Guest::boot_with(Path::new(&root), &lent, |over| {
            put(over, "etc/dovecot/dovecot.conf", SITE);
            put(over, &MAIL[1..], &stock());
            put(over, "etc/fstab", "");
            let names = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            put(over, "etc/resolv.conf", &names);
            source(&over.join(&SOURCE[1..]), builds);
        });
        let newcomer = Self {
            guest,
            left: printed::all(),
            printed: printed::all(),
            builds,
            began,
        };
        newcomer.sh("mkdir -p /nfs/mail /nfs/idx && chown 64100:64100 /nfs/mail /nfs/idx");
        newcomer.sh("systemctl start dovecot");
        Some(newcomer)
    }

    /// Something of the test's own.
    pub fn sh(&self, script: &str) -> String {
        self.guest.run(&["sh", "-c", script])
    }

    /// Runs a command as it is printed, in the source's directory; what it says, and its exit code.
    pub fn run_for_code(&mut self, command: &str) -> (String, Option<i32>) {
        self.run_meaning(command, &[])
    }

    /// The same of one with words that stand for something.
    pub fn run_meaning(
        &mut self,
        command: &str,
        meaning: &[(&str, &str)],
    ) -> (String, Option<i32>) {
        assert!(self.printed.contains(command), "no document has {command}");
        self.left.remove(command);
        let put_in = |text: String, (word, meaning): &(&str, &str)| text.replace(word, meaning);
        let command = &meaning.iter().fold(command.to_owned(), put_in);
        let fetches = ["apt ", "cargo ", "scripts/"];
        let fetches = fetches.iter().any(|word| command.starts_with(word));
        // apt asks whether to go on.
        let line = format!("cd {SOURCE} && {{ {command}; }}");
        let path =
            "PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let args = ["env", "-i", "HOME=/root", path, "sh", "-c", &line];
        let mut shell = match fetches {
            true => self.guest.command_with_network(&args),
            false => self.guest.command(&args),
        };
        let (yes, answer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        rustix::io::write(&answer, b"y\n").expect("an answer");
        drop(answer);
        let output = process::output(shell.stdin(yes), PATIENCE);
        let output = output.unwrap_or_else(|| panic!("{command} hangs"));
        let at = self.began.elapsed().as_secs_f32();
        eprintln!("[{at:5.1} s] # {command}\n{}", process::said(&output));
        let said = [output.stdout, output.stderr].concat();
        (
            String::from_utf8_lossy(&said).into_owned(),
            output.status.code(),
        )
    }

    /// The same of one that succeeds.
    pub fn run(&mut self, command: &str) -> String {
        let (said, code) = self.run_for_code(command);
        assert_eq!(code, Some(0), "{command}: {said}");
        said
    }

    /// The same of one with words that stand for something.
    pub fn run_with(&mut self, command: &str, meaning: &[(&str, &str)]) -> String {
        let (said, code) = self.run_meaning(command, meaning);
        assert_eq!(code, Some(0), "{command}: {said}");
        said
    }

    /// The settings that say where mail is.
    pub fn tell_dovecot(&self, settings: &str) {
        let write = "printf '%s\n' \"$1\" >\"$2\"";
        self.guest.run(&["sh", "-c", write, "sh", settings, MAIL]);
    }

    /// A session of this user, and no earlier one is about.
    pub fn login(&self, user: &str) -> Session {
        self.guest.imap_of(user)
    }

    /// What a session of this user is told, which comes and goes.
    pub fn sees(&self, user: &str) -> Vec<String> {
        let mut imap = self.login(user);
        let seen = imap.list_status();
        self.logout(imap);
        seen
    }

    /// Ends a session and waits until its process has ended.
    pub fn logout(&self, mut imap: Session) {
        imap.ok("LOGOUT");
        drop(imap);
        eventually("its process has ended", || {
            let left = self.guest.try_run(&["pgrep", "-x", "imap"]);
            left.is_none().then_some(())
        });
    }

    /// That everything printed was run, or is known not to be.
    fn finish(mut self) {
        for command in NOT_RUN.iter().flat_map(|(_why, commands)| *commands) {
            assert!(
                self.left.remove(*command),
                "{command} is not printed, or was run"
            );
        }
        for command in BUILDS {
            assert_eq!(self.left.remove(*command), !self.builds, "{command}");
        }
        assert_eq!(self.left, BTreeSet::new(), "printed, and run by no test");
        let journal = self.guest.journal();
        assert!(!journal.contains("Panic:"), "{journal}");
    }
}

/// Where mail was before: the same without LISTINDEX.
pub fn stock() -> String {
    let settings = block(step("3."), "conf");
    let (stock, listindex) = settings.split_once(":LISTINDEX=").expect("LISTINDEX=");
    assert!(listindex.starts_with("/run/listindex/"), "{listindex}");
    stock.to_owned() + "\n"
}

/// A copy of the source, built if it is not to be built there.
fn source(to: &Path, builds: bool) {
    fs::create_dir_all(to).expect("mkdir");
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(top).expect("the source").flatten() {
        let name = entry.file_name();
        if name != "target" && name != ".git" {
            process::run(Command::new("cp").arg("-a").arg(entry.path()).arg(to));
        }
    }
    if !builds {
        let built = to.join("target/release");
        put_programs(&built);
    }
}

/// README's start, for a user who has lived on stock Dovecot: what he is told by that.
fn five_minutes(host: &mut Newcomer) -> Vec<String> {
    let mut imap = host.login(USER);
    for folder in ["work", "travel"] {
        imap.ok(&format!("CREATE {folder}"));
        imap.ok(&format!("APPEND {folder} {{5+}}\r\nhello"));
    }
    host.logout(imap);
    let seen = host.sees(USER);
    assert_eq!(seen.len(), 3, "{seen:?}");
    host.sh("ls /nfs/idx/d0/testuser/dovecot.list.index*");

    for command in commands(step("1.")) {
        if host.builds || !BUILDS.contains(&command) {
            host.run(command);
        }
    }
    let lines = block(step("2."), "fstab").replace(",migrate,", ",migrate,index_fs=any,");
    host.guest.run(&[
        "sh",
        "-c",
        "printf '%s\n' \"$1\" >>/etc/fstab",
        "sh",
        &lines,
    ]);
    for command in commands(step("2.")) {
        host.run(command);
    }
    assert_eq!(host.sees(USER), seen, "mounted, and Dovecot was not told");
    host.tell_dovecot(block(step("3."), "conf"));
    for command in commands(step("3.")) {
        host.run(command);
    }
    assert_eq!(host.sees(USER), seen, "migrated");
    see_that_it_works(host);
    let took = host.began.elapsed();
    eprintln!(
        "from nothing to a migrated user: {:.1} s",
        took.as_secs_f32()
    );
    assert_eq!(host.sees(USER), seen, "and again");
    seen
}

fn see_that_it_works(host: &mut Newcomer) {
    for command in commands(step("4.")) {
        let (said, code) = host.run_for_code(command);
        let (program, _) = command.split_once(' ').expect("a command");
        if program == "ls" && command.contains("/nfs/") {
            assert_ne!(code, Some(0), "{said}: it has not moved");
            continue;
        }
        assert_eq!(code, Some(0), "{command}: {said}");
        let told: &[&str] = match program {
            "ls" => &["dovecot.list.index.log", ".lasthost"],
            "cat" => &[&host.sh("uname -n")],
            "journalctl" => &["testuser: list index pulled from INDEX"],
            _ if command.ends_with(" check") => &["layout", "settings"],
            _ if command.ends_with(" status") => &["/run/listindex"],
            _ => &[USER],
        };
        for words in told {
            assert!(said.contains(words), "{command}: no {words:?} in {said}");
        }
    }
}

fn lives_by_the_documents(builds: bool) {
    let Some(mut host) = Newcomer::boot(builds) else {
        return;
    };
    let seen = five_minutes(&mut host);
    crate::operating::as_printed(&mut host, &seen);
    if builds {
        host.run(commands(README)[0]);
    }
    host.finish();
}

/// All but the build, in whose place is what was built for the tests.
#[test]
fn every_command_of_the_documents_does_what_it_says() {
    lives_by_the_documents(false);
}

/// The whole of it, which takes minutes: `cargo test --test package -- --ignored --nocapture`.
#[test]
#[ignore = "builds a release from nothing, with what it fetches"]
fn from_nothing_with_the_build() {
    lives_by_the_documents(true);
}
