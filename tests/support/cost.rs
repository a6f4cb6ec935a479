//! What a session costs: FUSE requests, read from the daemon's debug log.
use super::eventually;
use super::imap::Imap;
use super::site::Site;

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
pub fn cost_of(site: &Site, session: impl FnOnce(&mut Imap)) -> Vec<String> {
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
        // A late RELEASE of the session before may be among them; then one of ours is the next one's.
        (count(&["OPEN", "CREATE"]) <= count(&["RELEASE"])).then_some(seen)
    })
}

/// The cheapest of some sessions: what else the kernel has to do now and then is not theirs.
pub fn cheapest(site: &Site, mut session: impl FnMut(&mut Imap)) -> Vec<String> {
    let costs = (0..8).map(|_| cost_of(site, &mut session));
    costs.min_by_key(Vec::len).expect("some sessions")
}
