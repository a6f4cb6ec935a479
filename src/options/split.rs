//! Cuts an `-o` text into options: commas separate, `\,` is a comma and `\\` a backslash.

/// The options of `text`, unescaped, empty ones left out.
///
/// A backslash before any other character stays, so that what Dovecot's variables may hold needs
/// no second escaping.
pub fn options(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut option = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' => found.push(std::mem::take(&mut option)),
            '\\' => option.push(
                chars
                    .next_if(|next| matches!(next, ',' | '\\'))
                    .unwrap_or(c),
            ),
            _ => option.push(c),
        }
    }
    found.push(option);
    found.retain(|option| !option.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::options;
    use rstest::rstest;

    #[rstest]
    #[case("", &[])]
    #[case(",,", &[])]
    #[case("a,b=c", &["a", "b=c"])]
    #[case(",a,,b,", &["a", "b"])]
    #[case(r"index=/a\,b,ro", &["index=/a,b", "ro"])]
    #[case(r"index=/a\\,ro", &[r"index=/a\", "ro"])]
    #[case(r"index=/a\\\,ro", &[r"index=/a\,ro"])]
    #[case(r"index=/a\x", &[r"index=/a\x"])]
    #[case(r"index=/a\", &[r"index=/a\"])]
    #[case("index=/%{user | domain}=x,ro", &["index=/%{user | domain}=x", "ro"])]
    fn commas_separate_unless_escaped(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(options(text), expected);
    }
}
