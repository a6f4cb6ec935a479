//! From userdb's reply to where a user's INDEX is. Pure.
//!
//! What comes out is absolute and without `..`: with the home directory as its base where INDEX is below it, else with none.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::Error;
use super::protocol::Fields;
use crate::index::dir::{Base, IndexPath};
use crate::options::Index;
use crate::template::{ExpandError, IndexTemplate, User, home_names};

/// No path is longer, bytes. What is remembered of each user is bounded by it too.
const PATH_MAX: usize = 4096;

/// Where the user's INDEX is.
///
/// # Errors
/// When the reply does not tell it, or no path that is safe to use.
pub fn locate(index: &Index, user: &User, fields: &Fields) -> Result<IndexPath, Error> {
    let all = [
        &fields.home,
        &fields.mail,
        &fields.mail_path,
        &fields.mail_index_path,
    ];
    if all
        .into_iter()
        .flatten()
        .any(|value| value.len() > PATH_MAX)
    {
        return Err(Error::BadPath(
            "userdb gives what is longer than any path".to_owned(),
        ));
    }
    match index {
        Index::Template(template) => by_template(template, user, fields),
        Index::Userdb => by_reply(fields),
    }
}

fn by_template(template: &IndexTemplate, user: &User, fields: &Fields) -> Result<IndexPath, Error> {
    let expanded = template.expand_with(user, home(fields));
    let expanded = expanded.map_err(|error| match error {
        ExpandError::NoHome => Error::NoHome,
        other => Error::BadPath(other.to_string()),
    })?;
    Ok(IndexPath {
        base: expanded.base,
        rest: expanded.rest,
        base_is: match template.begins_with_home() {
            true => Base::Users,
            false => Base::Fixed,
        },
    })
}

/// Dovecot takes an empty one for none.
fn home(fields: &Fields) -> Option<&[u8]> {
    fields.home.as_deref().filter(|home| !home.is_empty())
}

fn by_reply(fields: &Fields) -> Result<IndexPath, Error> {
    let text = index_text(fields)?;
    let bad = |error: ExpandError| {
        let text = String::from_utf8_lossy(&text);
        Error::BadPath(match error {
            ExpandError::BadHome(why) => format!("INDEX, `{text}`, {why}"),
            other => format!("INDEX, `{text}`: {other}"),
        })
    };
    let home = home(fields).map(home_names).transpose();
    let below_home = match &text[..] {
        b"~" => Some(&b""[..]),
        _ => text.strip_prefix(b"~/"),
    };
    let names = match below_home {
        Some(rest) => {
            let home = home.clone().map_err(|e| Error::BadPath(e.to_string()))?;
            let home = [b"/", &home.ok_or(Error::NoHome)?.join(&b'/')[..]].concat();
            home_names(&[&home, &b"/"[..], rest].concat())
        }
        None => home_names(&text),
    };
    let mut names = names.map_err(bad)?;
    // A home that is no good is none: INDEX does not need it then.
    let home = home.ok().flatten().unwrap_or_default();
    let rest = names.split_off(if names.starts_with(&home) {
        home.len()
    } else {
        0
    });
    Ok(IndexPath {
        base: path(b"/", &names),
        rest: path(b"", &rest),
        base_is: Base::Users,
    })
}

fn path(root: &[u8], names: &[Vec<u8>]) -> PathBuf {
    OsString::from_vec([root, &names.join(&b'/')[..]].concat()).into()
}

/// INDEX as Dovecot reads it from the reply, with `~` for the home directory.
fn index_text(fields: &Fields) -> Result<Vec<u8>, Error> {
    let of_2_4 = |text: &Vec<u8>| match text.windows(2).any(|two| two == b"%{") {
        true => Err(Error::BadPath(
            "userdb gives a path with a variable in it: have it expanded there".to_owned(),
        )),
        false => Ok(text.clone()),
    };
    match (&fields.mail_index_path, &fields.mail_path, &fields.mail) {
        (Some(index), _, _) if !index.is_empty() => of_2_4(index),
        // Said to be empty: INDEX is where the mail is.
        (Some(_), Some(mail), _) => of_2_4(mail),
        (_, _, Some(location)) => index_in(location),
        (None, Some(_), None) => Err(Error::NoIndexPath),
        (_, None, None) => Err(Error::NoMail),
    }
}

