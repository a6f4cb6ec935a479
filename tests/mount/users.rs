//! `listindexctl users` and `user` with many users made up in the backing, whatever becomes of workers meanwhile.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::clean::{AGO, DAY, MANY, make, many, mounted, next_worker, place_of, text};
use crate::ctl::{CTL, Said, run};
use crate::rig::{Rig, wait_until};

fn tool(args: &[&str]) -> Command {
    let mut tool = Command::new(CTL);
    tool.args(args).env("COLUMNS", "80").env_remove("NO_COLOR");
    tool
}

fn said(args: &[&str]) -> Said {
    run(tool(args))
}

fn users(rig: &Rig, args: &[&str]) -> Value {
    let place = [text(&rig.mountpoint), "--json"];
    let said = said(&[&["users"], args, &place[..]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn names(report: &Value) -> Vec<&str> {
    let all = report["users"].as_array().expect("users").iter();
    all.map(|user| user["name"].as_str().expect("a name"))
        .collect()
}

#[test]
fn each_has_his_line_in_the_order_that_is_asked_for() {
    let Some(rig) = Rig::new() else { return };
    let ages = [
        ("bob", 3 * DAY),
        ("alice@example.com", AGO),
        ("carol", 5 * DAY),
    ];
    let (_daemon, dirs) = mounted(&rig, &ages);
    // Through the mount nobody gets the log, as there is no INDEX; the other file needs no check.
    let open = File::open(
        rig.mountpoint
            .join(place_of("carol"))
            .join("dovecot.list.index"),
    );
    let open = open.expect("open");

    let by = |order| users(&rig, &["--sort", order]);
    assert_eq!(names(&by("name")), ["alice@example.com", "bob", "carol"]);
    assert_eq!(names(&by("opens"))[0], "carol");
    let all = by("name");
    let sums = ["total", "bytes", "handles", "in_use", "haunted", "failed"];
    let sums = sums.map(|key| all[key].as_u64());
    assert_eq!(sums, [3, 9 * 4096, 1, 1, 0, 0].map(Some), "{all}");
    assert_eq!(
        names(&users(&rig, &["--limit", "1", "--sort", "name"])),
        ["alice@example.com"]
    );
    drop(open);
    wait_until("it is released", || by("name")["handles"] == 0);
    let by_age = by("age");
    let oldest = &names(&by_age)[..2];
    assert!(
        oldest.contains(&"bob"),
        "carol was here when she closed it: {oldest:?}"
    );

    let said = said(&["users", "--sort", "name", text(&rig.mountpoint)]);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 5, "{said:?}");
    assert_eq!(
        lines[0],
        format!("{}: 3 users, 36.0 KiB", rig.mountpoint.display())
    );
    assert_eq!(
        lines[1],
        "USER                     SIZE  LAST USE  OPEN  STATE"
    );
    assert_eq!(
        lines[3],
        "bob                  12.0 KiB    3 days        idle"
    );
    let mut coloured = tool(&["users", "--sort", "name", text(&rig.mountpoint)]);
    coloured.env("CLICOLOR_FORCE", "1");
    let coloured = run(coloured);
    assert!(
        coloured.out.contains("\u{1b}[1mUSER\u{1b}[0m"),
        "{coloured:?}"
    );
    let mut without = tool(&["users", "--sort", "name", text(&rig.mountpoint)]);
    without.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert!(!run(without).out.contains('\u{1b}'));
    assert_eq!(dirs.len(), 3);
}

/// What people see on a terminal that is so wide.
fn on_a_terminal(rig: &Rig, columns: u32, env: &[(&str, &str)]) -> String {
    let users = format!("{CTL} users {} 2>/dev/null", rig.mountpoint.display());
    script(&format!("stty cols {columns}; {users}"), env)
}

/// What a terminal of script(1)'s is told by this command.
fn script(command: &str, env: &[(&str, &str)]) -> String {
    let mut script = Command::new("script");
    script.args(["-qec", command, "/dev/null"]);
    for name in ["COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        script.env_remove(name);
    }
    script.env("TERM", "xterm").envs(env.iter().copied());
    let said = run(script);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out
}

#[test]
fn a_terminal_has_colours_unless_they_are_unwanted_and_its_width_is_used() {
    let Some(rig) = Rig::new() else { return };
    let long = format!("{}@example.com", "long".repeat(20));
    let (_daemon, _) = mounted(&rig, &[(&long, DAY)]);
    assert!(on_a_terminal(&rig, 80, &[]).contains("\u{1b}[1mUSER\u{1b}[0m"));
    for unwanted in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let said = on_a_terminal(&rig, 80, &[unwanted]);
        assert!(!said.contains("\u{1b}["), "{unwanted:?}: {said:?}");
        assert!(said.contains('…') && !said.contains(&long), "{said:?}");
        assert!(
            said.lines()
                .skip(1)
                .all(|line| line.trim_end().chars().count() <= 80)
        );
    }
    assert!(on_a_terminal(&rig, 200, &[("TERM", "dumb")]).contains(&long));
}

/// The bar is on standard error. It has no colours, so `NO_COLOR` changes nothing.
#[test]
fn nothing_moves_where_that_is_no_terminal_or_a_dumb_one() {
    let Some(rig) = Rig::new() else { return };
    let (_daemon, _) = many(&rig);
    let point = rig.mountpoint.display();
    let told = [
        format!("{CTL} users {point} >/dev/null"),
        format!("{CTL} clean --dry-run 0s --mount {point} >/dev/null"),
        format!("{CTL} drain --dry-run {point} >/dev/null"),
    ];
    for command in &told {
        let bar = script(command, &[("NO_COLOR", "1")]);
        assert!(bar.contains("\u{1b}["), "{command}: no bar: {bar:?}");
        let is_colour = |sequence: &str| {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic());
            end.is_some_and(|end| sequence.as_bytes()[end] == b'm')
        };
        let coloured = bar.split("\u{1b}[").skip(1).any(is_colour);
        assert!(!coloured, "{command}: {bar:?}");
        for none in [("TERM", "dumb"), ("TERM", "")] {
            let said = script(command, &[none]);
            assert!(!said.contains('\u{1b}'), "{command}, {none:?}: {said:?}");
        }
        let piped = script(&format!("({command}) 2>&1 | cat"), &[]);
        assert!(!piped.contains('\u{1b}'), "{command}: {piped:?}");
    }
    let top = script(&format!("{CTL} top {point}"), &[("TERM", "dumb")]);
    assert!(
        top.contains("sessions") && !top.contains('\u{1b}'),
        "{top:?}"
    );
}

