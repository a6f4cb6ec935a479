//! Layouts and INDEX templates: what is accepted, the way there and back, and which pairs fit.

use std::path::Path;

use listindexfs::template::{ExpandError, IndexTemplate, Layout, LevelKind, Problem, check_pair};
use rstest::rstest;

fn layout(text: &str) -> Layout {
    Layout::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The user found in a path, as bytes.
fn found(layout: &Layout, path: &[u8]) -> Option<Vec<u8>> {
    let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    layout
        .user_of(&components)
        .map(|user| user.as_bytes().to_vec())
}

#[rstest]
#[case(
    "%2.256Nu/%u",
    b"alice@example.com",
    b"bf/alice@example.com",
    b"alice@example.com"
)]
#[case(
    "%{user | md5 | substr(0, 8) % 256 | hex(2)}/%{user}",
    b"alice@example.com",
    b"bf/alice@example.com",
    b"alice@example.com"
)]
#[case("%d/%n", b"Bob@Example.ORG", b"Example.ORG/Bob", b"Bob@Example.ORG")]
#[case("%d/%n", b"no at@x@y", b"x@y/no at", b"no at@x@y")]
#[case("%n@%d", b"a@b@c", b"a@b@c", b"a@b@c")]
#[case("x%n-@-%dy", b"a-@b@c", b"xa--@-b@cy", b"a-@b@c")]
#[case("%d@%n", b"a@b@c", b"b@c@a", b"a@b@c")]
#[case("%2n/%u", b"alice", b"al/alice", b"alice")]
#[case("%Lu", b"Bob@Example.ORG", b"bob@example.org", b"bob@example.org")]
#[case("%Uu", b"Bob@Example.ORG", b"BOB@EXAMPLE.ORG", b"BOB@EXAMPLE.ORG")]
#[case(
    "%2.256LNu/%Lu",
    b"Bob@Example.ORG",
    b"1f/bob@example.org",
    b"bob@example.org"
)]
#[case("%{user | lower}", b"Bob", b"bob", b"bob")]
#[case(
    "%{user | domain | lower}/%{user | username}",
    b"Bob@Example.ORG",
    b"example.org/Bob",
    b"Bob@example.org"
)]
#[case("%n", b"Bob@Example.ORG", b"Bob", b"Bob")]
#[case("%2.256Nn/%n", b"Bob@Example.ORG", b"70/Bob", b"Bob")]
#[case("mail/%2Mu-%u", b"testuser", b"mail/5d-testuser", b"testuser")]
#[case("%%/%u", b"testuser", b"%/testuser", b"testuser")]
#[case("%{user | domain | default('none')}/%{user}", b"a", b"none/a", b"a")]
#[case("%u/%n/%d", b"\xff@\xfe", b"\xff@\xfe/\xff/\xfe", b"\xff@\xfe")]
fn there_and_back(
    #[case] text: &str,
    #[case] name: &[u8],
    #[case] path: &[u8],
    #[case] known: &[u8],
) {
    let layout = layout(text);
    assert_eq!(layout.depth(), path.split(|byte| *byte == b'/').count());
    let user = layout.user_named(name).expect("a path");
    assert_eq!(user.as_bytes(), known);
    assert_eq!(user.dir(), path);
    assert_eq!(found(&layout, path).as_deref(), Some(known));
}

#[rstest]
#[case("%2.256Nu/%u", b"be/alice@example.com")] // another user's bucket
#[case("%2.256Nu/%u", b"bf")]
#[case("%2.256Nu/%u", b"bf/alice@example.com/x")]
#[case("%2.256Nu/%u", b"bf/")]
#[case("%Lu", b"Bob")]
#[case("%n", b"bob@example.org")]
#[case("%n@%d", b"bob")]
#[case("%n@%d", b"bob@")] // bob's, or bob@'s?
#[case("%d/%n", b"x/a@b")]
#[case("%u", b"..")]
#[case("%u", b".listindexfs-trash")]
fn no_user(#[case] text: &str, #[case] path: &[u8]) {
    assert_eq!(found(&layout(text), path), None);
}

