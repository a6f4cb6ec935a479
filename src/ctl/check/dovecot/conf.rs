//! What `doveconf -n` prints, read: settings, and sections within sections.

use std::path::Path;

use crate::ctl::bounded::in_thread;
use crate::ctl::check::WITHIN;

/// Where Dovecot has its sockets and its pid where base_dir does not say so.
const BASE_DIR: &str = "/var/run/dovecot";
/// Sections whose settings count only for some sessions.
const FILTERS: [&str; 5] = ["protocol", "local", "local_name", "remote", "namespace"];

/// Whose syntax it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2.3, and before.
    Old,
    /// 2.4 and later.
    New,
}

impl Version {
    /// As people call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Old => "2.3",
            Self::New => "2.4",
        }
    }

    /// What tells where the list index is.
    pub fn listindex(self) -> &'static str {
        match self {
            Self::Old => "LISTINDEX",
            Self::New => "mailbox_list_index_prefix",
        }
    }

    /// What tells where the other indexes are.
    pub fn index(self) -> &'static str {
        match self {
            Self::Old => "INDEX",
            Self::New => "mail_index_path",
        }
    }

    /// What tells how folders are kept.
    pub fn layout(self) -> &'static str {
        match self {
            Self::Old => "LAYOUT",
            Self::New => "mailbox_list_layout",
        }
    }
}

/// A configuration.
#[derive(Debug)]
pub struct Conf {
    /// Whose syntax it is in.
    pub version: Version,
    /// Where it is from.
    pub source: String,
    /// It is this host's.
    here: bool,
    /// All of it.
    pub root: Section,
}

/// `kind name { … }`, or all of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// `namespace`.
    pub kind: String,
    /// `inbox`.
    pub name: String,
    settings: Vec<(String, String)>,
    /// Those within.
    pub sections: Vec<Section>,
}

impl Section {
    /// What a setting has here.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut found = self.settings.iter().rev();
        found
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The sections of this kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> {
        self.sections
            .iter()
            .filter(move |section| section.kind == kind)
    }

    /// Its kind and name, as written.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind, self.name).trim().to_owned()
    }
}

/// Whether `text` is what doveconf(1) prints, as its first line shows, and no configuration that includes others.
pub fn is_printed(text: &str) -> bool {
    version(text).is_some() && !text.lines().any(|line| line.trim().starts_with("!include"))
}

/// `# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf`
fn version(text: &str) -> Option<Version> {
    let first = text.lines().next()?.strip_prefix("# ")?;
    let mut numbers = first.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (
        numbers.next()?.parse::<u32>().ok()?,
        numbers.next()?.parse::<u32>().ok()?,
    );
    Some(match (major, minor) >= (2, 4) {
        true => Version::New,
        false => Version::Old,
    })
}

impl Conf {
    /// Reads what doveconf(1) has printed.
    pub fn parse(text: &str) -> Self {
        let root = parse(text);
        let version = version(text).unwrap_or(match root.get("dovecot_config_version") {
            Some(_) => Version::New,
            None => Version::Old,
        });
        let first = text.lines().next().unwrap_or_default();
        let source = first
            .split_once("): ")
            .map_or("the configuration", |(_, path)| path);
        Conf {
            version,
            source: source.to_owned(),
            here: true,
            root,
        }
    }

    /// It was printed into this file, perhaps on another host.
    pub fn printed_elsewhere(self, path: &Path) -> Self {
        Conf {
            here: false,
            source: format!("{}, printed into {},", self.source, path.display()),
            ..self
        }
    }

    /// What a setting is for everybody, and where it is another for some: by the names of those sections.
    pub fn setting<'a>(&'a self, key: &str, default: &'a str) -> Setting<'a> {
        let mut elsewhere = Vec::new();
        let mut sections: Vec<(String, &Section)> = vec![(String::new(), &self.root)];
        while let Some((place, section)) = sections.pop() {
            for inner in section
                .sections
                .iter()
                .filter(|s| FILTERS.contains(&s.kind.as_str()))
            {
                let place = format!(
                    "{place}{}{}",
                    if place.is_empty() { "" } else { ", " },
                    inner.title()
                );
                elsewhere.extend(inner.get(key).map(|value| (place.clone(), value)));
                sections.push((place, inner));
            }
        }
        let all = self.root.get(key).unwrap_or(default);
        Setting { all, elsewhere }
    }

    /// The process that the running Dovecot began with, where it is to be seen here.
    pub fn master(&self) -> Option<u32> {
        let base = self.root.get("base_dir").unwrap_or(BASE_DIR);
        let path = Path::new(base).join("master.pid");
        let read = in_thread(WITHIN, move || std::fs::read_to_string(path).ok());
        let pid = read.flatten()?.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (self.here && name.trim() == "dovecot").then_some(pid)
    }

    /// The userdb, where there is but one.
    pub fn only_userdb(&self) -> Option<&Section> {
        let mut userdbs = self.root.of_kind("userdb");
        userdbs.next().filter(|_| userdbs.next().is_none())
    }

