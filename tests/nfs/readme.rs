//! The README's five-minute start, as a new user would: its commands, lines and settings as printed, and real NFS on /nfs.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::guest::{Client, World};
use crate::support::model::Op;
use crate::support::site::list_index;
use crate::support::{LIMIT, Model, eventually, process};

const README: &str = include_str!("../../README.md");
/// The files of a checkout that the commands name.
const FILES: &[(&str, &str)] = &[
    (
        "mount/listindexfs.8",
        include_str!("../../mount/listindexfs.8"),
    ),
    (
        "mount/listindexctl.8",
        include_str!("../../mount/listindexctl.8"),
    ),
];
/// Whose directory the README shows.
const USER: &str = "testuser";

/// A numbered step of the README, without the words around its blocks.
struct Step {
    commands: Vec<&'static str>,
    fstab: String,
    settings: &'static str,
}

/// The step that begins so.
fn step(begins: &str) -> Step {
    let start = README.split("\n## Five-minute start\n").nth(1);
    let start = start.and_then(|rest| rest.split("\n## ").next());
    let text = start.and_then(|text| text.split(&format!("\n**{begins}")).nth(1));
    let text = text.unwrap_or_else(|| panic!("README has no step {begins:?}"));
    let text = text.split("\n**").next().expect("a step");
    let block = |fence: &str| {
        let block = text.split(fence).nth(1);
        block.and_then(|rest| rest.split("\n```").next())
    };
    let commands = text.lines().filter_map(|line| line.strip_prefix("    "));
    Step {
        commands: commands.collect(),
        fstab: block("\n```fstab\n").map_or(String::new(), |text| text.to_owned() + "\n"),
        settings: block("\n```conf\n").unwrap_or_default(),
    }
}

/// Runs a command of the README where it says, and returns what it prints and whether that was a success.
fn run(checkout: &Path, command: &str) -> (String, bool) {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(checkout);
    let output = process::output(&mut shell, LIMIT).unwrap_or_else(|| panic!("{command} hangs"));
    eprintln!("$ {command}\n{}", process::said(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (said, output.status.success())
}

fn succeed(checkout: &Path, command: &str) -> String {
    let (said, succeeded) = run(checkout, command);
    assert!(succeeded, "{command}: {said}");
    said
}

/// Whether it can be run here, where there are no packages, no compiler and no systemd; tests/package runs all of them.
fn has_all(command: &&str) -> bool {
    let lacks = ["apt ", "cargo ", "systemctl ", "journalctl "];
    !lacks.iter().any(|program| command.starts_with(program))
}

/// A checkout that has been built.
fn checkout() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in FILES {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(file, text).expect("a file");
    }
    let built = dir.path().join("target/release");
    fs::create_dir_all(&built).expect("a directory");
    for name in ["listindexfs", "listindexctl"] {
        symlink(Path::new("/host").join(name), built.join(name)).expect("a program");
    }
    dir
}

/// What is mounted here is unmounted at the end.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
#[ignore = "runs in the NFS guest"]
fn the_five_minute_start_migrates_a_user() {
    let world = World::new();
    let nfs = Path::new("/nfs");
    fs::create_dir(nfs).expect("/nfs");
    let seen = Client::A.mount();
    let seen = seen.join(world.on_server.file_name().expect("a name"));
    mount_bind(&seen, nfs).expect("/nfs");
    let _nfs = Mounted(nfs.to_owned());
    fs::rename(world.on_server.join("index"), world.on_server.join("idx")).expect("idx");

    // The user lives on stock Dovecot.
    let settings = step("3.").settings;
    let (location, listindex) = settings.split_once(":LISTINDEX=").expect("LISTINDEX=");
    assert!(listindex.starts_with("/run/listindex/"), "{listindex}");
    let stock = world.config(Client::A).raw(location).start();
    let mut model = Model::new();
    let mut imap = stock.login(USER);
    for folder in ["work", "travel"] {
        model.apply(&Op::Create(folder.to_owned()), &mut imap);
        model.apply(&Op::Append(folder.to_owned(), false), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "on stock Dovecot");
    imap.logout();
    stock.wait_no_sessions();
    drop(stock);
    let index = nfs.join("idx/d0").join(USER);
    let left = list_index(&index);
    assert!(!left.is_empty(), "stock Dovecot left no list index");

    // 1. Build and install.
    let checkout = checkout();
    let checkout = checkout.path();
    for command in step("1.").commands.into_iter().filter(has_all) {
        succeed(checkout, command);
    }
    // 2. Mount.
    let mounting = step("2.");
    let before = fs::read_to_string("/etc/fstab").unwrap_or_default();
    fs::write("/etc/fstab", before + &mounting.fstab).expect("fstab");
    for command in mounting.commands.into_iter().filter(has_all) {
        succeed(checkout, command);
    }
    let _backing = Mounted("/var/lib/listindexfs".into());
    let _mount = Mounted("/run/listindex".into());
    // 3. Tell Dovecot: the one here, and that of the system, which listindexctl asks.
    fs::write("/etc/dovecot/local.conf", settings).expect("local.conf");
    let dovecot = world.config(Client::A).raw(settings).start();
    let mut imap = dovecot.login(USER);
    model.assert_matches(&imap.list_status(), "after the migration");
    imap.logout();
    dovecot.wait_no_sessions();
    // 4. See that it works.
    assert!(list_index(&index).is_empty(), "it has not moved");
    let see = step("4.").commands;
    for line in &see {
        let command = line.split('#').next().unwrap_or(line).trim_end();
        match command.split(' ').next() {
            _ if !has_all(&command) => continue,
            Some("ls") if command.contains("/nfs/") => {
                assert!(!run(checkout, command).1, "{command}: still there");
            }
            Some("ls") => {
                let said = succeed(checkout, command);
                assert!(said.contains("dovecot.list.index.log"), "{said}");
            }
            Some("cat") => {
                let host = rustix::system::uname();
                let said = succeed(checkout, command);
                let host = host.nodename().to_string_lossy();
                assert_eq!(said.lines().next(), Some(&*host));
            }
            _ => drop(succeed(checkout, command)),
        }
    }
    drop(dovecot);
    succeed(checkout, "umount /run/listindex");
    eventually("the daemon ends", || {
        let (said, _) = run(checkout, "pgrep -x listindexfs");
        said.is_empty().then_some(())
    });
    succeed(checkout, "umount /var/lib/listindexfs"); // which it holds until then
}
