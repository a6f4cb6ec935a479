//! Users whose INDEX userdb tells: each one's own is used, auth is asked once for each and on one connection, and whatever is
//! wrong with it mail goes on, is right, and our log tells it in one line.
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use support::dovecot24;
use support::lab::mail_dir;
use support::model::Op;
use support::mount::Options;
use support::process;
use support::site::{LOG, list_index, open_log_as};
use support::{Config, DOVECOT, FUSE, GID, Lab, Model, ROOT, Site, UID, Users, eventually, lacks};

/// `listindexfs … -o index=INDEX`, asking the Dovecot of the host `of`.
fn options(lab: &Lab, host: &str, index: &str, of: &str) -> Options {
    let socket = lab.host(of).join("run/auth-userdb");
    Options::new(lab, host)
        .index(index)
        .option(&format!("userdb={}", socket.display()))
}

/// A Dovecot whose passwd-file gives these users these homes, each with INDEX in it.
fn dovecot(lab: &Lab, host: &str, homes: &[(&str, PathBuf)]) -> Config {
    let lines = homes.iter().map(|(user, home)| line(user, home));
    Config::new(lab, host)
        .users(Users::Passwd(lines.collect()))
        .index_at("%h/idx")
        .set("auth_debug", "yes")
}

fn line(user: &str, home: &Path) -> String {
    format!("{user}::{UID}:{GID}::{}", home.display())
}

/// A site as `index=%h/idx` has it, where each user has such a home.
fn site(lab: &Lab, homes: &[(&str, PathBuf)]) -> Site {
    Site::with(options(lab, "a", "%h/idx", "a"), dovecot(lab, "a", homes))
}

/// Where .lasthost is, anywhere below.
fn claims(below: &Path) -> BTreeSet<PathBuf> {
    let said = process::run(Command::new("find").arg(below).args(["-name", ".lasthost"]));
    let dir = |file: &str| Path::new(file).parent().map(Path::to_owned);
    said.lines().filter_map(dir).collect()
}

/// The lines of our log with these words.
fn lines(site: &Site, words: &str) -> Vec<String> {
    let log = site.mount.log();
    let found = log.lines().filter(|line| line.contains(words));
    found.map(str::to_owned).collect()
}

/// A session that changes something; then one that is right and served, or refused.
fn session(site: &Site, user: &str, model: &mut Model, served: bool) {
    let mut imap = site.login(user);
    model.assert_matches(&imap.list_status(), &format!("{user} at login"));
    assert_eq!(
        site.is_served(user),
        served,
        "{user}:\n{}",
        site.mount.log()
    );
    model.apply(&Op::Append("INBOX".to_owned(), false), &mut imap);
    model.assert_matches(&imap.list_status(), &format!("{user} after a change"));
    imap.logout();
    site.wait_no_sessions();
}

/// Sessions until one is served.
fn served(site: &Site, user: &str, model: &mut Model) {
    eventually(&format!("{user} is served"), || {
        let mut imap = site.login(user);
        model.assert_matches(&imap.list_status(), user);
        let served = site.is_served(user);
        imap.logout();
        site.wait_no_sessions();
        served.then_some(())
    });
}

/// The user's first session, and his model. INDEX is there then.
fn settled(site: &Site, user: &str) -> Model {
    site.settle(user);
    let mut model = Model::new();
    session(site, user, &mut model, true);
    model
}