#[test]
fn a_long_name_is_shortened_where_lines_have_an_end() {
    let Some(rig) = Rig::new() else { return };
    let long = format!("{}@example.com", "long".repeat(40));
    let (_daemon, _) = mounted(&rig, &[(&long, DAY), ("b", DAY)]);
    let said = said(&["users", text(&rig.mountpoint)]);
    assert!(said.out.contains('…'), "{said:?}");
    let mut lines = said.out.lines().skip(1);
    assert!(lines.all(|line| line.chars().count() <= 80), "{said:?}");
    let mut piped = tool(&["users", text(&rig.mountpoint)]);
    piped.env_remove("COLUMNS");
    assert!(
        run(piped).out.contains(&long),
        "what a program reads is whole"
    );
    assert_eq!(
        names(&users(&rig, &["--limit", "1", "--sort", "name"])),
        ["b"]
    );
}

#[test]
fn all_are_listed_though_workers_die_meanwhile() {
    let Some(rig) = Rig::new() else { return };
    let (daemon, _) = many(&rig);
    let report = std::thread::scope(|scope| {
        let listing = scope.spawn(|| users(&rig, &["--sort", "name"]));
        for _ in 0..3 {
            next_worker(&daemon);
        }
        listing.join().expect("joined")
    });
    let expected: BTreeSet<_> = (0..MANY).map(|n| format!("u{n}")).collect();
    let found: BTreeSet<_> = names(&report).into_iter().map(str::to_owned).collect();
    assert_eq!(report["total"], MANY);
    assert_eq!(found, expected);
}

#[test]
fn a_listing_comes_in_pages_and_one_that_is_cut_off_has_no_end() {
    let Some(rig) = Rig::new() else { return };
    let (daemon, _) = many(&rig);
    let ask = || {
        let socket = rig.backing.join(".listindexfs/worker");
        let mut connected = None;
        wait_until("the worker listens", || {
            connected = UnixStream::connect(&socket).ok();
            connected.is_some()
        });
        let mut worker = connected.expect("connected");
        let asked = b"{\"protocol\":1,\"command\":\"users\"}\n";
        worker.write_all(asked).expect("written");
        BufReader::new(worker).lines()
    };
    let lines: Vec<_> = ask().map(|line| line.expect("a line")).collect();
    assert!(lines.len() > 5, "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.len() < 64 << 10));
    assert!(lines[lines.len() - 1].contains("\"listed\""));
    let mut lines = ask();
    lines.next().expect("a line").expect("read");
    let worker = daemon.worker();
    worker.signal(Signal::KILL);
    worker.wait_for_end();
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    // A kill that came when all had been said already shows nothing.
    let whole = rest.iter().map(String::len).sum::<usize>() > 100 * MANY / 2;
    assert!(whole || rest.iter().all(|line| !line.contains("\"listed\"")));
}

#[test]
fn who_is_not_known_or_cannot_be_told_of_is_said() {
    let Some(rig) = Rig::new() else { return };
    let (daemon, dirs) = mounted(&rig, &[("bob", DAY)]);
    let place = ["--mount", text(&rig.mountpoint)];
    let user = |who: &str| said(&[&["user", who], &place[..]].concat());
    for nobody in ["alice", text(&rig.mountpoint.join("00/bob"))] {
        let said = user(nobody);
        assert_eq!((said.code, said.out.as_str()), (Some(67), ""), "{said:?}");
        assert!(said.err.contains("not known here: "), "{said:?}");
    }
    // Nobody who is no mail process makes the worker ask.
    let found = user(text(&dirs[0]));
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.out.starts_with("bob\n"), "{found:?}");
    assert!(
        found.out.contains("not asked: nobody's rights are known"),
        "{found:?}"
    );
    assert!(
        found.out.contains("none since this worker began"),
        "{found:?}"
    );
    assert!(found.out.contains("\nINDEX       /nfs/idx/"), "{found:?}");
    // A new user, whom the next worker finds.
    make(&rig, "carol", AGO);
    next_worker(&daemon);
    assert_eq!(names(&users(&rig, &["--sort", "name"])), ["bob", "carol"]);

    std::fs::remove_file(rig.backing.join(".listindexfs/worker")).expect("as of an older version");
    let said = user("bob");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("listindexctl upgrade"), "{said:?}");
    daemon.kill_all();
    let said = user("bob");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("is dead: mount it again"), "{said:?}");
    let backing = ["user", "bob", "--mount", text(&rig.backing)];
    assert_eq!(run(tool(&backing)).code, Some(2));
}
