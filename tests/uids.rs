//! Mail users with uids of their own: they share hash buckets and name levels, and nothing else.
mod support;

use std::path::{Path, PathBuf};

use support::dovecot::{as_user, hashed};
use support::lab::dir_of;
use support::mount::Options;
use support::process::{output, said};
use support::rounds::Rounds;
use support::site::{LOG, open_log_as};
use support::{Config, DOVECOT, FUSE, LIMIT, Lab, ROOT, Site, UID, Users, finish, lacks, message};

/// Five users, with uids of their own, and gids of their own or one for all.
fn five(names: impl Iterator<Item = String>, one_gid: bool) -> Vec<(String, u32, u32)> {
    (1..=5)
        .zip(names)
        .map(|(n, name)| (name, UID + n, if one_gid { UID } else { UID + n }))
        .collect()
}

/// Names that all hash into one bucket.
fn one_bucket() -> impl Iterator<Item = String> {
    (0..)
        .map(|n| format!("user{n}"))
        .filter(|name| hashed("".as_ref(), name).starts_with("5a"))
}

/// Five users on two hosts: all move about, all are right, and nobody reads another's.
fn all_work(
    users: &[(String, u32, u32)],
    layout: &str,
    mail_mode: u32,
    dir: impl Fn(&Site, &str) -> PathBuf,
) {
    let lab = Lab::new();
    for (name, uid, gid) in users {
        dir_of(&lab.mail().join(name), *uid, *gid, mail_mode);
    }
    for root in [lab.mail(), lab.index()] {
        dir_of(&root, 0, 0, 0o1777);
    }
    let index = format!("{}/%u", lab.index().display());
    let sites = ["a", "b"].map(|host| {
        let options = Options::new(&lab, host)
            .layout(layout)
            .index(&index)
            .migrate();
        let config = Config::new(&lab, host)
            .users(Users::Each(users.to_vec()))
            .index_at(&index);
        Site::with_layout(options, config, layout)
    });
    let hosts = sites.each_ref().map(|site| &site.dovecot);
    for (name, ..) in users {
        let mut model = Rounds::new(&hosts, name)
            .tidy()
            .run(6)
            .unwrap_or_else(|stale| panic!("{name}: {}", stale.story));
        hosts[0].deliver_lmtp(name, &message("to one of five"));
        model.delivered("INBOX");
        for site in &sites {
            let mut imap = site.login(name);
            model.assert_matches(&imap.list_status(), name);
            assert!(
                dir(site, name).join(LOG).exists(),
                "{name} has no list index in the mount"
            );
            imap.logout();
            site.wait_no_sessions();
            if mail_mode & 0o070 == 0 {
                only_the_owner_reads(users, name, &dir(site, name));
            }
        }
    }
    finish(sites.map(|site| site.dovecot));
}

/// On the host that has the user now, as elsewhere there is nothing to read.
fn only_the_owner_reads(users: &[(String, u32, u32)], owner: &str, dir: &Path) {
    for (name, uid, gid) in users {
        let read = open_log_as(dir, *uid, *gid).expect("the open hangs");
        assert_eq!(
            read.status.success(),
            name == owner,
            "{name} opens {owner}'s log: {}",
            said(&read)
        );
        if name != owner {
            for (program, flag) in [("ls", "-a"), ("rm", "-rf")] {
                let done =
                    output(as_user(*uid, *gid, program).arg(flag).arg(dir), LIMIT).expect("a hang");
                assert!(
                    !done.status.success(),
                    "{name} does {program} in {owner}'s directory"
                );
            }
            assert!(dir.exists(), "{name} has removed {owner}'s directory");
        }
    }
}

fn hashed_dir(site: &Site, name: &str) -> PathBuf {
    site.dir_of(name)
}

fn named_dir(site: &Site, name: &str) -> PathBuf {
    let (local, domain) = name.split_once('@').expect("a name with a domain");
    site.mount.path().join(domain).join(local)
}

/// The daemon sets modes with its own rights, and takes the bit away where it lacks CAP_FSETID.
#[test]
fn a_directory_keeps_the_bit_of_its_group() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").layout("%u").mount();
    let script =
        "mkdir \"$1\" && chmod 2770 \"$1\" && mkdir \"$1/below\" && stat -c %a \"$1\" \"$1/below\"";
    let mut command = as_user(UID, UID, "sh");
    command
        .args(["-c", script, "sh"])
        .arg(mount.path().join("alice"));
    let said = output(&mut command, LIMIT).expect("a hang");
    assert_eq!(
        said.stdout,
        b"2770\n2755\n",
        "{}",
        support::process::said(&said)
    );
}

/// A domain's directory is open to all its users, in whatever way it comes to be.
#[test]
fn nobody_shuts_out_a_domain() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Options::new(&lab, "a").layout("%d/%n").mount();
    let sh = |uid: u32, script: &str| {
        let mut command = as_user(uid, uid, "sh");
        let command = command.args(["-c", script]).current_dir(mount.path());
        output(command, LIMIT).expect("a hang")
    };
    let begin = sh(
        UID,
        "mkdir -p a.org/eve/d && chmod 700 a.org/eve/d && touch a.org/eve/f",
    );
    assert!(begin.status.success(), "{}", said(&begin));
    let attempts = [
        "mv -T a.org/eve/d b.org",
        "mv -T a.org/eve/f b.org",
        "ln a.org/eve/f b.org",
        ">b.org",
    ];
    for attempt in attempts {
        let done = sh(UID, attempt);
        assert!(!done.status.success(), "{attempt}");
    }
    let shut_out = "mkdir -m 700 b.org && mkdir b.org/eve";
    for (uid, script) in [(UID, shut_out), (UID + 1, "mkdir b.org/bob")] {
        let done = sh(uid, script);
        assert!(done.status.success(), "{script}: {}", said(&done));
    }
}

#[test]
fn five_uids_in_one_bucket() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    all_work(&five(one_bucket(), false), "%2.256Nu/%u", 0o700, hashed_dir);
}

#[test]
fn five_uids_in_one_bucket_with_group_shared_mail() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    all_work(&five(one_bucket(), true), "%2.256Nu/%u", 0o2770, hashed_dir);
}

#[test]
fn five_uids_below_one_domain() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let names = (0..5).map(|n| format!("user{n}@example.invalid"));
    all_work(&five(names, false), "%d/%n", 0o700, named_dir);
}

#[test]
fn five_uids_below_one_domain_with_group_shared_mail() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let names = (0..5).map(|n| format!("user{n}@example.invalid"));
    all_work(&five(names, true), "%d/%n", 0o2770, named_dir);
}
