//! What happens to a user, told for hosts of any kind: over a directory that stands for NFS, and over real NFS.
use super::model::{Model, Op};
use super::{Imap, Site, eventually};

/// A session, its list index in the mount or not, is right at its first LIST.
pub fn assert_right(site: &Site, model: &mut Model, when: &str) {
    let mut imap = site.login("alice");
    model.assert_matches(&imap.list_status(), when);
    imap.logout();
    site.wait_no_sessions();
}

/// Served again, by itself: a session has its list index in the mount, and every one until then is right.
pub fn assert_served_again(site: &Site, model: &mut Model) {
    eventually("served again", || {
        let mut imap = site.login("alice");
        model.assert_matches(&imap.list_status(), "after the trouble");
        let served = site.is_served("alice");
        imap.logout();
        site.wait_no_sessions();
        served.then_some(())
    });
}

/// A session on A, which stays open while alice moves to B; then it writes what B cannot see.
pub fn lingers_and_writes([a, b]: [&Site; 2]) -> (Model, Imap) {
    let mut model = Model::new();
    let mut old = a.login("alice");
    model.apply(&Op::Create("one".to_owned()), &mut old);
    assert_right(b, &mut model, "after the move to B");
    for change in [
        Op::Append("one".to_owned(), false),
        Op::Create("two".to_owned()),
    ] {
        model.apply(&change, &mut old);
    }
    (model, old)
}

/// What a session wrote after its user had left is known to the present host once it has ended.
pub fn fence([a, b]: [&Site; 2]) {
    let (mut model, old) = lingers_and_writes([a, b]);
    old.logout();
    a.wait_no_sessions();
    eventually("A says that it set a fence", || {
        a.mount
            .log()
            .contains(".lasthost set to nobody")
            .then_some(())
    });
    assert_right(b, &mut model, "on B after the old session's end");
    assert_right(b, &mut model, "on B once more");
    assert_right(a, &mut model, "back on A");
}

/// The control: A's daemon dies before it can set the fence, and B is wrong for as long as one looks.
pub fn no_fence(mut a: Site, b: &Site) {
    let (mut model, old) = lingers_and_writes([&a, b]);
    a.mount.kill9();
    drop(old);
    a.wait_no_sessions();
    for _ in 0..3 {
        let mut imap = b.login("alice");
        let seen = model.check(&imap.list_status());
        assert!(
            seen.is_err(),
            "B is right without a fence: the fence test cannot fail"
        );
        imap.logout();
        b.wait_no_sessions();
    }
}
