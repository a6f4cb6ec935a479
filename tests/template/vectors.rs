//! Dovecot's own expansions against ours. How the vectors were read off Dovecot: `tests/data/README.md`.

use listindexfs::template::{Problem, Template};
use serde_json::Value;

/// Runs `check` on every (user, template, Dovecot's result); returns how many there were.
fn each(json: &str, mut check: impl FnMut(&str, &str, &Value)) -> usize {
    let vectors: Value = serde_json::from_str(json).expect("vectors are JSON");
    let mut count = 0;
    for (user, expansions) in vectors.as_object().expect("users") {
        for (template, result) in expansions.as_object().expect("templates") {
            check(user, template, result);
            count += 1;
        }
    }
    count
}

/// The vectors went through JSON, where a byte that is not UTF-8 became U+FFFD: ours go the same way.
fn expand(template: &str, user: &str) -> String {
    let template = Template::parse(template).unwrap_or_else(|error| panic!("{error}"));
    let bytes = template
        .expand(user.as_bytes())
        .unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn dovecot_2_3() {
    let mut refused = 0;
    let count = each(
        include_str!("../data/vectors.json"),
        |user, template, result| {
            if ["%h", "%X{uid}"].contains(&template) {
                let error = Template::parse(template).expect_err(template);
                assert_eq!(error.problem, Problem::NotFromName, "{error}");
                refused += 1;
            } else {
                assert_eq!(
                    result,
                    &Value::from(expand(template, user)),
                    "{template} of {user}"
                );
            }
        },
    );
    assert_eq!((count, refused), (294, 14));
}
