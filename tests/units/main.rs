//! The units, run by a real systemd with a real Dovecot: what dies, and what is restarted then.
#[path = "../support/mod.rs"]
mod support;

mod guest;

use std::process::Command;

use guest::Guest;
use support::{DOVECOT, FUSE, ROOT, SYSTEMD, eventually, lacks, process};

const UNIT: &str = "listindexfs@main.service";
const DOVECOT_UNIT: &str = "dovecot.service";
/// A guest in which mount and Dovecot serve.
struct Host {
    guest: Guest,
    supervisor: String,
    dovecot: String,
}

impl Host {
    fn new() -> Option<Self> {
        if lacks(&[ROOT, FUSE, DOVECOT, SYSTEMD]) {
            return None;
        }
        let guest = Guest::boot();
        let made = "mkdir -p /srv/mail /srv/idx && chmod 1777 /srv/mail /srv/idx";
        guest.run(&["sh", "-c", made]);
        guest.run(&["systemctl", "enable", "--quiet", UNIT]);
        // That it needs the mount is in its drop-in.
        guest.run(&["systemctl", "start", DOVECOT_UNIT]);
        let (supervisor, dovecot) = (guest.main_pid(UNIT), guest.main_pid(DOVECOT_UNIT));
        let host = Self {
            guest,
            supervisor,
            dovecot,
        };
        host.serves();
        Some(host)
    }

    /// A session is served through the mount. The first ever makes INDEX, so nobody may be about.
    fn serves(&self) {
        for _ in 0..2 {
            let mut imap = self.guest.imap();
            imap.ok("LIST \"\" \"*\" RETURN (STATUS (MESSAGES))");
            imap.ok("LOGOUT");
            drop(imap);
            eventually("its process has ended", || {
                match self.guest.try_run(&["pgrep", "-x", "imap"]) {
                    None => Some(()),
                    Some(_) => None,
                }
            });
        }
        let log = "dovecot.list.index.log";
        let files = self.guest.run(&["find", "/run/listindex", "-name", log]);
        assert_eq!(files.lines().count(), 1, "{files}");
    }

    fn status(&self) -> serde_json::Value {
        let said = self.guest.run(&["listindexctl", "status", "--json"]);
        serde_json::from_str(&said).expect("JSON")
    }

    fn kill(&self, pids: &[&str]) {
        self.guest.run(&[&["kill", "-KILL"], pids].concat());
    }

    fn worker(&self) -> String {
        let worker = eventually("there is a worker", || {
            self.status()["worker"]["pid"].as_u64()
        });
        worker.to_string()
    }

    /// Neither supervisor nor Dovecot is another.
    fn nothing_restarted(&self) {
        assert_eq!(self.guest.main_pid(UNIT), self.supervisor);
        assert_eq!(self.guest.main_pid(DOVECOT_UNIT), self.dovecot);
    }

    /// Both are, and serve.
    fn all_restarted(&self) {
        self.guest.wait_restarted(UNIT, &self.supervisor);
        self.guest.wait_restarted(DOVECOT_UNIT, &self.dovecot);
        self.serves();
        let mounts = self.guest.run(&["findmnt", "-n", "-t", "fuse.listindexfs"]);
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
    }

    fn assert_no_outage(&self) {
        let journal = self.guest.journal();
        for word in ["Panic:", "Transport endpoint", "Input/output error"] {
            assert!(!journal.contains(word), "{word}\n{journal}");
        }
    }
}

#[test]
fn a_worker_that_dies_and_a_reload_restart_nothing() {
    let Some(host) = Host::new() else { return };
    let mut imap = host.guest.imap();
    for _ in 0..3 {
        let worker = host.worker();
        host.kill(&[&worker]);
        imap.ok("STATUS INBOX (MESSAGES)");
        eventually("the next one serves", || {
            (host.worker() != worker).then_some(())
        });
    }
    let before = host.worker();
    host.guest.install("/usr/local/sbin/listindexfs");
    host.guest.run(&["systemctl", "reload", UNIT]);
    assert_ne!(host.worker(), before);
    imap.ok("LIST \"\" \"*\"");
    host.nothing_restarted();
    assert_eq!(host.status()["workers_started"], 5);
    host.assert_no_outage();

    // One that cannot serve fails the reload, and nothing else.
    let script =
        "cp /bin/false /usr/local/sbin/new && mv /usr/local/sbin/new /usr/local/sbin/listindexfs";
    host.guest.run(&["sh", "-c", script]);
    assert_eq!(host.guest.try_run(&["systemctl", "reload", UNIT]), None);
    imap.ok("LIST \"\" \"*\"");
    host.nothing_restarted();
    let journal = host.guest.journal();
    assert!(
        journal.contains("not upgraded, the worker before serves on"),
        "{journal}"
    );
}

