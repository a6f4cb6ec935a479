//! Configurations as doveconf(1) of either version prints them, each with one thing wrong, and what is said of it.

use std::path::Path;

use rstest::rstest;

use super::*;
use crate::ctl::check::report::Finding;
use crate::options::Config;

const GOOD_2_3: &str = "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf\n\
    lock_method = fcntl\nmail_fsync = always\n\
    mail_location = mdbox:~/mdbox:INDEX=/nfs/idx/%2.256Nu/%u:LISTINDEX=/run/li/%2.256Nu/%u/dovecot.list.index\n\
    mailbox_list_index_very_dirty_syncs = yes\nmmap_disable = yes\n\
    namespace inbox {\n  inbox = yes\n  location = \n}\n\
    userdb {\n  args = uid=vmail gid=vmail home=/srv/%u\n  driver = static\n}\n";

const GOOD_2_4: &str = "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\n\
    dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\nmail_driver = mdbox\nmail_fsync = always\n\
    mail_index_path = /nfs/idx/%{user | md5 | substr(0, 8) % 256 | hex(2)}/%{user}\nmail_path = %{home}/mdbox\n\
    mailbox_list_index_prefix = /run/li/%{user | md5 | substr(0, 8) % 256 | hex(2)}/%{user}/dovecot.list.index\n\
    mailbox_list_index_very_dirty_syncs = yes\nmmap_disable = yes\n\
    namespace inbox {\n  inbox = yes\n  separator = /\n}\n\
    userdb static {\n  fields {\n    gid = vmail\n    home = /srv/%{user}\n    uid = vmail\n  }\n}\n";

fn subject(options: &str) -> Subject {
    let point = Path::new("/run/li");
    let config = Config::parse(Path::new("/b"), point, &[options.to_owned()], "host");
    Subject {
        point: point.to_owned(),
        backing: None,
        served: None,
        plans: Vec::new(),
        config: Some(config.expect("options")),
    }
}

fn said_with(options: &str, config: &str) -> Report {
    let subjects = [subject(options)];
    let conf = Conf::parse(config);
    let mut report = Report::default();
    judge(&conf, &subjects, &mut report);
    lines::missing(Some(&conf), &subjects, &mut report);
    report
}

fn said(config: &str) -> Report {
    said_with("index=/nfs/idx/%2.256Nu/%u", config)
}

fn has(report: &Report, level: Level, about: About, text: &str) -> bool {
    let fits = |f: &Finding| f.level == level && f.about == about && f.text.contains(text);
    report.findings().iter().any(fits)
}

#[rstest]
#[case(GOOD_2_3)]
#[case(GOOD_2_4)]
fn a_good_configuration_is_good_and_lacks_nothing(#[case] config: &str) {
    let report = said(config);
    let bad = report
        .findings()
        .iter()
        .find(|finding| finding.level != Level::Ok);
    assert_eq!(bad, None);
    assert!(has(&report, Level::Ok, About::Layout, "as layout="));
    assert!(has(&report, Level::Ok, About::Index, "as index="));
    assert!(has(&report, Level::Ok, About::Uids, "uid=vmail"));
    assert_eq!(report.dovecot_lines(), []);
}

/// The options may be in either syntax, too.
#[rstest]
#[case(GOOD_2_3)]
#[case(GOOD_2_4)]
fn what_means_the_same_fits(#[case] config: &str) {
    let hash = r"%{user | md5 | substr(0\, 8) % 256 | hex(2)}";
    let options = format!("index=/nfs/idx/{hash}/%{{user}},layout={hash}/%{{user}}");
    let report = said_with(&options, config);
    assert!(
        has(&report, Level::Ok, About::Layout, "as layout="),
        "{report:?}"
    );
    assert!(
        has(&report, Level::Ok, About::Index, "as index="),
        "{report:?}"
    );
}