#[test]
fn each_user_has_the_index_that_is_in_his_home() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let mail = lab.mail();
    // One in a home that is reached through a symbolic link, as Dovecot goes there too.
    mail_dir(&mail.join("real"));
    symlink("real", mail.join("link")).expect("symlink");
    let homes = [
        ("alice", mail.join("a/alice")),
        ("bob", mail.join("far/away/b")),
        ("carol@example.com", mail.join("link/carol")),
    ];
    let site = site(&lab, &homes);
    let mut models = homes.clone().map(|(user, _)| settled(&site, user));
    assert_eq!(site.dovecot.lookups(), 3, "one for each user");
    for ((user, home), model) in homes.iter().zip(&mut models) {
        session(&site, user, model, true);
        let claim = fs::read_to_string(home.join("idx/.lasthost")).expect("a claim");
        assert!(claim.starts_with("a\n"), "{claim}");
        assert!(
            list_index(&home.join("idx")).is_empty(),
            "it is in the mount"
        );
        assert!(!list_index(&site.backing_of(user)).is_empty());
    }
    // With root's rights nobody goes through a link that a user might have made.
    let dir = site.dir_of("carol@example.com");
    let said = process::said(&open_log_as(&dir, 0, 0).expect("no hang"));
    assert!(said.contains("Input/output error"), "{said}");
    let line = "carol@example.com: list index refused: ";
    assert_eq!(lines(&site, line).len(), 1);
    assert_eq!(lines(&site, "is or leads through a symbolic link").len(), 1);
    session(&site, homes[2].0, &mut models[2], true);
    let dirs = homes.map(|(_, home)| fs::canonicalize(home.join("idx")).expect("INDEX"));
    assert_eq!(claims(&mail), dirs.into());
    assert_eq!(
        site.dovecot.lookups(),
        3,
        "and none more for later sessions"
    );
    site.dovecot.finish();
}

/// What userdb gives for mail in `~/sdbox` with this INDEX, in the words of the Dovecot that is used.
fn mail(index: Option<&str>) -> Vec<(&'static str, String)> {
    match (dovecot24::is_used(), index) {
        (false, None) => vec![("mail", "sdbox:~/sdbox".to_owned())],
        (false, Some(index)) => vec![("mail", format!("sdbox:~/sdbox:INDEX={index}"))],
        (true, index) => vec![
            ("mail_driver", "sdbox".to_owned()),
            ("mail_path", "~/sdbox".to_owned()),
            ("mail_index_path", index.unwrap_or("~/sdbox").to_owned()),
        ],
    }
}

/// `index=userdb`: userdb says where the mail is, with and without INDEX, and a stock backend was there before.
#[test]
fn index_is_where_userdb_says_that_the_mail_is() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    for index in [Some("~/idx"), None, Some("@INDEX@/%u")] {
        let lab = Lab::new();
        let (home, indexes) = (lab.mail().join("%u"), lab.index());
        let index = index.map(|text| text.replace("@INDEX@", &indexes.display().to_string()));
        let users = |more: &str| {
            let mut fields = mail(index.as_deref());
            fields.push(("home", home.display().to_string()));
            // Of 2.3's mail_location nothing is left where userdb gives `mail=`.
            let mail = fields.iter_mut().find(|(key, _)| *key == "mail");
            mail.into_iter().for_each(|(_, value)| value.push_str(more));
            Users::Static(fields)
        };
        let stock = Config::new(&lab, "stock").users(users("")).start();
        let mut imap = stock.login("alice");
        let mut model = Model::new();
        model.assert_matches(&imap.list_status(), "stock");
        model.apply(&Op::Create("box".to_owned()), &mut imap);
        imap.logout();
        stock.wait_no_sessions();
        let home = lab.mail().join("alice");
        let dir = match index.as_deref() {
            None => home.join("sdbox"),
            Some("~/idx") => home.join("idx"),
            Some(_) => lab.index().join("alice"),
        };
        assert!(dir.join(LOG).exists(), "{index:?}: a stock list index");

        let options = options(&lab, "a", "userdb", "a").migrate();
        let point = lab.host("a").join("listindex");
        let more = format!(
            ":LISTINDEX={}/%2.256Nu/%u/dovecot.list.index",
            point.display()
        );
        let site = Site::with(options, Config::new(&lab, "a").users(users(&more)));
        session(&site, "alice", &mut model, true);
        assert!(!dir.join(LOG).exists(), "{index:?}: it has moved");
        assert!(dir.join(".lasthost").exists());
        assert_eq!(lines(&site, "list index pulled from INDEX").len(), 1);
        site.dovecot.finish();
    }
}

