//! A place of Dovecot's against `layout=`, `prefix=` and `index=`: both are expanded with names of every kind, and have to give the
//! same, whatever they look like.

use std::os::unix::ffi::OsStringExt;

use super::conf::Conf;
use super::places::Place;
use crate::ctl::check::report::Level;
use crate::options::Config;
use crate::template::{Layout, Problem, Template};

/// Names of users, as they may log in.
const NAMES: [&str; 7] = [
    "testuser",
    "alice@example.com",
    "bob",
    "x",
    "first.last+tag@mail.example.com",
    "Bob@Example.ORG",
    "ZOE",
];
/// Stands for a home that only the userdb knows.
const SOME_HOME: &str = "/a-home";
/// Where nothing else is said Dovecot makes names small.
const USERNAME_FORMAT: &str = "%Lu";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For every name, and what is.
    Fits(String),
    /// How bad it is, and what to do.
    Differs(Level, String),
    /// It cannot be told, and what to do.
    Unknown(String),
}

/// Names of users, as Dovecot has them at a login, and then as they were typed.
pub struct Names {
    at_login: Vec<Vec<u8>>,
    typed: Vec<Vec<u8>>,
}

impl Names {
    /// Those that this Dovecot has.
    pub fn of(conf: &Conf) -> Self {
        let format = conf
            .root
            .get("auth_username_format")
            .unwrap_or(USERNAME_FORMAT);
        let format = Template::parse(format).ok();
        let typed: Vec<_> = NAMES.iter().map(|name| name.as_bytes().to_vec()).collect();
        let expand = |name: &Vec<u8>| match &format {
            Some(format) => format.expand(name).unwrap_or_else(|_| name.clone()),
            None => name.clone(),
        };
        Names {
            at_login: typed.iter().map(expand).collect(),
            typed,
        }
    }
}

/// What a user has, and should have.
struct Difference {
    user: String,
    ours: String,
    theirs: String,
    /// Only for a name that no login gives.
    rare: bool,
}

/// The first name for which they are not the same. Where we have no path for a name nobody is served, and nothing to compare.
fn difference(
    names: &Names,
    ours: impl Fn(&[u8]) -> Option<Vec<u8>>,
    theirs: &Template,
) -> Option<Difference> {
    let differs = |name: &Vec<u8>, rare: bool| {
        let ours = ours(name)?;
        let theirs = theirs
            .expand(name)
            .unwrap_or_else(|error| format!("nothing ({error})").into_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ours != theirs).then(|| Difference {
            user: text(name),
            ours: text(&ours),
            theirs: text(&theirs),
            rare,
        })
    };
    let at_login = names.at_login.iter().find_map(|name| differs(name, false));
    at_login.or_else(|| names.typed.iter().find_map(|name| differs(name, true)))
}

/// Its list index against `layout=` and `prefix=`.
pub fn listindex(place: &Place, conf: &Conf, config: &Config, names: &Names) -> Verdict {
    let name = conf.version.listindex();
    let error = |text: String| Verdict::Differs(Level::Error, text);
    let point = config.mountpoint.display().to_string();
    let at = place.absolute().unwrap_or_default();
    let below = at
        .strip_prefix(&point)
        .unwrap_or_default()
        .trim_start_matches('/');
    let (file, known) = (
        below.rsplit('/').next().unwrap_or_default(),
        &config.prefixes,
    );
    let Some(dir) = below
        .strip_suffix(file)
        .and_then(|dir| dir.strip_suffix('/'))
    else {
        return error(format!(
            "{name} {at} names no user's directory below {point}: {} is meant by layout=",
            wanted(config)
        ));
    };
    if !known.iter().any(|prefix| prefix == file) {
        let known: Vec<_> = known
            .iter()
            .map(|prefix| prefix.to_string_lossy())
            .collect();
        return error(format!(
            "its list index is called `{file}`, and prefix= has {}: say prefix={file}, or mend {name}",
            known.join(" and ")
        ));
    }
    let template = match Template::parse(dir) {
        Ok(template) => template,
        Err(why) if why.problem == Problem::NotFromName => {
            return error(format!(
                "{name} depends on the userdb, and layout= cannot: {why}"
            ));
        }
        Err(why) => return error(format!("{name} cannot be compared with layout=: {why}")),
    };
    let ours = |name: &[u8]| Some(config.layout.user_named(name).ok()?.dir().to_vec());
    let Some(found) = difference(names, ours, &template) else {
        return Verdict::Fits(format!(
            "{name} is as layout={} has it",
            config.layout.as_str()
        ));
    };
    let mend = match Layout::parse(dir) {
        Ok(_) => format!("say layout={dir}, or mend {name}"),
        Err(_) => format!("mend {name}: {}", wanted(config)),
    };
    found.told("layout=", name, &mend)
}

