//! Dovecot's own expansions against ours. How they were read off Dovecot: `tests/data/README.md`.

use listindexfs::template::{Problem, Template};
use serde_json::Value;

/// Runs `check` on every (user, template, Dovecot's result); returns how many there were.
fn each(json: &str, mut check: impl FnMut(&str, &str, Option<&str>)) -> usize {
    let vectors: Value = serde_json::from_str(json).expect("vectors are JSON");
    let mut count = 0;
    for (user, expansions) in vectors.as_object().expect("users") {
        for (template, result) in expansions.as_object().expect("templates") {
            check(user, template, result.as_str());
            count += 1;
        }
    }
    count
}

/// The vectors went through JSON, where a byte that is not UTF-8 became U+FFFD: ours go the same way.
fn expand(template: &Template, user: &str) -> Option<String> {
    let bytes = template.expand(user.as_bytes()).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What Dovecot expands and we refuse: by a part of the template, or by all of it.
const REFUSED_PARTS: [&str; 5] = ["%{md4:", "%{sha3-256:", "%{size:", "%{if;", "%{auth_user}"];
const REFUSED_OLD: [&str; 4] = ["%", "x%", "x%5", "x%L"];
const REFUSED_NEW: [&str; 14] = [
    "%%/%{user | lower}",
    "%u/%{user | lower}",
    "100%/%{user | lower}",
    "%{user | hash('md4')}",
    "%{user | hash('sha3-256')}",
    "%{user | hash(\"size\")}",
    "%{user | safe}",
    "%{user | lookup('user')}",
    "%{user(1)}",
    "%{user | | lower}",
    "%{user | lower |}",
    "%{user | md5(salt='a', salt='b')}",
    "%{user | truncate(bits=4, 2)}",
    "%{user | truncate(2, bits=4)}",
];

#[test]
fn dovecot_2_3() {
    let mut refused = 0;
    let count = each(
        include_str!("../data/vectors.json"),
        |user, text, result| {
            if ["%h", "%X{uid}"].contains(&text) {
                let error = Template::parse(text).expect_err(text);
                assert_eq!(error.problem, Problem::NotFromName, "{error}");
                refused += 1;
            } else {
                let template = Template::parse(text).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(
                    expand(&template, user).as_deref(),
                    result,
                    "{text} of {user}"
                );
            }
        },
    );
    assert_eq!((count, refused), (294, 14));
}

#[test]
fn more_of_dovecot_2_3() {
    let count = each(
        include_str!("../data/vectors-2.3-more.json"),
        |user, text, result| {
            let ours =
                REFUSED_OLD.contains(&text) || REFUSED_PARTS.iter().any(|part| text.contains(part));
            match Template::parse(text) {
                Ok(template) => assert_eq!(
                    expand(&template, user).as_deref(),
                    result,
                    "{text} of {user}"
                ),
                Err(error) => assert!(ours || result.is_none(), "{error}"),
            }
        },
    );
    assert!(count > 2000, "{count}");
}

#[test]
fn dovecot_2_4() {
    let mut equal = 0;
    let count = each(
        include_str!("../data/vectors-2.4.json"),
        |user, text, result| {
            let template = match Template::parse(text) {
                Ok(template) => template,
                Err(error) => {
                    // 2.4.1's empty text for a filter that fails for every user
                    let fails = error.problem == Problem::Range && result.is_none_or(str::is_empty);
                    let mended = error.problem == Problem::Range
                        && ["default", "concat", "literal"]
                            .iter()
                            .any(|mend| text.contains(mend));
                    assert!(
                        result.is_none() || fails || mended || REFUSED_NEW.contains(&text),
                        "{error}: {result:?}"
                    );
                    return;
                }
            };
            match (expand(&template, user), result) {
                (Some(ours), Some(result)) => {
                    assert_eq!(ours, result, "{text} of {user}");
                    equal += 1;
                }
                (None, result) => assert!(
                    result.is_none_or(str::is_empty),
                    "{text} of {user}: {result:?}"
                ),
                // 2.3's long names, and a panic of 2.4.1
                (Some(_), None) => assert!(
                    ["%{username}", "%{domain}", "%{user | truncate(3)}"].contains(&text),
                    "{text} of {user}"
                ),
            }
        },
    );
    assert!(equal > 1700 && count > 2000, "{equal} of {count}");
}