#[test]
fn a_user_who_moves_is_never_told_what_was() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let homes = [("alice", lab.mail().join("one/alice"))];
    let hosts = ["a", "b"].map(|host| {
        Site::with(
            options(&lab, host, "~/idx", host),
            dovecot(&lab, host, &homes),
        )
    });
    hosts[0].settle("alice");
    let mut model = Model::new();
    for round in 0..12 {
        session(&hosts[round % 2], "alice", &mut model, true);
    }
    assert_eq!(hosts.each_ref().map(|host| host.dovecot.lookups()), [1, 1]);
    let claimed = |host: &Site| lines(host, "alice: claimed for").len();
    assert!(hosts.iter().all(|host| claimed(host) >= 5));
    support::finish(hosts.map(|host| host.dovecot));
}

#[test]
fn whom_userdb_does_not_know_is_refused_and_others_are_not() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let homes = [
        ("alice", lab.mail().join("alice")),
        ("homeless", PathBuf::new()),
    ];
    let site = site(&lab, &homes);
    let mut model = settled(&site, "alice");
    for (user, why) in [
        (
            "nobody",
            "nobody: list index refused: userdb knows no such user",
        ),
        (
            "homeless",
            "homeless: list index refused: userdb gives no home",
        ),
    ] {
        for _ in 0..3 {
            let opened = site.open_log(user).expect("no hang");
            let said = process::said(&opened);
            assert!(said.contains("Input/output error"), "{user}: {said}");
        }
        assert_eq!(lines(&site, why).len(), 1, "{}", site.mount.log());
        session(&site, "alice", &mut model, true);
    }
    assert_eq!(lines(&site, "list index refused").len(), 2);
    site.dovecot.finish();
}

/// Auth is looked for at a socket that is not there, or that nobody answers; everybody is right, out of memory, and one line
/// tells of all. When it is there all are served, and another line tells of that.
#[test]
fn without_auth_all_are_right_and_served_once_it_is_there() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let users = ["alice", "bob", "carol"];
    let homes = users.map(|user| (user, lab.mail().join(user)));
    let socket = lab.host("a").join("elsewhere");
    let options = options(&lab, "a", "%h/idx", "a").option(&format!("userdb={}", socket.display()));
    let site = Site::with(options, dovecot(&lab, "a", &homes));
    let mut models = users.map(|_| Model::new());
    for _ in 0..2 {
        for (user, model) in users.iter().zip(&mut models) {
            session(&site, user, model, false);
        }
    }
    assert_eq!(lines(&site, "refused").len(), 1, "{}", site.mount.log());
    assert_eq!(lines(&site, "cannot connect to userdb").len(), 1);
    assert_eq!(claims(&lab.mail()).len(), 0);

    symlink(site.dovecot.auth_userdb(), &socket).expect("symlink");
    for (user, model) in users.iter().zip(&mut models) {
        served(&site, user, model);
        session(&site, user, model, true);
    }
    assert_eq!(lines(&site, "userdb answers again").len(), 1);
    assert_eq!(lines(&site, "refused").len(), 1);
}

/// An auth that is stopped holds nobody up for longer than it is given, and after the first nobody at all.
#[test]
fn an_auth_that_hangs_is_given_up_for_all_and_who_is_remembered_is_served() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let users = ["alice", "bob", "carol"];
    let homes = users.map(|user| (user, lab.mail().join(user)));
    // Logins must work meanwhile, so it is another Dovecot's auth that hangs.
    let other = dovecot(&lab, "other", &homes).start();
    let options = options(&lab, "a", "%h/idx", "other").option("check_timeout=2s");
    let site = Site::with(options, dovecot(&lab, "a", &homes));
    site.settle("alice");
    let mut alices = Model::new();
    served(&site, "alice", &mut alices); // two seconds may be too short for an auth that is only started
    let auth = other.auth().expect("it has answered");
    let told = ["no answer from userdb", "refused", "userdb answers again"];
    let before = told.map(|words| lines(&site, words).len());
    let since = || {
        let now = told.map(|words| lines(&site, words).len());
        [0, 1, 2].map(|at| now[at] - before[at])
    };
    process::signal(auth, Signal::STOP);
    session(&site, "alice", &mut alices, true);
    let (mut bobs, mut carols) = (Model::new(), Model::new());
    for _ in 0..2 {
        session(&site, "bob", &mut bobs, false);
        session(&site, "carol", &mut carols, false);
        session(&site, "alice", &mut alices, true);
    }
    assert_eq!(since(), [1, 1, 0], "{}", site.mount.log());
    process::signal(auth, Signal::CONT);
    served(&site, "bob", &mut bobs);
    served(&site, "carol", &mut carols);
    assert_eq!(since()[2], 1, "{}", site.mount.log());
}