#[rstest]
#[case(
    "LISTINDEX=/run/li/%2.256Nu/%u/",
    "ITERINDEX:X=",
    Level::Warning,
    About::Layout,
    "no LISTINDEX is below /run/li"
)]
#[case(
    "/run/li/%2.256Nu/%u/",
    "/run/lindex/%u/",
    Level::Error,
    About::Layout,
    "LISTINDEX is /run/lindex/%u/dovecot.list.index, not below /run/li, so it is stale"
)]
#[case(
    "/run/li/%2.256Nu/%u/",
    "/run/li/%1u/%u/",
    Level::Error,
    About::Layout,
    "for testuser, layout= gives d0/testuser, LISTINDEX t/testuser: say layout=%1u/%u"
)]
#[case(
    "/run/li/%2.256Nu/%u/",
    "/run/li/%2.256Nu/%n/",
    Level::Error,
    About::Layout,
    "for alice@example.com, layout= gives bf/alice@example.com, LISTINDEX bf/alice"
)]
#[case(
    "/run/li/%2.256Nu/%u/",
    "/run/li/%2.256LNu/%Lu/",
    Level::Warning,
    About::Layout,
    "for Bob@Example.ORG, a name that no login gives"
)]
#[case(
    "/run/li/%2.256Nu/%u/",
    "/run/li/%h/",
    Level::Error,
    About::Layout,
    "LISTINDEX depends on the userdb"
)]
#[case(
    "/run/li/%2.256Nu/%u/",
    "/run/li/",
    Level::Error,
    About::Layout,
    "names no user's directory below /run/li"
)]
#[case(
    "/dovecot.list.index",
    "/list",
    Level::Error,
    About::Layout,
    "called `list`, and prefix= has dovecot.list.index: say prefix=list"
)]
#[case(
    "INDEX=/nfs/idx/%2.256Nu/%u",
    "INDEX=/nfs/index/%2.256Nu/%u",
    Level::Error,
    About::Index,
    "for testuser, index= gives /nfs/idx/d0/testuser, INDEX /nfs/index/d0/testuser: say index=/nfs/index/%2.256Nu/%u"
)]
#[case(
    "INDEX=/nfs/idx/%2.256Nu/%u",
    "INDEX=MEMORY",
    Level::Error,
    About::Index,
    "is MEMORY"
)]
#[case(
    "INDEX=/nfs/idx/%2.256Nu/%u:",
    "",
    Level::Error,
    About::Index,
    "INDEX /srv/testuser/mdbox: say index=/srv/%u/mdbox"
)]
#[case(
    "INDEX=/nfs/idx/%2.256Nu/%u",
    "INDEX=/nfs/idx/%{uid}",
    Level::Warning,
    About::Index,
    "depends on the userdb"
)]
#[case(
    "mdbox:~/mdbox",
    "mdbox:~/mdbox:LAYOUT=index",
    Level::Error,
    About::Dovecot,
    "keeps folder names in the list index alone"
)]
#[case(
    "mdbox:~/mdbox",
    "mdbox:~/mdbox:VOLATILEDIR=/run/li/v/%u",
    Level::Warning,
    About::Dovecot,
    "give it another directory"
)]
#[case(
    "  inbox = yes\n",
    "  type = shared\n",
    Level::Warning,
    About::Dovecot,
    "is not private"
)]
#[case(
    "very_dirty_syncs = yes",
    "very_dirty_syncs = no",
    Level::Warning,
    About::Settings,
    "NFS is asked about every folder"
)]
#[case(
    "lock_method = fcntl",
    "mailbox_list_index = no",
    Level::Warning,
    About::Settings,
    "no list index to serve"
)]
#[case(
    "uid=vmail",
    "uid=root",
    Level::Warning,
    About::Uids,
    "a user of its own"
)]
#[case(
    "args = uid=vmail gid=vmail home=/srv/%u\n  driver = static",
    "driver = passwd",
    Level::Ok,
    About::Uids,
    "perhaps one for each user"
)]
fn what_is_wrong_in_2_3_is_said(
    #[case] right: &str,
    #[case] wrong: &str,
    #[case] level: Level,
    #[case] about: About,
    #[case] expected: &str,
) {
    assert!(GOOD_2_3.contains(right));
    let report = said(&GOOD_2_3.replace(right, wrong));
    assert!(has(&report, level, about, expected), "{report:#?}");
}

