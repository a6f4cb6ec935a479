//! Where Dovecot keeps its mail, its indexes and its list indexes: `mail_location` and its like in 2.3, settings in 2.4.

use std::path::Path;

use super::conf::{Conf, Section, Version};

/// The mail of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its namespace's name, if it has one.
    pub namespace: Option<String>,
    /// The section whose sessions alone it is for.
    pub scope: Option<String>,
    /// Nobody but the user changes it.
    pub private: bool,
    /// The namespace has it of itself, not from everybody's settings.
    pub own: bool,
    /// 2.3's location, whole.
    pub location: Option<String>,
    /// Where the mail is.
    pub root: Option<String>,
    /// `INDEX`.
    pub index: Option<String>,
    /// `LISTINDEX`, file name and all.
    pub listindex: Option<String>,
    /// `VOLATILEDIR`.
    pub volatile: Option<String>,
    /// Folder names are in the list index alone.
    pub by_index: bool,
}

impl Place {
    /// For people.
    pub fn name(&self) -> String {
        let of = match &self.namespace {
            Some(name) => format!("namespace {name}"),
            None => "mail".to_owned(),
        };
        match &self.scope {
            Some(scope) => format!("{scope}, {of}"),
            None => of,
        }
    }

    /// Where its list index is, where that is told apart from INDEX.
    pub fn absolute(&self) -> Option<&str> {
        self.listindex.as_deref().filter(|at| at.starts_with('/'))
    }

    /// Whether its list index is in the mount on `point`.
    pub fn is_below(&self, point: &Path) -> bool {
        self.absolute()
            .is_some_and(|at| Path::new(at).starts_with(point))
    }

    /// Whether its lock files are.
    pub fn volatile_is_below(&self, point: &Path) -> bool {
        let volatile = self.volatile.as_deref();
        volatile.is_some_and(|at| Path::new(at).starts_with(point))
    }
}

/// All of them.
pub fn of(conf: &Conf) -> Vec<Place> {
    let filters = conf.root.sections.iter();
    let filters = filters.filter(|s| {
        matches!(
            s.kind.as_str(),
            "protocol" | "local" | "local_name" | "remote"
        )
    });
    let mut found = in_scope(conf, None);
    for filter in filters {
        for place in in_scope(conf, Some(filter)) {
            let known = |known: &Place| {
                Place {
                    scope: None,
                    ..place.clone()
                } == *known
            };
            if !found.iter().any(known) {
                found.push(place);
            }
        }
    }
    found
}

/// What sessions in `scope` have, or all.
fn in_scope(conf: &Conf, scope: Option<&Section>) -> Vec<Place> {
    let here = scope.map_or(&conf.root, |scope| scope);
    let mut namespaces: Vec<_> = conf.root.of_kind("namespace").collect();
    if scope.is_some() {
        namespaces.extend(here.of_kind("namespace"));
    }
    let counts = |section: &&Section| {
        section.get("disabled") != Some("yes")
            && section.get("alias_for").unwrap_or_default().is_empty()
    };
    let mut places: Vec<_> = namespaces
        .into_iter()
        .filter(counts)
        .map(|namespace| place(conf, scope, Some(namespace)))
        .collect();
    if places.is_empty() {
        places.push(place(conf, scope, None));
    }
    places
}

fn place(conf: &Conf, scope: Option<&Section>, namespace: Option<&Section>) -> Place {
    let inner = |key: &str| {
        namespace
            .and_then(|section| section.get(key))
            .filter(|v| !v.is_empty())
    };
    let outer = |key: &str| {
        let of_scope = scope.and_then(|section| section.get(key));
        of_scope
            .or_else(|| conf.root.get(key))
            .filter(|value| !value.is_empty())
    };
    let kind = namespace.and_then(|section| section.get("type"));
    let place = match conf.version {
        Version::Old => {
            let own = inner("location");
            let location = own.or_else(|| outer("mail_location")).unwrap_or_default();
            Place {
                own: own.is_some(),
                ..old(location)
            }
        }
        Version::New => {
            let text = |key: &str| inner(key).or_else(|| outer(key)).map(str::to_owned);
            let layout = text("mailbox_list_layout");
            Place {
                own: inner("mailbox_list_index_prefix")
                    .or(inner("mail_path"))
                    .is_some(),
                root: text("mail_path"),
                index: text("mail_index_path"),
                listindex: text("mailbox_list_index_prefix"),
                volatile: text("mail_volatile_path"),
                by_index: layout.is_some_and(|layout| layout.eq_ignore_ascii_case("index")),
                ..Place::default()
            }
        }
    };
    Place {
        namespace: namespace.map(|section| section.name.clone()),
        scope: scope.map(Section::title),
        private: kind.is_none_or(|kind| kind == "private"),
        ..place
    }
}

