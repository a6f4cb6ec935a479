//! What a warm session costs: FUSE requests, which no noise of the machine disturbs.
mod support;

use support::cost::cheapest;
use support::model::Op;
use support::mount::Options;
use support::{Config, DOVECOT, FUSE, Lab, Model, ROOT, Site, lacks};

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