#[rstest]
#[case("%u", b"", ExpandError::EmptyName)]
#[case("%u", b"a\0b", ExpandError::Nul)]
#[case("%u", b"a/b", ExpandError::Slash(1))]
#[case("%u", b"..", ExpandError::Dots(1))]
#[case("%d/%n", b".@x", ExpandError::Dots(2))]
#[case("%d/%n", b"bob", ExpandError::EmptyComponent(1))]
#[case("%d/%n", b"@x", ExpandError::EmptyComponent(2))]
#[case("%n@%d", b"bob", ExpandError::NoWayBack)]
#[case("%u", &[b'x'; 256], ExpandError::TooLong(1))]
#[case("%u", b".listindexfs", ExpandError::Reserved(1))]
fn no_path(#[case] text: &str, #[case] name: &[u8], #[case] error: ExpandError) {
    assert_eq!(layout(text).user_named(name), Err(error));
}

#[rstest]
#[case("%Mu", Problem::NoWayBack, 1, "%Mu")]
#[case("%2.256Nu", Problem::NoWayBack, 1, "%2.256Nu")]
#[case("%u/%2.256Nu", Problem::NoWayBack, 4, "%2.256Nu")]
#[case("%u/x", Problem::NoWayBack, 4, "x")]
#[case("é%d", Problem::NoWayBack, 2, "%d")]
#[case("%2u", Problem::NoWayBack, 1, "%2u")]
#[case("%Ru", Problem::NoWayBack, 1, "%Ru")]
#[case("mail", Problem::NoWayBack, 1, "mail")]
#[case("%n-%d", Problem::Ambiguous, 1, "%n-%d")]
#[case("x/%n%d", Problem::Ambiguous, 3, "%n%d")]
#[case("%Nu-%u", Problem::Ambiguous, 1, "%Nu-%u")]
#[case("%2.256Nu/%n", Problem::Mismatch, 1, "%2.256Nu")]
#[case("%2.256Nu/%Lu", Problem::Mismatch, 1, "%2.256Nu")]
#[case("%2.256NLu/%Lu", Problem::Mismatch, 1, "%2.256NLu")]
#[case(
    "%{user | md5 | hexlify(2) | lower}/%{user | lower}",
    Problem::Mismatch,
    1,
    "%{user | md5 | hexlify(2) | lower}"
)]
#[case("%d/%Lu", Problem::Mismatch, 1, "%d")]
#[case("/%u", Problem::Path, 1, "/%u")]
#[case("a//%u", Problem::Path, 3, "")]
#[case("%u/", Problem::Path, 4, "")]
#[case("", Problem::Path, 1, "")]
#[case("./%u", Problem::Path, 1, ".")]
#[case("a/../%u", Problem::Path, 3, "..")]
#[case(".listindexfs/%u", Problem::Path, 1, ".listindexfs")]
#[case(".listindexfs%2Mu/%u", Problem::Path, 1, ".listindexfs%2Mu")]
#[case(
    "%{sha1;format=base64:user}/%u",
    Problem::Path,
    1,
    "%{sha1;format=base64:user}"
)]
#[case("%{literal('a/b')}%{user}", Problem::Path, 1, "%{literal('a/b')}")]
#[case(
    "%{user | md5 | concat('x')}/%{user}",
    Problem::Unsupported,
    1,
    "%{user | md5 | concat('x')}"
)]
fn refused_layouts(
    #[case] text: &str,
    #[case] problem: Problem,
    #[case] column: usize,
    #[case] at: &str,
) {
    let error = Layout::parse(text).expect_err(text);
    assert_eq!(
        (error.problem, error.column, error.text.as_str()),
        (problem, column, at),
        "{error}"
    );
}

