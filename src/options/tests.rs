//! The table of options, row by row.

use super::given::OWN;
use super::index::DEFAULT_USERDB;
use super::table::Meaning;
use super::*;
use crate::template::IndexTemplate;
use rstest::rstest;

fn parse(texts: &[&str]) -> Result<Config, OptionError> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Config::parse(Path::new("/b"), Path::new("/m"), &texts, "mail1.example")
}

/// `text` after a fitting `index=`.
fn config(text: &str) -> Config {
    parse(&["index=/nfs/%u", text]).expect(text)
}

fn refusal(text: &str) -> String {
    match parse(&["index=/nfs/%u", text]) {
        Ok(config) => panic!("{text} was taken: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn defaults_are_those_of_the_man_page() {
    let config = config("");
    assert_eq!(config.backing, Path::new("/b"));
    assert_eq!(config.mountpoint, Path::new("/m"));
    assert_eq!(config.prefixes, [DEFAULT_PREFIX]);
    assert_eq!(config.host, "mail1.example");
    assert!(!config.migrate);
    assert_eq!(config.index_fs, IndexFs::Network);
    assert_eq!(config.backing_fs, BackingFs::Tmpfs);
    assert_eq!(config.lock_method, LockMethod::Fcntl);
    assert_eq!(config.check_timeout, Duration::from_secs(30));
    assert_eq!(config.watchdog, Duration::from_secs(10));
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    assert_eq!(config.flags, flags);
}

#[test]
fn options_come_in_one_text_or_in_several() {
    let one = parse(&["index=/nfs/%u,migrate,host=a,prefix=p,prefix=q"]).expect("one");
    let many = parse(&[
        "index=/nfs/%u",
        "",
        "migrate",
        "host=a,prefix=p",
        "prefix=q",
    ]);
    assert_eq!(format!("{one:?}"), format!("{:?}", many.expect("many")));
    assert_eq!(one.prefixes, ["p", "q"]);
}

#[rstest]
#[case("migrate", true)]
#[case("migrate=yes", true)]
#[case("migrate=no", false)]
#[case("nomigrate", false)]
fn migrate_is_said_in_several_ways(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(config(text).migrate, expected);
}

#[rstest]
#[case("network", IndexFs::Network)]
#[case("any", IndexFs::Any)]
#[case("nfs4", IndexFs::Types(vec!["nfs4".into()]))]
#[case("nfs4:fuse.glusterfs", IndexFs::Types(vec!["nfs4".into(), "fuse.glusterfs".into()]))]
fn index_fs_is_a_word_or_types(#[case] text: &str, #[case] expected: IndexFs) {
    assert_eq!(config(&format!("index_fs={text}")).index_fs, expected);
}

#[test]
fn backing_fs_and_lock_method_are_words() {
    assert_eq!(config("backing_fs=any").backing_fs, BackingFs::Any);
    assert_eq!(config("backing_fs=tmpfs").backing_fs, BackingFs::Tmpfs);
    assert_eq!(config("lock_method=fcntl").lock_method, LockMethod::Fcntl);
    assert_eq!(config("lock_method=flock").lock_method, LockMethod::Flock);
    assert_eq!(
        config("lock_method=dotlock").lock_method,
        LockMethod::Dotlock
    );
}

#[rstest]
#[case("30s", 30_000)]
#[case("500ms", 500)]
#[case("1m 30s", 90_000)]
#[case("1h", 3_600_000)]
fn check_timeout_is_a_duration(#[case] text: &str, #[case] millis: u64) {
    let config = config(&format!("check_timeout={text}"));
    assert_eq!(config.check_timeout, Duration::from_millis(millis));
}

#[rstest]
#[case("rw", MountFlags::NOATIME)]
#[case("ro", MountFlags::NOATIME | MountFlags::RDONLY)]
#[case("ro,rw", MountFlags::NOATIME)]
#[case("rw,ro", MountFlags::NOATIME | MountFlags::RDONLY)]
#[case("noexec", MountFlags::NOATIME | MountFlags::NOEXEC)]
#[case("relatime", MountFlags::empty())]
#[case("atime", MountFlags::empty())]
#[case("strictatime,noatime", MountFlags::NOATIME)]
#[case("dev,suid", MountFlags::NOATIME)]
fn flags_are_as_asked_on_top_of_nosuid_and_nodev(#[case] text: &str, #[case] flags: MountFlags) {
    let always = MountFlags::NOSUID | MountFlags::NODEV;
    assert_eq!(config(text).flags, always | flags);
}

/// What util-linux 2.38 and mount.fuse3 3.14 made of an fstab line with every option we know.
#[test]
fn what_mount_hands_us_is_taken() {
    let config = config(
        "rw,noatime,sync,dirsync,nodiratime,lazytime,mand,iversion,silent,nodev,nosuid,\
         prefix=a,prefix=b,layout=%u,migrate,_rnetdev,allow_other,default_permissions,exec",
    );
    assert_eq!(config.prefixes, ["a", "b"]);
    assert!(config.migrate);
}

#[test]
fn what_fstab_holds_for_others_is_left_to_them() {
    config("defaults,user,user=root,nofail,_netdev,noauto,comment=a=b,x-systemd.automount,X-a=b");
}

#[test]
fn a_comma_and_a_backslash_within_a_template_are_escaped() {
    let config = parse(&[r"index=/nfs/a\,b\\c/%u,ro"]).expect("escaped");
    assert_eq!(
        config.index,
        Index::Template(Box::new(
            IndexTemplate::parse(r"/nfs/a,b\c/%u").expect("template")
        ))
    );
}

#[rstest]
#[case("migarte", "unknown option `migarte`: did you mean `migrate`?")]
#[case("Prefix=a", "unknown option `Prefix`: did you mean `prefix`?")]
#[case(
    "lockmethod=flock",
    "unknown option `lockmethod`: did you mean `lock_method`?"
)]
#[case(
    "timeout=3s",
    "unknown option `timeout`: did you mean `check_timeout`?"
)]
#[case("nonempty", "unknown option `nonempty`: did you mean `noexec`?")]
#[case(" ro", "unknown option ` ro`: did you mean `ro`?")]
#[case("index=/b/%u", "option `index` is given twice: keep one")]
#[case("layout=%u,layout=%n", "option `layout` is given twice: keep one")]
#[case("host=a,host=a", "option `host` is given twice: keep one")]
#[case("migrate,nomigrate", "option `migrate` is given twice: keep one")]
#[case(
    "check_timeout=1s,check_timeout=2s",
    "option `check_timeout` is given twice: keep one"
)]
#[case("host", "option `host` needs a value: write `host=…`")]
#[case("host=", "option `host` needs a value: write `host=…`")]
#[case("prefix=", "option `prefix` needs a value: write `prefix=…`")]
#[case("layout=", "option `layout` needs a value: write `layout=…`")]
#[case("nomigrate=yes", "option `nomigrate` takes no value: leave out `=…`")]
#[case("ro=1", "option `ro` takes no value: leave out `=…`")]
#[case("migrate=on", "migrate=on: write yes or no")]
#[case("backing_fs=ext4", "backing_fs=ext4: write tmpfs or any")]
#[case(
    "lock_method=lockf",
    "lock_method=lockf: write fcntl or flock or dotlock"
)]
#[case(
    "index_fs=nfs:any",
    "index_fs=nfs:any: `network` and `any` stand alone: write one of them, or types"
)]
#[case("watchdog=900ms", "watchdog=900ms: must be at least 1s")]
#[case("watchdog=2h", "watchdog=2h: must be at most 1h")]
#[case("watchdog=0s", "watchdog=0s: must be at least 1s")]
#[case("check_timeout=0s", "check_timeout=0s: must be longer than 0s")]
#[case("check_timeout=2h", "check_timeout=2h: must be at most 1h")]
#[case("prefix=a/b", "prefix=a/b: must be a file name, without `/`")]
#[case("prefix=..", "prefix=..: must be a file name, without `/`")]
#[case(
    "prefix=.lasthost2",
    "prefix=.lasthost2: `.lasthost` is a file of listindexfs itself: take another name"
)]
#[case(
    "prefix=.list",
    "prefix=.list: `.listindexfs` is a file of listindexfs itself: take another name"
)]
#[case(
    "prefix=ab,prefix=abc",
    "prefix=abc: `ab` begins alike: no prefix may begin another"
)]
#[case(
    "prefix=abc,prefix=ab",
    "prefix=ab: `abc` begins alike: no prefix may begin another"
)]
#[case(
    "prefix=a,prefix=a",
    "prefix=a: `a` begins alike: no prefix may begin another"
)]
#[case("host=a\nb", "host=a\nb: must not hold control characters")]
#[case("host= a", "host= a: must not begin or end with a blank")]
fn what_is_wrong_is_named(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(refusal(text), expected);
}