#[test]
fn an_auth_that_is_killed_or_restarted_is_asked_again() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let users = ["alice", "bob", "carol"];
    let homes = users.map(|user| (user, lab.mail().join(user)));
    let mut site = site(&lab, &homes);
    settled(&site, "alice");
    let auth = site.dovecot.auth().expect("it has answered");
    process::signal(auth, Signal::KILL);
    eventually("auth is gone", || {
        (site.dovecot.auth() != Some(auth)).then_some(())
    });
    settled(&site, "bob");
    // Sessions would have to wait until Dovecot is ready again, so it is no session that asks.
    site.dovecot.doveadm(&["reload"]);
    let opened = process::said(&site.open_log("carol").expect("no hang"));
    assert!(opened.contains("No such file"), "{opened}");
    site.dovecot.restart(|config| config);
    // Nothing was forgotten here: who was here before is not asked for again.
    let mut imap = site.login("alice");
    imap.list_status();
    assert!(site.is_served("alice"));
    imap.logout();
    site.wait_no_sessions();
    assert_eq!(lines(&site, "refused"), Vec::<String>::new());
}

/// Three hundred users look for their logs at once.
#[test]
fn many_logins_at_once_are_asked_for_on_few_connections() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    const USERS: usize = 300;
    let lab = Lab::new();
    let config = Config::new(&lab, "a")
        .users(Users::Static(vec![(
            "home",
            format!("{}/%u", lab.mail().display()),
        )]))
        .index_at("%h/idx")
        .set("auth_debug", "yes");
    let options = options(&lab, "a", "%h/idx", "a").env("RUST_LOG", "listindexfs=debug");
    let site = Site::with(options, config);
    let dirs: Vec<_> = (0..USERS)
        .map(|n| site.dir_of(&format!("user{n}")))
        .collect();
    dirs.iter()
        .for_each(|dir| fs::create_dir_all(dir).expect("a directory"));
    let all_look = || {
        let start = std::sync::Barrier::new(USERS);
        std::thread::scope(|scope| {
            for dir in &dirs {
                scope.spawn(|| {
                    start.wait();
                    let missing = fs::metadata(dir.join(LOG)).expect_err("there is none");
                    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
                });
            }
        });
    };
    all_look();
    eventually("auth has logged it", || {
        (site.dovecot.lookups() == USERS).then_some(())
    });
    all_look();
    site.dovecot.doveadm(&["user", "user0"]); // its line comes after all others
    assert_eq!(
        site.dovecot.lookups(),
        USERS,
        "what is remembered is not asked for"
    );
    let connections = lines(&site, "auth-userdb: connected").len();
    assert!((1..10).contains(&connections), "{connections}");
    site.dovecot.finish();
}

/// Moves alice's home, and tells userdb. Her user's sessions go there at once.
fn move_home(site: &Site, from: &Path, to: &Path, copy: bool) {
    mail_dir(to.parent().expect("a parent"));
    match copy {
        true => drop(process::run(Command::new("cp").arg("-a").args([from, to]))),
        false => fs::rename(from, to).expect("mv"),
    }
    fs::write(site.dovecot.passwd(), line("alice", to) + "\n").expect("the passwd-file");
    // Dovecot looks once a second whether that has changed.
    eventually("Dovecot knows", || {
        let said = site.dovecot.doveadm(&["user", "-f", "home", "alice"]);
        (Path::new(said.trim()) == to).then_some(())
    });
}