#[test]
fn when_everything_dies_the_mount_is_cleared_and_dovecot_restarted() {
    let Some(host) = Host::new() else { return };
    let mut imap = host.guest.imap();
    imap.ok("SELECT INBOX");
    let worker = host.worker();
    host.guest.run(&["kill", "-STOP", &host.supervisor]); // it starts no other
    host.kill(&[&worker, &host.supervisor]);
    host.all_restarted();
    assert_eq!(imap.line("nothing more"), None, "its session has ended");
}

/// Its worker serves until Dovecot has ended.
#[test]
fn when_the_supervisor_dies_both_are_restarted_in_order() {
    let Some(host) = Host::new() else { return };
    let mut imap = host.guest.imap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let list = "LIST \"\" \"*\" RETURN (STATUS (MESSAGES))";
            while imap.ok_or_end(list) {}
        });
        host.kill(&[&host.supervisor]);
        host.all_restarted();
        asking.join().expect("each command was answered rightly");
    });
    host.assert_no_outage();
}

#[test]
fn an_umount_by_hand_is_mended() {
    let Some(host) = Host::new() else { return };
    let mut imap = host.guest.imap();
    imap.ok("LIST \"\" \"*\"");
    host.guest.run(&["umount", "-l", "/run/listindex"]);
    imap.ok("LOGOUT");
    host.all_restarted();
}

#[test]
fn stopped_in_order_all_is_gone_and_without_the_mount_dovecot_does_not_run() {
    let Some(host) = Host::new() else { return };
    let mut imap = host.guest.imap();
    imap.ok("LIST \"\" \"*\"");
    host.guest.run(&["systemctl", "stop", UNIT]);
    for unit in [UNIT, DOVECOT_UNIT] {
        assert_eq!(host.guest.property(unit, "ActiveState"), "inactive");
    }
    host.assert_no_outage();
    // What is left is the bare mount point, which harms nobody.
    let mounts = host
        .guest
        .run(&["findmnt", "-n", "-o", "FSTYPE,SOURCE", "/run/listindex"]);
    assert_eq!(
        mounts.split_whitespace().collect::<Vec<_>>(),
        ["tmpfs", "listindexfs-bare"]
    );
    let broken = "sed -i s,^BACKING=.*,BACKING=/srv, /etc/listindexfs/main.conf";
    host.guest.run(&["sh", "-c", broken]);
    assert_eq!(
        host.guest.try_run(&["systemctl", "start", DOVECOT_UNIT]),
        None
    );
    assert_ne!(host.guest.property(DOVECOT_UNIT, "ActiveState"), "active");
}

/// What takes the mount from him is allowed to the unit.
#[test]
fn it_stops_though_somebody_outside_keeps_a_file_open() {
    let Some(host) = Host::new() else { return };
    let log = "$(find /run/listindex -name dovecot.list.index.log)";
    let hold = format!("exec 3<{log} && exec sleep infinity");
    let holder = ["--quiet", "--unit=holder", "sh", "-c", &hold];
    host.guest.run(&[&["systemd-run"], &holder[..]].concat());
    let holds = format!("/proc/{}/fd/3", host.guest.main_pid("holder.service"));
    eventually("he has it open", || {
        let file = host.guest.try_run(&["readlink", &holds])?;
        file.starts_with("/run/listindex/").then_some(())
    });
    host.guest.run(&["systemctl", "stop", UNIT]);
    assert_eq!(host.guest.property(UNIT, "Result"), "success");
    assert_eq!(host.guest.property("holder.service", "SubState"), "running");
    let journal = host.guest.journal();
    for (word, said) in [
        ("ending without their users", true),
        ("cannot break off", false),
    ] {
        assert_eq!(journal.contains(word), said, "{word}\n{journal}");
    }
    let mounts = host.guest.run(&["cat", "/proc/mounts"]);
    assert!(!mounts.contains(" fuse.listindexfs "), "{mounts}");
}

#[test]
fn a_mount_that_fails_is_tried_again_and_dovecot_comes_with_it() {
    let Some(host) = Host::new() else { return };
    let conf = "/etc/listindexfs/main.conf";
    let put = |from: &str, to: &str| {
        let change = format!("s,^BACKING='{from}',BACKING='{to}',");
        host.guest.run(&["sed", "-i", &change, conf]);
    };
    put("/var/lib/listindexfs", "/srv/none/backing");
    assert_eq!(host.guest.try_run(&["systemctl", "restart", UNIT]), None);
    assert_ne!(host.guest.property(DOVECOT_UNIT, "ActiveState"), "active");
    put("/srv/none/backing", "/var/lib/listindexfs");
    host.all_restarted();
}

