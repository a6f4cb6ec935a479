//! What happens, told in numbered lines. Each line is told after what it says was checked.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::stage::{Stage, World};
use crate::support::cost::cheapest;
use crate::support::dovecot::{hashed, version};
use crate::support::model::Op;
use crate::support::mount::Options;
use crate::support::site::{LOG, list_index};
use crate::support::{Config, Dovecot, ListStatus, Model, Site};

/// Served by us on hosts A and B.
const USER: &str = "alice";
/// Does the same; her list index is in plain RAM on both hosts.
const TWIN: &str = "carol";
const FOLDERS: usize = 30;
/// Columns of a terminal that are used.
const WIDTH: usize = 100;

/// Tells the story.
pub fn tell(stage: &Stage, world: &mut World) -> Result<()> {
    let begun = Instant::now();
    let version = version();
    ensure!(
        version.starts_with("2.3."),
        "this demonstration's dovecot.conf is for Dovecot 2.3, this is {version}"
    );
    println!(
        "Stock Dovecots {version}. A local directory stands for the NFS that they share.\n\
         {USER} is served through listindexfs; {TWIN}, with LISTINDEX= on plain tmpfs.\n"
    );
    let mut line = Lines(0);
    let mut users = [USER, TWIN].map(|name| (name, Model::new()));

    stock(stage, world, &mut users, &mut line)?;
    hosts(stage, world, &mut line)?;
    let [(_, alice), (_, carol)] = &mut users;
    migrate(stage, world, alice, carol, &mut line)?;
    move_to_b(stage, world, alice, carol, &mut line)?;
    back_on_a(stage, world, alice, &mut line)?;
    twin_back_on_a(stage, world, carol, &mut line)?;
    warm(stage, world, alice, &mut line)?;
    stage.go_on()?;
    println!(
        "\nAll of this was checked as it was told. {:.0} s.",
        begun.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Numbers what is told.
struct Lines(u32);

impl Lines {
    fn say(&mut self, text: &str) {
        self.0 += 1;
        let mut line = format!("{:>2} ", self.0);
        for word in text.split(' ') {
            if line.len() + word.len() > WIDTH {
                println!("{line}");
                line = " ".repeat(3);
            }
            line.push(' ');
            line.push_str(word);
        }
        println!("{line}");
    }
}

fn stock(
    stage: &Stage,
    world: &mut World,
    users: &mut [(&str, Model)],
    line: &mut Lines,
) -> Result<()> {
    stage.go_on()?;
    let config = Config::new(&world.lab, "stock").very_dirty_syncs(false);
    let stock = world.stock.insert(config.start());
    for (user, model) in &mut *users {
        let mut imap = stock.login(user);
        for n in 0..FOLDERS {
            stage.go_on()?;
            let name = format!("box{n:02}");
            model.apply(&Op::Create(name.clone()), &mut imap);
            for seen in [false, true].into_iter().take(n % 3) {
                model.apply(&Op::Append(name.clone(), seen), &mut imap);
            }
        }
        right(model, &imap.list_status(), "on the stock backend")?;
        imap.logout();
    }
    stock.wait_no_sessions();
    let index = hashed(&world.lab.index(), USER);
    let files = files(&index)?;
    let mails: usize = users[0].1.folders.values().map(|f| f.mails.len()).sum();
    line.say(&format!(
        "A stock backend has both users, with {FOLDERS} folders and {mails} messages each. The list index lies in \
         INDEX on NFS: {files}."
    ));
    Ok(())
}

fn hosts(stage: &Stage, world: &mut World, line: &mut Lines) -> Result<()> {
    for host in ["A", "B"] {
        stage.go_on()?;
        let options = Options::new(&world.lab, host).migrate().debug();
        let config = Config::new(&world.lab, host);
        world.sites.push(Site::with(options, config));
        stage.go_on()?;
        let name = format!("{host}-plain");
        let config = Config::new(&world.lab, &name).listindex(&world.lab.ram(&name));
        world.plain.push(config.start());
    }
    line.say(
        "Hosts A and B mount listindexfs with migrate, each over RAM of its own; Dovecot there has LISTINDEX= in the \
         mount and mailbox_list_index_very_dirty_syncs=yes.",
    );
    Ok(())
}

fn migrate(
    stage: &Stage,
    world: &World,
    alice: &mut Model,
    carol: &mut Model,
    line: &mut Lines,
) -> Result<()> {
    stage.go_on()?;
    let index = hashed(&world.lab.index(), USER);
    let before = list_index(&index);
    let site = &world.sites[0];
    session(site, alice, "at the first login on A", |_, _| Ok(()))?;
    let here = list_index(&site.backing_of(USER));
    let log = here
        .get(LOG)
        .context("A has no list index after the first login")?;
    ensure!(
        log.starts_with(&before[LOG]),
        "the log that A has is not the one that was in INDEX"
    );
    ensure!(
        list_index(&index).is_empty(),
        "the list index is still in INDEX"
    );
    line.say(&format!(
        "{USER} logs in on A for the first time: LIST and STATUS of all folders are right. Her list index has moved \
         from INDEX into A's RAM: {}. INDEX has .lasthost instead, which says {}.",
        files(&site.backing_of(USER))?,
        last_host(&index, "A")?
    ));
    stage.go_on()?;
    let plain = &world.plain[0];
    plain_session(plain, carol, "at the first login on A", |_, _| Ok(()))?;
    line.say(&format!(
        "{TWIN} logs in on A: right as well, from a list index made anew in A's RAM."
    ));
    Ok(())
}

/// What changes while the user is on B.
fn changes() -> Vec<Op> {
    let name = |text: &str| text.to_owned();
    vec![
        Op::Create(name("Invoices")),
        Op::Append(name("Invoices"), false),
        Op::Append(name("Invoices"), false),
        Op::Append(name("box03"), false),
        Op::Delete(name("box07")),
        Op::Rename(name("box11"), name("Archive")),
        Op::Seen(name("box04"), 1, true),
    ]
}

fn move_to_b(
    stage: &Stage,
    world: &World,
    alice: &mut Model,
    carol: &mut Model,
    line: &mut Lines,
) -> Result<()> {
    let change = |model: &mut Model, imap: &mut crate::support::Imap| {
        for op in changes() {
            stage.go_on()?;
            model.apply(&op, imap);
        }
        right(model, &imap.list_status(), "after the changes on B")
    };
    stage.go_on()?;
    session(&world.sites[1], alice, "at the first login on B", change)?;
    plain_session(&world.plain[1], carol, "at the first login on B", change)?;
    let index = hashed(&world.lab.index(), USER);
    line.say(&format!(
        "Both move to B. They make Invoices with 2 messages, get one in box03, delete box07, rename box11 to \
         Archive, read one in box04. B is right before and after. INDEX/.lasthost says {}.",
        last_host(&index, "B")?
    ));
    Ok(())
}

fn back_on_a(stage: &Stage, world: &World, alice: &mut Model, line: &mut Lines) -> Result<()> {
    stage.go_on()?;
    let site = &world.sites[0];
    let log = site.backing_of(USER).join(LOG);
    let old = inode(&log)?;
    session(site, alice, "back on A", |_, _| Ok(()))?;
    ensure!(
        inode(&log)? != old,
        "A kept the list index it had before the move"
    );
    let index = hashed(&world.lab.index(), USER);
    line.say(&format!(
        "Both come back to A. For {USER}, A sees that B had her, drops its files and takes her over (INDEX/.lasthost \
         says {}): LIST and STATUS of all {} folders are right at once.",
        last_host(&index, "A")?,
        alice.folders.len()
    ));
    let errors = site.dovecot.errors();
    ensure!(errors.is_empty(), "Dovecot on A complains: {errors:?}");
    Ok(())
}

fn twin_back_on_a(stage: &Stage, world: &World, carol: &mut Model, line: &mut Lines) -> Result<()> {
    let host = &world.plain[0];
    for (login, intro) in [
        ("first", format!("For {TWIN}, plain tmpfs answers with")),
        ("second", "Her next session is told the same:".to_owned()),
    ] {
        stage.go_on()?;
        let mut imap = host.login(TWIN);
        let seen = imap.list_status();
        imap.logout();
        host.wait_no_sessions();
        let wrong = differences(carol, &seen);
        ensure!(
            !wrong.is_empty(),
            "plain tmpfs gave {TWIN} a right answer at her {login} login back on A: nothing is shown by that"
        );
        match login {
            "first" => line.say(&format!(
                "{intro} what was true before the move: {}.",
                wrong.join("; ")
            )),
            _ => {
                let errors = host.errors();
                ensure!(
                    errors.is_empty(),
                    "Dovecot on plain tmpfs complains: {errors:?}"
                );
                line.say(&format!(
                    "{intro} {} wrong answers, each tagged OK, and nothing in Dovecot's log.",
                    wrong.len()
                ));
            }
        }
    }
    Ok(())
}

fn warm(stage: &Stage, world: &World, alice: &mut Model, line: &mut Lines) -> Result<()> {
    stage.go_on()?;
    let site = &world.sites[0];
    let backing = site.backing_of(USER);
    ensure!(
        list_index(&hashed(&world.lab.index(), USER)).is_empty(),
        "INDEX has a list index again"
    );
    line.say(&format!(
        "{USER}'s list index is in {} ({}), seen by Dovecot as {}; INDEX has .lasthost and no list index.",
        backing.display(),
        files(&backing)?,
        site.dir_of(USER).display()
    ));
    let mut wrong = Ok(());
    let cost = cheapest(site, |imap| {
        let checked = right(alice, &imap.list_status(), "in a warm session");
        wrong = std::mem::replace(&mut wrong, Ok(())).and(checked);
    });
    wrong?;
    let mut kinds = BTreeMap::new();
    cost.iter()
        .for_each(|request| *kinds.entry(request).or_insert(0) += 1);
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    line.say(&format!(
        "A session with nothing to take over (login, LIST with STATUS of all folders, logout) costs {} FUSE requests: \
         {}.",
        cost.len(),
        kinds.join(", ")
    ));
    Ok(())
}

/// A session on a host of ours: right at login, given the list index, and ended when this returns.
fn session(
    site: &Site,
    model: &mut Model,
    when: &str,
    then: impl FnOnce(&mut Model, &mut crate::support::Imap) -> Result<()>,
) -> Result<()> {
    let mut imap = site.login(USER);
    right(model, &imap.list_status(), when)?;
    then(model, &mut imap)?;
    imap.logout();
    site.wait_no_sessions();
    let log = site.mount.log();
    let refused = log.lines().find(|line| line.contains("list index refused"));
    ensure!(
        refused.is_none(),
        "{USER} was given no list index {when}: {refused:?}"
    );
    Ok(())
}

/// The same on plain tmpfs.
fn plain_session(
    host: &Dovecot,
    model: &mut Model,
    when: &str,
    then: impl FnOnce(&mut Model, &mut crate::support::Imap) -> Result<()>,
) -> Result<()> {
    let mut imap = host.login(TWIN);
    right(model, &imap.list_status(), when)?;
    then(model, &mut imap)?;
    imap.logout();
    host.wait_no_sessions();
    Ok(())
}

fn right(model: &mut Model, seen: &ListStatus, when: &str) -> Result<()> {
    model
        .check(seen)
        .map_err(|wrong| anyhow::anyhow!("wrong answer {when}:\n{wrong}"))
}

/// What is wrong in an answer, for people: names first, then counts.
fn differences(model: &Model, seen: &ListStatus) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in seen
        .keys()
        .filter(|name| !model.folders.contains_key(*name))
    {
        wrong.push(format!("{name} is there (it is not)"));
    }
    for (name, folder) in &model.folders {
        let unread = folder.mails.values().filter(|seen| !**seen).count();
        match seen.get(name) {
            None => wrong.push(format!("no {name}")),
            Some(None) => wrong.push(format!("{name} without counts")),
            Some(Some(told)) if told.messages as usize != folder.mails.len() => {
                wrong.push(format!(
                    "{name} has {} messages (it has {})",
                    told.messages,
                    folder.mails.len()
                ))
            }
            Some(Some(told)) if told.unseen as usize != unread => {
                wrong.push(format!(
                    "{name} has {} unread (it has {unread})",
                    told.unseen
                ));
            }
            Some(Some(_)) => {}
        }
    }
    wrong
}

/// The files of a list index, with their sizes.
fn files(dir: &Path) -> Result<String> {
    let files = list_index(dir);
    ensure!(
        files.contains_key(LOG),
        "there is no list index in {}",
        dir.display()
    );
    let told: Vec<String> = files
        .iter()
        .map(|(name, bytes)| format!("{name} ({} bytes)", bytes.len()))
        .collect();
    Ok(told.join(", "))
}

fn inode(path: &Path) -> Result<u64> {
    let file = std::fs::metadata(path).with_context(|| format!("no {}", path.display()))?;
    Ok(file.ino())
}

/// The host that .lasthost on NFS names, which must be `expected`.
fn last_host(index: &Path, expected: &str) -> Result<String> {
    let path = index.join(".lasthost");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let host = text.lines().next().unwrap_or_default().to_owned();
    ensure!(
        host == expected,
        "{} names {host}, not {expected}",
        path.display()
    );
    Ok(host)
}