#[rstest]
#[case("index_fs=")]
#[case("index_fs=nfs4:")]
#[case("index_fs=a b")]
#[case("check_timeout=30")]
#[case("check_timeout=soon")]
#[case("remount")]
#[case("fsname=x")]
#[case("subtype=x")]
#[case("allow_root")]
fn and_other_things_are_refused(#[case] text: &str) {
    refusal(text);
}

#[test]
fn long_names_are_refused() {
    refusal(&format!("host={}", "a".repeat(256)));
    config(&format!("host={}", "a".repeat(255)));
    refusal(&format!("prefix={}", "a".repeat(201)));
}

#[test]
fn index_is_required_and_absolute() {
    assert_eq!(parse(&["ro"]).expect_err("no index"), OptionError::NoIndex);
    assert_eq!(parse(&[]).expect_err("nothing"), OptionError::NoIndex);
    let error = parse(&["index=nfs/%u"]).expect_err("relative");
    assert!(error.to_string().starts_with("index=nfs/%u: "), "{error}");
}

#[rstest]
#[case("index=/m/%u", "index=/m/%u: lies in MOUNTPOINT /m: ")]
#[case("index=/b/x/%u", "index=/b/x/%u: lies in BACKING /b: ")]
#[case("index=/m/%h/%u", "index=/m/%h/%u: lies in MOUNTPOINT /m: ")]
fn index_is_not_in_the_mount(#[case] text: &str, #[case] expected: &str) {
    let error = parse(&[text]).expect_err(text).to_string();
    assert!(error.starts_with(expected), "{error}");
    parse(&["index=/mail/%u"]).expect("beside it");
    let (nowhere, texts) = (Path::new(""), [text.to_owned()]);
    Config::parse(nowhere, nowhere, &texts, "mail1.example")
        .expect("who checks may not have told where");
}

