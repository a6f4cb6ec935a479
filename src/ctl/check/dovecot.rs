//! What Dovecot's own configuration says, 2.3 or 2.4.
//!
//! A userdb may say otherwise for each user, which is not looked at.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Level, Report};
use crate::ctl::bounded::output;
use crate::ctl::mounts::Served;

const ABOUT: &str = "dovecot";
const WITHIN: Duration = Duration::from_secs(10);

/// Asks `doveconf`, where there is one.
pub fn look_at(mounted: &[Served], report: &mut Report) {
    match output("doveconf", &["-n"], WITHIN) {
        Ok(config) => {
            for mount in mounted {
                judge(&config, &mount.point, report);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.ok(ABOUT, "not looked at: there is no doveconf here");
        }
        Err(error) => report.warning(ABOUT, format!("doveconf -n: {error}")),
    }
}

/// Where a list index is, as far as one location says so.
#[derive(Debug, Default, PartialEq, Eq)]
struct Location<'a> {
    listindex: Option<&'a str>,
    by_index: bool,
}

/// Each location in the configuration. In 2.4 its parts are settings of their own.
fn locations(config: &str) -> Vec<Location<'_>> {
    let mut found = Vec::new();
    let mut of_2_4 = Location::default();
    for (key, value) in settings(config) {
        match key {
            "mail_location" | "location" => found.push(Location {
                listindex: value.split(':').find_map(|p| p.strip_prefix("LISTINDEX=")),
                by_index: (value.split(':')).any(|p| p.eq_ignore_ascii_case("LAYOUT=index")),
            }),
            "mailbox_list_index_prefix" => of_2_4.listindex = Some(value),
            "mailbox_list_layout" if value.eq_ignore_ascii_case("index") => of_2_4.by_index = true,
            _ => {}
        }
    }
    if of_2_4 != Location::default() {
        found.push(of_2_4);
    }
    found
}

fn settings(config: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = config.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = "))
}

fn setting<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    settings(config)
        .filter(|(k, _)| *k == key)
        .last()
        .map(|(_, value)| value)
}

fn judge(config: &str, point: &Path, report: &mut Report) {
    let name = point.display();
    let locations = locations(config);
    let ours = |location: &&Location<'_>| {
        let path = location.listindex.map(Path::new);
        path.is_some_and(|path| path.starts_with(point))
    };
    let mut ours = locations.iter().filter(ours).peekable();
    if ours.peek().is_none() {
        return report.warning(
            ABOUT,
            format!(
                "no LISTINDEX= (2.4: mailbox_list_index_prefix) is below {name}, unless a userdb says so"
            ),
        );
    }
    let (level, text) = match ours.any(|location| location.by_index) {
        true => (
            Level::Error,
            "LAYOUT=index (2.4: mailbox_list_layout=index) keeps folder names in the list index alone: never here, names would be lost",
        ),
        false => (Level::Ok, "its list index is in the mount"),
    };
    report.add(level, ABOUT, format!("{name}: {text}"));
    if setting(config, "mailbox_list_index") == Some("no") {
        report.warning(
            ABOUT,
            "mailbox_list_index=no: there is no list index to serve",
        );
    }
    match setting(config, "mailbox_list_index_very_dirty_syncs") {
        Some("yes") => report.ok(ABOUT, "mailbox_list_index_very_dirty_syncs=yes"),
        _ => report.warning(
            ABOUT,
            "mailbox_list_index_very_dirty_syncs=no: NFS is asked about every folder; say yes once every host of these users \
             has its list index in listindexfs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GOOD_2_3: &str = "# 2.3.19.1\nmail_location = mdbox:~/mdbox:INDEX=/nfs/%u:LISTINDEX=/run/li/%u/dovecot.list.index\n\
        mailbox_list_index_very_dirty_syncs = yes\n";
    const GOOD_2_4: &str = "mail_driver = mdbox\nmailbox_list_index_prefix = /run/li/%{user}/dovecot.list.index\n\
        mailbox_list_index_very_dirty_syncs = yes\n";

    fn said(config: &str) -> String {
        let mut report = Report::default();
        judge(config, Path::new("/run/li"), &mut report);
        report.lines()
    }

    #[rstest]
    #[case(GOOD_2_3)]
    #[case(GOOD_2_4)]
    fn a_good_configuration_is_good(#[case] config: &str) {
        let said = said(config);
        assert!(said.lines().all(|line| line.starts_with("ok: ")), "{said}");
    }

    #[rstest]
    #[case("mail_location = mdbox:~/mdbox\n", "warning: dovecot: no LISTINDEX=")]
    #[case("# LISTINDEX=/run/li/x\n", "warning: dovecot: no LISTINDEX=")]
    #[case(
        "mail_location = mdbox:~/m:LISTINDEX=/run/lindex/%u/x\n",
        "warning: dovecot: no LISTINDEX="
    )]
    #[case(
        "namespace a {\n  location = mdbox:~/m:LAYOUT=index:LISTINDEX=/run/li/%u/x\n}\n",
        "error: dovecot: /run/li: LAYOUT=index"
    )]
    #[case(
        "mailbox_list_layout = index\nmailbox_list_index_prefix = /run/li/x/y\n",
        "error: dovecot: /run/li: LAYOUT=index"
    )]
    #[case("mailbox_list_index_prefix = /run/li/x/y\n", "very_dirty_syncs=no")]
    #[case(
        "mailbox_list_index = no\nmailbox_list_index_prefix = /run/li/x/y\n",
        "no list index to serve"
    )]
    fn what_is_wrong_is_said(#[case] config: &str, #[case] expected: &str) {
        let said = said(config);
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn another_namespace_by_index_is_none_of_ours() {
        let config = format!("{GOOD_2_3}namespace b {{\n  location = mdbox:~/b:LAYOUT=index\n}}\n");
        assert!(!said(&config).contains("error"));
    }
}