#[rstest]
#[case(
    "mailbox_list_index_prefix = /run/li/%{user | md5 | substr(0, 8) % 256 | hex(2)}",
    "mailbox_list_index_prefix = /run/li/%{user | md5 % 256 | hex(2)}",
    Level::Error,
    About::Layout,
    "layout= gives d0/testuser"
)]
#[case(
    "mail_index_path = /nfs/idx/",
    "mail_index_path = %{home}/idx/",
    Level::Error,
    About::Index,
    "mail_index_path /srv/testuser/idx/d0/testuser"
)]
#[case("    home = /srv/%{user}\n", "", Level::Ok, About::Index, "as index=")]
#[case(
    "mailbox_list_index_prefix = ",
    "mailbox_list_layout = index\nmailbox_list_index_prefix = ",
    Level::Error,
    About::Dovecot,
    "mailbox_list_layout=index keeps folder names"
)]
#[case(
    "mailbox_list_index_prefix = /run/li/",
    "mailbox_list_index_prefix = /dev/shm/",
    Level::Error,
    About::Layout,
    "mailbox_list_index_prefix is /dev/shm/"
)]
#[case(
    "uid = vmail",
    "uid = 0",
    Level::Warning,
    About::Uids,
    "a user of its own"
)]
fn what_is_wrong_in_2_4_is_said(
    #[case] right: &str,
    #[case] wrong: &str,
    #[case] level: Level,
    #[case] about: About,
    #[case] expected: &str,
) {
    assert!(GOOD_2_4.contains(right));
    let report = said(&GOOD_2_4.replace(right, wrong));
    assert!(has(&report, level, about, expected), "{report:#?}");
}

#[test]
fn two_namespaces_may_not_share_a_list_index() {
    let second = GOOD_2_3.replace(
        "namespace inbox {",
        "namespace old {\n  location = maildir:~/old:INDEX=/nfs/idx/%2.256Nu/%u:LISTINDEX=/run/li/%2.256Nu/%u/dovecot.list.index\n}\nnamespace inbox {",
    );
    let report = said(&second);
    assert!(
        has(&report, Level::Error, About::Layout, "have one list index"),
        "{report:#?}"
    );
}

#[test]
fn another_namespace_by_index_is_none_of_ours() {
    let report = said(&format!(
        "{GOOD_2_3}namespace b {{\n  location = mdbox:~/b:LAYOUT=index\n}}\n"
    ));
    assert!(
        !report
            .findings()
            .iter()
            .any(|finding| finding.level == Level::Error)
    );
}

#[test]
fn locks_differ_only_while_migrating() {
    let config = GOOD_2_3.replace("lock_method = fcntl", "lock_method = flock");
    let report = said(&config);
    assert!(
        !report
            .findings()
            .iter()
            .any(|f| f.text.contains("lock_method"))
    );
    let report = said_with("index=/nfs/idx/%2.256Nu/%u,migrate", &config);
    assert!(has(
        &report,
        Level::Error,
        About::Settings,
        "say lock_method=flock there"
    ));
}

fn lines_for(options: &str, config: Option<&str>) -> Vec<String> {
    let conf = config.map(Conf::parse);
    let mut report = Report::default();
    lines::missing(conf.as_ref(), &[subject(options)], &mut report);
    let all = report.dovecot_lines().iter();
    all.flat_map(|lines| lines.lines.clone()).collect()
}