#[rstest]
#[case("index=/nfs/%2.256Nu", false)]
#[case("index=/nfs/%{user | md5 | substr(0\\,8) % 256 | hex(2)}", false)]
#[case("index=/nfs/%1Mu/%2Nu", false)]
#[case("index=/nfs/%Mu", true)]
#[case("index=/nfs/%2.256Nu/%n", true)]
#[case("index=/nfs/%n,layout=%n", true)]
#[case("index=/nfs/%d/%n,layout=%d/%n", true)]
fn each_user_has_an_index_of_his_own(#[case] text: &str, #[case] taken: bool) {
    match parse(&[text]) {
        Ok(_) => assert!(taken, "{text}"),
        Err(error) => {
            assert!(!taken, "{error}");
            assert!(
                error.to_string().contains("the same INDEX, /nfs/"),
                "{error}"
            );
        }
    }
}

/// As mount(8) writes what somebody has put into fstab with a comma.
#[test]
fn a_comma_that_cuts_a_template_is_named() {
    for (name, rest) in [("index", ""), ("layout", ",index=/nfs/%u")] {
        let text = format!("{name}=%{{user | md5 | substr(0,8) % 256}}/%{{user}}{rest}");
        let error = parse(&[&text]).expect_err("cut");
        assert_eq!(error, OptionError::Cut { name });
    }
    let error = parse(&["index=/nfs/%{user"]).expect_err("without an end");
    assert!(error.to_string().contains("no closing"), "{error}");
}

#[rstest]
#[case("index=userdb", Some(DEFAULT_USERDB))]
#[case("index=%h/idx", Some(DEFAULT_USERDB))]
#[case("index=~/idx,userdb=/run/a/auth-userdb", Some("/run/a/auth-userdb"))]
#[case("index=userdb,userdb=/run/a/auth-userdb", Some("/run/a/auth-userdb"))]
#[case("index=/nfs/idx%{home}", Some(DEFAULT_USERDB))]
#[case("index=/nfs/%u", None)]
fn userdb_is_asked_for_what_the_name_does_not_tell(
    #[case] text: &str,
    #[case] socket: Option<&str>,
) {
    let config = parse(&[text]).expect(text);
    assert_eq!(config.userdb.as_deref(), socket.map(Path::new));
    assert_eq!(config.index.needs_userdb(), socket.is_some());
}