    /// Users' home, where it is the same text for all of them; a `%` in it is a variable.
    pub fn home(&self) -> Option<&str> {
        let only = self.only_userdb()?;
        let of_static = match self.version {
            Version::Old if only.get("driver") == Some("static") => {
                let args = only.get("args").unwrap_or_default().split_whitespace();
                Some(args.filter_map(|arg| arg.strip_prefix("home=")).next_back())
            }
            Version::New if only.name == "static" || only.get("driver") == Some("static") => {
                Some(only.of_kind("fields").find_map(|fields| fields.get("home")))
            }
            _ => None,
        };
        of_static?.or_else(|| self.root.get("mail_home"))
    }
}

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// What it is for everybody.
    pub all: &'a str,
    /// Where it is something else: the sections, and what.
    pub elsewhere: Vec<(String, &'a str)>,
}

impl Setting<'_> {
    /// Whether it has this value anywhere.
    pub fn is_anywhere(&self, wanted: &str) -> bool {
        self.all == wanted || self.elsewhere.iter().any(|(_, value)| *value == wanted)
    }
}

fn parse(text: &str) -> Section {
    let mut open = vec![Section::default()];
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "}" {
            close(&mut open);
        } else if let Some(title) = line.strip_suffix('{') {
            let (kind, name) = title.trim().split_once(' ').unwrap_or((title.trim(), ""));
            open.push(Section {
                kind: kind.to_owned(),
                name: unquoted(name.trim()),
                ..Section::default()
            });
        } else if let (Some((key, value)), Some(section)) = (line.split_once('='), open.last_mut())
        {
            let setting = (key.trim().to_owned(), unquoted(value.trim()));
            section.settings.push(setting);
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().unwrap_or_default()
}

fn close(open: &mut Vec<Section>) {
    if open.len() < 2 {
        return;
    }
    let inner = open.pop();
    if let Some(outer) = open.last_mut() {
        outer.sections.extend(inner);
    }
}

/// Values with blanks at their ends, and in 2.4 others, are in quotes.
fn unquoted(value: &str) -> String {
    let inside = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    let Some(inside) = inside else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\n# OS: Linux\n\
        dovecot_config_version = 2.4.0\nmmap_disable = yes\nlog_timestamp = \"%Y \\\"x\\\" \"\n\
        userdb static {\n  fields {\n    home = /srv/%{user}\n    uid = vmail\n  }\n}\n\
        protocol imap {\n  mmap_disable = no\n  namespace inbox {\n    mail_path = ~/m\n  }\n}\n\
        namespace inbox {\n  inbox = yes\n  mailbox \"Sent Messages\" {\n    special_use = \\Sent\n  }\n}\n";

    #[test]
    fn sections_and_settings_are_read() {
        let conf = Conf::parse(TEXT);
        assert_eq!(conf.version, Version::New);
        assert_eq!(conf.source, "/etc/dovecot/dovecot.conf");
        assert_eq!(conf.root.get("log_timestamp"), Some("%Y \"x\" "));
        let inbox = conf.root.of_kind("namespace").next().expect("inbox");
        assert_eq!(
            (inbox.name.as_str(), inbox.get("inbox")),
            ("inbox", Some("yes"))
        );
        assert_eq!(inbox.sections[0].name, "Sent Messages");
        assert_eq!(conf.home(), Some("/srv/%{user}"));
    }

    #[test]
    fn a_setting_may_be_another_for_some() {
        let conf = Conf::parse(TEXT);
        let mmap = conf.setting("mmap_disable", "no");
        assert_eq!(mmap.all, "yes");
        assert_eq!(mmap.elsewhere, [("protocol imap".to_owned(), "no")]);
        let path = conf.setting("mail_path", "");
        assert_eq!(
            path.elsewhere,
            [("protocol imap, namespace inbox".to_owned(), "~/m")]
        );
        assert!(
            conf.setting("mail_fsync", "optimized")
                .is_anywhere("optimized")
        );
    }

    #[test]
    fn what_doveconf_prints_is_told_from_a_configuration() {
        assert!(is_printed(TEXT));
        assert!(is_printed(
            "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf\n"
        ));
        assert!(!is_printed("## Dovecot configuration file\n"));
        assert!(!is_printed("mail_location = x\n"));
        assert!(!is_printed(
            "# 2.3.19.1 (9b5): /etc/dovecot.conf\n!include conf.d/*\n"
        ));
    }

    #[test]
    fn a_static_userdb_of_2_3_tells_the_home() {
        let text = "userdb {\n args = uid=vmail gid=vmail home=/srv/%u\n driver = static\n}\n";
        assert_eq!(Conf::parse(text).home(), Some("/srv/%u"));
        let text = "mail_home = /a/%u\nuserdb {\n driver = passwd\n}\n";
        assert_eq!(
            Conf::parse(text).home(),
            None,
            "passwd has a home of its own"
        );
    }
}
