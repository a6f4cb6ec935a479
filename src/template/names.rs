//! Dovecot's variables by name: which come from the user name, which do not, and the nearest to a wrong one.

use super::error::{Problem, TemplateError};
use super::expr::Source;

/// 2.3's one-letter variables and the long names that mean the same.
pub(super) fn from_name(name: &str) -> Option<Source> {
    Some(match name {
        "u" | "user" => Source::User,
        "n" | "username" => Source::Local,
        "d" | "domain" => Source::Domain,
        _ => return None,
    })
}

/// 2.3's letters that take more than a user name.
const LETTERS: [(&str, &str); 12] = [
    ("h", "the home directory"),
    ("s", "the service"),
    ("l", "the local IP address"),
    ("r", "the remote IP address"),
    ("p", "a process id"),
    ("i", "the uid"),
    ("a", "the local port"),
    ("b", "the remote port"),
    ("c", "the connection's security"),
    ("k", "the client's certificate"),
    ("m", "the authentication mechanism"),
    ("w", "the password"),
];

/// Long names, of 2.3 and 2.4, that take more than a user name.
const LONG: [&str; 47] = [
    "home",
    "uid",
    "gid",
    "pid",
    "service",
    "protocol",
    "lip",
    "rip",
    "local_ip",
    "remote_ip",
    "lport",
    "rport",
    "local_port",
    "remote_port",
    "real_lip",
    "real_rip",
    "real_lport",
    "real_rport",
    "real_local_ip",
    "real_remote_ip",
    "session",
    "session_pid",
    "hostname",
    "auth_user",
    "auth_username",
    "auth_domain",
    "login_user",
    "login_username",
    "login_domain",
    "master_user",
    "orig_user",
    "orig_username",
    "orig_domain",
    "original_user",
    "owner_user",
    "owner_home",
    "client_id",
    "client_pid",
    "local_name",
    "mech",
    "mechanism",
    "password",
    "secured",
    "cert",
    "domain_first",
    "domain_last",
    "id",
];

/// `prefix:key` variables that look something up.
const PREFIXES: [&str; 11] = [
    "env", "userdb", "passdb", "process", "system", "dovecot", "event", "date", "time", "generate",
    "ldap",
];

/// What to write instead of the home directory, and of a variable that is not ours to know.
const HOME: &str = "in index= write it as it is, %h or %{home}, and nowhere else";
const MEND: &str = "only what the user name gives can be used: %u, %n, %d, or in 2.4 %{user}, %{user | username}, %{user | domain}";

/// The error for a variable that [`from_name`] does not know, named `name` and written as in `place`.
pub(super) fn refuse(name: &str, place: (usize, &str)) -> TemplateError {
    if let Some((_, meaning)) = LETTERS.iter().find(|(letter, _)| *letter == name) {
        let mend = if name == "h" { HOME } else { MEND };
        return TemplateError::new(
            Problem::NotFromName,
            place,
            format!("is {meaning}, which the user name does not tell"),
            mend,
        );
    }
    let prefix = name.split_once(':').map_or("", |(prefix, _)| prefix);
    if LONG.contains(&name) || PREFIXES.contains(&prefix) {
        let what = format!("needs %{{{name}}}, which the user name does not tell");
        let mend = if name == "home" { HOME } else { MEND };
        return TemplateError::new(Problem::NotFromName, place, what, mend);
    }
    let known = ["user", "username", "domain"].into_iter().chain(LONG);
    let mend = nearest(name, known).map_or_else(
        || MEND.to_owned(),
        |near| format!("did you mean %{{{near}}}?"),
    );
    TemplateError::new(Problem::Unknown, place, "is no variable of Dovecot", mend)
}

/// The name most like `name`, if one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 3 && distance * 2 < candidate.len().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
