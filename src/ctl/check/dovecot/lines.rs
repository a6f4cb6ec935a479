//! The lines that Dovecot's configuration lacks, made from the options of the mount, in the syntax of whichever Dovecot is there,
//! or of both.

use super::compare;
use super::conf::{Conf, Version};
use super::places::{self, Place, joined, parts};
use super::settings;
use crate::ctl::check::report::{Lines, Report};
use crate::ctl::check::subject::Subject;
use crate::options::Config;
use crate::template::{Syntax, Template};

/// Tells what is missing for each of `subjects`.
pub fn missing(conf: Option<&Conf>, subjects: &[Subject], report: &mut Report) {
    let versions = match conf {
        Some(conf) => vec![conf.version],
        None => vec![Version::Old, Version::New],
    };
    let network = settings::on_network(subjects) || conf.is_none();
    for config in subjects
        .iter()
        .filter_map(|subject| subject.config.as_ref())
    {
        for version in &versions {
            report.lines(Lines {
                version: version.word(),
                lines: of(*version, conf, config, network),
            });
        }
    }
}

fn of(version: Version, conf: Option<&Conf>, config: &Config, network: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let place = conf.and_then(|conf| main_place(conf, config));
    let both = conf.zip(place.as_ref());
    let fits = |(conf, place): (&Conf, &Place)| {
        place.is_below(&config.mountpoint) && compare::fits(place, conf, config)
    };
    // What the userdb says stays as it is.
    let index = both.is_none_or(|(conf, place)| {
        place.index.is_none() || compare::is_known(place, conf, config)
    }) && config.index.template().is_some();
    if !both.is_some_and(fits) {
        match version {
            Version::Old => old(place.as_ref(), index, config, &mut lines),
            Version::New => new(place.as_ref(), index, config, &mut lines),
        }
    }
    let is = |key: &str, default: &'static str, wanted: &str| {
        conf.is_some_and(|conf| conf.setting(key, default).all == wanted)
    };
    if conf.is_some() && !is("mailbox_list_index", "yes", "yes") {
        lines.push("mailbox_list_index = yes".to_owned());
    }
    if !is("mailbox_list_index_very_dirty_syncs", "no", "yes") {
        lines
            .push("# once every host of these users has its list index in listindexfs:".to_owned());
        lines.push("mailbox_list_index_very_dirty_syncs = yes".to_owned());
    }
    if network && !is("mmap_disable", "no", "yes") {
        lines.push("mmap_disable = yes".to_owned());
    }
    if network && !is("mail_fsync", "optimized", "always") {
        lines.push("mail_fsync = always".to_owned());
    }
    lines
}

/// What is in the mount, else that of INBOX, else the first that is a user's own.
fn main_place(conf: &Conf, config: &Config) -> Option<Place> {
    let places = places::of(conf).into_iter();
    let mut own: Vec<_> = places
        .filter(|place| place.private && place.scope.is_none())
        .collect();
    let inbox = conf
        .root
        .of_kind("namespace")
        .find(|section| section.get("inbox") == Some("yes"));
    let inbox = inbox.map(|section| section.name.clone());
    let below = own
        .iter()
        .position(|place| place.is_below(&config.mountpoint));
    let of_inbox = || own.iter().position(|place| place.namespace == inbox);
    let at = below.or_else(of_inbox).unwrap_or_default();
    (at < own.len()).then(|| own.swap_remove(at))
}

/// A template in this syntax, or as it is, with a word about that.
fn written(text: &str, syntax: Syntax, lines: &mut Vec<String>) -> String {
    let template = Template::parse(text).ok();
    let converted = template.and_then(|template| template.in_syntax(syntax));
    converted.unwrap_or_else(|| as_it_is(text, lines))
}

/// `index=`, the same; nothing where the userdb says it.
fn index(config: &Config, syntax: Syntax, lines: &mut Vec<String>) -> Option<String> {
    let template = config.index.template()?;
    let converted = template.in_syntax(syntax);
    Some(converted.unwrap_or_else(|| as_it_is(template.as_str(), lines)))
}

fn as_it_is(text: &str, lines: &mut Vec<String>) -> String {
    lines.push(format!(
        "# This Dovecot has nothing that means the same as {text}: choose another, here and in the mount's options."
    ));
    text.to_owned()
}

/// LISTINDEX for each prefix, the first for INBOX's namespace.
fn listindexes(config: &Config, layout: &str, version: Version) -> Vec<String> {
    let point = config.mountpoint.to_string_lossy();
    let point = match version {
        Version::Old => point.replace('%', "%%"),
        Version::New => point.into_owned(),
    };
    let prefixes = config
        .prefixes
        .iter()
        .map(|prefix| prefix.to_string_lossy());
    prefixes
        .map(|prefix| format!("{point}/{layout}/{prefix}"))
        .collect()
}

/// The namespace that has the place of itself.
fn own_namespace(place: Option<&Place>) -> Option<&str> {
    place.filter(|place| place.own)?.namespace.as_deref()
}

/// Settings where they count: in that namespace, or for everybody.
fn in_place(place: Option<&Place>, settings: impl IntoIterator<Item = String>) -> Vec<String> {
    let settings = settings.into_iter();
    let Some(namespace) = own_namespace(place) else {
        return settings.collect();
    };
    let open = std::iter::once(format!("namespace {namespace} {{"));
    let within = settings.map(|setting| format!("  {setting}"));
    open.chain(within).chain(["}".to_owned()]).collect()
}

fn old(place: Option<&Place>, with_index: bool, config: &Config, lines: &mut Vec<String>) {
    let index = index(config, Syntax::Old, lines).filter(|_| with_index);
    let layout = written(config.layout.as_str(), Syntax::Old, lines);
    let all = listindexes(config, &layout, Version::Old);
    let location = place.and_then(|place| place.location.as_deref());
    let location = location.filter(|location| !location.is_empty());
    let mut now = parts(location.unwrap_or("mdbox:~/mdbox"));
    let mut set = |key: &str, value: &str| {
        let text = format!("{key}={value}");
        let is = |part: &&mut String| part.split_once('=').is_some_and(|(name, _)| name == key);
        match now.iter_mut().find(is) {
            Some(part) => *part = text,
            None => now.push(text),
        }
    };
    if let Some(index) = &index {
        set("INDEX", index);
    }
    if let Some(first) = all.first() {
        set("LISTINDEX", first);
    }
    let key = match own_namespace(place) {
        Some(_) => "location",
        None => "mail_location",
    };
    lines.extend(in_place(place, [format!("{key} = {}", joined(&now))]));
    for other in all.iter().skip(1).filter(|_| place.is_none()) {
        lines.push(format!(
            "# in the location of another namespace: LISTINDEX={other}"
        ));
    }
}

fn new(place: Option<&Place>, with_index: bool, config: &Config, lines: &mut Vec<String>) {
    let index = index(config, Syntax::New, lines).filter(|_| with_index);
    let layout = written(config.layout.as_str(), Syntax::New, lines);
    let all = listindexes(config, &layout, Version::New);
    if place.is_none() {
        lines.push("mail_driver = mdbox".to_owned());
        lines.push("mail_path = %{home}/mdbox".to_owned());
    }
    let mut settings = Vec::new();
    settings.extend(index.map(|index| format!("mail_index_path = {index}")));
    settings.extend(
        all.first()
            .map(|first| format!("mailbox_list_index_prefix = {first}")),
    );
    lines.extend(in_place(place, settings));
    for other in all.iter().skip(1).filter(|_| place.is_none()) {
        lines.push(format!(
            "# in another namespace: mailbox_list_index_prefix = {other}"
        ));
    }
}
