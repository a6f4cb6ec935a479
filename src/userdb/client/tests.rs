//! The client against a socket of the test's own, which says what Dovecot says: when, and on which connection, is what counts.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use super::*;
use crate::userdb::protocol::Fields;

/// Only a test that fails waits for so long.
const LIMIT: Duration = Duration::from_secs(60);

type Told = (String, Result<Answer, Error>);

struct Auth {
    listener: UnixListener,
    client: Client,
    tell: Sender<Told>,
    told: Receiver<Told>,
    _dir: tempfile::TempDir,
}

/// One connection of the client's.
struct Connection(BufReader<UnixStream>);

impl Auth {
    fn new(patience: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("auth-userdb");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (tell, told) = channel();
        Self {
            listener,
            client: Client::new(path, patience).expect("a client"),
            tell,
            told,
            _dir: dir,
        }
    }

    fn ask(&self, name: &str) {
        let (tell, asked) = (self.tell.clone(), name.to_owned());
        let done = move |answer| tell.send((asked, answer)).expect("the test listens");
        self.client.ask(name.as_bytes(), Box::new(done));
    }

    fn told(&self) -> Told {
        self.told.recv_timeout(LIMIT).expect("everybody is told")
    }

    fn accept(&self) -> Connection {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let mut connection = Connection(BufReader::new(stream));
        connection.say("VERSION\t1\t1\nSPID\t7\n");
        assert_eq!(connection.line(), "VERSION\t1\t0");
        connection
    }
}

impl Connection {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Number and name of a request.
    fn request(&mut self) -> (u32, String) {
        let line = self.line();
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!(
            (fields[0], fields[3]),
            ("USER", "service=listindexfs"),
            "{line}"
        );
        (fields[1].parse().expect("a number"), fields[2].to_owned())
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("sent");
    }

    fn answer(&mut self, (id, name): (u32, String)) {
        self.say(&format!("USER\t{id}\t{name}\thome=/h/{name}\n"));
    }
}

fn home(name: &str) -> Result<Answer, Error> {
    Ok(Answer::User(Fields {
        home: Some(format!("/h/{name}").into()),
        ..Fields::default()
    }))
}

#[test]
fn all_that_is_asked_goes_out_at_once_and_is_answered_by_number() {
    let auth = Auth::new(LIMIT);
    let names: Vec<_> = (0..400).map(|n| format!("user{n}")).collect();
    names.iter().for_each(|name| auth.ask(name));
    let mut connection = auth.accept();
    let requests: Vec<_> = names.iter().map(|_| connection.request()).collect();
    assert_eq!(
        auth.told.try_recv().err(),
        Some(std::sync::mpsc::TryRecvError::Empty)
    );
    // Nobody waits for any more, a line of no interest, and then the last first.
    connection.say("NOTFOUND\t999\nSOMETHING\telse\n");
    requests
        .into_iter()
        .rev()
        .for_each(|request| connection.answer(request));
    for _ in &names {
        let (name, answer) = auth.told();
        assert_eq!(answer, home(&name));
    }
}

#[test]
fn no_more_are_in_flight_than_the_window_has_room_for() {
    let auth = Auth::new(LIMIT);
    let names: Vec<_> = (0..520).map(|n| format!("user{n}")).collect();
    names.iter().for_each(|name| auth.ask(name));
    let mut connection = auth.accept();
    let first: Vec<_> = (0..512).map(|_| connection.request()).collect();
    let more = connection.0.get_mut();
    more.set_nonblocking(true).expect("nonblocking");
    assert!(
        connection.0.buffer().is_empty() && connection.0.read_line(&mut String::new()).is_err()
    );
    connection
        .0
        .get_mut()
        .set_nonblocking(false)
        .expect("blocking");
    first
        .into_iter()
        .for_each(|request| connection.answer(request));
    for _ in 512..names.len() {
        let request = connection.request();
        connection.answer(request);
    }
    for _ in &names {
        let (name, answer) = auth.told();
        assert_eq!(answer, home(&name));
    }
}

#[test]
fn what_is_answered_in_pieces_or_with_no_user_is_understood() {
    let auth = Auth::new(LIMIT);
    ["a", "b", "c"].iter().for_each(|name| auth.ask(name));
    let mut connection = auth.accept();
    let [a, b, c] = [(); 3].map(|()| connection.request());
    let line = format!(
        "FAIL\t{}\treason=why\nNOTFOUND\t{}\nUSER\t{}\ta\thome=/h/a\n",
        c.0, b.0, a.0
    );
    for piece in line.as_bytes().chunks(3) {
        connection.0.get_mut().write_all(piece).expect("sent");
    }
    assert_eq!(
        auth.told(),
        ("c".to_owned(), Ok(Answer::Failed("why".to_owned())))
    );
    assert_eq!(auth.told(), ("b".to_owned(), Ok(Answer::NotFound)));
    assert_eq!(auth.told(), ("a".to_owned(), home("a")));
}

#[test]
fn who_waits_when_auth_ends_is_asked_for_once_more() {
    let auth = Auth::new(LIMIT);
    ["a", "b"].iter().for_each(|name| auth.ask(name));
    let mut first = auth.accept();
    let request = first.request();
    first.request();
    first.answer(request);
    assert_eq!(auth.told(), ("a".to_owned(), home("a")));
    drop(first);
    let mut second = auth.accept();
    let request = second.request();
    assert_eq!(request.1, "b");
    second.answer(request);
    assert_eq!(auth.told(), ("b".to_owned(), home("b")));
}