#[rstest]
#[case("%2.256Nu/%u", &["00", "bf"], &["0", "100", "BF", "bg", "+f", "-1", "", ".", "000"])]
#[case("%Nu/%u", &["0", "ffffffff", "69a4f0bf"], &["00", "100000000", "0f"])]
#[case("%3.4096Nu/%u", &["000", "fff", "0bf"], &["00", "1000", "0fff"])]
#[case("%2.100Nu/%u", &["00", "63"], &["64", "ff"])]
#[case("%1.16Hu/%u", &["0", "f"], &["10", "g"])]
#[case("%2Mu/%u", &["00", "ff"], &["f", "fff", "FF"])]
#[case("%2UMu/%u", &["ff"], &["FF"])]
#[case("%2MUu/%u", &["FF", "0A"], &["ff"])]
#[case("%2.3Mu/%u", &["fff"], &["ff", "ffff"])]
#[case("%-3.2Mu/%u", &["ff"], &["fff"])]
#[case("h%2.256Nu.d/%u", &["hbf.d"], &["bf", "hbf", "hbf.dd", "hbff.d", "xbf.d"])]
#[case("%Nu%1.16Hu/%u", &["00", "ffffffff0", "12"], &["0", "fffffffff0"])]
#[case("%{sha1;truncate=4:user}/%u", &["00", "0f"], &["10", "f"])]
#[case("%{sha1;truncate=12:user}/%u", &["0fff"], &["1000", "fff"])]
#[case("mail/%u", &["mail"], &["Mail", "mai", "mails", "x"])]
#[case("%{user | md5 | substr(0, 8) % 256 | hex(2)}/%{user}", &["00", "bf"], &["0", "100", "BF"])]
#[case("%{user | md5 % 256 | hex}/%{user}", &["0", "ff"], &["00", "100"])]
#[case("%{user | md5 % 1000 | hex(2)}/%{user}", &["00", "ff"], &["100"])]
#[case("%{user | md5 % 256}/%{user}", &["0", "255"], &["256", "00", "ff"])]
#[case("%{user | md5 % 100 | lfill(2)}/%{user}", &["00", "99"], &["0", "100", "099"])]
#[case("%{user | md5 % 10 | lower + 5}/%{user}", &["5", "14"], &["4", "15", "05"])]
#[case("%{user | md5 % 256 | hex(-2)}/%{user}", &["f0", "ff"], &["f", "fff"])]
#[case("%{user | sha256 | hexlify(4)}/%{user}", &["00ff"], &["0ff", "00FF"])]
#[case("%{user | sha256 | truncate(1)}/%{user}", &["00", "ff"], &["0", "000"])]
#[case("%{user | sha1 | truncate(bits=4)}/%{user}", &["00", "0f"], &["10"])]
#[case("%{user | sha1 | substr(0, 1) | benumber}/%{user}", &["0", "255"], &["256", "ff"])]
#[case("%{user | sha1 | substr(0, 3) | base64(url=1)}/%{user}", &["ab-_"], &["ab+_", "abc", "ab_/"])]
fn hashed_levels(#[case] text: &str, #[case] good: &[&str], #[case] bad: &[&str]) {
    let layout = layout(text);
    assert_eq!(
        (layout.kind(1), layout.kind(2)),
        (LevelKind::Hashed, LevelKind::Named)
    );
    good.iter()
        .for_each(|name| assert!(layout.may_be(1, name.as_bytes()), "{name}"));
    bad.iter()
        .for_each(|name| assert!(!layout.may_be(1, name.as_bytes()), "{name}"));
}

#[test]
fn named_levels_take_any_file_name() {
    let layout = layout("%d/%Ln");
    assert_eq!(
        (layout.kind(1), layout.kind(2)),
        (LevelKind::Named, LevelKind::Named)
    );
    let long = [b'x'; 255];
    for name in [b"x".as_slice(), b"Bob", b"\xff", b"...", b"a b", &long] {
        assert!(layout.may_be(1, name) && layout.may_be(2, name));
    }
    for name in [
        b"".as_slice(),
        b".",
        b"..",
        b"a/b",
        b"a\0",
        b".listindexfs",
        b".listindexfs-x",
        &[b'x'; 256],
    ] {
        assert!(!layout.may_be(1, name) && !layout.may_be(2, name));
    }
    assert!(!layout.may_be(0, b"x") && !layout.may_be(3, b"x"));
}

#[rstest]
#[case("/nfs/idx/%2.256Nu/%u", "/nfs/idx", "/nfs/idx/bf/alice@example.com")]
#[case("/nfs/idx-%u", "/nfs", "/nfs/idx-alice@example.com")]
#[case("/%u", "/", "/alice@example.com")]
#[case(
    "/nfs/%{user | sha1 | hexlify(2)}/%{user}/idx",
    "/nfs",
    "/nfs/fc/alice@example.com/idx"
)]
#[case("/nfs/100%%/%u", "/nfs/100%", "/nfs/100%/alice@example.com")]
#[case("/nfs/%Mu", "/nfs", "/nfs/c160f8cc69a4f0bf2b0362752353d060")]
fn index(#[case] text: &str, #[case] prefix: &str, #[case] path: &str) {
    let index = IndexTemplate::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let user = layout("%u")
        .user_named(b"alice@example.com")
        .expect("a path");
    assert_eq!(index.literal_prefix(), Path::new(prefix));
    assert_eq!(index.expand(&user).as_deref(), Ok(Path::new(path)));
}