#[rstest]
#[case("index=/nfs/%u,userdb=/run/dovecot/auth-userdb", "leave it out")]
#[case(
    "index=userdb,userdb=auth-userdb",
    "userdb=auth-userdb: write the path"
)]
#[case("index=userdb,userdb=", "option `userdb` needs a value")]
#[case("index=userdb,userdb=/a,userdb=/b", "option `userdb` is given twice")]
#[case(
    "index=userdb,layout=%n",
    "layout= and index= do not fit each other: userdb is asked"
)]
#[case(
    "index=%h/idx,layout=%n",
    "layout= and index= do not fit each other: `%h` (column 1)"
)]
#[case(
    "index=/nfs/%l/%u",
    "index=/nfs/%l/%u: `%l` (column 6) is the local IP"
)]
#[case(
    "index=/nfs/%r/%u",
    "index=/nfs/%r/%u: `%r` (column 6) is the remote IP"
)]
#[case("index=/nfs/%Lh", "write it as it is, %h or %{home}")]
#[case("index=userdb/idx", "not an absolute path")]
#[case("index=/nfs/%u,layout=%h", "layout=%h: `%h` (column 1) is the home")]
fn what_userdb_is_not_asked_for_is_told(#[case] text: &str, #[case] why: &str) {
    let error = parse(&[text]).expect_err(text).to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_socket_whose_path_is_too_long_is_refused() {
    for (length, taken) in [(107, true), (108, false)] {
        let path = format!("/{}", "a".repeat(length - 1));
        assert_eq!(
            parse(&["index=userdb", &format!("userdb={path}")]).is_ok(),
            taken
        );
    }
}

#[test]
fn a_host_without_a_name_must_be_given_one() {
    let texts = ["index=/nfs/%u".to_owned()];
    let error = Config::parse(Path::new("/b"), Path::new("/m"), &texts, "").expect_err("no name");
    assert!(error.to_string().contains("give one with host="), "{error}");
}

#[test]
fn every_option_of_ours_is_read_and_compared() {
    let before = parse(&["index=%h/a,userdb=/run/a"]).expect("taken");
    for name in OWN.into_iter().filter(|name| *name != "nomigrate") {
        let value = match name {
            "index" => "%h/b",
            "userdb" => "/run/b",
            "layout" => "%u",
            "migrate" => "yes",
            "index_fs" | "backing_fs" => "any",
            "lock_method" => "flock",
            "check_timeout" | "watchdog" | "max_age" => "77s",
            "max_bytes" | "max_user_bytes" => "77m",
            "metrics_file" => "/77.prom",
            _ => "77",
        };
        let mut options = vec![format!("{name}={value}")];
        let rest = ["index=%h/a", "userdb=/run/a"].into_iter();
        options.extend(
            rest.filter(|option| !option.starts_with(name))
                .map(str::to_owned),
        );
        let after = parse(&[&options.join(",")]).expect(name);
        assert_eq!(before.differences(&after), [name]);
    }
}

const MAN_PAGE: &str = include_str!("../../mount/listindexfs.8");
const FSTAB_SAMPLE: &str = include_str!("../../mount/fstab.sample");

#[test]
fn the_man_page_has_every_option_of_ours_and_the_defaults() {
    let refused = table::names()
        .filter(|name| matches!(table::find(name), Some((_, _, Meaning::Refused(_)))));
    let defaults = [DEFAULT_LAYOUT, DEFAULT_PREFIX];
    for word in OWN.into_iter().chain(refused).chain(defaults) {
        assert!(MAN_PAGE.contains(word), "{word} is not in the man page");
    }
}

#[test]
fn the_sample_lines_for_fstab_are_taken() {
    let lines = FSTAB_SAMPLE
        .lines()
        .map(|line| line.trim_start_matches('#'));
    let lines: Vec<_> = lines.filter(|line| line.starts_with('/')).collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        let fields: Vec<_> = line.split_whitespace().collect();
        assert_eq!((fields.len(), fields[2]), (6, "fuse.listindexfs"), "{line}");
        // As mount(8) reads it.
        let options = fields[3].replace(r"\040", " ");
        parse(&[&options]).expect(line);
    }
}
