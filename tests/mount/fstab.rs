//! Through mount(8), mount.fuse(8) and an fstab.
//!
//! mount.fuse runs the program by its name with sh's own path. So each test has a mount namespace
//! in which `/usr/local/sbin` holds nothing but it; the host sees neither that nor the mount.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{Finished, INDEX, Namespace, PATIENCE, PROGRAM, Rig, finish, skip, wait_until};

struct Host {
    rig: Rig,
    namespace: Namespace,
    fstab: PathBuf,
}

impl Host {
    fn new() -> Option<Self> {
        let rig = Rig::new()?;
        let missing = |path: &&str| !Path::new(path).exists();
        let needed = ["/sbin/mount.fuse", "/usr/local/sbin", "/usr/bin/nsenter"];
        if let Some(path) = needed.iter().find(|path| missing(path)) {
            return skip(&format!("there is no {path}"));
        }
        let programs = rig.path("sbin");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(PROGRAM, programs.join("listindexfs")).unwrap();
        let setup = "mount --bind \"$1\" /usr/local/sbin";
        let namespace = Namespace::new(setup, &[&programs]);
        let fstab = rig.path("fstab");
        Some(Self {
            rig,
            namespace,
            fstab,
        })
    }

    /// Writes the fstab, with these options.
    fn fstab(&self, options: &str) {
        let (backing, mountpoint) = (self.rig.backing.display(), self.rig.mountpoint.display());
        let line = format!("{backing}  {mountpoint}  fuse.listindexfs  {options}  0 0\n");
        fs::write(&self.fstab, line).unwrap();
    }

    fn mount(&self, args: &[&str]) -> Finished {
        finish(self.namespace.command("mount").args(args))
    }

    /// `mount MOUNTPOINT` with our fstab for the system's.
    fn mount_by_fstab(&self, args: &[&str]) -> Finished {
        let mut command = self.namespace.command("mount");
        command
            .arg("--fstab")
            .arg(&self.fstab)
            .args(args)
            .arg(&self.rig.mountpoint);
        finish(&mut command)
    }

    fn umount(&self) {
        let done = finish(self.namespace.command("umount").arg(&self.rig.mountpoint));
        assert_eq!(done.code, Some(0), "{}", done.said);
    }

    fn line(&self) -> Option<String> {
        self.namespace.mounts_line(&self.rig.mountpoint)
    }

    fn is_mounted(&self) -> bool {
        self.line()
            .is_some_and(|line| line.contains(" fuse.listindexfs "))
    }
}

#[track_caller]
fn succeeded(done: &Finished) {
    assert_eq!((done.code, done.said.as_str()), (Some(0), ""));
}

#[test]
fn a_line_of_fstab_mounts_and_umount_ends_it() {
    let Some(host) = Host::new() else { return };
    host.fstab(&format!(
        "{INDEX},rw,noatime,migrate,user,nofail,noauto,_netdev,comment=mail,\
         x-systemd.requires-mounts-for=/nfs,prefix=dovecot.list.index,prefix=shared.list.index"
    ));
    succeeded(&host.mount_by_fstab(&[]));
    let line = host.line().unwrap();
    assert!(
        line.starts_with(host.rig.backing.to_str().unwrap()),
        "{line}"
    );
    assert!(host.is_mounted(), "{line}");
    assert_eq!(
        host.rig.mounts_line(),
        None,
        "seen outside of its namespace"
    );

    let daemon = host.rig.daemon();
    let cmdline = fs::read_to_string(daemon.proc("cmdline")).unwrap();
    assert!(
        cmdline.contains("prefix=dovecot.list.index,prefix=shared.list.index"),
        "{cmdline}"
    );
    host.umount();
    daemon.wait_for_end();
    assert!(host.rig.is_unlocked());
    succeeded(&host.mount_by_fstab(&[]));
}

#[test]
fn mount_all_leaves_alone_what_stands() {
    let Some(host) = Host::new() else { return };
    host.fstab(INDEX);
    let fstab = host.fstab.to_str().unwrap();
    succeeded(&host.mount(&["--fstab", fstab, "--all"]));
    let daemon = host.rig.daemon();
    succeeded(&host.mount(&["--fstab", fstab, "--all"]));
    assert_eq!(host.rig.daemon(), daemon);
    host.umount();
    daemon.wait_for_end();
    assert_eq!(host.line(), None, "mounted twice");
}

