//! Set-ups with one thing wrong.

use rstest::rstest;

use crate::host::{lacks, run};

/// Runs `case`, and expects the finding at this level, with these pieces of text, the last of them the mend; `others` are what
/// else is complained of, as it follows from it.
#[rstest]
#[case::not_mounted("mounted() { :; }; build", "error mount", &["no listindexfs is mounted on /srv/li", "mount it, or start its unit"], &[])]
#[case::all_dead("build; s=$(supervisor) w=$(worker); kill -9 $s $w; gone $s; gone $w", "error mount", &["all that served it is dead", "mount it again, then restart Dovecot"], &["processes"])]
#[case::the_supervisor_is_dead("build; s=$(supervisor) w=$(worker); kill -9 $s; gone $s; trap 'umount -l /srv/li; kill $w' EXIT", "error processes", &["its worker serves on", "unmount, mount again and restart Dovecot"], &[])]
#[case::an_option_is_misspelt("mounted() { :; }; options=$options,migrates; build", "error options", &["listindexfs@main.service: unknown option `migrates`", "did you mean `migrate`?"], &["mount"])]
#[case::options_were_changed_since("build; sed -i s/migrate/migrate,max_age=1d/ /etc/listindexfs/main.conf", "warning options", &["another max_age than listindexfs@main.service has", "unmount it and mount it again"], &[])]
#[case::mounted_read_only("mounted() { :; }; options=$options,ro; build", "error options", &["with ro Dovecot can make no list index there", "take it out"], &["mount"])]
#[case::no_fuse("build; touch /srv/file; mount --bind /srv/file /dev/fuse", "error fuse", &["/dev/fuse is missing or no device", "modprobe fuse"], &[])]
#[case::the_program_is_not_where_mount_looks("instance() { echo \"/srv/b /srv/li fuse.listindexfs $options 0 0\" >>/etc/fstab; }; build; mkdir /srv/s; cp -a /usr/local/sbin/* /srv/s; umount /usr/local/sbin; PATH=$PATH:/srv/s", "error fuse", &["listindexfs is in none of /usr/local/sbin", "install it in one of them"], &[])]
#[case::the_backing_is_on_disk("mounted() { :; }; backing() { mkdir -m 700 /srv/b; }; build", "error backing", &["/srv/b is not on tmpfs", "mount one there"], &["mount"])]
#[case::the_backing_is_a_file("mounted() { :; }; backing() { touch /srv/b; }; build", "error backing", &["/srv/b is not a directory", "name one"], &["mount"])]
#[case::nothing_to_make_the_backing_in("mounted() { :; }; backing() { :; }; build; sed -i s:/srv/b:/srv/x/b: /etc/listindexfs/main.conf /etc/fstab", "error backing", &["the directory it is to be made in does not exist", "mount its tmpfs"], &["mount"])]
#[case::others_can_enter_the_backing("build; chmod 755 /srv/b", "error backing", &["/srv/b is open to others than root", "chmod 700"], &[])]
#[case::the_backing_has_no_limit("tmpfs=size=0,nr_inodes=0,mode=0700; build", "warning backing", &["has no limit", "size= and nr_inodes="], &[])]
#[case::the_backing_has_few_inodes("tmpfs=size=64m,nr_inodes=1000,mode=0700; build", "warning backing", &["1000 inodes for 16384 pages", "with nr_inodes=16384"], &[])]
#[case::the_backing_is_full("build; head -c 70m /dev/zero >/srv/b/filling 2>/dev/null || :", "error backing", &["has no room left", "remount it larger"], &[])]
#[case::the_backing_is_no_mount_of_its_own("backing() { mkdir /srv/t; mount -t tmpfs -o \"$tmpfs\" tmpfs /srv/t; mkdir /srv/t/b; ln -s t/b /srv/b; rm /srv/b; sed -i s:x:x: /etc/fstab; }; build2() { nfs; backing; echo 'tmpfs /srv/t tmpfs size=64m 0 0' >/etc/fstab; instance; sed -i s:/srv/b:/srv/t/b: /etc/listindexfs/main.conf; point; dovecot_conf; trap 'umount -l /srv/li' EXIT; listindexfs /srv/t/b /srv/li -o \"$options\"; }; build2", "warning backing", &["/srv/t/b is not a tmpfs of its own", "mount one there"], &[])]
#[case::more_than_the_memory("tmpfs=size=64t,nr_inodes=16k,mode=0700; build", "warning memory", &["the host has", "a smaller size= for its tmpfs"], &["backing"])]
#[case::the_bare_mount_point_is_roots("point() { mkdir -m 755 /srv/li; }; build", "warning bare mount point", &["while nothing is mounted on /srv/li Dovecot fails there", "listindexctl prepare /srv/li"], &[])]
#[case::the_bare_mount_point_is_everybodys("point() { mkdir -m 777 /srv/li; chmod 777 /srv/li; }; build", "error bare mount point", &["can be written to by others than root", "chmod 755"], &[])]
#[case::dovecot_ran_without("point() { mkdir -p /srv/li/d0/testuser; }; mounted() { :; }; build", "error bare mount point", &["is not empty", "remove what is there"], &["mount"])]
#[case::no_mount_point("point() { :; }; mounted() { :; }; build", "error bare mount point", &["/srv/li does not exist", "listindexctl prepare /srv/li"], &["mount"])]
#[case::nothing_mounts_it_at_boot("build; rm /etc/listindexfs/main.conf", "warning boot", &["nothing mounts /srv/li at boot", "a line in /etc/fstab, or listindexfs@.service"], &[])]
#[case::two_mount_it_at_boot("build; echo \"/srv/b /srv/li fuse.listindexfs $options 0 0\" >>/etc/fstab", "warning boot", &["is mounted by /etc/fstab and by listindexfs@main.service", "leave one"], &[])]
#[case::the_unit_is_not_enabled("enable() { :; }; build", "warning boot", &["listindexfs@main.service is not enabled", "systemctl enable listindexfs@main.service"], &[])]
#[case::fstab_says_noauto("instance() { echo \"/srv/b /srv/li fuse.listindexfs $options,noauto 0 0\" >>/etc/fstab; }; build", "warning boot", &["/srv/li is noauto in /etc/fstab", "take that out"], &[])]
#[case::fstab_may_be_too_early("instance() { echo \"/srv/b /srv/li fuse.listindexfs $options,_netdev 0 0\" >>/etc/fstab; }; build", "warning boot", &["may mount /srv/li before /srv/b", "add x-systemd.requires-mounts-for=/srv/b"], &[])]
#[case::fstab_has_a_backing_below_dev("mounted() { :; }; instance() { echo \"/dev/shm/no-such /srv/li fuse.listindexfs $options 0 0\" >>/etc/fstab; }; build", "warning boot", &["/dev/shm/no-such is below /dev", "another BACKING"], &["mount", "backing", "memory"])]
#[case::the_tmpfs_is_gone_after_a_boot("fstab() { :; }; build", "warning boot", &["nothing mounts a tmpfs on /srv/b at boot", "a line in /etc/fstab"], &[])]
#[case::index_is_missing("build; umount /srv/nfs; rmdir /srv/nfs", "error index base", &["/srv/nfs does not exist", "mount what should be there"], &[])]
#[case::nfs_is_not_mounted("options=index=/srv/nfs/%2.256Nu/%u,migrate; build", "error index base", &["/srv/nfs is on tmpfs (/srv/nfs), which index_fs= does not accept", "mount NFS there"], &[])]
#[case::index_is_read_only("build; mount -o remount,ro /srv/nfs", "error index base", &["/srv/nfs is read-only", "mount /srv/nfs read-write"], &[])]
#[case::no_list_index_is_in_the_mount("mail='mdbox:~/mdbox:INDEX=/srv/nfs/%2.256Nu/%u'; build", "warning layout", &["no LISTINDEX is below /srv/li", "add it, see the end"], &[])]
#[case::the_list_index_is_on_plain_tmpfs("mail='mdbox:~/mdbox:LISTINDEX=/dev/shm/%u/list'; build", "error layout", &["LISTINDEX is /dev/shm/%u/list, not below /srv/li, so it is stale", "mend it, see the end"], &[])]
#[case::another_hash("mail='mdbox:~/mdbox:INDEX=/srv/nfs/%2.256Nu/%u:LISTINDEX=/srv/li/%2Mu/%u/dovecot.list.index'; build", "error layout", &["layout= gives d0/testuser, LISTINDEX 5d/testuser", "say layout=%2Mu/%u, or mend LISTINDEX"], &[])]
#[case::without_the_domain("mail='mdbox:~/mdbox:INDEX=/srv/nfs/%2.256Nu/%u:LISTINDEX=/srv/li/%2.256Nu/%n/dovecot.list.index'; build", "error layout", &["for alice@example.com, layout= gives bf/alice@example.com, LISTINDEX bf/alice", "mend LISTINDEX: /srv/li/%2.256Nu/%u/dovecot.list.index"], &[])]
#[case::another_file_name("mail='mdbox:~/mdbox:INDEX=/srv/nfs/%2.256Nu/%u:LISTINDEX=/srv/li/%2.256Nu/%u/list'; build", "error layout", &["called `list`, and prefix= has dovecot.list.index", "say prefix=list"], &[])]
#[case::two_namespaces_with_one_list_index("more=\"namespace old { \n prefix = old/ \n location = maildir:/old/%u:${mail#*mdbox:~/mdbox:} \n }\"; build", "error layout", &["have one list index", "name that in prefix="], &[])]
#[case::another_index("mail='mdbox:~/mdbox:INDEX=/srv/nfs/i/%2.256Nu/%u:LISTINDEX=/srv/li/%2.256Nu/%u/dovecot.list.index'; build", "error index", &["index= gives /srv/nfs/d0/testuser, INDEX /srv/nfs/i/d0/testuser", "say index=/srv/nfs/i/%2.256Nu/%u, or mend INDEX"], &[])]
#[case::index_with_the_mail("mail='mdbox:~/mdbox:LISTINDEX=/srv/li/%2.256Nu/%u/dovecot.list.index'; build", "error index", &["INDEX /srv/mail/testuser/mdbox", "say index=/srv/mail/%u/mdbox"], &[])]
#[case::index_in_memory("mail='mdbox:~/mdbox:INDEX=MEMORY:LISTINDEX=/srv/li/%2.256Nu/%u/dovecot.list.index'; build", "error index", &["INDEX is MEMORY", "say INDEX=/srv/nfs/%2.256Nu/%u"], &[])]
#[case::index_in_a_home_of_the_userdb("userdb='driver = passwd'; mail='mdbox:~/mdbox:INDEX=~/index:LISTINDEX=/srv/li/%2.256Nu/%u/dovecot.list.index'; build", "warning index", &["INDEX is ~/index, which depends on the userdb"], &[])]
#[case::folder_names_in_the_list_index("mail=$mail:LAYOUT=index; build", "error dovecot", &["LAYOUT=index keeps folder names in the list index alone", "take LISTINDEX out of it"], &[])]
#[case::a_namespace_of_many("more=\"namespace s { \n type = public \n prefix = s/ \n location = maildir:/pub:INDEX=/srv/nfs/%u:LISTINDEX=/srv/li/%2.256Nu/%u/s \n }\"; build", "warning dovecot", &["namespace s is not private", "take LISTINDEX out of it"], &[])]
#[case::dovecot_does_not_start("build; echo 'no_such_setting = 1' >>/etc/dovecot/dovecot.conf", "error dovecot", &["no_such_setting", "mend it, Dovecot does not start"], &[])]
#[case::every_folder_is_asked_about("dirty=no; build", "warning settings", &["very_dirty_syncs=no: NFS is asked about every folder", "say yes once every host"], &[])]
#[case::for_some_sessions_it_is_asked("more='protocol lmtp { \n mailbox_list_index_very_dirty_syncs = no \n }'; build", "warning settings", &["very_dirty_syncs=no in protocol lmtp", "say yes"], &[])]
#[case::no_list_index("more='mailbox_list_index = no'; build", "warning settings", &["mailbox_list_index=no", "say yes"], &[])]
#[case::another_lock("more='lock_method = flock'; build", "error settings", &["lock_method=flock, and /srv/li has lock_method=fcntl", "say lock_method=flock there"], &[])]
#[case::a_dotlock_that_cannot_be_made("options=$options,lock_method=dotlock; more='lock_method = dotlock'; mail=$mail:VOLATILEDIR=/srv/v/%u; build", "warning settings", &["lock_method=dotlock with VOLATILEDIR", "take VOLATILEDIR out"], &[])]
#[case::mail_is_roots("userdb='driver = static \n args = uid=root gid=root home=/srv/mail/%u'; build", "warning uids", &["uid=root", "give the mail a user of its own"], &[])]
#[case::dovecot_does_not_see_the_mount("mounted() { :; }; build; mkdir /srv/run; unshare --mount --propagation private dovecot >/dev/null 2>&1; until [ -s /srv/run/master.pid ]; do sleep .1; done; p=$(cat /srv/run/master.pid); trap 'kill $p; gone $p; umount -l /srv/li' EXIT; listindexfs /srv/b /srv/li -o \"$options\"", "error namespaces", &["does not see what is mounted on /srv/li", "restart it, and start it after the mount"], &[])]
fn is_found_with_its_mend(
    #[case] case: &str,
    #[case] expected: &str,
    #[case] pieces: &[&str],
    #[case] others: &[&str],
) {
    if lacks(false) {
        return;
    }
    expect(case, expected, pieces, others);
}

/// Fails unless exactly that is found.
pub fn expect(case: &str, expected: &str, pieces: &[&str], others: &[&str]) {
    let said = run(case, "listindexctl check --json", &[]);
    let (level, about) = expected.split_once(' ').expect("level and about");
    let all = said.findings();
    let is_it = |found: &&[String; 3]| {
        found[0] == level
            && found[1] == about
            && pieces.iter().all(|piece| found[2].contains(piece))
    };
    let Some(found) = all.iter().find(is_it) else {
        panic!("not found: {expected} {pieces:?} in {all:#?}\n{}", said.err)
    };
    // The mend comes after what is wrong.
    let at: Vec<_> = pieces.iter().map(|piece| found[2].find(piece)).collect();
    assert!(at.is_sorted(), "{found:?}");
    let not_ok = all.iter().filter(|[level, ..]| level != "ok");
    let besides = not_ok.filter(|[_, word, _]| word != about && word != "kernel");
    for [_, word, text] in besides {
        assert!(others.contains(&word.as_str()), "{word}: {text}");
    }
    let errors = all.iter().any(|[level, ..]| level == "error");
    assert_eq!(said.code, Some(i32::from(errors)), "{said:?}");
}
