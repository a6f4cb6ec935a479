//! A blocking IMAP client: enough to act on a mailbox and to see what a user would see.
use super::LIMIT;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// What LIST and STATUS tell of one folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// MESSAGES
    pub messages: u32,
    /// UIDNEXT
    pub uidnext: u32,
    /// UIDVALIDITY
    pub uidvalidity: u32,
    /// UNSEEN
    pub unseen: u32,
}

/// The folders that can be selected. `None` where LIST named a folder but gave no STATUS for it.
pub type ListStatus = BTreeMap<String, Option<Counts>>;

/// The answer to one command.
#[derive(Debug)]
pub struct Reply {
    /// The tagged line without its tag.
    pub status: String,
    /// The untagged lines before it.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether the command succeeded.
    pub fn is_ok(&self) -> bool {
        self.status.starts_with("OK")
    }
}

/// One session.
pub struct Imap {
    user: String,
    stream: BufReader<TcpStream>,
    tag: u32,
}

impl Imap {
    /// Connects and logs in.
    pub fn login(port: u16, user: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .unwrap_or_else(|e| panic!("IMAP port {port}: {e}"));
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("a read timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut imap = Self {
            user: user.to_owned(),
            stream: BufReader::new(stream),
            tag: 0,
        };
        let greeting = imap.line("the greeting");
        assert!(greeting.starts_with("* OK"), "greeting: {greeting}");
        imap.ok(&format!("LOGIN {user} pass"));
        imap
    }

    /// Sends a command and reads its answer.
    pub fn cmd(&mut self, text: &str) -> Reply {
        self.send(text, text.as_bytes());
        self.reply(text)
    }

    /// Sends a command and panics unless it succeeds.
    pub fn ok(&mut self, text: &str) -> Vec<String> {
        let reply = self.cmd(text);
        assert!(reply.is_ok(), "{}: {text}: {}", self.user, reply.status);
        reply.lines
    }

    /// Appends a message. Gives UIDVALIDITY and UID of it.
    pub fn append(&mut self, folder: &str, flags: &str, message: &[u8]) -> (u32, u32) {
        let text = format!("APPEND \"{folder}\" ({flags}) {{{}+}}", message.len());
        self.send(&text, &[text.as_bytes(), b"\r\n", message].concat());
        let reply = self.reply(&text);
        let ids = reply
            .status
            .split_once("[APPENDUID ")
            .and_then(|(_, rest)| rest.split_once(']'));
        let parsed = ids
            .and_then(|(ids, _)| ids.split_once(' '))
            .and_then(|(v, u)| Some((v.parse().ok()?, u.parse().ok()?)));
        parsed.unwrap_or_else(|| panic!("{}: {text}: {}", self.user, reply.status))
    }

    /// All folders with their counts, in one command.
    pub fn list_status(&mut self) -> ListStatus {
        let lines =
            self.ok("LIST \"\" \"*\" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN))");
        let mut folders: ListStatus = lines
            .iter()
            .filter_map(|line| listed(line))
            .map(|name| (name, None))
            .collect();
        for (name, counts) in lines.iter().filter_map(|line| counted(line)) {
            folders.insert(name, Some(counts));
        }
        folders
    }

    /// The names of all folders that can be selected.
    pub fn list(&mut self) -> Vec<String> {
        self.ok("LIST \"\" \"*\"")
            .iter()
            .filter_map(|line| listed(line))
            .collect()
    }

    /// The counts of one folder; `None` if the server refuses, as for a folder that is not there.
    pub fn status(&mut self, folder: &str) -> Option<Counts> {
        let reply = self.cmd(&format!(
            "STATUS \"{folder}\" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
        ));
        reply
            .lines
            .iter()
            .find_map(|line| counted(line))
            .map(|(_, counts)| counts)
    }

    /// Selects a folder.
    pub fn select(&mut self, folder: &str) {
        self.ok(&format!("SELECT \"{folder}\""));
    }

    /// Leaves the selected folder without expunging.
    pub fn unselect(&mut self) {
        self.ok("UNSELECT");
    }

    /// Changes flags in the selected folder: `item` is `+FLAGS`, `-FLAGS` or `FLAGS`.
    pub fn store(&mut self, uid: u32, item: &str, flags: &str) {
        self.ok(&format!("UID STORE {uid} {item} ({flags})"));
    }

    /// Expunges one message of the selected folder.
    pub fn expunge(&mut self, uid: u32) {
        self.store(uid, "+FLAGS", "\\Deleted");
        self.ok(&format!("UID EXPUNGE {uid}"));
    }

