//! What the documents say, held against the program: settings, options, log lines, names of tests.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use listindexfs::index::Trouble;
use listindexfs::options::{Config, OptionError};
use listindexfs::template::Template;
use listindexfs::userdb;

const README: &str = include_str!("../README.md");
const SEMANTICS: &str = include_str!("../docs/semantics.md");
const OPERATING: &str = include_str!("../docs/operating.md");
const MANUAL: &str = include_str!("../mount/listindexfs.8");
const FSTAB_SAMPLE: &str = include_str!("../mount/fstab.sample");

/// The blocks of a Markdown text that are fenced with this word.
fn blocks<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let fence = format!("\n```{word}\n");
    let blocks = text.split(&fence).skip(1);
    blocks
        .map(|rest| rest.split("\n```").next().unwrap_or(rest))
        .collect()
}

/// What the parser makes of a line of fstab, with mount(8)'s unescaping of blanks.
fn parse_fstab(line: &str) -> Result<Config, OptionError> {
    let fields: Vec<String> = line
        .split_whitespace()
        .map(|field| field.replace("\\040", " "))
        .collect();
    assert_eq!(fields.len(), 6, "not a line of fstab: {line}");
    assert_eq!(fields[2], "fuse.listindexfs");
    let options = [fields[3].clone()];
    Config::parse(
        Path::new(&fields[0]),
        Path::new(&fields[1]),
        &options,
        "host",
    )
}

/// The man page without roff's escapes.
fn manual() -> String {
    MANUAL
        .replace("\\-", "-")
        .replace("\\~", " ")
        .replace("\\(lq", "\"")
}

#[test]
fn each_line_of_fstab_is_taken() {
    let readme = blocks(README, "fstab").into_iter().flat_map(str::lines);
    let manual = manual();
    let ours = |line: &&str| line.contains("  fuse.listindexfs  ");
    let lines: Vec<&str> = readme.chain(manual.lines()).filter(ours).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for line in lines {
        let config = parse_fstab(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(config.mountpoint, Path::new("/run/listindex"));
        let backing = line.split_whitespace().next().expect("a backing");
        let tmpfs = format!("tmpfs  {backing}  tmpfs  ");
        for text in [README, manual.as_str(), FSTAB_SAMPLE] {
            assert!(text.contains(&tmpfs), "no tmpfs for {backing}");
        }
    }
}

/// Settings of Dovecot 2.3: README's and the man page's.
fn settings_2_3() -> [String; 2] {
    let readme = blocks(README, "conf");
    let readme = readme
        .iter()
        .find(|block| block.starts_with("# Dovecot 2.3\n"));
    let manual = manual();
    let from = manual.find("\nmail_location").expect("settings");
    let shown = manual[from..].split("\n.EE").next().expect("an end");
    [
        readme.expect("settings of 2.3").to_string(),
        shown.to_owned(),
    ]
}

#[test]
fn doveconf_takes_the_settings_of_2_3() {
    let version = Command::new("/usr/sbin/dovecot").arg("--version").output();
    let is_2_3 = version.is_ok_and(|output| output.stdout.starts_with(b"2.3."));
    if !is_2_3 {
        let may = std::env::var_os("LISTINDEXFS_NO_SKIP").is_none();
        assert!(may, "this test needs Dovecot 2.3");
        return eprintln!("skipped: this test needs Dovecot 2.3");
    }
    for settings in settings_2_3() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("dovecot.conf");
        fs::write(&file, format!("ssl = no\n{settings}\n")).expect("dovecot.conf");
        for line in settings.lines().filter(|line| line.contains(" = ")) {
            let (name, value) = line.split_once(" = ").expect("name = value");
            let mut command = Command::new("/usr/bin/doveconf");
            command.arg("-c").arg(&file).args(["-h", name]);
            let output = command.output().expect("doveconf");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{line}: {output:?}");
            assert_eq!(said.trim(), value, "{line}");
        }
    }
}