/// INDEX in 2.3's `driver:root:KEY=value:…`, in which `::` is a colon; the root where there is none. A `%` stands for itself:
/// auth has expanded variables, and mail processes expand none.
fn index_in(location: &[u8]) -> Result<Vec<u8>, Error> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let driver = location.iter().take_while(|byte| word(byte)).count();
    let settings = match location.get(driver) {
        Some(b':') => &location[driver + 1..],
        _ => location, // Dovecot finds out the driver by itself
    };
    let mut parts = parts(settings).into_iter();
    let root = parts.next().unwrap_or_default();
    let index = parts.find_map(|part| part.strip_prefix(b"INDEX=").map(<[u8]>::to_vec));
    match index.filter(|index| !index.is_empty()).unwrap_or(root) {
        index if index == b"MEMORY" => Err(Error::InMemory),
        index if index.is_empty() => Err(Error::NoMail),
        index => Ok(index),
    }
}

fn parts(settings: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = settings.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if byte == b':' && bytes.next_if(|next| **next == b':').is_none() {
            parts.push(Vec::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(byte);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Layout;
    use rstest::rstest;
    use std::path::Path;

    fn user() -> User {
        let layout = Layout::parse("%u").expect("a layout");
        layout.user_named(b"alice").expect("a user")
    }

    fn fields(home: &str, mail: &str) -> Fields {
        let some = |text: &str| (!text.is_empty()).then(|| text.into());
        Fields {
            home: some(home),
            mail: some(mail),
            ..Fields::default()
        }
    }

    fn by_userdb(fields: &Fields) -> Result<(String, String), Error> {
        let at = locate(&Index::Userdb, &user(), fields)?;
        assert_eq!(at.base_is, Base::Users);
        let text = |path: PathBuf| path.into_os_string().into_string().expect("UTF-8");
        Ok((text(at.base), text(at.rest)))
    }

    #[rstest]
    #[case("mdbox:~/mdbox:INDEX=~/idx", "/h/a", "idx")]
    #[case(
        "mdbox:~/mdbox:ITERINDEX:INDEX=/nfs/i/a:LISTINDEX=/run/l/a/x",
        "/",
        "nfs/i/a"
    )]
    #[case("mdbox:~/mdbox:INDEX=/h/a/x/y", "/h/a", "x/y")]
    #[case("mdbox:~/mdbox:INDEX=/h/ab/x", "/", "h/ab/x")]
    #[case("mdbox:~/mdbox", "/h/a", "mdbox")]
    #[case("mdbox:~/mdbox:INDEX=", "/h/a", "mdbox")]
    #[case("mbox:~:INBOX=/var/mail/a", "/h/a", "")]
    #[case("maildir:/h/a", "/h/a", "")]
    #[case("~/Maildir", "/h/a", "Maildir")]
    #[case("/h/a/Maildir:INDEX=/nfs/i/a", "/", "nfs/i/a")]
    #[case("sdbox:~/sd::box:INDEX=/h/a/a::b", "/h/a", "a:b")]
    #[case("sdbox:~/sdbox:INDEX=/nfs//./i/%u/", "/", "nfs/i/%u")]
    fn index_by_mail(#[case] mail: &str, #[case] base: &str, #[case] rest: &str) {
        let found = by_userdb(&fields("/h/./a/", mail));
        assert_eq!(found, Ok((base.to_owned(), rest.to_owned())));
    }

    #[rstest]
    #[case("", "/nfs/i/a", "/", "nfs/i/a")]
    #[case("relative", "/nfs/i/a", "/", "nfs/i/a")]
    #[case("/", "/nfs/i/a", "/", "nfs/i/a")]
    fn who_has_no_home_may_have_an_index(
        #[case] home: &str,
        #[case] index: &str,
        #[case] base: &str,
        #[case] rest: &str,
    ) {
        let found = by_userdb(&fields(home, &format!("mdbox:/m:INDEX={index}")));
        assert_eq!(found, Ok((base.to_owned(), rest.to_owned())));
    }

    #[rstest]
    #[case("/h/a", "", "gives no mail=")]
    #[case("/h/a", "mdbox:", "gives no mail=")]
    #[case("", "mdbox:~/mdbox", "gives no home")]
    #[case("", "mdbox:~", "gives no home")]
    #[case("relative", "mdbox:~/mdbox", "not an absolute path")]
    #[case("/h/../a", "mdbox:~/mdbox", "`..`")]
    #[case("/h/a", "mdbox:~/mdbox:INDEX=MEMORY", "in memory")]
    #[case(
        "/h/a",
        "mdbox:~/mdbox:INDEX=relative",
        "`relative`, is not an absolute path"
    )]
    #[case("/h/a", "mdbox:~/mdbox:INDEX=~bob/idx", "not an absolute path")]
    #[case("/h/a", "mdbox:~/mdbox:INDEX=~/../bob/idx", "`..`")]
    #[case("/h/a", "mdbox:~/mdbox:INDEX=/nfs/../etc", "`..`")]
    #[case("/h/a", "mdbox:~/mdbox:INDEX=/", "root")]
    #[case("/h/a", "mdbox:~/mdbox:INDEX=/a\0b", "no directory can have")]
    fn what_is_missing_or_unsafe_is_told(
        #[case] home: &str,
        #[case] mail: &str,
        #[case] why: &str,
    ) {
        let error = by_userdb(&fields(home, mail)).expect_err(mail).to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn what_is_longer_than_any_path_is_not_kept() {
        let long = format!("mdbox:/{}", "x/".repeat(PATH_MAX));
        let error = by_userdb(&fields("/h/a", &long)).expect_err("too long");
        assert!(error.to_string().len() < 100, "{error}");
    }

    #[rstest]
    #[case(Some("/nfs/i/a"), Some("~/mdbox"), Ok(("/", "nfs/i/a")))]
    #[case(Some("~/idx"), Some("~/mdbox"), Ok(("/h/a", "idx")))]
    #[case(Some(""), Some("~/mdbox"), Ok(("/h/a", "mdbox")))]
    #[case(None, Some("~/mdbox"), Err("mail_index_path"))]
    #[case(Some("/nfs/%{user}"), None, Err("variable"))]
    #[case(Some(""), None, Err("gives no mail="))]
    fn index_by_the_settings_of_2_4(
        #[case] index: Option<&str>,
        #[case] mail: Option<&str>,
        #[case] found: Result<(&str, &str), &str>,
    ) {
        let fields = Fields {
            mail_index_path: index.map(Into::into),
            mail_path: mail.map(Into::into),
            ..fields("/h/a", "")
        };
        match (by_userdb(&fields), found) {
            (Ok((base, rest)), found) => assert_eq!(Ok((&*base, &*rest)), found),
            (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
    }

    #[rstest]
    #[case("%h/idx", "/h/a", "idx", Base::Users)]
    #[case("/nfs/idx%h", "/nfs/idx", "h/a", Base::Fixed)]
    fn index_by_a_template_with_home(
        #[case] text: &str,
        #[case] base: &str,
        #[case] rest: &str,
        #[case] base_is: Base,
    ) {
        let template = IndexTemplate::parse(text).expect("a template");
        let index = Index::Template(Box::new(template));
        let at = locate(&index, &user(), &fields("/h/a", "")).expect("a path");
        assert_eq!((&*at.base, &*at.rest), (Path::new(base), Path::new(rest)));
        assert_eq!(at.base_is, base_is);
        assert_eq!(
            locate(&index, &user(), &Fields::default()),
            Err(Error::NoHome)
        );
        let error = locate(&index, &user(), &fields("x", "")).expect_err("relative");
        assert!(
            error
                .to_string()
                .contains("home directory is not an absolute"),
            "{error}"
        );
    }
}
