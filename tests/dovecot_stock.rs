//! Stock Dovecot without our filesystem: that the harness sees what is right, and, above all, that it sees
//! what is stale.
mod support;

use std::fs;

use support::rounds::Rounds;
use support::{
    Config, DOVECOT, Format, Lab, Model, ROOT, dovecot24, finish, lacks, message, process,
};

#[test]
fn the_dovecot_is_the_one_asked_for() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let major = if dovecot24::is_used() { "2.4." } else { "2.3." };
    let version = support::dovecot::version();
    assert!(version.starts_with(major), "{version}");
    let lab = Lab::new();
    let host = Config::new(&lab, "a").start();
    let starting = format!("Dovecot v{version} ");
    let log = host.log();
    assert!(log.iter().any(|line| line.contains(&starting)), "{log:?}");
}

/// As doveconf prints them, but for the variables, which it does not look into.
#[test]
fn the_settings_that_readme_has_for_2_4_are_taken() {
    if !dovecot24::is_used() || lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let readme = include_str!("../README.md");
    let settings = readme.split("```conf\n# Dovecot 2.4\n").nth(1);
    let settings = settings.and_then(|rest| rest.split("```").next());
    let settings = settings.expect("settings of 2.4");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("dovecot.conf");
    let versions = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n";
    fs::write(&file, format!("{versions}ssl = no\n{settings}")).expect("dovecot.conf");
    for line in settings.lines() {
        let (name, value) = line.split_once(" = ").expect("name = value");
        let mut doveconf = support::dovecot::doveconf();
        let said = process::run(doveconf.arg("-c").arg(&file).args(["-h", name]));
        assert_eq!(said.trim(), value, "{line}");
    }
}

/// The list index in INDEX, shared by both hosts: always right.
#[test]
fn a_list_index_in_index_is_right_on_both_hosts() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let lab = Lab::new();
    for format in Format::ALL {
        let hosts = ["a", "b"].map(|host| {
            Config::new(&lab, &format!("{host}-{format:?}"))
                .format(format)
                .start()
        });
        if let Err(stale) = Rounds::new(&hosts.each_ref(), &format!("user{format:?}")).run(8) {
            panic!("{format:?}: {}", stale.story);
        }
        finish(hosts);
    }
}

/// A list index in each host's RAM, with nobody to guard it: stale at once. If this is not seen, the tests
/// of the real thing prove nothing.
#[test]
fn unguarded_list_indexes_in_ram_are_found_stale() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let lab = Lab::new();
    let hosts = ["a", "b"].map(|host| Config::new(&lab, host).listindex(&lab.ram(host)).start());
    let Err(stale) = Rounds::new(&hosts.each_ref(), "alice").run(50) else {
        panic!("50 rounds without a gate were all right")
    };
    eprintln!("found in round {}", stale.round);
}

/// Deliveries of both kinds, IDLE, NOTIFY and doveadm, as the other tests use them.
#[test]
fn the_harness_itself_works() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let lab = Lab::new();
    let host = Config::new(&lab, "a").format(Format::Mdbox).start();
    let mut model = Model::new();
    let mut watcher = host.login("alice");
    watcher.select("INBOX");
    watcher.idle_start();
    host.deliver_lmtp("alice", &message("lmtp"));
    watcher.wait_line("EXISTS");
    host.deliver_lda("alice", &message("lda"));
    watcher.wait_line("EXISTS");
    watcher.idle_stop();
    watcher.unselect();
    watcher.notify("(personal (MessageNew MessageExpunge MailboxName))");
    let mut other = host.login("alice");
    other.create("box");
    assert!(watcher.wait_line("box").contains("LIST"));
    assert_eq!(host.process_pids_of("alice").len(), 2);
    (0..2).for_each(|_| model.delivered("INBOX"));
    model
        .folders
        .insert("box".to_owned(), support::model::Folder::default());
    model.assert_matches(&other.list_status(), "after two deliveries");
    other.logout();
    watcher.logout();
    host.wait_no_sessions();
    assert!(
        host.doveadm(&["mailbox", "list", "-u", "alice"])
            .contains("box")
    );
    host.finish();
}