#[test]
fn what_stock_dovecot_lacks_is_told_in_its_own_words() {
    let stock = "# 2.3.19.1 (9b5): /etc/dovecot/dovecot.conf\n\
        mail_location = maildir:~/Maildir:CONTROL=~/c\nnamespace inbox {\n inbox = yes\n location =\n}\n";
    assert_eq!(
        lines_for("index=/nfs/%d/%n,layout=%d/%n", Some(stock)),
        [
            "mail_location = maildir:~/Maildir:CONTROL=~/c:INDEX=/nfs/%d/%n:LISTINDEX=/run/li/%d/%n/dovecot.list.index",
            "# once every host of these users has its list index in listindexfs:",
            "mailbox_list_index_very_dirty_syncs = yes",
        ]
    );
    let own = "# 2.3.19.1 (9b5): x\nnamespace inbox {\n inbox = yes\n location = mdbox:~/m:INDEX=~/i\n}\n\
        mailbox_list_index_very_dirty_syncs = yes\n";
    assert_eq!(
        lines_for("index=/nfs/%u", Some(own)),
        [
            "namespace inbox {",
            "  location = mdbox:~/m:INDEX=~/i:LISTINDEX=/run/li/%2.256Nu/%u/dovecot.list.index",
            "}"
        ]
    );
    let stock = "# 2.4.1-4 (7d8): /etc/dovecot/dovecot.conf\nmail_driver = maildir\nmail_path = ~/Maildir\n\
        mailbox_list_index_very_dirty_syncs = yes\n";
    assert_eq!(
        lines_for("index=/nfs/%d/%n,layout=%d/%n", Some(stock)),
        [
            "mail_index_path = /nfs/%{user | domain}/%{user | username}",
            "mailbox_list_index_prefix = /run/li/%{user | domain}/%{user | username}/dovecot.list.index",
        ]
    );
}

/// Where `index=` asks the userdb, or has the home in it.
#[test]
fn homes_that_only_the_userdb_knows() {
    let passwd = GOOD_2_3.replace("driver = static", "driver = passwd");
    let passwd = passwd.replace("  args = uid=vmail gid=vmail home=/srv/%u\n", "");
    let at_home = passwd.replace("INDEX=/nfs/idx/%2.256Nu/%u", "INDEX=%h/index");
    let report = said_with("index=~/index", &at_home);
    assert!(
        has(&report, Level::Ok, About::Index, "as index=~/index"),
        "{report:#?}"
    );
    assert_eq!(report.dovecot_lines(), []);
    let report = said_with("index=%h/indexes", &at_home);
    let differs = "index= gives /a-home/indexes, INDEX /a-home/index: say index=%h/index";
    assert!(
        has(&report, Level::Error, About::Index, differs),
        "{report:#?}"
    );
    let report = said_with("index=userdb", &at_home);
    assert!(
        has(&report, Level::Ok, About::Index, "which is asked"),
        "{report:#?}"
    );
    let report = said(&at_home);
    assert!(
        has(&report, Level::Warning, About::Index, "say index=%h/index"),
        "{report:#?}"
    );
}

/// What is added is what was missing.
#[rstest]
#[case("index=/nfs/idx/%2.256Nu/%u")]
#[case("index=/nfs/%d/%n,layout=%d/%n,prefix=list")]
fn with_the_lines_added_nothing_is_missing(#[case] options: &str) {
    for version in ["2.3.19.1", "2.4.1-4"] {
        let stock = format!("# {version} (9b5): x\n");
        let added = format!("{stock}{}\n", lines_for(options, Some(&stock)).join("\n"));
        let report = said_with(options, &added);
        assert!(
            has(&report, Level::Ok, About::Layout, "as layout="),
            "{added}{report:#?}"
        );
        assert!(
            has(&report, Level::Ok, About::Index, "as index="),
            "{added}{report:#?}"
        );
        assert_eq!(report.dovecot_lines(), [], "{added}");
    }
}

#[test]
fn without_dovecot_both_are_told_as_the_readme_has_them() {
    let lines = lines_for("index=/nfs/idx/%2.256Nu/%u", None);
    let readme = include_str!("../../../../README.md").replace("/run/listindex", "/run/li");
    for line in lines.iter().filter(|line| !line.starts_with('#')) {
        assert!(readme.contains(&format!("\n{line}\n")), "{line}");
    }
    let odd = lines_for("index=/nfs/%Hu/%u,layout=%u", None);
    assert!(
        odd.iter()
            .any(|line| line.contains("nothing that means the same as /nfs/%Hu/%u"))
    );
}
