//! Single settings of Dovecot that a list index in RAM, or indexes on NFS, ask for.

use super::conf::{Conf, Setting, Version};
use super::places::Place;
use crate::ctl::check::report::{About, Report};
use crate::ctl::check::subject::Subject;
use crate::index::guard::accepts;
use crate::mountinfo;
use crate::options::{Config, IndexFs};

/// Whether list indexes are believed without a look at the mail.
pub fn very_dirty_syncs(conf: &Conf) -> bool {
    conf.setting("mailbox_list_index_very_dirty_syncs", "no")
        .is_anywhere("yes")
}

/// Whether INDEX of any of them is on a network file system.
pub fn on_network(subjects: &[Subject]) -> bool {
    let table = std::fs::read(mountinfo::PATH).unwrap_or_default();
    let mut bases = subjects.iter().filter_map(Subject::base);
    bases.any(|base| {
        let mount = mountinfo::holding(&table, base);
        mount.is_some_and(|mount| accepts(&IndexFs::Network, &mount.fs))
    })
}

/// Looks at all of them.
pub fn look_at(conf: &Conf, places: &[Place], subjects: &[Subject], report: &mut Report) {
    list_index(conf, report);
    if on_network(subjects) {
        on_nfs(conf, report);
    }
    locks(conf, places, subjects, report);
    uids(conf, report);
}

/// Where a setting is not what is wanted: for everybody, or in these sections.
fn wrong(setting: &Setting<'_>, key: &str, wanted: &str) -> Option<String> {
    if setting.all != wanted {
        return Some(format!("{key}={}", setting.all));
    }
    let other = setting.elsewhere.iter().find(|(_, value)| *value != wanted);
    other.map(|(section, value)| format!("{key}={value} in {section}"))
}

fn list_index(conf: &Conf, report: &mut Report) {
    let key = "mailbox_list_index";
    if let Some(wrong) = wrong(&conf.setting(key, "yes"), key, "yes") {
        report.warning(
            About::Settings,
            format!("{wrong}: there is no list index to serve: say yes"),
        );
    }
    let key = "mailbox_list_index_very_dirty_syncs";
    match wrong(&conf.setting(key, "no"), key, "yes") {
        Some(wrong) => report.warning(
            About::Settings,
            format!("{wrong}: NFS is asked about every folder: say yes once every host of these users has its list index in listindexfs"),
        ),
        None => report.ok(About::Settings, format!("{key}=yes")),
    }
    let key = "mailbox_list_index_include_inbox";
    let inbox = match conf.setting(key, "no").all {
        "yes" => "INBOX is in the list index, too",
        _ => "INBOX is looked at by itself; with yes its counts come from the list index, too",
    };
    report.ok(
        About::Settings,
        format!("{key}={}: {inbox}", conf.setting(key, "no").all),
    );
}

/// What Dovecot asks for where its indexes are on NFS.
fn on_nfs(conf: &Conf, report: &mut Report) {
    let key = "mmap_disable";
    if let Some(wrong) = wrong(&conf.setting(key, "no"), key, "yes") {
        report.warning(
            About::Settings,
            format!("{wrong}: Dovecot's indexes in INDEX are on NFS, where maps are not to be had: say yes"),
        );
    }
    let key = "mail_fsync";
    if conf.setting(key, "optimized").all != "always" {
        let is = conf.setting(key, "optimized").all;
        report.warning(
            About::Settings,
            format!("{key}={is}: what one host writes into INDEX may reach NFS only later, when the user is on another: say always"),
        );
    }
    let key = "mail_nfs_index";
    if conf.setting(key, "no").is_anywhere("yes") {
        report.ok(
            About::Settings,
            format!("{key}=yes is for users who are on several hosts at once; where they are on one at a time it only costs"),
        );
    }
}

fn locks(conf: &Conf, places: &[Place], subjects: &[Subject], report: &mut Report) {
    let method = conf.setting("lock_method", "fcntl").all;
    let migrating = |config: &&Config| config.migrate && config.lock_method.word() != method;
    let configs = subjects
        .iter()
        .filter_map(|subject| subject.config.as_ref());
    for config in configs.filter(migrating) {
        report.error(
            About::Settings,
            format!(
                "lock_method={method}, and {} has lock_method={}: a list index may be fetched while a stock backend writes it: \
                 say lock_method={method} there, as the stock backends have it",
                config.mountpoint.display(),
                config.lock_method.word()
            ),
        );
    }
    let volatile = places.iter().any(|place| place.volatile.is_some());
    if method == "dotlock" && volatile && conf.version == Version::Old {
        report.warning(
            About::Settings,
            "lock_method=dotlock with VOLATILEDIR: Dovecot does not make that directory for a dotlock, and CREATE fails: \
             take VOLATILEDIR out, or another lock_method",
        );
    }
}

/// Whose uids mail processes have.
fn uids(conf: &Conf, report: &mut Report) {
    let set = |key: &str| conf.root.get(key).filter(|value| !value.is_empty());
    let shared = set("mail_uid").map(|uid| format!("mail_uid={uid}"));
    match shared.or_else(|| of_static(conf)) {
        Some(uid) if uid.ends_with("=root") || uid.ends_with("=0") => report.warning(
            About::Uids,
            format!("{uid}: what root changes while it is refused is not heard of: give the mail a user of its own"),
        ),
        Some(uid) => report.ok(About::Uids, format!("{uid}: all mail is one user's")),
        None => report.ok(
            About::Uids,
            "from the userdb, perhaps one for each user: each user's INDEX has to be his own; who can run programs of his \
             choice may shut others out (semantics.md, Users against users)",
        ),
    }
}

/// A static userdb with a uid for all.
fn of_static(conf: &Conf) -> Option<String> {
    let only = conf.only_userdb()?;
    let uid = match conf.version {
        Version::Old => {
            let all = ["args", "default_fields", "override_fields"];
            let all = all.into_iter().filter_map(|key| only.get(key));
            let mut words = all.flat_map(str::split_whitespace);
            words.find_map(|word| word.strip_prefix("uid="))
        }
        Version::New => only.of_kind("fields").find_map(|fields| fields.get("uid")),
    };
    uid.map(|uid| format!("userdb uid={uid}"))
}