#[test]
fn check_finds_all_in_order() {
    let Some(host) = Host::new() else { return };
    let said = host.guest.run(&["listindexctl", "check"]);
    let findings = said.lines().take_while(|line| !line.is_empty());
    // Which kernel it is, nobody can mend here.
    let not_ok = findings.filter(|line| !line.starts_with("ok ") && !line.contains("  kernel  "));
    assert_eq!(not_ok.collect::<Vec<_>>(), Vec::<&str>::new(), "{said}");
    for about in [
        "mount",
        "processes",
        "backing",
        "bare mount point",
        "boot",
        "layout",
        "index",
        "settings",
        "dovecot.service",
        "namespaces",
    ] {
        assert!(
            said.contains(&format!("\nok       {about}  ")),
            "{about}\n{said}"
        );
    }
}

/// What a line of fstab does, as a unit.
#[test]
fn the_sample_of_a_mount_unit_mounts() {
    if lacks(&[ROOT, FUSE, DOVECOT, SYSTEMD]) {
        return;
    }
    let guest = Guest::boot();
    let sample = include_str!("../../mount/run-listindex.mount.sample");
    let sample = sample
        .replace(
            "index=/nfs/idx/%%2.256Nu/%%u",
            "index=/srv/idx/%%u,index_fs=any",
        )
        .replace("=/nfs ", "=/srv ");
    let put = "mkdir -p /srv/idx; printf %s \"$1\" >/etc/systemd/system/run-listindex.mount; systemctl daemon-reload";
    guest.run(&["sh", "-c", put, "sh", &sample]);
    guest.run(&["systemctl", "enable", "--now", "run-listindex.mount"]);
    let said = guest.run(&["listindexctl", "status"]);
    assert!(said.contains("/run/listindex"), "{said}");
    let options = guest.run(&["cat", "/var/lib/listindexfs/.listindexfs/options"]);
    assert!(options.contains("index=/srv/idx/%u"), "{options}");
    guest.run(&["systemctl", "stop", "run-listindex.mount"]);
    let mounts = guest.run(&["cat", "/proc/mounts"]);
    assert!(!mounts.contains(" fuse.listindexfs "), "{mounts}");
}

/// What it may do is bounded, and yet its mount is everybody's.
#[test]
fn it_is_confined_but_for_its_mounts() {
    let Some(host) = Host::new() else { return };
    let namespace = |pid: &str| {
        let file = format!("/proc/{pid}/ns/mnt");
        host.guest.run(&["readlink", &file])
    };
    assert_eq!(namespace(&host.supervisor), namespace("1"));
    let worker = host.worker();
    for pid in [&host.supervisor, &worker] {
        let status = host.guest.run(&["cat", &format!("/proc/{pid}/status")]);
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t00000000002011df"] {
            assert!(status.lines().any(|is| is == line), "{line}\n{status}");
        }
    }
    let said = host
        .guest
        .run(&["systemd-analyze", "security", "--no-pager", UNIT]);
    let overall = said.lines().last().unwrap_or_default();
    eprintln!("{overall}");
    let figure = overall.split(": ").nth(1);
    let figure = figure.and_then(|rest| rest.split(' ').next()?.parse::<f32>().ok());
    assert!(figure.is_some_and(|figure| figure <= 5.0), "{said}");
}

#[test]
fn systemd_understands_the_units() {
    if lacks(&[SYSTEMD]) {
        return;
    }
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/mount/listindexfs@.service");
    let dir = tempfile::tempdir().expect("a directory");
    let text = std::fs::read_to_string(unit).expect("the unit");
    // The programs are those that are built, wherever they are to be installed.
    let text = text
        .replace(
            "=listindexfs ",
            &format!("={} ", env!("CARGO_BIN_EXE_listindexfs")),
        )
        .replace(
            "=listindexctl ",
            &format!("={} ", env!("CARGO_BIN_EXE_listindexctl")),
        )
        .replace(
            "=-listindexctl ",
            &format!("=-{} ", env!("CARGO_BIN_EXE_listindexctl")),
        );
    let file = dir.path().join("listindexfs@main.service");
    std::fs::write(&file, text).expect("written");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&file);
    let output = process::output(&mut verify, support::LIMIT).expect("it hangs");
    let said = process::said(&output);
    assert!(output.status.success(), "{said}");
    let about = said
        .lines()
        .filter(|line| line.contains("listindexfs@main"));
    assert_eq!(about.collect::<Vec<_>>(), Vec::<&str>::new());
}
