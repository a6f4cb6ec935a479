//! What README, CONTRIBUTING and docs/ print for people to type: the lines of indented blocks, and of those fenced with `sh`; and
//! within lines what is in backquotes and is a program with arguments. Other blocks are fenced with what they are.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A document that is told by its text.
pub const README: &str = include_str!("../../README.md");
pub const OPERATING: &str = include_str!("../../docs/operating.md");

/// What a block may be that is no commands: a picture or words of a program, and contents of files.
const NO_COMMANDS: [&str; 4] = ["text", "fstab", "conf", "ini"];

/// What a command begins with. Where it is one word alone it is a name.
const PROGRAMS: [&str; 22] = [
    "apt",
    "cargo",
    "chmod",
    "chown",
    "df",
    "doveadm",
    "doveconf",
    "echo",
    "env",
    "find",
    "journalctl",
    "kill",
    "listindexctl",
    "ls",
    "man",
    "mkdir",
    "mount",
    "ps",
    "ssh",
    "systemctl",
    "systemd-analyze",
    "umount",
];

/// The commands of a text's blocks, in their order, without the remarks behind them.
pub fn commands(text: &str) -> Vec<&str> {
    read(text).0
}

/// Blocks' commands, and those within lines.
fn read(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut commands, mut within) = (Vec::new(), Vec::new());
    let mut fence = None;
    // An indented block begins after a blank line; else it is a line of a list that goes on.
    let mut may_begin = true;
    for line in text.lines() {
        if let Some(word) = line.trim_start().strip_prefix("```") {
            fence = fence.is_none().then_some(word);
            let known = fence.is_none_or(|word| word == "sh" || NO_COMMANDS.contains(&word));
            assert!(known, "a block is fenced with {word:?}: say what it is");
            continue;
        }
        let indented = line.strip_prefix("    ").filter(|_| may_begin);
        let command = match fence {
            None => indented,
            Some(word) => Some(line).filter(|_| word == "sh"),
        };
        may_begin = line.is_empty() || indented.is_some();
        if fence.is_none() && indented.is_none() {
            within.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|text| is_command(text)),
            );
        }
        commands.extend(
            command
                .and_then(|line| line.split(" #").next())
                .map(str::trim_end),
        );
    }
    commands.retain(|command| !command.is_empty());
    (commands, within)
}

/// Whether it is one; a line of the log that begins as one is none.
fn is_command(text: &str) -> bool {
    let program = text.split_once(' ').map_or("", |(program, _)| program);
    let ours = ["scripts/", ".ci/", "LISTINDEXFS_"];
    let known = PROGRAMS.contains(&program) || ours.iter().any(|word| program.starts_with(word));
    known && !text.contains('…')
}

/// What is below this heading, up to the next of its rank.
pub fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let rest = text.split(&format!("\n{heading}\n")).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("there is no {heading:?}"));
    let rank = heading.split(' ').next().unwrap_or_default();
    let next = format!("\n{rank} ");
    rest.split(next.as_str()).next().expect("a section")
}

/// A numbered step of README's start.
pub fn step(begins: &str) -> &'static str {
    let start = section(README, "## Five-minute start");
    let text = start.split(&format!("\n**{begins}")).nth(1);
    let text = text.unwrap_or_else(|| panic!("README has no step {begins:?}"));
    text.split("\n**").next().expect("a step")
}

/// The first block that is fenced with this word.
pub fn block<'a>(text: &'a str, word: &str) -> &'a str {
    let rest = text.split(&format!("\n```{word}\n")).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("there is no block of {word}"));
    rest.split("\n```").next().expect("an end")
}

/// Every command of every document.
pub fn all() -> BTreeSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(top.join("docs")).expect("docs").flatten();
    let docs = docs.map(|entry| entry.path());
    let docs = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let files = ["README.md", "CONTRIBUTING.md"].map(|name| top.join(name));
    let mut all = BTreeSet::new();
    for file in docs.chain(files) {
        let text = fs::read_to_string(&file).expect("a document");
        let (blocks, within) = read(&text);
        let commands = blocks.into_iter().chain(within);
        all.extend(commands.map(str::to_owned));
    }
    all
}

#[test]
fn commands_are_told_from_what_is_none() {
    let text = "\
words, `ls`, and `df -i` or `listindexctl clean: …`
1. a list
    that goes on

    ls -l  # all of them
    cat file

```text
    a picture
```

```sh
true
```
";
    let expected = (vec!["ls -l", "cat file", "true"], vec!["df -i"]);
    assert_eq!(read(text), expected);
}
