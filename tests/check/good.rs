//! A set-up as the manual has it, and how what is said of it looks.

use crate::host::{lacks, run};

/// Which kernel it is, nobody can mend here.
const OF_THE_MACHINE: [&str; 1] = ["kernel"];

#[test]
fn a_good_set_up_gives_no_warning() {
    if lacks(false) {
        return;
    }
    let said = run("build", "listindexctl check --json", &[]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let bad: Vec<_> = said
        .findings()
        .into_iter()
        .filter(|[level, about, _]| level != "ok" && !OF_THE_MACHINE.contains(&about.as_str()))
        .collect();
    assert_eq!(bad, [[""; 3]; 0]);
    assert!(said.out.contains(r#""dovecot_lines":[]"#), "{said:?}");
}

/// What doveconf has printed may be looked at elsewhere, and a configuration by its name.
#[test]
fn dovecot_may_be_looked_at_by_file() {
    if lacks(false) {
        return;
    }
    let by_file = "build; doveconf -n >/srv/printed; cp /etc/dovecot/dovecot.conf /srv/conf; rm -r /etc/dovecot";
    for file in ["/srv/printed", "/srv/conf"] {
        let said = run(
            by_file,
            &format!("listindexctl check --json --dovecot {file}"),
            &[],
        );
        assert_eq!(said.code, Some(0), "{said:?}");
        let found = said.findings();
        let fits = |[level, about, _]: &&[String; 3]| {
            level == "ok" && matches!(about.as_str(), "layout" | "index")
        };
        assert_eq!(found.iter().filter(fits).count(), 2, "{said:?}");
        let dovecot = found
            .iter()
            .find(|[_, about, _]| about == "dovecot")
            .expect("dovecot");
        assert!(dovecot[2].contains(file), "{dovecot:?}");
    }
}

/// A host before anything is mounted: fstab alone.
const BEFORE: &str = r#"
instance() { :; }
point() { mkdir /srv/li; }
mounted() { :; }
fstab() {
    echo "tmpfs /srv/b tmpfs size=64m 0 0"
    echo "/srv/b /srv/li fuse.listindexfs index=/srv/nfs/%2.256Nu/%u,index_fs=tmpfs 0 0"
}
mail='mdbox:~/mdbox:INDEX=/srv/nfs/%2.256Nu/%u'
dirty=no
build
"#;

/// Lines that are this machine's own.
fn without_the_machine(out: &str) -> String {
    let mut kept = String::new();
    let mut left_out = false;
    for line in out.lines() {
        let begins = !line.starts_with(' ') && !line.is_empty();
        if begins {
            let ours = ["kernel", "open files", "memory", "fuse"];
            left_out = ours
                .iter()
                .any(|word| line.get(9..).is_some_and(|rest| rest.starts_with(word)));
        }
        if !left_out || line.is_empty() {
            left_out = false;
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

#[test]
fn it_looks_good_at_80_columns() {
    if lacks(false) {
        return;
    }
    let said = run(BEFORE, "listindexctl check", &[("COLUMNS", "80")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(
        without_the_machine(&said.out),
        include_str!("before.txt"),
        "{}",
        said.out
    );

    let coloured = run(
        BEFORE,
        "listindexctl check",
        &[("COLUMNS", "80"), ("CLICOLOR_FORCE", "1")],
    );
    let plain = |text: &str| {
        let parts = text.split('\u{1b}');
        parts
            .enumerate()
            .map(|(at, part)| match (at, part.split_once('m')) {
                (1.., Some((_, rest))) => rest.to_owned(),
                _ => part.to_owned(),
            })
            .collect::<String>()
    };
    assert!(
        coloured.out.contains("\u{1b}[31merror\u{1b}[0m"),
        "{}",
        coloured.out
    );
    assert_eq!(
        without_the_machine(&plain(&coloured.out)),
        include_str!("before.txt")
    );
    let off = run(BEFORE, "listindexctl check", &[("NO_COLOR", "1")]);
    assert!(!off.out.contains('\u{1b}'), "{}", off.out);
}