#[test]
fn and_not_for_a_third_time() {
    let auth = Auth::new(LIMIT);
    auth.ask("a");
    for _ in 0..2 {
        auth.accept().request();
    }
    assert_eq!(auth.told(), ("a".to_owned(), Err(Error::HungUp)));
    assert!(auth.client.shared.is_down());
}

#[test]
fn one_finds_out_whether_a_silent_auth_is_back_and_the_others_do_not_wait() {
    let patience = Duration::from_secs(2);
    let auth = Auth::new(patience);
    auth.ask("a");
    assert_eq!(auth.told(), ("a".to_owned(), Err(Error::Silent(patience))));
    // The first that is not refused at once finds out.
    let until = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < until, "nobody finds out");
        auth.ask("c");
        match auth.told.recv_timeout(Duration::from_millis(20)) {
            Ok((_, answer)) => assert_eq!(answer, Err(Error::Silent(patience))),
            Err(RecvTimeoutError::Timeout) => break,
            Err(e) => panic!("{e}"),
        }
    }
    auth.ask("d");
    assert_eq!(
        auth.told.try_recv(),
        Ok(("d".to_owned(), Err(Error::Silent(patience))))
    );
    assert_eq!(auth.told().0, "c", "which is told in the end");
}

#[test]
fn when_it_is_back_all_are_asked_for_again() {
    let auth = Auth::new(Duration::from_millis(200));
    auth.ask("a");
    let _ = auth.told();
    let listener = auth.listener.try_clone().expect("dup");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut connection = Connection(BufReader::new(stream.expect("a connection")));
            // That of the one that was given up is closed.
            let mut say = |text: &str| drop(connection.0.get_mut().write_all(text.as_bytes()));
            say("VERSION\t1\t1\n");
            let _greeting = connection.maybe_line();
            while let Some((id, name)) = connection.maybe_request() {
                let line = format!("USER\t{id}\t{name}\thome=/h/{name}\n");
                let _ = connection.0.get_mut().write_all(line.as_bytes());
            }
        }
    });
    let until = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < until, "not answered again");
        auth.ask("b");
        if auth.told() == ("b".to_owned(), home("b")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!auth.client.shared.is_down());
}

impl Connection {
    /// None where the client has closed it: it may have been given up at any time.
    fn maybe_line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    }

    fn maybe_request(&mut self) -> Option<(u32, String)> {
        let line = self.maybe_line()?;
        let mut fields = line.split('\t').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.to_owned()))
    }
}

#[test]
fn who_is_answered_late_while_others_are_answered_is_late_alone() {
    let until = Instant::now() + LIMIT;
    while !is_late_alone() {
        assert!(Instant::now() < until, "nobody was quick");
    }
}

/// False where the machine stood still, so that the others were late too.
fn is_late_alone() -> bool {
    let patience = Duration::from_secs(2);
    let auth = Auth::new(patience);
    auth.ask("slow");
    let mut connection = auth.accept();
    connection.request();
    let answer = loop {
        let asked = Instant::now();
        auth.ask("quick");
        let request = connection.request();
        connection.answer(request);
        let (name, answer) = auth.told();
        if asked.elapsed() > patience / 2 {
            return false;
        }
        match name.as_str() {
            "slow" => break answer,
            _ => assert_eq!(answer, home("quick")),
        }
    };
    assert_eq!(answer, Err(Error::Late(patience)));
    assert!(!auth.client.shared.is_down());
    true
}

#[test]
fn what_is_no_auth_is_given_up_at_once() {
    for greeting in ["HELLO\n", "VERSION\t2\t0\n", "USER\t1\ta\n", "\n"] {
        let auth = Auth::new(LIMIT);
        auth.ask("a");
        let (mut stream, _) = auth.listener.accept().expect("a connection");
        stream.write_all(greeting.as_bytes()).expect("sent");
        assert_eq!(
            auth.told(),
            ("a".to_owned(), Err(Error::Foreign)),
            "{greeting}"
        );
    }
    let auth = Auth::new(LIMIT);
    auth.ask("a");
    let mut connection = auth.accept();
    let endless = "x".repeat(protocol::REPLY_MAX + 1);
    connection.say(&endless);
    assert_eq!(auth.told(), ("a".to_owned(), Err(Error::Foreign)));
}

#[test]
fn where_nobody_listens_that_is_told() {
    let mut auth = Auth::new(Duration::from_millis(200));
    auth.client = Client::new("/nonexistent/auth-userdb".into(), LIMIT).expect("a client");
    auth.ask("a");
    let why = "/nonexistent/auth-userdb: No such file or directory (os error 2)";
    let gone = Err(Error::Unreachable(why.to_owned()));
    assert_eq!(auth.told(), ("a".to_owned(), gone.clone()));
    auth.ask("b");
    assert_eq!(auth.told(), ("b".to_owned(), gone));
    auth.ask(&"x".repeat(2000));
    assert_eq!(auth.told().1, Err(Error::NameTooLong));
}
