//! `GET /metrics`, and nothing else.
//!
//! Written by hand: this is in the process that must not die, and all that is needed of HTTP is the first line of a request. So
//! clients, their time and what they may say are bounded, which a library would have to be trusted with.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use super::Told;
use crate::control::socket::{left, take_clients};
use crate::stats::exposition::CONTENT_TYPE;

/// So many are answered at a time; one more finds the connection closed.
const CLIENTS: usize = 4;
/// How long a client may take to ask, and to read.
const PATIENCE: Duration = Duration::from_secs(5);
/// A longer request is cut off, bytes.
const LONGEST: usize = 8 << 10;
/// The pause before an address that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Listens there for as long as the program runs; where that cannot be, as the address is another's still, later.
pub fn serve(address: SocketAddr, told: Arc<Told>) -> io::Result<()> {
    let run = move || {
        let listener = listen(address);
        log::info!("metrics are at http://{address}/metrics");
        let serve = move |client| answer(client, || told.text());
        take_clients(listener.incoming(), "metrics", (CLIENTS, "scrape"), serve);
    };
    Builder::new()
        .name("metrics".to_owned())
        .spawn(run)
        .map(drop)
}

fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) if !said => {
                log::error!("no metrics over HTTP yet: cannot listen on {address}: {error}");
                said = true;
            }
            Err(_) => {}
        }
        thread::sleep(AGAIN);
    }
}

fn answer(mut client: TcpStream, text: impl FnOnce() -> String) -> io::Result<()> {
    let head = read_head(&mut client, PATIENCE)?;
    say(&mut client, response(&head, text).as_bytes(), PATIENCE)?;
    client.shutdown(std::net::Shutdown::Write)
}

/// All up to the empty line, or what there is of it.
fn read_head(client: &mut TcpStream, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let (mut head, mut bytes) = (Vec::new(), [0; 1024]);
    while head.len() < LONGEST && !ends(&head) {
        client.set_read_timeout(Some(left(until)?))?;
        match client.read(&mut bytes)? {
            0 => break,
            read => head.extend_from_slice(&bytes[..read]),
        }
    }
    Ok(head)
}

/// All of it within `patience`: who reads it byte by byte would keep others out.
fn say(client: &mut TcpStream, mut rest: &[u8], patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    while !rest.is_empty() {
        client.set_write_timeout(Some(left(until)?))?;
        match client.write(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => rest = &rest[written..],
        }
    }
    Ok(())
}

fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

fn response(head: &[u8], text: impl FnOnce() -> String) -> String {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let version = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let plain = "text/plain; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        _ if !version || !ends(head) => ("400 Bad Request", plain, "not understood\n".to_owned()),
        (Some("GET" | "HEAD"), "/metrics") => ("200 OK", CONTENT_TYPE, text()),
        (Some("GET" | "HEAD"), _) => ("404 Not Found", plain, "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", plain, "only GET\n".to_owned()),
    };
    let len = body.len();
    let body = if method == Some("HEAD") {
        String::new()
    } else {
        body
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", Some("m 1\n"))]
    #[case("GET /metrics?x=1 HTTP/1.0\n\n", "200 OK", Some("m 1\n"))]
    #[case("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK", Some(""))]
    #[case("GET / HTTP/1.1\r\n\r\n", "404 Not Found", None)]
    #[case("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", None)]
    #[case("GET /metrics\r\n\r\n", "400 Bad Request", None)]
    #[case("GET /metrics HTTP/1.1\r\nHost", "400 Bad Request", None)]
    #[case("\u{0}\r\n\r\n", "400 Bad Request", None)]
    #[case("", "400 Bad Request", None)]
    fn one_path_is_answered(#[case] asked: &str, #[case] status: &str, #[case] body: Option<&str>) {
        let said = response(asked.as_bytes(), || "m 1\n".to_owned());
        let (head, found) = said.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{head}"
        );
        if let Some(body) = body {
            assert_eq!(found, body);
            assert!(head.contains("Content-Length: 4\r\n"), "{head}");
        }
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours = TcpStream::connect(listener.local_addr().expect("an address"));
        (
            ours.expect("connected"),
            listener.accept().expect("taken").0,
        )
    }

    #[test]
    fn who_says_nothing_has_a_bound() {
        let (_ours, mut theirs) = pair();
        let error = read_head(&mut theirs, Duration::from_millis(20)).expect_err("nothing");
        let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        assert!(kinds.contains(&error.kind()), "{error}");
    }

    #[test]
    fn who_reads_bit_by_bit_has_a_bound() {
        let (mut ours, mut theirs) = pair();
        let reads = thread::spawn(move || {
            let mut bit = [0; 1024];
            while ours.read(&mut bit).is_ok_and(|read| read > 0) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let much = vec![0; 64 << 20];
        let error = say(&mut theirs, &much, Duration::from_millis(200)).expect_err("cut off");
        let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        assert!(kinds.contains(&error.kind()), "{error}");
        theirs.shutdown(std::net::Shutdown::Both).expect("ended");
        drop(theirs);
        reads.join().expect("read");
    }

    #[test]
    fn who_never_ends_is_cut_off() {
        let (mut ours, mut theirs) = pair();
        ours.write_all(&[b'x'; 2 * LONGEST]).expect("written");
        let head = read_head(&mut theirs, Duration::from_secs(60)).expect("cut off");
        assert!((LONGEST..2 * LONGEST).contains(&head.len()));
    }
}