/// What LISTINDEX should be, in the words of `layout=`.
fn wanted(config: &Config) -> String {
    let prefix = config
        .prefixes
        .first()
        .map(|prefix| prefix.to_string_lossy());
    format!(
        "{}/{}/{}",
        config.mountpoint.display(),
        config.layout.as_str(),
        prefix.unwrap_or_default()
    )
}

impl Difference {
    fn told(self, what: &str, theirs: &str, mend: &str) -> Verdict {
        let (level, rare) = match self.rare {
            true => (
                Level::Warning,
                ", a name that no login gives as auth_username_format changes it",
            ),
            false => (Level::Error, ""),
        };
        Verdict::Differs(
            level,
            format!(
                "for {}{rare}, {what} gives {}, {theirs} {}: {mend}",
                self.user, self.ours, self.theirs
            ),
        )
    }
}

/// Its INDEX against `index=`.
pub fn index(place: &Place, conf: &Conf, config: &Config, names: &Names) -> Verdict {
    let name = conf.version.index();
    let ours = config.index.as_str();
    // Where it is not said, the indexes are with the mail.
    let Some(given) = place.index.as_ref().or(place.root.as_ref()) else {
        return Verdict::Unknown(format!(
            "{name} is not said, and cannot be compared with index={ours}: say it"
        ));
    };
    if given == "MEMORY" {
        return Verdict::Differs(
            Level::Error,
            format!(
                "{name} is MEMORY, so nothing on NFS tells who has had the user: say {name}={ours}"
            ),
        );
    }
    let Some(index) = config.index.template() else {
        return Verdict::Fits(format!("{name} is what the userdb says, which is asked"));
    };
    // Any home will do, where both have it in them.
    let home = conf
        .home()
        .or(config.index.needs_userdb().then_some(SOME_HOME));
    let text = at_home(given, home);
    let template = match Template::parse(&text) {
        _ if text.starts_with('~') => return of_userdb(name, given),
        Ok(template) => template,
        Err(why) if why.problem == Problem::NotFromName => return of_userdb(name, given),
        Err(why) => {
            return Verdict::Unknown(format!("{name} cannot be compared with index=: {why}"));
        }
    };
    let home = home.and_then(|home| Template::parse(home).ok());
    let expand = |name: &[u8]| {
        let user = config.layout.user_named(name).ok()?;
        let home = home.as_ref().and_then(|home| home.expand(name).ok());
        let expanded = index.expand_with(&user, home.as_deref()).ok()?;
        Some(
            expanded
                .base
                .join(expanded.rest)
                .into_os_string()
                .into_vec(),
        )
    };
    match difference(names, expand, &template) {
        None => Verdict::Fits(format!("{name} is as index={ours} has it")),
        Some(found) => {
            let theirs = if conf.home().is_some() { &text } else { given };
            found.told(
                "index=",
                name,
                &format!("say index={theirs}, or mend {name}"),
            )
        }
    }
}

fn of_userdb(name: &str, given: &str) -> Verdict {
    Verdict::Unknown(format!(
        "{name} is {given}, which depends on the userdb, and index= does not: say index={given}, or name it by %u, %n and %d in both"
    ))
}

/// The path with the home put in, if that is known.
fn at_home(path: &str, home: Option<&str>) -> String {
    let Some(home) = home.filter(|home| home.starts_with('/')) else {
        return path.to_owned();
    };
    let home = home.trim_end_matches('/');
    match path.strip_prefix("~/") {
        Some(rest) => format!("{home}/{rest}"),
        None => path.replace("%{home}", home).replace("%h", home),
    }
}

/// Whether both are as they should be, as far as that is known.
pub fn fits(place: &Place, conf: &Conf, config: &Config) -> bool {
    let names = Names::of(conf);
    let differs = |verdict| matches!(verdict, Verdict::Differs(..));
    !differs(listindex(place, conf, config, &names)) && !differs(index(place, conf, config, &names))
}

/// Whether INDEX may be compared at all.
pub fn is_known(place: &Place, conf: &Conf, config: &Config) -> bool {
    !matches!(
        index(place, conf, config, &Names::of(conf)),
        Verdict::Unknown(_)
    )
}
