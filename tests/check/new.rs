//! The same with Dovecot 2.4, where the tests use that.

use rstest::rstest;

use crate::broken::expect;
use crate::host::{lacks, run};

#[test]
fn a_good_set_up_with_2_4_gives_no_warning() {
    if lacks(true) {
        return;
    }
    let case = "dovecot_conf() { new_dovecot_conf; }; build";
    let said = run(case, "listindexctl check --json", &[]);
    let bad: Vec<_> = said
        .findings()
        .into_iter()
        .filter(|[level, about, _]| level != "ok" && about != "kernel")
        .collect();
    assert_eq!(bad, [[""; 3]; 0]);
    assert!(said.out.contains(r#""dovecot_lines":[]"#), "{said:?}");
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[rstest]
#[case::no_list_index_is_in_the_mount("listindex=dovecot.list.index", "warning layout", &["no mailbox_list_index_prefix is below /srv/li", "add it, see the end"])]
#[case::another_hash("listindex='/srv/li/%{user | md5 % 256 | hex(2)}/%{user}/dovecot.list.index'", "error layout", &["layout= gives d0/testuser, mailbox_list_index_prefix b6/testuser", "say layout=%{user | md5 % 256 | hex(2)}/%{user}, or mend mailbox_list_index_prefix"])]
#[case::the_list_index_is_on_plain_tmpfs("listindex=/dev/shm/%{user}/list", "error layout", &["mailbox_list_index_prefix is /dev/shm/%{user}/list, not below /srv/li, so it is stale", "mend it, see the end"])]
#[case::another_index("index=/srv/nfs/%{user}", "error index", &["index= gives /srv/nfs/d0/testuser, mail_index_path /srv/nfs/testuser", "say index=/srv/nfs/%{user}, or mend mail_index_path"])]
#[case::folder_names_in_the_list_index("more='mailbox_list_layout = index'", "error dovecot", &["mailbox_list_layout=index keeps folder names", "take mailbox_list_index_prefix out of it"])]
#[case::every_folder_is_asked_about("dirty=no", "warning settings", &["NFS is asked about every folder", "say yes once every host"])]
#[case::for_some_sessions_it_is_asked("more='protocol lmtp { \n mailbox_list_index_very_dirty_syncs = no \n }'", "warning settings", &["very_dirty_syncs=no in protocol lmtp", "say yes"])]
#[case::a_namespace_has_its_own("more='namespace archive { \n prefix = archive/ \n separator = / \n mail_path = %{home}/archive \n mailbox_list_index_prefix = /srv/li/%{user}/a \n }'", "error layout", &["namespace archive: its list index is called `a`", "say prefix=a"])]
#[case::another_lock("more='lock_method = flock'", "error settings", &["lock_method=flock, and /srv/li has lock_method=fcntl", "say lock_method=flock there"])]
#[case::dovecot_does_not_start("more='mail_location = x'", "error dovecot", &["doveconf: ", "mend it, Dovecot does not start"])]
fn with_2_4_it_is_found_with_its_mend(
    #[case] case: &str,
    #[case] expected: &str,
    #[case] pieces: &[&str],
) {
    if lacks(true) {
        return;
    }
    let case = format!("dovecot_conf() {{ new_dovecot_conf; }}; {case}; build");
    expect(&case, expected, pieces, &[]);
}