/// What Dovecot is told, 2.3 or 2.4, is what the mount is told.
#[test]
fn dovecot_and_the_mount_mean_the_same_directories() {
    let line = blocks(README, "fstab")[0].lines().last().expect("a line");
    let config = parse_fstab(line).expect("taken");
    let [settings, shown] = settings_2_3();
    let location = |text: &str, key: &str| {
        let value = text.split(key).nth(1).expect(key);
        let end = value.find([':', '\n']).unwrap_or(value.len());
        value[..end].to_owned()
    };
    let of_2_4 = |key: &str| {
        let block = blocks(README, "conf")[1];
        assert!(block.starts_with("# Dovecot 2.4\n"));
        let value = block.split(&format!("\n{key} = ")).nth(1).expect(key);
        value.lines().next().expect("a value").to_owned()
    };
    let templates = [
        (
            location(&settings, ":INDEX="),
            location(&settings, ":LISTINDEX="),
        ),
        (location(&shown, ":INDEX="), location(&shown, ":LISTINDEX=")),
        (
            of_2_4("mail_index_path"),
            of_2_4("mailbox_list_index_prefix"),
        ),
    ];
    for (index, listindex) in templates {
        for name in ["testuser", "alice@example.com", "Bob@Example.ORG"] {
            let user = config.layout.user_named(name.as_bytes()).expect("a user");
            let expand = |text: &str| {
                let template = Template::parse(text).expect("a template");
                let bytes = template.expand(name.as_bytes()).expect("a path");
                String::from_utf8(bytes).expect("UTF-8")
            };
            let dir = String::from_utf8(user.dir().to_vec()).expect("UTF-8");
            let file = format!("{}/{dir}/dovecot.list.index", config.mountpoint.display());
            assert_eq!(expand(&listindex), file);
            assert_eq!(
                Path::new(&expand(&index)),
                (config.index.template())
                    .expect("a template")
                    .expand(&user)
                    .expect("INDEX")
            );
        }
    }
}

/// README's table and the chart beside it are from one run of scripts/bench-nfs.
#[test]
fn the_chart_has_the_figures_of_the_table() {
    let chart = include_str!("../docs/rpcs.svg");
    let figures = chart.split("</text>").filter_map(|text| {
        let shown = text.rsplit_once('>')?.1;
        shown.parse::<u32>().ok()
    });
    let table = README.split("| the list index is |").nth(1);
    let rows = table.expect("a table").lines().skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = rows.flat_map(|row| row.split('|').skip(2));
    let cells = cells.filter_map(|cell| cell.trim().parse().ok());
    assert_eq!(
        figures.collect::<Vec<u32>>(),
        cells.collect::<Vec<u32>>(),
        "chart and table"
    );
}

/// That the man page has each option is tested with the parser's tables, in src/options/.
#[test]
fn the_options_that_readme_names_exist() {
    let table = README
        .split("\n| option | default | |\n")
        .nth(1)
        .expect("a table");
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let shown = rows.filter_map(|row| row.split('`').nth(1)?.split('=').next());
    let shown: BTreeSet<&str> = shown.collect();
    assert_eq!(shown.len(), 18, "{shown:?}");
    for name in shown {
        let texts = [name.to_owned()];
        let parsed = Config::parse(Path::new("/b"), Path::new("/m"), &texts, "host");
        let unknown = matches!(parsed, Err(OptionError::Unknown { .. }));
        assert!(!unknown, "{name} is no option");
        assert!(MANUAL.contains(name), "{name} is not in the man page");
    }
}

/// Words that look like options of ours, and are Dovecot's, a userdb's, NFS's or tmpfs's.
const OTHERS: [&str; 18] = [
    "actimeo",
    "auth_debug",
    "dotlock_use_excl",
    "home",
    "huge",
    "local_lock",
    "lookupcache",
    "mail",
    "mail_index_path",
    "mailbox_list_index",
    "mailbox_list_index_very_dirty_syncs",
    "mailbox_list_layout",
    "nfs_hostchange_migration",
    "nr_inodes",
    "service",
    "size",
    "verbose_proctitle",
    "very_dirty_syncs",
];

