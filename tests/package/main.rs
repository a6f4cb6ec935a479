//! The Debian package in a Debian 12 and a Debian 13 that know nothing of us: installed by apt, mounted from fstab and by the
//! unit, upgraded under an open session, purged.
#[path = "../support/mod.rs"]
mod support;

#[path = "../units/guest.rs"]
mod guest;
mod operating;
mod printed;
mod readme;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use guest::{Guest, put};
use support::{DEBIAN, FUSE, ROOT, SYSTEMD, eventually, lacks, process};

const UNIT: &str = "listindexfs@main.service";
const POINT: &str = "/run/listindex";
const FSTAB: &str = "\
tmpfs /var/lib/listindexfs tmpfs size=64m,nr_inodes=16k,mode=0700,noauto 0 0
/var/lib/listindexfs /run/listindex fuse.listindexfs index=/srv/idx/%u,index_fs=any,noauto 0 0
";
const CONF: &str = "\
BACKING='/var/lib/listindexfs'
MOUNTPOINT='/run/listindex'
OPTIONS='index=/srv/idx/%u,index_fs=any'
";

/// The package of what is built, and the same as a later version.
fn packages() -> &'static [PathBuf; 2] {
    static BUILT: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILT.get_or_init(|| {
        [("old", "0.0.1-1"), ("new", "0.0.2-1")].map(|(name, version)| {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.deb"));
            let output = file.to_str().expect("UTF-8");
            let args = ["--profile", "dev", "--version", version, "--output", output];
            script("deb", &args);
            file
        })
    })
}