/// `mdbox:~/mdbox:INDEX=/nfs/%u:LISTINDEX=/run/listindex/%u/dovecot.list.index`
fn old(location: &str) -> Place {
    let parts = parts(location);
    let value = |key: &str| {
        let mut values = parts.iter().skip(1).filter_map(|part| part.split_once('='));
        let found = values.find(|(name, _)| *name == key);
        found.map(|(_, value)| value.to_owned())
    };
    let root = parts.get(1).filter(|part| !part.contains('='));
    Place {
        location: Some(location.to_owned()),
        root: root.cloned(),
        index: value("INDEX"),
        listindex: value("LISTINDEX"),
        volatile: value("VOLATILEDIR"),
        by_index: value("LAYOUT").is_some_and(|layout| layout.eq_ignore_ascii_case("index")),
        ..Place::default()
    }
}

/// What colons separate; two of them are one in a path.
pub fn parts(location: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = location.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (':', Some(last)) if chars.next_if_eq(&':').is_some() => last.push(':'),
            (':', _) => parts.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    parts
}

/// The location of these parts.
pub fn joined(parts: &[String]) -> String {
    let parts: Vec<_> = parts.iter().map(|part| part.replace(':', "::")).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_has_parts() {
        let text = "mdbox:~/a::b:INDEX=/n/%u:LAYOUT=Index:LISTINDEX=/run/li/%u/x";
        let place = old(text);
        assert_eq!(place.root.as_deref(), Some("~/a:b"));
        assert_eq!(place.index.as_deref(), Some("/n/%u"));
        assert!(place.by_index && place.is_below(Path::new("/run/li")));
        assert!(!place.is_below(Path::new("/run/l")));
        assert_eq!(joined(&parts(text)), text);
        assert_eq!(old("").root, None);
    }

    #[test]
    fn namespaces_of_2_3_have_their_own_or_everybodys() {
        let text = "mail_location = mdbox:~/m:LISTINDEX=/run/li/%u/x\n\
            namespace inbox {\n location =\n}\n\
            namespace old {\n location = maildir:/old/%u\n type = public\n}\n\
            namespace off {\n disabled = yes\n}\n\
            namespace same {\n alias_for = INBOX/\n}\n\
            protocol lda {\n mail_location = mdbox:/x/%u\n}\n\
            protocol imap {\n mail_plugins = a\n}\n";
        let places = of(&Conf::parse(text));
        let names: Vec<_> = places
            .iter()
            .map(|place| (place.name(), place.own, place.private))
            .collect();
        assert_eq!(
            names,
            [
                ("namespace inbox".to_owned(), false, true),
                ("namespace old".to_owned(), true, false),
                ("protocol lda, namespace inbox".to_owned(), false, true),
            ]
        );
    }

    #[test]
    fn namespaces_of_2_4_have_settings() {
        let text = "dovecot_config_version = 2.4.0\nmail_path = ~/m\nmail_index_path = /n/%{user}\n\
            namespace inbox {\n inbox = yes\n}\n\
            namespace archive {\n mail_path = ~/a\n mailbox_list_layout = index\n mailbox_list_index_prefix = /run/li/%{user}/a\n}\n";
        let [inbox, archive] = &of(&Conf::parse(text))[..] else {
            panic!("two")
        };
        assert_eq!(
            (inbox.root.as_deref(), inbox.absolute()),
            (Some("~/m"), None)
        );
        assert_eq!(archive.index.as_deref(), Some("/n/%{user}"));
        assert!(archive.by_index && archive.own && !inbox.by_index);
    }

    #[test]
    fn without_namespaces_there_is_one_place() {
        let places = of(&Conf::parse("mail_location = maildir:~/Maildir\n"));
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].name(), "mail");
    }
}
