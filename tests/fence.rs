//! A session lingers on a host its user has left, and writes. Once it has ended the present host learns of it.
mod support;

use support::model::Op;
use support::{DOVECOT, FUSE, Lab, Model, ROOT, Site, eventually, lacks};

fn right(site: &Site, model: &mut Model, when: &str) {
    let mut imap = site.login("alice");
    model.assert_matches(&imap.list_status(), when);
    imap.logout();
    site.wait_no_sessions();
}

#[test]
fn what_was_written_after_the_user_had_left_is_known_once_the_writer_has_ended() {
    if lacks(&[ROOT, DOVECOT, FUSE]) {
        return;
    }
    let lab = Lab::new();
    let [a, b] = ["a", "b"].map(|host| Site::new(&lab, host));
    let mut model = Model::new();
    let mut old = a.login("alice");
    model.apply(&Op::Create("one".to_owned()), &mut old);
    right(&b, &mut model, "after the move to B");

    for change in [
        Op::Append("one".to_owned(), false),
        Op::Create("two".to_owned()),
    ] {
        model.apply(&change, &mut old);
    }
    old.logout();
    a.wait_no_sessions();
    eventually("A says that it set a fence", || {
        a.mount
            .log()
            .contains(".lasthost set to nobody")
            .then_some(())
    });
    right(&b, &mut model, "on B after the old session's end");
    right(&b, &mut model, "on B once more");
    right(&a, &mut model, "back on A");
}
