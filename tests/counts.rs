//! What a warm session costs: FUSE requests, which no noise of the machine disturbs.
mod support;

use support::model::Op;
use support::mount::Options;
use support::{Config, DOVECOT, FUSE, Imap, Lab, Model, ROOT, Site, eventually, lacks};

/// The requests in the daemon's debug log, one word each.
fn requests(log: &str) -> Vec<String> {
    let after_ino = |line: &str| {
        line.split_once("FUSE(")?
            .1
            .split_once(" ino ")?
            .1
            .split(' ')
            .nth(1)
            .map(str::to_owned)
    };
    log.lines().filter_map(after_ino).collect()
}

/// What one session cost; all of it, as the kernel sends RELEASE when nobody waits for it any more.
fn cost_of(site: &Site, session: impl FnOnce(&mut Imap)) -> Vec<String> {
    let before = site.mount.log().len();
    let mut imap = site.login("alice");
    session(&mut imap);
    imap.logout();
    site.wait_no_sessions();
    eventually("what was opened is released", || {
        let seen = requests(&site.mount.log()[before..]);
        let count = |words: &[&str]| {
            seen.iter()
                .filter(|word| words.contains(&word.as_str()))
                .count()
        };
        (count(&["OPEN", "CREATE"]) == count(&["RELEASE"])).then_some(seen)
    })
}

/// The cheapest of some sessions: what else the kernel has to do now and then is not theirs.
fn cheapest(site: &Site, mut session: impl FnMut(&mut Imap)) -> Vec<String> {
    let costs = (0..8).map(|_| cost_of(site, &mut session));
    costs.min_by_key(Vec::len).expect("some sessions")
}

#[test]
fn a_warm_session_costs_few_requests() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let site = Site::with(Options::new(&lab, "a").debug(), Config::new(&lab, "a"));
    let mut model = Model::new();
    let mut imap = site.login("alice");
    for n in 0..30 {
        model.apply(&Op::Create(format!("box{n:02}")), &mut imap);
        model.apply(&Op::Append(format!("box{n:02}"), false), &mut imap);
    }
    imap.logout();
    site.wait_no_sessions();

    let listing = cheapest(&site, |imap| {
        model.assert_matches(&imap.list_status(), "in a warm session")
    });
    assert!(
        !listing.is_empty(),
        "the daemon logs no requests:\n{}",
        site.mount.log()
    );
    assert!(
        listing.len() <= 5,
        "login, LIST-STATUS and logout cost {}: {listing:?}",
        listing.len()
    );

    let appending = cheapest(&site, |imap| {
        model.assert_matches(&imap.list_status(), "in a warm session");
        imap.select("box07");
        model.apply(&Op::Append("box07".to_owned(), false), imap);
        model.assert_matches(&imap.list_status(), "after an APPEND");
    });
    assert!(
        appending.len() <= 9,
        "with an APPEND to a listed folder it costs {}: {appending:?}",
        appending.len()
    );
}