#[rstest]
#[case("nfs/%u", Problem::Path, 1)]
#[case("%u", Problem::Path, 1)]
#[case("/nfs/idx", Problem::Path, 1)]
#[case("/nfs/%{literal('x')}", Problem::Path, 1)]
#[case("/nfs/%d", Problem::Path, 6)]
#[case("/nfs/../%u", Problem::Path, 6)]
#[case("/nfs/%u/", Problem::Path, 9)]
#[case("/nfs//%u", Problem::Path, 6)]
#[case("/nfs/%Lh/%u", Problem::NotFromName, 6)]
#[case("/nfs/%{home | lower}/%{user}", Problem::NotFromName, 8)]
#[case("nfs/%h", Problem::Path, 1)]
#[case("%hx", Problem::Path, 3)]
#[case("%h%u", Problem::Path, 3)]
#[case("%h/", Problem::Path, 4)]
#[case("%h/../%u", Problem::Path, 4)]
#[case("%h/%{home}", Problem::Path, 4)]
#[case("//%h", Problem::Path, 2)]
#[case("~alice/idx", Problem::Path, 1)]
#[case("~%u", Problem::Path, 2)]
#[case("/nfs/~/idx", Problem::Path, 1)] // a directory of that name, the same for all
fn refused_indexes(#[case] text: &str, #[case] problem: Problem, #[case] column: usize) {
    let error = IndexTemplate::parse(text).expect_err(text);
    assert_eq!((error.problem, error.column), (problem, column), "{error}");
}

/// Base, and what follows, for a home of `/srv//mail/./alice/`.
#[rstest]
#[case("%h", "/srv/mail/alice", "")]
#[case("~", "/srv/mail/alice", "")]
#[case("/%h", "/srv/mail/alice", "")]
#[case("%h/mdbox-index", "/srv/mail/alice", "mdbox-index")]
#[case("~/idx", "/srv/mail/alice", "idx")]
#[case("%{home}/idx/%u", "/srv/mail/alice", "idx/alice@example.com")]
#[case("%{home}/%{user | domain}", "/srv/mail/alice", "example.com")]
#[case("/nfs/idx%h", "/nfs/idx", "srv/mail/alice")]
#[case("/nfs/idx/%h", "/nfs/idx", "srv/mail/alice")]
#[case("/nfs/%d%h/i", "/nfs", "example.com/srv/mail/alice/i")]
#[case("/nfs/%2.256Nu/%{home}", "/nfs", "bf/srv/mail/alice")]
#[case("/nfs/~/%u", "/nfs/~", "alice@example.com")]
fn index_by_home(#[case] text: &str, #[case] base: &str, #[case] rest: &str) {
    let index = IndexTemplate::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let user = layout("%u")
        .user_named(b"alice@example.com")
        .expect("a path");
    let expanded = index.expand_with(&user, Some(b"/srv//mail/./alice/"));
    let expanded = expanded.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (&*expanded.base, &*expanded.rest),
        (Path::new(base), Path::new(rest))
    );
    if index.needs_home() {
        assert_eq!(index.expand(&user), Err(ExpandError::NoHome));
    }
    assert_eq!(index.begins_with_home(), base.starts_with("/srv"));
}

