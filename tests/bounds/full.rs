//! The tmpfs is full though the bounds are kept, for somebody else has filled it: idle users go at once, and no call fails.
use crate::plain::{how_many, users};
use crate::support::model::Op;
use crate::support::mount::Options;
use crate::support::tiny::Tiny;
use crate::support::{Config, DOVECOT, FUSE, Lab, Model, ROOT, Site, eventually, lacks};

#[test]
fn idle_users_make_room_for_who_writes() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let tiny = Tiny::mount(&lab.ram("backing-a"), "4m", 2000);
    let options = Options::new(&lab, "a").option("max_bytes=100%");
    let site = Site::with(options, Config::new(&lab, "a"));
    let mut model = Model::new();
    site.settle("alice");
    let idle = users(&lab, &site.mount, 0..100);
    idle.iter()
        .for_each(|user| user.session().expect("a session"));
    tiny.fill();
    let mut imap = site.login("alice");
    for n in 0..20 {
        model.apply(&Op::Create(format!("box{n}")), &mut imap);
        model.apply(&Op::Append(format!("box{n}"), n % 2 == 0), &mut imap);
    }
    model.assert_matches(&imap.list_status(), "while it is full");
    assert!(site.is_served("alice"), "she has her list index");
    imap.logout();
    site.wait_no_sessions();
    let left = how_many(&idle);
    assert!((1..100).contains(&left), "{left} of 100 are left");
    // Until nobody who is idle is left.
    let many = users(&lab, &site.mount, 100..400);
    for user in &many {
        user.session()
            .unwrap_or_else(|e| panic!("{:?}: {e}", user.dir));
    }
    let log = site.mount.log();
    assert!(log.contains("the backing is full: "), "{log}");
    assert!(!log.contains("not written"), "{log}");

    tiny.make_room();
    eventually("her list index is in use", || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "with room");
        let served = site.is_served("alice");
        imap.logout();
        site.wait_no_sessions();
        served.then_some(())
    });
}

/// Files and names take inodes, of which a tmpfs has a number as well.
#[test]
fn idle_users_give_their_inodes() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let _tiny = Tiny::mount(&lab.ram("backing-a"), "16m", 1000);
    let site = Site::new(&lab, "a");
    let many = users(&lab, &site.mount, 0..160);
    for user in &many {
        user.session()
            .unwrap_or_else(|e| panic!("{:?}: {e}", user.dir));
    }
    let mut model = Model::new();
    let mut imap = site.login("alice");
    model.apply(&Op::Create("box".to_owned()), &mut imap);
    model.assert_matches(&imap.list_status(), "without inodes to spare");
    imap.logout();
    site.wait_no_sessions();
    let log = site.mount.log();
    assert!(!log.contains("not written"), "{log}");
}

/// The options of a file system.
fn options_of(tiny: &Tiny) -> String {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let at = format!(" {} ", tiny.path().display());
    let there = table.lines().find(|line| line.contains(&at));
    let options = there.expect("the tmpfs").rsplit_once(' ').expect("options");
    // A kernel that has inode32 by default does not show it.
    options.1.replace(",inode32", "")
}

/// Node ids have room for numbers below 2³², and one that makes a thousand files a second has passed them in fifty days.
#[test]
fn inode_numbers_stay_small() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let tiny = Tiny::mount(&lab.ram("backing-a"), "4m", 2000);
    let before = options_of(&tiny);
    assert!(before.contains(",inode64"), "{before}");
    let mount = Options::new(&lab, "a").mount();
    let (now, log) = (options_of(&tiny), mount.log());
    assert_eq!(now, before.replace(",inode64", ""), "{log}");
    assert_eq!(log.matches("has inode32 now").count(), 1, "{log}");
}

/// What of a tmpfs is mounted on the backing is not the backing's own: others make files in it too.
#[test]
fn a_tmpfs_of_others_keeps_its_numbers() {
    if lacks(&[ROOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let others = Tiny::mount(&lab.ram("others"), "4m", 2000);
    let part = others.path().join("part");
    std::fs::create_dir(&part).expect("a directory");
    let part = Tiny::bind(&part, &lab.ram("backing-a"));
    let before = options_of(&part);
    let mount = Options::new(&lab, "a").mount();
    assert_eq!(options_of(&part), before, "{}", mount.log());
}