#[test]
fn mount_by_hand_takes_type_and_options() {
    let Some(host) = Host::new() else { return };
    let (backing, mountpoint) = (host.rig.backing.clone(), host.rig.mountpoint.clone());
    let (backing, mountpoint) = (backing.to_str().unwrap(), mountpoint.to_str().unwrap());
    let options = format!("{INDEX},layout=%u");
    succeeded(&host.mount(&[
        "-t",
        "fuse.listindexfs",
        backing,
        mountpoint,
        "-o",
        &options,
    ]));
    assert!(host.is_mounted());
}

#[test]
fn blanks_and_commas_of_a_template_arrive() {
    let Some(host) = Host::new() else { return };
    host.fstab(r"index=/nfs/a\,b/%{user\040|\040domain}/%{user},layout=%{user},ro");
    succeeded(&host.mount_by_fstab(&[]));
    let cmdline = fs::read_to_string(host.rig.daemon().proc("cmdline")).unwrap();
    assert!(
        cmdline.contains(r"index=/nfs/a\,b/%{user | domain}/%{user},layout=%{user}"),
        "{cmdline}"
    );
}

#[test]
fn what_fails_comes_through_mount() {
    let Some(host) = Host::new() else { return };
    host.fstab("idnex=/nfs/%u");
    let done = host.mount_by_fstab(&[]);
    assert_eq!(done.code, Some(1), "{}", done.said);
    assert_eq!(
        done.said,
        "listindexfs: unknown option `idnex`: did you mean `index`?\n"
    );
    host.fstab(INDEX);
    fs::write(host.rig.mountpoint.join("file"), "").unwrap();
    let done = host.mount_by_fstab(&[]);
    assert_eq!(done.code, Some(32), "{}", done.said);
    assert!(done.said.contains("is not empty"), "{}", done.said);
    assert!(!host.is_mounted());
}

#[test]
fn a_remount_is_refused_and_changes_nothing() {
    let Some(host) = Host::new() else { return };
    host.fstab(INDEX);
    succeeded(&host.mount_by_fstab(&[]));
    let done = host.mount_by_fstab(&["-o", "remount,ro"]);
    assert_eq!(done.code, Some(1), "{}", done.said);
    assert!(
        done.said.contains("unmount it and mount it again"),
        "{}",
        done.said
    );
    assert!(host.line().unwrap().contains(" rw,"));
}

/// Syslog of the namespace is a socket of the test: over `/dev/log` where there is one, else where
/// other syslogs have theirs.
#[test]
fn the_background_logs_to_syslog() {
    let Some(rig) = Rig::new() else { return };
    let directory = rig.path("syslog");
    fs::create_dir(&directory).unwrap();
    let socket = UnixDatagram::bind(directory.join("log")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let setup = "if [ -e /dev/log ]; then mount --bind \"$1/log\" \"$(readlink -f /dev/log)\"
                 else mount --bind \"$1\" \"$(readlink -f /var/run)\"; fi";
    let namespace = Namespace::new(setup, &[&directory]);
    let run = |program: &str, args: &[&Path], options: &[&str]| {
        let mut command: Command = namespace.command(program);
        succeeded(&finish(command.args(args).args(options)));
    };
    run(PROGRAM, &[&rig.backing, &rig.mountpoint], &["-o", INDEX]);
    let daemon = rig.daemon();
    let mut heard = String::new();
    let mut hear = |what: &str| {
        wait_until(what, || {
            let mut line = [0; 1024];
            let length = socket.recv(&mut line).unwrap();
            heard = String::from_utf8_lossy(&line[..length]).into_owned();
            heard.contains(what)
        });
        heard.clone()
    };
    let line = hear(&format!("mounted {} on", rig.backing.display()));
    // daemon.info, then who says it.
    assert!(line.starts_with("<30>"), "{line}");
    let who = format!("listindexfs[{}]: ", daemon.0.as_raw_nonzero());
    assert!(line.contains(&who), "{line}");
    run("umount", &[&rig.mountpoint], &[]);
    hear(&format!("unmounted {}", rig.mountpoint.display()));
    daemon.wait_for_end();
}
