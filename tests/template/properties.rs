//! What holds for every template and every name.

use listindexfs::template::{ExpandError, IndexTemplate, Layout, Template};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces of layouts in 2.3's syntax, most of which do not fit together: the layout's parser must find out.
const OLD: &[&str] = &[
    "%u",
    "%n",
    "%d",
    "%Lu",
    "%Un",
    "%Ld",
    "%2n",
    "%2.256Nu",
    "%Nu",
    "%2.256LNu",
    "%2.256Nn",
    "%Hd",
    "%2Mu",
    "%2.3LMn",
    "%{sha1;truncate=12:user}",
    "%2{sha256:domain}",
    "@",
    "-",
    "x",
    "/",
    "/",
    "/",
    "%%",
    "%Ru",
    "%0.-2u",
    "%03n",
];
/// The same in 2.4's.
const NEW: &[&str] = &[
    "%{user}",
    "%{user | username}",
    "%{user | domain}",
    "%{user | lower}",
    "%{user | upper | username}",
    "%{user | domain | lower}",
    "%{user | md5 | substr(0, 8) % 256 | hex(2)}",
    "%{user | md5 % 100 | lfill(3)}",
    "%{user | lower | sha1 | hexlify(3)}",
    "%{user | username | sha512 | truncate(bits=5)}",
    "%{user | domain | default('none')}",
    "%{user | substr(0, 1)}",
    "%{user | sha1 | base64(url=1) | truncate(4)}",
    "%{user | sha1 % 1000 | lower * 3 | lower - 5}",
    "@",
    "-",
    "x",
    "/",
    "/",
    "/",
];

fn layout_text() -> impl Strategy<Value = String> {
    prop_oneof![vec(select(OLD), 1..7), vec(select(NEW), 1..7)].prop_map(|pieces| pieces.concat())
}

/// Names as users have them, and as nobody should.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let plain = "[a-cA-C@.-]{1,6}".prop_map(String::into_bytes);
    let usual = "[a-zA-Z]{1,4}@[a-zA-Z.]{1,6}".prop_map(String::into_bytes);
    prop_oneof![4 => usual, 4 => plain, 1 => vec(any::<u8>(), 0..8), 1 => vec(any::<u8>(), 240..260)]
}

/// A layout, if the text is one. Most random ones are not, so that tests count on many cases.
fn parsed() -> impl Strategy<Value = Layout> {
    layout_text().prop_filter_map("refused", |text| Layout::parse(&text).ok())
}