/// In whatever document: `name=…`, and variables of the environment.
#[test]
fn whatever_looks_like_an_option_is_one() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| fs::read_to_string(path).expect("a text");
    let docs = fs::read_dir(top.join("docs")).expect("docs").flatten();
    let docs = docs.map(|entry| entry.path());
    let docs = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let text: String =
        docs.map(read).collect::<String>() + README + include_str!("../CONTRIBUTING.md");
    let quoted = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let named = quoted.filter_map(|words| Some(words.split_once('=')?.0));
    let lower = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let named: BTreeSet<&str> = named.filter(lower).collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named.iter().filter(|name| !OTHERS.contains(name)) {
        let parsed = Config::parse(
            Path::new("/b"),
            Path::new("/m"),
            &[format!("{name}=1")],
            "host",
        );
        let unknown = matches!(parsed, Err(OptionError::Unknown { .. }));
        assert!(!unknown, "{name}= is no option of ours");
    }
    let code: String = ["src", "tests", "scripts", "benches"]
        .iter()
        .map(|dir| all_text(&top.join(dir)))
        .collect();
    for name in text.split(|c: char| !c.is_ascii_uppercase() && c != '_') {
        let ours = name.starts_with("LISTINDEXFS_");
        assert!(!ours || code.contains(name), "nothing reads {name}");
    }
}

/// What the files below a directory say.
fn all_text(dir: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => all += &all_text(&path),
            false => all += &fs::read_to_string(&path).unwrap_or_default(),
        }
    }
    all
}

/// Each function that is a test, in tests/ and src/.
fn tests_in(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            tests_in(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let marks = ["#[test]", "#[rstest]"];
        for part in marks.iter().flat_map(|mark| text.split(mark).skip(1)) {
            let name = part
                .split("fn ")
                .nth(1)
                .and_then(|rest| rest.split('(').next());
            names.extend(name.map(str::to_owned));
        }
    }
}

#[test]
fn the_tests_that_semantics_names_exist() {
    let mut tests = BTreeSet::new();
    for dir in ["tests", "src"] {
        tests_in(
            &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(dir),
            &mut tests,
        );
    }
    let quoted = SEMANTICS.split('`').skip(1).step_by(2);
    let named: BTreeSet<&str> = quoted
        .filter(|word| {
            word.matches('_').count() >= 2
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        })
        .filter(|word| !word.starts_with("mailbox_"))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(tests.contains(name), "there is no test {name}");
    }
}