    /// Creates a folder.
    pub fn create(&mut self, folder: &str) {
        self.ok(&format!("CREATE \"{folder}\""));
    }

    /// Deletes a folder.
    pub fn delete(&mut self, folder: &str) {
        self.ok(&format!("DELETE \"{folder}\""));
    }

    /// Renames a folder.
    pub fn rename(&mut self, from: &str, to: &str) {
        self.ok(&format!("RENAME \"{from}\" \"{to}\""));
    }

    /// Starts to idle: lines come by themselves, for [`Imap::wait_line`].
    pub fn idle_start(&mut self) {
        self.send("IDLE", b"IDLE");
        let line = self.line("IDLE");
        assert!(line.starts_with('+'), "IDLE: {line}");
    }

    /// Ends idling. Gives the lines not yet waited for.
    pub fn idle_stop(&mut self) -> Vec<String> {
        self.stream.get_mut().write_all(b"DONE\r\n").expect("DONE");
        self.reply("IDLE").lines
    }

    /// Asks for events of these kinds (RFC 5465), such as `(personal (MessageNew MessageExpunge MailboxName))`.
    pub fn notify(&mut self, events: &str) {
        self.ok(&format!("NOTIFY SET {events}"));
    }

    /// Waits for a line that the server sends by itself and that contains `part`.
    pub fn wait_line(&mut self, part: &str) -> String {
        loop {
            let line = self.line(&format!("the line with {part:?}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Logs out.
    pub fn logout(mut self) {
        self.ok("LOGOUT");
    }

    fn send(&mut self, text: &str, bytes: &[u8]) {
        self.tag += 1;
        let tagged = [format!("a{} ", self.tag).as_bytes(), bytes, b"\r\n"].concat();
        self.stream
            .get_mut()
            .write_all(&tagged)
            .unwrap_or_else(|e| panic!("{}: {text}: {e}", self.user));
    }

    fn reply(&mut self, text: &str) -> Reply {
        let tag = format!("a{} ", self.tag);
        let mut lines = Vec::new();
        loop {
            let line = self.line(text);
            if let Some(status) = line.strip_prefix(&tag) {
                return Reply {
                    status: status.to_owned(),
                    lines,
                };
            }
            lines.push(line);
        }
    }

    /// One line of the server, with the literals in it.
    fn line(&mut self, waiting_for: &str) -> String {
        let mut line = Vec::new();
        let fail = |e: &dyn std::fmt::Display| -> ! {
            panic!("{}: waiting for {waiting_for}: {e}", self.user)
        };
        loop {
            match self.stream.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\r\n") => line.truncate(line.len() - 2),
                Ok(_) => fail(&"connection closed"),
                Err(e) => fail(&e),
            }
            let Some(length) = literal(&line) else {
                return String::from_utf8_lossy(&line).into_owned();
            };
            let mut bytes = vec![0; length];
            self.stream
                .read_exact(&mut bytes)
                .unwrap_or_else(|e| fail(&e));
            line.extend(bytes);
        }
    }
}

/// The length of the literal that a line announces at its end.
fn literal(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('}')?;
    text.rsplit_once('{')?.1.parse().ok()
}

/// The name in a LIST line, if that folder can be selected.
fn listed(line: &str) -> Option<String> {
    let (flags, rest) = line.strip_prefix("* LIST (")?.split_once(") ")?;
    let hidden = ["\\nonexistent", "\\noselect"]
        .iter()
        .any(|flag| flags.to_ascii_lowercase().contains(flag));
    (!hidden).then(|| unquote(rest.split_once(' ').map_or("", |(_, name)| name)))
}

/// Name and counts in a STATUS line.
fn counted(line: &str) -> Option<(String, Counts)> {
    let (name, rest) = line.strip_prefix("* STATUS ")?.rsplit_once(" (")?;
    let words: Vec<&str> = rest.trim_end_matches(')').split(' ').collect();
    let mut counts = Counts::default();
    for pair in words.chunks_exact(2) {
        let value = pair[1].parse().ok()?;
        match pair[0] {
            "MESSAGES" => counts.messages = value,
            "UIDNEXT" => counts.uidnext = value,
            "UIDVALIDITY" => counts.uidvalidity = value,
            "UNSEEN" => counts.unseen = value,
            _ => {}
        }
    }
    Some((unquote(name), counts))
}

fn unquote(name: &str) -> String {
    name.trim_matches('"').to_owned()
}
