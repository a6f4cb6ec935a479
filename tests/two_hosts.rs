//! A user who moves between two hosts, each with its list index in RAM: every session on either is right at
//! its first LIST. With nobody at the gate the same rounds must fail.
mod support;

use support::mount::Options;
use support::rounds::Rounds;
use support::{Config, DOVECOT, FUSE, Format, Lab, ROOT, Site, finish, lacks};

const ROUNDS: usize = 50;

fn two_sites(lab: &Lab, format: Format, options: impl Fn(Options) -> Options) -> [Site; 2] {
    ["a", "b"].map(|host| {
        Site::with(
            options(Options::new(lab, host)),
            Config::new(lab, host).format(format),
        )
    })
}

/// Sessions that overlap now and then: right all the same.
fn moves(format: Format, options: impl Fn(Options) -> Options) {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let sites = two_sites(&lab, format, options);
    let hosts = sites.each_ref().map(|site| &site.dovecot);
    if let Err(stale) = Rounds::new(&hosts, "alice").run(ROUNDS) {
        panic!("{}", stale.story);
    }
}

#[test]
fn a_user_who_moves_is_never_told_what_was() {
    moves(Format::Sdbox, |options| options);
}

#[test]
fn a_user_who_moves_is_never_told_what_was_while_migrating() {
    moves(Format::Mdbox, Options::migrate);
}

#[test]
fn a_user_who_moves_is_never_told_what_was_in_maildir() {
    moves(Format::Maildir, |options| options);
}

/// One session after the other, as most users have them: nothing is refused and Dovecot has nothing to say.
#[test]
fn a_user_who_moves_has_a_list_index_at_once_and_no_error_is_logged() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let sites = two_sites(&lab, Format::Sdbox, |options| options);
    let hosts = sites.each_ref().map(|site| &site.dovecot);
    let mut model = match Rounds::new(&hosts, "alice").tidy().run(12) {
        Ok(model) => model,
        Err(stale) => panic!("{}", stale.story),
    };
    for site in sites.iter().chain(&sites) {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "at login");
        assert!(
            site.is_served("alice"),
            "the session has no list index in the mount"
        );
        imap.logout();
        site.wait_no_sessions();
    }
    let (dovecots, mounts): (Vec<_>, Vec<_>) = sites
        .into_iter()
        .map(|site| (site.dovecot, site.mount))
        .unzip();
    finish(dovecots);
    drop(mounts);
}

/// The control: the same rounds over the same store, the list indexes in the same RAM, only no gate.
#[test]
fn without_the_gate_the_same_rounds_fail() {
    if lacks(&[ROOT, DOVECOT]) {
        return;
    }
    let lab = Lab::new();
    let hosts = ["a", "b"].map(|host| Config::new(&lab, host).listindex(&lab.ram(host)).start());
    let Err(stale) = Rounds::new(&hosts.each_ref(), "alice").run(ROUNDS) else {
        panic!("{ROUNDS} rounds without a gate were all right: these rounds prove nothing")
    };
    eprintln!("found in round {}", stale.round);
}
