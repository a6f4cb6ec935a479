//! docs/operating.md on the new user's host, once README has been followed: each section's commands in a state that they are for.
use crate::printed::{OPERATING, commands, section};
use crate::readme::{Newcomer, USER, stock};
use crate::support::eventually;

/// All of them. What the user is told is the same throughout.
pub fn as_printed(host: &mut Newcomer, seen: &[String]) {
    checked(host);
    cleaned(host, seen);
    watched(host);
    upgraded(host);
    doubted(host, seen);
    by_symptom(host, seen);
    bare(host, seen);
    killed(host, seen);
    aborted(host, seen);
    by_the_unit(host, seen);
    drained(host, seen);
    back_to_stock(host, seen);
}

fn of(heading: &str) -> Vec<&'static str> {
    commands(section(OPERATING, heading))
}

fn status(host: &Newcomer, of: &str) -> String {
    let said = host.guest.run(&["listindexctl", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    status[of]["pid"].to_string()
}

/// The other host whose configuration is looked at is this one, and ssh a script.
fn checked(host: &mut Newcomer) {
    host.sh("cp /etc/dovecot/dovecot.conf /etc/dovecot/test.conf");
    let ssh = "printf '#!/bin/sh\nshift; exec \"$@\"\n' >/usr/local/bin/ssh; chmod 755 /usr/local/bin/ssh";
    host.sh(ssh);
    for command in of("## What check looks at") {
        let said = host.run(command);
        assert!(said.contains("\nok       layout  "), "{command}: {said}");
    }
}

fn cleaned(host: &mut Newcomer, seen: &[String]) {
    for user in ["alice", "bob@example.com"] {
        // The first session ever makes INDEX.
        for _ in 0..2 {
            host.sees(user);
        }
    }
    for command in of("## Who is here, and why he was refused") {
        let said = host.run(command);
        assert!(said.contains(USER), "{command}: {said}");
    }
    for command in of("## Cleaning") {
        let before = here(host);
        host.run(command);
        let after = here(host);
        match command.split(' ').nth(1) {
            Some("evict") => assert!(
                after.contains(USER) && after.lines().count() == 1,
                "{after}"
            ),
            Some("clean") if command.contains(" 0s ") => assert_eq!(after, "", "{command}"),
            _ => assert_eq!(after, before, "{command}"),
        }
        if after.is_empty() {
            assert_eq!(host.sees(USER), seen, "made anew");
        }
    }
}

/// The logs in the mount.
fn here(host: &Newcomer) -> String {
    host.sh("find /run/listindex -name dovecot.list.index.log")
}

fn watched(host: &mut Newcomer) {
    for command in of("## Watching it") {
        host.run(command);
    }
    host.run("listindexctl log default");
    for command in of("## A full backing") {
        host.run(command);
    }
    let mounts = host.sh("cat /proc/mounts");
    assert!(mounts.contains("size=8388608k"), "{mounts}");
}

fn upgraded(host: &mut Newcomer) {
    let mut imap = host.login(USER);
    let before = status(host, "worker");
    for command in of("## Unmounting, upgrading") {
        host.run(command);
    }
    assert_ne!(status(host, "worker"), before);
    imap.list_status();
    host.logout(imap);
}

fn doubted(host: &mut Newcomer, seen: &[String]) {
    for command in of("## A list index that is doubted") {
        host.run(command);
    }
    assert_eq!(host.sh("find /run/listindex -name .lasthost"), "");
    assert_eq!(host.sees(USER), seen, "made anew");
}

/// docs/troubleshooting.md, and what is said beside the blocks.
fn by_symptom(host: &mut Newcomer, seen: &[String]) {
    let worker = status(host, "worker");
    for command in [
        "listindexctl check --json",
        "listindexctl status --json",
        "doveconf -n",
        "journalctl -t listindexfs",
        "df -i",
    ] {
        host.run(command);
    }
    let metrics = host.run("listindexctl metrics");
    assert!(metrics.contains("\nlistindexfs_users{"), "{metrics}");
    let said = host.run("doveconf mail_location");
    assert!(said.contains(":LISTINDEX=/run/listindex/"), "{said}");
    host.run_with("doveconf -n -c FILE", &[("FILE", "/etc/dovecot/test.conf")]);
    let said = host.run_with("ps -o args PID", &[("PID", &worker)]);
    assert!(said.contains("listindexfs"), "{said}");
    host.run("doveadm user alice");
    let said = host.run_with("doveadm user USER", &[("USER", USER)]);
    assert!(said.contains("/nfs/mail/testuser"), "{said}");
    let mut imap = host.login(USER);
    imap.list_status();
    host.run_with("doveadm kick USER", &[("USER", USER)]);
    assert_eq!(imap.line("nothing more"), None, "its session has ended");
    drop(imap);
    let path = "/run/listindex/d0/testuser";
    let (age, dir, name) = (("AGE", "7days"), ("USERDIR", path), ("USER", USER));
    host.run_with("listindexctl clean AGE", &[age]);
    eventually("he may go", || {
        let (_, code) = host.run_meaning("listindexctl clean 0s USER", &[name]);
        (code == Some(0)).then_some(())
    });
    assert_eq!(host.sees(USER), seen, "made anew");
    eventually("everybody has gone", || {
        host.run_for_code("listindexctl clean 0s");
        here(host).is_empty().then_some(())
    });
    assert_eq!(host.sees(USER), seen, "made anew for him");
    let said = host.run_with("listindexctl clean AGE USERDIR", &[age, dir]);
    assert!(said.contains("stays: was here"), "{said}");
}

/// Out of memory, and right, where nothing but what `prepare` does is mounted. The line in fstab would be mounted for Dovecot.
fn bare(host: &mut Newcomer, seen: &[String]) {
    host.sh("systemctl stop dovecot && cp /etc/fstab /root/fstab && sed -i /fuse.listindexfs/d /etc/fstab");
    host.run("listindexctl unmount");
    host.sh("rmdir /run/listindex && systemctl daemon-reload");
    host.run("mkdir -m 755 /run/listindex");
    host.run("listindexctl prepare /run/listindex");
    host.sh("systemctl start dovecot");
    assert_eq!(host.sees(USER), seen, "without the mount");
    let stat = "stat -f -c %T /run/listindex; find /run/listindex -type f -name 'dovecot*'";
    assert_eq!(host.sh(stat), "tmpfs\n");
    host.sh("systemctl stop dovecot");
    host.run("umount /run/listindex");
    host.sh("cp /root/fstab /etc/fstab && systemctl daemon-reload");
    host.run("mount /run/listindex");
    host.sh("systemctl start dovecot");
    assert_eq!(host.sees(USER), seen, "mounted again");
}

fn killed(host: &mut Newcomer, seen: &[String]) {
    let (supervisor, worker) = (status(host, "supervisor"), status(host, "worker"));
    host.guest.run(&["kill", "-STOP", &supervisor]); // it starts no other
    host.guest.run(&["kill", "-KILL", &worker, &supervisor]);
    eventually("the mount is dead", || {
        let dead = host.guest.try_run(&["ls", "/run/listindex"]);
        dead.is_none().then_some(())
    });
    dead(host, seen, Some(0));
}

/// By a line of docs/troubleshooting.md.
fn aborted(host: &mut Newcomer, seen: &[String]) {
    let number =
        "sed -n 's,^[^ ]* [^ ]* 0:\\([0-9]*\\) / /run/listindex .*,\\1,p' /proc/self/mountinfo";
    let number = host.sh(number);
    host.sh(
        "mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections",
    );
    let abort = "echo 1 > /sys/fs/fuse/connections/N/abort";
    host.run_with(abort, &[("/N/", &format!("/{}/", number.trim()))]);
    eventually("it has gone by itself", || {
        let mounts = host.sh("cat /proc/mounts");
        (!mounts.contains(" /run/listindex ")).then_some(())
    });
    dead(host, seen, Some(32));
}

/// Nothing is served any more, and umount(8) has this to say to it.
fn dead(host: &mut Newcomer, seen: &[String], umounted: Option<i32>) {
    for command in of("## When the daemon dies") {
        let (said, code) = host.run_for_code(command);
        let expected = match command.starts_with("umount ") {
            true => umounted,
            false => Some(0),
        };
        assert_eq!(code, expected, "{command}: {said}");
    }
    assert_eq!(host.sees(USER), seen, "after the daemon's death");
}

/// From the line in fstab to the unit, and back.
fn by_the_unit(host: &mut Newcomer, seen: &[String]) {
    host.sh("systemctl stop dovecot && umount /run/listindex");
    host.sh("cp /etc/fstab /root/fstab && sed -i /fuse.listindexfs/d /etc/fstab");
    for command in of("## With systemd") {
        host.run(command);
        if command.ends_with("/etc/listindexfs/main.conf") {
            host.sh("sed -i s/,migrate/,migrate,index_fs=any/ /etc/listindexfs/main.conf");
        }
    }
    host.sh("systemctl start dovecot");
    assert_eq!(host.sees(USER), seen, "by the unit");
    host.run("systemd-analyze security listindexfs@main");
    host.run("systemctl reload listindexfs@main");
    assert_eq!(host.sees(USER), seen, "after a reload");
    host.run("systemctl restart listindexfs@main");
    // Dovecot is restarted with it, but systemctl waits for the one it was asked for.
    host.sh("until systemctl is-active dovecot; do sleep 0.1; done");
    assert_eq!(host.sees(USER), seen, "after a restart");
    host.run("systemctl stop listindexfs@main");
    let undo = "systemctl disable --now listindexfs@main && cp /root/fstab /etc/fstab && rm -r /etc/listindexfs \
                /etc/systemd/system/listindexfs@.service* /etc/systemd/system/dovecot.service.d/listindexfs.conf";
    host.sh(undo);
    host.sh("systemctl daemon-reload && umount /run/listindex && mount /run/listindex && systemctl start dovecot");
    assert_eq!(host.sees(USER), seen, "by fstab again");
}

fn drained(host: &mut Newcomer, seen: &[String]) {
    for command in of("## Taking a host out of service") {
        host.run(command);
    }
    assert_eq!(host.sh("find /run/listindex -name dovecot.list.index*"), "");
    assert_eq!(host.sees(USER), seen, "made anew");
}

fn back_to_stock(host: &mut Newcomer, seen: &[String]) {
    let log = "ls -i /nfs/idx/d0/testuser/dovecot.list.index.log";
    for command in of("## Going back to stock Dovecot") {
        host.run(command);
        match command {
            "systemctl stop dovecot" => {
                host.tell_dovecot(&stock());
                host.sh("sed -i /fuse.listindexfs/d /etc/fstab");
            }
            "systemctl start dovecot" => {
                let given_back = host.sh(log);
                assert_eq!(host.sees(USER), seen, "on stock Dovecot");
                assert_eq!(host.sh(log), given_back, "the list index was made anew");
            }
            "umount /run/listindex" => eventually("the daemon has ended", || {
                let left = host.guest.try_run(&["pgrep", "-x", "listindexfs"]);
                left.is_none().then_some(())
            }),
            "umount /var/lib/listindexfs" => drop(host.sh("sed -i /listindexfs/d /etc/fstab")),
            _ => {}
        }
    }
    let left = "find /etc /usr /var /run -xdev -name '*listindex*'";
    assert_eq!(host.sh(left), "", "left of it");
    let daemons = host.guest.try_run(&["pgrep", "-x", "listindexfs"]);
    assert_eq!(daemons, None, "mounted again");
    assert_eq!(host.sees(USER), seen, "as before it came");
}
