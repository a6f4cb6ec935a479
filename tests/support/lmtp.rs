//! A minimal LMTP client.
use super::LIMIT;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

/// One connection: one LMTP process of Dovecot, that may deliver to many users.
pub struct Lmtp(BufReader<TcpStream>);

/// Delivers one message over a connection of its own.
pub fn deliver(port: u16, user: &str, message: &[u8]) {
    let mut lmtp = Lmtp::connect(port);
    lmtp.deliver(user, message);
    lmtp.quit();
}

impl Lmtp {
    /// Connects and says hello.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .unwrap_or_else(|e| panic!("LMTP port {port}: {e}"));
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("a read timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut lmtp = Self(BufReader::new(stream));
        lmtp.reply("the greeting");
        lmtp.cmd("LHLO test.invalid");
        lmtp
    }

    /// Delivers one message.
    pub fn deliver(&mut self, user: &str, message: &[u8]) {
        self.cmd("MAIL FROM:<a@b.invalid>");
        self.cmd(&format!("RCPT TO:<{user}>"));
        self.cmd("DATA");
        self.send(&[message, b"."].concat());
        self.reply(&format!("the message for {user}"));
    }

    /// Ends the connection.
    pub fn quit(mut self) {
        self.cmd("QUIT");
    }

    fn cmd(&mut self, text: &str) {
        self.send(text.as_bytes());
        self.reply(text);
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0
            .get_mut()
            .write_all(&[bytes, b"\r\n"].concat())
            .unwrap_or_else(|e| panic!("LMTP: {e}"));
    }

    /// Reads an answer to its last line; it must be a good one.
    fn reply(&mut self, what: &str) {
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line);
            assert!(
                matches!(read, Ok(n) if n > 0),
                "LMTP: waiting for {what}: {read:?}"
            );
            assert!(line.starts_with(['2', '3']), "LMTP: {what}: {line}");
            if line.get(3..4) != Some("-") {
                return;
            }
        }
    }
}
