//! What Dovecot's own configuration says, 2.3 or 2.4, held against what the mounts are told.
//!
//! A userdb may say otherwise for each user, which is not looked at.

mod compare;
mod conf;
mod lines;
mod places;
mod settings;

use std::io::{self, Read};
use std::path::Path;

use self::compare::{Names, Verdict};
use self::places::Place;
use super::WITHIN;
use super::report::{About, Level, Report};
use super::subject::Subject;
use crate::ctl::bounded::{in_thread, output};

pub use self::conf::Conf;

/// Longer configurations are none, bytes.
const LONGEST: u64 = 16 << 20;

/// Asks `doveconf`, or reads what it has printed elsewhere, and compares that with each of `subjects`.
pub fn look_at(given: Option<&Path>, subjects: &[Subject], report: &mut Report) -> Option<Conf> {
    let conf = match read(given) {
        Ok(conf) => Some(conf),
        Err(error) if given.is_none() && error.kind() == io::ErrorKind::NotFound => {
            report.ok(About::Dovecot, "not looked at: there is no doveconf here");
            None
        }
        Err(error) => {
            let what = given.map_or_else(|| "doveconf".into(), Path::to_string_lossy);
            report.error(
                About::Dovecot,
                format!("{what}: {error}: mend it, Dovecot does not start with it"),
            );
            None
        }
    };
    if let Some(conf) = &conf {
        report.ok(
            About::Dovecot,
            format!("{} of Dovecot {}", conf.source, conf.version.word()),
        );
        judge(conf, subjects, report);
    }
    lines::missing(conf.as_ref(), subjects, report);
    conf
}

/// What doveconf(1) says of a file, or of Dovecot's own.
fn read(given: Option<&Path>) -> io::Result<Conf> {
    let Some(path) = given else {
        return Ok(Conf::parse(&output("doveconf", &["-n"], WITHIN)?));
    };
    let owned = path.to_owned();
    let text = in_thread(WITHIN, move || {
        let mut text = String::new();
        let file = std::fs::File::open(owned)?;
        file.take(LONGEST).read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    });
    let text = text.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    if conf::is_printed(&text) {
        return Ok(Conf::parse(&text).printed_elsewhere(path));
    }
    let name = path.to_string_lossy();
    let printed = output("doveconf", &["-c", &name, "-n"], WITHIN);
    printed
        .map(|text| Conf::parse(&text))
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other(
                "there is no doveconf here: name a file with what doveconf -n prints where it is",
            ),
            _ => error,
        })
}

fn judge(conf: &Conf, subjects: &[Subject], report: &mut Report) {
    let places = places::of(conf);
    let names = Names::of(conf);
    for subject in subjects {
        let ours: Vec<_> = places
            .iter()
            .filter(|p| p.is_below(&subject.point))
            .collect();
        if ours.is_empty() {
            elsewhere(conf, subject, subjects, &places, report);
        }
        for place in &ours {
            one(conf, subject, place, &names, report);
        }
        twice(&ours, report);
    }
    settings::look_at(conf, &places, subjects, report);
}

/// One place in the mount.
fn one(conf: &Conf, subject: &Subject, place: &Place, names: &Names, report: &mut Report) {
    let what = place.name();
    if place.by_index {
        report.error(
            About::Dovecot,
            format!(
                "{what}: {}=index keeps folder names in the list index alone, and they would be lost: take {} out of it",
                conf.version.layout(),
                conf.version.listindex()
            ),
        );
    }
    if !place.private {
        report.warning(
            About::Dovecot,
            format!(
                "{what} is not private: what others change there does not reach a user's list index: take {} out of it",
                conf.version.listindex()
            ),
        );
        return;
    }
    if place.volatile_is_below(&subject.point) {
        report.warning(
            About::Dovecot,
            format!("{what}: its VOLATILEDIR (2.4: mail_volatile_path) is in the mount: give it another directory"),
        );
    }
    let Some(config) = &subject.config else {
        return;
    };
    for (about, verdict) in [
        (
            About::Layout,
            compare::listindex(place, conf, config, names),
        ),
        (About::Index, compare::index(place, conf, config, names)),
    ] {
        match verdict {
            Verdict::Fits(text) => report.ok(about, format!("{what}: {text}")),
            Verdict::Differs(level, text) => report.add(level, about, format!("{what}: {text}")),
            Verdict::Unknown(text) => report.warning(about, format!("{what}: {text}")),
        }
    }
}

/// None of Dovecot's list indexes is in this mount.
fn elsewhere(
    conf: &Conf,
    subject: &Subject,
    subjects: &[Subject],
    places: &[Place],
    report: &mut Report,
) {
    let point = subject.point.display();
    let listindex = conf.version.listindex();
    let nobodys = |place: &&Place| !subjects.iter().any(|other| place.is_below(&other.point));
    let other = places
        .iter()
        .filter(nobodys)
        .find_map(|p| p.absolute().map(|at| (p, at)));
    let Some((place, at)) = other else {
        return report.warning(
            About::Layout,
            format!(
                "no {listindex} is below {point}, unless a userdb says so: add it, see the end"
            ),
        );
    };
    let stale = settings::very_dirty_syncs(conf);
    let level = if stale { Level::Error } else { Level::Warning };
    let harm = if stale {
        ", so it is stale once its user has been on another host"
    } else {
        ""
    };
    report.add(
        level,
        About::Layout,
        format!(
            "{}: {listindex} is {at}, not below {point}{harm}: mend it, see the end",
            place.name()
        ),
    );
}

/// Two namespaces of different mail have one list index.
fn twice(ours: &[&Place], report: &mut Report) {
    for (at, place) in ours.iter().enumerate() {
        let same = |other: &&&Place| {
            other.scope == place.scope
                && other.listindex == place.listindex
                && other.root != place.root
        };
        if let Some(other) = ours[..at].iter().find(same) {
            report.error(
                About::Layout,
                format!(
                    "{} and {} have one list index, and each takes it for its own: give one another file name, and name that in prefix=",
                    other.name(),
                    place.name()
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests;
