//! Everything else that mail does around a list index, through the mount: deliveries, IDLE and NOTIFY, a log
//! that is rotated, and each way Dovecot can be told to lock and to map files.
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use support::config::HASHED;
use support::dovecot::hashed;
use support::model::Op;
use support::mount::Options;
use support::rounds::Rounds;
use support::site::{LOG, list_index};
use support::{
    Config, DOVECOT, Dovecot, FUSE, Format, GID, Lab, Model, Mount, ROOT, Site, UID, finish, lacks,
    message,
};

#[test]
fn deliveries_and_watchers_see_each_other() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    // lda and lmtp file into a folder that is in the list index too, not only into INBOX.
    let site = Site::with(
        Options::new(&lab, "a"),
        Config::new(&lab, "a").include_inbox(true),
    );
    site.settle("alice");
    let mut model = Model::new();
    let mut idle = site.login("alice");
    model.assert_matches(&idle.list_status(), "at first");
    idle.select("INBOX");
    idle.idle_start();
    let mut notified = site.login("alice");
    notified.notify("(personal (MessageNew MessageExpunge MailboxName))");

    site.dovecot.deliver_lmtp("alice", &message("by lmtp"));
    idle.wait_line("1 EXISTS");
    notified.wait_line("STATUS INBOX (MESSAGES 1");
    site.dovecot.deliver_lda("alice", &message("by lda"));
    idle.wait_line("2 EXISTS");
    notified.wait_line("STATUS INBOX (MESSAGES 2");
    (0..2).for_each(|_| model.delivered("INBOX"));

    let mut other = site.login("alice");
    model.apply(&Op::Create("box".to_owned()), &mut other);
    assert!(notified.wait_line("box").starts_with("* LIST"));
    model.apply(&Op::Append("box".to_owned(), false), &mut other);
    notified.wait_line("STATUS box (MESSAGES 1");
    model.apply(&Op::Expunge("INBOX".to_owned(), 1), &mut other);
    idle.wait_line("EXPUNGE");
    // No RENAME: a watcher of stock 2.3.19 then takes its list index for corrupted, on any filesystem.
    model.apply(&Op::Delete("box".to_owned()), &mut other);
    assert!(notified.wait_line("box").contains("NonExistent"));
    idle.idle_stop();
    for imap in [&mut idle, &mut other] {
        model.assert_matches(&imap.list_status(), "in a session that saw it happen");
    }
    let mut new = site.login("alice");
    model.assert_matches(&new.list_status(), "in a new session");
    for imap in [idle, notified, other, new] {
        imap.logout();
    }
    finish([site.dovecot]);
}

/// A log above 64 KiB is rotated: a new one is made, the old one linked to `.log.2`, the new one renamed over it.
#[test]
fn the_log_is_rotated_under_open_sessions() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::new(&lab, "a");
    site.settle("alice");
    let mut model = Model::new();
    let mut other = site.login("alice");
    model.assert_matches(&other.list_status(), "at first");
    let mut imap = site.login("alice");
    model.apply(&Op::Create("box".to_owned()), &mut imap);
    let old = site.backing_of("alice").join("dovecot.list.index.log.2");
    let mut rotated = 0;
    let mut last = None;
    for n in 0..20_000 {
        model.apply(&Op::Append("box".to_owned(), n % 2 == 0), &mut imap);
        if n % 50 == 0 {
            model.assert_matches(&other.list_status(), "in the other session");
        }
        let inode = fs::metadata(&old).ok().map(|file| file.ino());
        if inode.is_some() && inode != last {
            rotated += 1;
            last = inode;
        }
        if rotated == 2 {
            break;
        }
    }
    assert_eq!(
        rotated,
        2,
        "the log was not rotated: {:?}",
        list_index(&site.backing_of("alice")).keys()
    );
    for imap in [&mut imap, &mut other, &mut site.login("alice")] {
        model.assert_matches(&imap.list_status(), "after two rotations");
    }
    assert!(site.is_served("alice"));
    imap.logout();
    other.logout();
    finish([site.dovecot]);
}

/// A compact run of each way to lock and to map, in each format, all through one mount.
#[test]
fn every_lock_method_with_and_without_mmap_in_every_format() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mount = Mount::new(&lab, "a");
    let mut all = Vec::new();
    for lock in ["fcntl", "flock", "dotlock"] {
        for mmap in [false, true] {
            for format in Format::ALL {
                let name = format!("{lock}-{mmap}-{format:?}").to_lowercase();
                let config = Config::new(&lab, &name)
                    .format(format)
                    .mmap(mmap)
                    .lock_method(lock);
                let dovecot = config.listindex(mount.path()).start();
                smoke(&dovecot, &name);
                assert!(
                    hashed(mount.backing(), &name).join(LOG).exists(),
                    "{name} has no list index in the mount"
                );
                all.push(dovecot);
            }
        }
    }
    finish(all);
}

fn smoke(dovecot: &Dovecot, user: &str) {
    let mut model = match Rounds::new(&[dovecot], user).tidy().run(3) {
        Ok(model) => model,
        Err(stale) => panic!("{user}: {}", stale.story),
    };
    dovecot.deliver_lmtp(user, &message("smoke"));
    model.delivered("INBOX");
    let mut first = dovecot.login(user);
    let mut second = dovecot.login(user);
    for n in 0..3 {
        model.apply(&Op::Create(format!("smoke{n}")), &mut first);
        model.assert_matches(
            &second.list_status(),
            &format!("{user}: in a second session at once"),
        );
        model.apply(&Op::Append(format!("smoke{n}"), false), &mut second);
        model.assert_matches(
            &first.list_status(),
            &format!("{user}: in the first session at once"),
        );
    }
    first.logout();
    second.logout();
}

/// VOLATILEDIR may be the same user directory: what is in it is neither fetched nor dropped.
#[test]
fn volatiledir_in_the_same_directory_is_left_alone() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let sites = ["a", "b"].map(|host| {
        let options = Options::new(&lab, host).migrate();
        let volatile = format!("{}/{HASHED}", lab.host(host).join("listindex").display());
        Site::with(options, Config::new(&lab, host).volatile_at(&volatile))
    });
    let hosts = sites.each_ref().map(|site| &site.dovecot);
    let mut model = Model::new();
    let mut imap = sites[0].login("alice");
    model.apply(&Op::Create("box".to_owned()), &mut imap);
    imap.logout();
    for site in &sites {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "at first");
        imap.logout();
        site.wait_no_sessions();
        let file = site.dir_of("alice").join("dovecot-volatile");
        fs::write(&file, "kept").expect("a file in VOLATILEDIR");
        std::os::unix::fs::chown(&file, Some(UID), Some(GID)).expect("chown");
    }
    let index = hashed(&lab.index(), "alice");
    fs::write(index.join("dovecot-foreign"), "on NFS").expect("a file in INDEX");
    if let Err(stale) = Rounds::new(&hosts, "alice")
        .starting_with(model)
        .tidy()
        .run(10)
    {
        panic!("{}", stale.story);
    }
    for site in &sites {
        let dir = site.backing_of("alice");
        assert_eq!(
            fs::read(dir.join("dovecot-volatile")).expect("VOLATILEDIR was purged"),
            b"kept"
        );
        assert!(
            !dir.join("dovecot-foreign").exists(),
            "VOLATILEDIR was pulled"
        );
    }
    assert!(
        index.join("dovecot-foreign").exists(),
        "a file that is none of ours was deleted in INDEX"
    );
    assert!(!index.join("dovecot-volatile").exists());
    finish(sites.map(|site| site.dovecot));
}