/// What one of our scripts prints. They may take minutes.
fn script(name: &str, args: &[&str]) -> String {
    let path = format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(path).args(args).output().expect(name);
    assert!(output.status.success(), "{}", process::said(&output));
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// A Debian in which the package is to live.
struct Host(Guest);

impl Host {
    fn boot(suite: &str, dovecot: &str) -> Option<Self> {
        if lacks(&[ROOT, FUSE, SYSTEMD, DEBIAN]) {
            return None;
        }
        let root = script("debian-root", &[suite]);
        let guest = Guest::boot_over(Path::new(&root), |over| {
            put(over, "etc/fstab", FSTAB);
            put(over, "etc/dovecot/dovecot.conf", dovecot);
            let opt = over.join("opt");
            std::fs::create_dir(&opt).expect("mkdir");
            for package in packages() {
                let name = package.file_name().expect("a name");
                std::fs::copy(package, opt.join(name)).expect("a copy");
            }
        });
        let made = "mkdir -p /srv/mail /srv/idx && chmod 1777 /srv/mail /srv/idx";
        guest.run(&["sh", "-c", made]);
        Some(Self(guest))
    }

    fn sh(&self, script: &str) -> String {
        self.0.run(&["sh", "-c", script])
    }

    fn apt(&self, args: &str) -> Option<String> {
        let line = format!("DEBIAN_FRONTEND=noninteractive apt-get -qy {args} 2>&1");
        self.0.try_run(&["sh", "-c", &line])
    }

    /// Every file but those of dpkg, apt, logs, and what Dovecot makes.
    fn files(&self) -> BTreeSet<String> {
        let find = "find / -xdev \\( -path /srv -o -path /opt -o -path /tmp -o -path /var/log -o -path /var/cache \
                    -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/dovecot -o -path /var/lib/systemd \
                    -o -path /root -o -path /etc \\) -prune -o -print; find /etc -name '*listindex*'; ls -d /run/listindex 2>/dev/null; true";
        self.sh(find).lines().map(str::to_owned).collect()
    }

    /// A session is served through the mount. The first ever makes INDEX.
    fn serves(&self) {
        for _ in 0..2 {
            let mut imap = self.0.imap();
            imap.ok("LIST \"\" \"*\" RETURN (STATUS (MESSAGES))");
            imap.ok("LOGOUT");
            drop(imap);
            eventually("its process has ended", || {
                let left = self.0.try_run(&["pgrep", "-x", "imap"]);
                left.is_none().then_some(())
            });
        }
        let log = ["find", POINT, "-name", "dovecot.list.index.log"];
        assert_eq!(self.0.run(&log).lines().count(), 1);
    }

    fn is_mounted(&self) -> bool {
        let mounts = self.sh("cat /proc/mounts");
        mounts.contains(" fuse.listindexfs ")
    }

    fn worker(&self) -> String {
        let said = self.0.run(&["listindexctl", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        status["worker"]["pid"].to_string()
    }

    fn installs(&self) {
        let said = self.apt("install /opt/old.deb").expect("installed");
        assert!(!self.is_mounted(), "{said}");
        assert_eq!(self.0.property(UNIT, "ActiveState"), "inactive");
        let man = "/usr/share/man/man8/listindexfs.8.gz /usr/share/man/man8/listindexctl.8.gz";
        let completions = "/usr/share/bash-completion/completions/listindexctl \
                           /usr/share/zsh/vendor-completions/_listindexctl \
                           /usr/share/fish/vendor_completions.d/listindexctl.fish";
        let doc = "/usr/share/doc/listindexfs";
        self.sh(&format!("ls -d {man} {completions} {doc}/examples/fstab.sample {doc}/examples/grafana-dashboard.json {doc}/copyright {doc}/changelog.gz {doc}/changelog.Debian.gz /etc/listindexfs"));
        assert_eq!(self.sh(&format!("stat -c '%a %U' {POINT}")), "755 root\n");
        // What is documented there is there.
        let complete = "source /usr/share/bash-completion/completions/listindexctl; COMP_WORDS=(listindexctl unm); COMP_CWORD=1
                        _listindexctl listindexctl unm listindexctl; echo ${COMPREPLY[@]}";
        assert_eq!(self.0.run(&["bash", "-c", complete]), "unmount\n");
    }

    /// From fstab, as README has it, and upgraded under an open session.
    fn lives_in_fstab(&self) {
        self.sh("mount /var/lib/listindexfs && mount /run/listindex && systemctl start dovecot");
        self.serves();
        let mut imap = self.0.imap();
        imap.ok("SELECT INBOX");
        let worker = self.worker();
        self.apt("install /opt/new.deb").expect("upgraded");
        assert_ne!(self.worker(), worker, "not upgraded");
        imap.ok("STATUS INBOX (MESSAGES)");
        imap.ok("LIST \"\" \"*\" RETURN (STATUS (MESSAGES))");

        // A mount in use keeps its programs.
        assert_eq!(self.apt("purge listindexfs"), None);
        imap.ok("LIST \"\" \"*\" RETURN (STATUS (MESSAGES))");
        imap.ok("LOGOUT");
        self.sh("systemctl stop dovecot && umount /run/listindex");
        self.unmount_backing();
    }

    /// The unit as it is installed, on this Debian's systemd.
    fn lives_in_a_unit(&self) {
        let conf = format!("cat >/etc/listindexfs/main.conf <<'END'\n{CONF}END");
        self.sh(&format!(
            "{conf}\nmount /var/lib/listindexfs && systemctl start {UNIT} dovecot"
        ));
        self.serves();
        let namespaces = format!(
            "readlink /proc/1/ns/mnt /proc/{}/ns/mnt | uniq | wc -l",
            self.0.main_pid(UNIT)
        );
        assert_eq!(self.sh(&namespaces), "1\n");
        let said = self
            .0
            .run(&["systemd-analyze", "security", "--no-pager", UNIT]);
        eprintln!("{}", said.lines().last().unwrap_or_default());
        self.sh(&format!("systemctl stop dovecot {UNIT}"));
        self.unmount_backing();
    }

    /// umount(8) returns before the daemon has ended.
    fn unmount_backing(&self) {
        eventually("nobody uses the backing", || {
            self.0.try_run(&["umount", "/var/lib/listindexfs"])
        });
    }

    fn panics(&self) -> bool {
        self.0.journal().contains("Panic:")
    }
}

fn lives(suite: &str, dovecot: &str) {
    let Some(host) = Host::boot(suite, dovecot) else {
        return;
    };
    let before = host.files();
    host.installs();
    host.lives_in_fstab();
    host.lives_in_a_unit();
    assert!(!host.panics(), "{}", host.0.journal());
    host.apt("purge listindexfs").expect("purged");
    let after = host.files();
    let left: Vec<_> = after.difference(&before).collect();
    assert_eq!(left, Vec::<&String>::new(), "left by the package");
    let gone: Vec<_> = before.difference(&after).collect();
    assert_eq!(gone, Vec::<&String>::new(), "taken by the package");
}

#[test]
fn on_debian_12_with_dovecot_2_3() {
    lives("bookworm", include_str!("../units/dovecot.conf"));
}

#[test]
fn on_debian_13_with_dovecot_2_4() {
    lives("trixie", include_str!("dovecot-2.4.conf"));
}