#[rstest]
#[case("", "absolute")]
#[case("mail/alice", "absolute")]
#[case("/", "root")]
#[case("/./", "root")]
#[case("/mail/../alice", "`..`")]
#[case("/mail/a\0b", "no directory can have")]
fn homes_that_are_none(#[case] home: &str, #[case] why: &str) {
    let index = IndexTemplate::parse("%h/idx").expect("a template");
    let user = layout("%u").user_named(b"alice").expect("a path");
    let error = index
        .expand_with(&user, Some(home.as_bytes()))
        .expect_err(home);
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn a_home_longer_than_any_path_is_refused() {
    let index = IndexTemplate::parse("%h/idx").expect("a template");
    let user = layout("%u").user_named(b"alice").expect("a path");
    let home = "/a".repeat(3000);
    let error = index.expand_with(&user, Some(home.as_bytes()));
    assert_eq!(error, Err(ExpandError::TooLongAPath));
    let home = format!("/{}", "a".repeat(256));
    assert!(index.expand_with(&user, Some(home.as_bytes())).is_err());
}

#[test]
fn index_of_a_user_without_a_domain() {
    let index = IndexTemplate::parse("/nfs/%d/%n").expect("accepted");
    let user = layout("%u").user_named(b"bob").expect("a path");
    assert_eq!(index.expand(&user), Err(ExpandError::EmptyComponent(2)));
}

#[rstest]
#[case("%2.256Nu/%u", "/nfs/%2.256Nu/%u")]
#[case("%2.256Nu/%u", "/nfs/%{user | sha1 | hexlify(2)}/%{user | lower}")]
#[case("%d/%n", "/nfs/%2.256Nu/%u")]
#[case("%Lu", "/nfs/%2.256LNu/%Lu")]
#[case("%Lu", "/nfs/%{user | username | upper}")]
#[case("%Uu", "/nfs/%2.256LNu/%Lu")]
#[case("%n", "/nfs/%2.256Nn/%n")]
#[case("%n", "/nfs/%{user | username}")]
#[case("%Ln@%d", "/nfs/%d/%Ln")]
#[case("%2.256Nu/%u", "%h/idx")]
#[case("%Lu", "%h/idx")]
fn fitting_pairs(#[case] layout_text: &str, #[case] index: &str) {
    let index = IndexTemplate::parse(index).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(check_pair(&layout(layout_text), &index), Ok(()));
}

#[rstest]
#[case("%Lu", "/nfs/%u", 6, "%u")]
#[case("%Lu", "/nfs/%2.256Nu/%Lu", 6, "%2.256Nu")]
#[case("%Lu", "/nfs/%LMu/%{sha1:user}", 11, "%{sha1:user}")]
#[case("%n", "/nfs/%u", 6, "%u")]
#[case("%n", "/nfs/%n@%d", 9, "%d")]
#[case("%Ln@%d", "/nfs/%d/%n", 9, "%n")]
#[case("%n", "/nfs/%h", 6, "%h")]
#[case(
    "%{user | lower}",
    "/nfs/%{user | md5 | hexlify(2)}/%{user | lower}",
    6,
    "%{user | md5 | hexlify(2)}"
)]
fn unfit_pairs(
    #[case] layout_text: &str,
    #[case] index: &str,
    #[case] column: usize,
    #[case] at: &str,
) {
    let index = IndexTemplate::parse(index).unwrap_or_else(|error| panic!("{error}"));
    let error = check_pair(&layout(layout_text), &index).expect_err("refused");
    assert_eq!(
        (error.problem, error.column, error.text.as_str()),
        (Problem::Mismatch, column, at),
        "{error}"
    );
}

#[test]
fn users_show_without_harm() {
    let user = layout("%u")
        .user_named(b"j\xc3\xb6rg\xff\n\\")
        .expect("a path");
    assert_eq!(user.to_string(), r"jörg\xff\n\\");
}

#[rstest]
#[case(
    "/nfs/%2.256Nu/%u",
    "%u",
    "/nfs/bf/alice@example.com",
    Some("alice@example.com")
)]
#[case(
    "/nfs/%2.256Nu/%u",
    "%u",
    "/nfs/bf/alice@example.com/dovecot.index.log",
    Some("alice@example.com")
)]
#[case("/nfs/%2.256Nu/%u", "%u", "/nfs/00/alice@example.com", None)]
#[case("/nfs/%2.256Nu/%u", "%u", "/nfs/bf", None)]
#[case("/nfs/%2.256Nu/%u", "%u", "/other/bf/alice@example.com", None)]
#[case(
    "/nfs/%d/%n",
    "%u",
    "/nfs/example.com/alice",
    Some("alice@example.com")
)]
#[case(
    "/nfs/%{user | domain}/x%{user | username}",
    "%d/%n",
    "/nfs/b/xa",
    Some("a@b")
)]
#[case("/nfs/%Lu", "%Lu", "/nfs/bob", Some("bob"))]
#[case("/nfs/%Lu", "%Lu", "/nfs/Bob", None)]
fn whose_an_index_is(
    #[case] index: &str,
    #[case] layout: &str,
    #[case] path: &str,
    #[case] expected: Option<&str>,
) {
    let index = IndexTemplate::parse(index).expect("a template");
    let found = index.user_of(&self::layout(layout), Path::new(path));
    let found = found.expect("it can be told").map(|user| user.to_string());
    assert_eq!(found.as_deref(), expected);
}

#[rstest]
#[case("/nfs/%8Mu", "%u")]
#[case("/nfs/%n", "%u")]
#[case("/nfs/%Lu", "%u")]
fn whose_an_index_is_that_tells_less_than_the_layout(#[case] index: &str, #[case] layout: &str) {
    let index = IndexTemplate::parse(index).expect("a template");
    let found = index.user_of(&self::layout(layout), Path::new("/nfs/alice"));
    assert_eq!(found, Err(ExpandError::NoWayBack));
}