fn split(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_local_rejects: u32::MAX, failure_persistence: None, ..ProptestConfig::default() })]

    /// A user with a path is found again in it, and every level may be what it is.
    #[test]
    fn user_path_user(layout in parsed(), name in name()) {
        let domain = name.iter().position(|byte| *byte == b'@').map_or(&[][..], |at| &name[at + 1..]);
        let named = layout.user_named(&name);
        // only a user without a domain or without a local part may be lost on the way
        prop_assert!(named != Err(ExpandError::NoWayBack) || domain.is_empty() || name[0] == b'@');
        if let Ok(user) = named {
            prop_assert!(user.as_bytes().eq_ignore_ascii_case(&name) || user.as_bytes().eq_ignore_ascii_case(local(&name)));
            let path = user.dir().to_vec();
            // His own name, as the layout tells it, gives the same path.
            let again = layout.user_named(user.as_bytes());
            prop_assert_eq!(again.map(|user| user.dir().to_vec()), Ok(path.clone()));
            prop_assert_eq!(layout.user_of(&split(&path)), Some(user));
            for (at, component) in split(&path).iter().enumerate() {
                prop_assert!(layout.may_be(at + 1, component));
            }
        }
    }

    /// Two names with one path are one user: what is known of a user does not hang on who asked.
    #[test]
    fn one_path_one_user(layout in parsed(), a in name(), b in name()) {
        let template = Template::parse(layout.as_str()).expect("parsed before");
        if let (Ok(user), true) = (layout.user_named(&a), template.expand(&a) == template.expand(&b)) {
            prop_assert_eq!(layout.user_named(&b), Ok(user.clone()));
            if layout.as_str().contains("%u") {
                prop_assert_eq!(&a, &b);
            }
        }
    }

    /// A path that some user is found in is that user's.
    #[test]
    fn path_user_path(layout in parsed(), path in vec("[a-c0-9@A-C-]{1,6}", 1..4)) {
        let components: Vec<&[u8]> = path.iter().map(|name| name.as_bytes()).collect();
        if let Some(user) = layout.user_of(&components) {
            prop_assert_eq!(user.dir(), components.join(&b'/'));
            prop_assert_eq!(layout.user_named(user.as_bytes()), Ok(user));
        }
    }

    /// What fits is enough: names that the layout takes for one user have one INDEX.
    #[test]
    fn pairs(layout in parsed(), index in layout_text(), name in name(), flips in any::<u16>()) {
        let Ok(index) = IndexTemplate::parse(&format!("/{index}")) else { return Ok(()) };
        let template = Template::parse(index.as_str()).expect("parsed before");
        let other: Vec<u8> = name.iter().enumerate().map(|(at, byte)| if flips >> (at % 16) & 1 == 1 { byte ^ 0x20 } else { *byte }).collect();
        if listindexfs::template::check_pair(&layout, &index).is_ok() {
            for name in [&name, &other] {
                let Ok(user) = layout.user_named(name) else { continue };
                prop_assert_eq!(template.expand(user.as_bytes()), template.expand(name));
                if let Ok(path) = index.expand(&user) {
                    prop_assert!(path.starts_with(index.literal_prefix()) && path.is_absolute());
                    prop_assert_eq!(path.as_os_str().as_encoded_bytes(), &template.expand(name).expect("expands")[..]);
                }
            }
        }
    }

    /// Nothing makes the parsers or an expansion panic.
    #[test]
    fn no_panic(text in "\\PC{0,40}", name in vec(any::<u8>(), 0..20)) {
        everything(&text, &name);
    }

    /// Nor does anything that looks like a template.
    #[test]
    fn no_panic_nearly_right(pieces in vec(select(PIECES), 0..14), name in name()) {
        everything(&pieces.concat(), &name);
    }
}

const PIECES: &[&str] = &[
    "%",
    "%{",
    "}",
    "user",
    "username",
    "u",
    "n",
    "d",
    " | ",
    "(",
    ")",
    "'",
    "\"",
    "\\",
    ",",
    "=",
    "-",
    "0",
    "2",
    ".",
    "256",
    "2147483647",
    "-9223372036854775808",
    "N",
    "M",
    "H",
    "L",
    "X",
    "R",
    "E",
    "T",
    "D",
    "md5",
    "sha1",
    ";",
    ":",
    "truncate",
    "bits",
    "rounds",
    "salt",
    "substr",
    "hex",
    "unhex",
    "hexlify",
    "unhexlify",
    "index",
    "lfill",
    "rfill",
    "concat",
    "default",
    "literal",
    "benumber",
    "lenumber",
    "base64",
    "reverse",
    "domain",
    "+",
    "*",
    "/",
    "@",
    "é",
    "%{user | ",
    "%{user | md5 | ",
];

fn local(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b'@').next().unwrap_or(name)
}

fn everything(text: &str, name: &[u8]) {
    if let Err(error) = Template::parse(text) {
        assert!(!error.to_string().contains('\n'));
    }
    if let Ok(template) = Template::parse(text) {
        let _ = template.expand(name);
    }
    if let Ok(layout) = Layout::parse(text) {
        let _ = layout.user_named(name);
        let _ = layout.user_of(&split(name));
        let _ = layout.may_be(1, name);
    }
    let _ = IndexTemplate::parse(text);
}