/// One of each. A variant that is new has to be added, and then to the page.
fn troubles() -> Vec<(Trouble, &'static str)> {
    let path = || PathBuf::from("/nfs/idx/d0/testuser");
    let error = |errno: i32| io::Error::from_raw_os_error(errno);
    let mut all = vec![
        Trouble::WrongFs {
            path: path(),
            fs: "ext4".to_owned(),
        },
        Trouble::Symlink { path: path() },
        Trouble::NoBase { path: path() },
        Trouble::SoftErr {
            path: path(),
            point: path(),
            option: "softerr",
        },
        Trouble::WrongKind {
            path: path(),
            expected: "regular file",
        },
        Trouble::TooBig {
            path: path(),
            size: 2,
            limit: 1,
        },
        Trouble::Locked {
            path: path(),
            waited: Duration::from_secs(15),
        },
        Trouble::TimedOut(Duration::from_secs(30)),
        Trouble::NoPath("…".to_owned()),
        Trouble::Io {
            what: "open",
            path: path(),
            source: error(libc::EACCES),
        },
        Trouble::Io {
            what: "write",
            path: path(),
            source: error(libc::EDQUOT),
        },
        Trouble::Io {
            what: "write",
            path: path(),
            source: error(libc::ENOSPC),
        },
        Trouble::Io {
            what: "write",
            path: path(),
            source: error(libc::EROFS),
        },
        Trouble::Io {
            what: "lock",
            path: path(),
            source: error(libc::ENOLCK),
        },
        Trouble::Io {
            what: "stat",
            path: path(),
            source: error(libc::ESTALE),
        },
        Trouble::TooMany {
            path: path(),
            count: 99,
            limit: 32,
        },
        Trouble::Draining(vec![7]),
        Trouble::Overtaken,
        Trouble::Backing {
            what: "purge",
            source: error(libc::EIO),
        },
    ];
    let userdb = [
        userdb::Error::Unreachable("/run/x: No such file or directory".to_owned()),
        userdb::Error::Silent(Duration::from_secs(10)),
        userdb::Error::Late(Duration::from_secs(10)),
        userdb::Error::HungUp,
        userdb::Error::Foreign,
        userdb::Error::Failed(" (why)".to_owned()),
        userdb::Error::NotFound,
        userdb::Error::NameTooLong,
        userdb::Error::NoHome,
        userdb::Error::NoMail,
        userdb::Error::NoIndexPath,
        userdb::Error::InMemory,
        userdb::Error::BadPath("INDEX, `/a/../b`, leads through `..`".to_owned()),
    ];
    all.extend(userdb.map(Trouble::Userdb));
    let of_userdb = |error: &userdb::Error| match error {
        userdb::Error::Unreachable(_) => "cannot connect to userdb",
        userdb::Error::Silent(_) => "no answer from userdb within",
        userdb::Error::Late(_) => "no answer from userdb about this user",
        userdb::Error::HungUp => "userdb hangs up",
        userdb::Error::Foreign => "this is no auth-userdb socket",
        userdb::Error::Failed(_) => "userdb fails to look this user up",
        userdb::Error::NotFound => "userdb knows no such user",
        userdb::Error::NameTooLong => "the user name is longer than userdb takes",
        userdb::Error::NoHome => "userdb gives no home",
        userdb::Error::NoMail => "userdb gives no mail=",
        userdb::Error::NoIndexPath => "userdb gives mail_path but not mail_index_path",
        userdb::Error::InMemory => "INDEX=MEMORY",
        userdb::Error::BadPath(_) => "INDEX, `",
    };
    let phrase = |trouble: &Trouble| match trouble {
        Trouble::Userdb(error) => of_userdb(error),
        Trouble::WrongFs { .. } => "which index_fs= does not accept",
        Trouble::SoftErr { .. } => "is mounted with softerr",
        Trouble::NoBase { .. } => "does not exist: mount what should be there",
        Trouble::Symlink { .. } => "is or leads through a symbolic link, which is never followed",
        Trouble::WrongKind { .. } => "is not a regular file: remove it",
        Trouble::TooBig { .. } => "that are pulled",
        Trouble::TooMany { .. } => "more files begin with the prefix",
        Trouble::Locked { .. } => "stayed locked for",
        Trouble::TimedOut(_) => "no answer within check_timeout=",
        Trouble::NoPath(_) => "no INDEX for this user name",
        Trouble::Io { source, .. } => match source.raw_os_error() {
            Some(libc::EACCES) => ": Permission denied",
            Some(libc::EDQUOT) => ": Disk quota exceeded",
            Some(libc::ENOSPC) => ": No space left on device",
            Some(libc::EROFS) => ": Read-only file system",
            Some(libc::ENOLCK) => ": No locks available",
            _ => ": Stale file handle",
        },
        Trouble::Draining(_) => "sessions from before the user moved or was refused still run (pid",
        Trouble::Overtaken => "changed the user's INDEX meanwhile",
        Trouble::Backing { .. } => "in the backing: ",
    };
    all.into_iter()
        .map(|trouble| {
            let phrase = phrase(&trouble);
            (trouble, phrase)
        })
        .collect()
}

#[test]
fn operating_explains_each_refusal() {
    let table = OPERATING
        .split("### A user is refused")
        .nth(1)
        .expect("a table");
    let table = table.split("### ").next().expect("an end");
    for (trouble, phrase) in troubles() {
        assert!(
            trouble.to_string().contains(phrase),
            "{trouble} does not say {phrase:?}"
        );
        let row = table
            .lines()
            .any(|line| line.starts_with("| `") && line.contains(phrase));
        assert!(row, "no row for {phrase:?}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchors = |text: &str| -> BTreeSet<String> {
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let heading = |line: &str| line.trim_start_matches('#').trim().to_lowercase();
        let word = |c: char| c.is_alphanumeric() || "-_ ".contains(c);
        let anchor = |line: &str| heading(line).replace(|c| !word(c), "").replace(' ', "-");
        headings.map(anchor).collect()
    };
    for file in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/comparison.md",
        "docs/design.md",
        "docs/semantics.md",
        "docs/operating.md",
        "docs/metrics.md",
        "docs/troubleshooting.md",
    ] {
        let path = top.join(file);
        let text = fs::read_to_string(&path).expect(file);
        let dir = path.parent().expect("a directory");
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (to, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if to.is_empty() {
                path.clone()
            } else {
                dir.join(to)
            };
            assert!(to.exists(), "{file}: {link}");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&to).expect(link);
                assert!(anchors(&text).contains(anchor), "{file}: {link}");
            }
        }
    }
}