#[test]
fn a_home_that_is_moved_is_found_by_itself() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (old, new) = (lab.mail().join("a/alice"), lab.mail().join("newer/alice"));
    let site = site(&lab, &[("alice", old.clone())]);
    let mut model = settled(&site, "alice");
    move_home(&site, &old, &new, false);
    // Who was asked for a moment ago is not asked for again, so not at the first login.
    eventually("it is asked for anew", || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "alice");
        imap.logout();
        site.wait_no_sessions();
        (site.dovecot.lookups() == 2).then_some(())
    });
    served(&site, "alice", &mut model);
    session(&site, "alice", &mut model, true);
    assert_eq!(claims(&lab.mail()), [new.join("idx")].into());
    assert!(!old.exists(), "nothing is made where it was");
    site.dovecot.finish();
}

/// As long as INDEX is where it was, nobody doubts it before the answer is too old.
#[test]
fn a_home_that_is_copied_is_found_when_an_operator_has_its_user_dropped() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let (old, new) = (lab.mail().join("a/alice"), lab.mail().join("newer/alice"));
    let site = site(&lab, &[("alice", old.clone())]);
    let mut model = settled(&site, "alice");
    move_home(&site, &old, &new, true);
    eventually("it is asked for anew", || {
        let mut clean = Command::new(support::mount::tool());
        clean.args(["clean", "0s", "alice", "--mount"]);
        process::output(clean.arg(site.mount.path()), support::LIMIT).expect("it ends");
        session(&site, "alice", &mut model, true);
        (site.dovecot.lookups() == 2).then_some(())
    });
    let claim = fs::metadata(old.join("idx/.lasthost")).expect("stat");
    session(&site, "alice", &mut model, true);
    let host = Site::with(
        options(&lab, "b", "%h/idx", "b"),
        dovecot(&lab, "b", &[("alice", new.clone())]),
    );
    session(&host, "alice", &mut model, true);
    session(&site, "alice", &mut model, true);
    let now = fs::metadata(old.join("idx/.lasthost")).expect("stat");
    assert_eq!(
        claim.modified().ok(),
        now.modified().ok(),
        "it was not looked at"
    );
    assert_eq!(lines(&site, "alice: claimed for").len(), 2); // the copy was ours still
    support::finish([site.dovecot, host.dovecot]);
}

/// A filesystem that comes and goes.
struct Volume(PathBuf);

impl Volume {
    fn mount(at: &Path) -> Self {
        let mut mount = Command::new("mount");
        process::run(mount.args(["-t", "ramfs", "none"]).arg(at));
        std::os::unix::fs::chown(at, Some(UID), Some(GID)).expect("chown");
        Self(at.to_owned())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        process::output(
            Command::new("umount").arg("-l").arg(&self.0),
            support::LIMIT,
        );
    }
}

/// A new user has no home. Where none is seen because NFS is not mounted, or because its server exports something else, nobody
/// is purged.
#[test]
fn that_a_home_is_missing_is_believed_only_below_the_root_of_its_mount() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let at = lab.host("a").join("volume");
    fs::create_dir(&at).expect("a mount point");
    let volume = Volume::mount(&at);
    mail_dir(&at.join("deep"));
    let homes = [("alice", at.join("deep/alice")), ("bob", at.join("bob"))];
    let options = options(&lab, "a", "%h/idx", "a").option("index_fs=ramfs");
    let site = Site::with(options, dovecot(&lab, "a", &homes));
    // Her home is made by her first session, which is served.
    settled(&site, "alice");
    assert_eq!(lines(&site, "refused"), Vec::<String>::new());
    // His could as well be missing because all is.
    let missing = "bob does not exist: mount what should be there";
    let mut bobs = Model::new();
    session(&site, "bob", &mut bobs, false);
    assert_eq!(lines(&site, missing).len(), 1);
    served(&site, "bob", &mut bobs);

    let alices = site.backing_of("alice");
    assert!(!list_index(&alices).is_empty());
    let refused = |why: &str| {
        let said = process::said(&site.open_log("alice").expect("no hang"));
        assert!(said.contains("Input/output error"), "{said}");
        assert_eq!(lines(&site, why).len(), 1, "{}", site.mount.log());
        assert!(!list_index(&alices).is_empty(), "{why}: she is not purged");
    };
    drop(volume);
    refused("which index_fs= does not accept");
    let _other = Volume::mount(&at);
    refused("deep/alice does not exist: mount what should be there");
}
