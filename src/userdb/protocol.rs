//! Dovecot's auth-master protocol as far as it looks users up: one line each way, fields parted by TABs. Pure.
//!
//! 2.3 and 2.4 speak it alike: `USER id name service=…` is answered `USER id name key=value…`, `NOTFOUND id` or `FAIL id`.

/// What a client says first. The server says VERSION as well, and waits for nobody.
pub const GREETING: &[u8] = b"VERSION\t1\t0\n";
/// The only major version there is.
const MAJOR: &[u8] = b"1";
/// Who asks, for Dovecot's log and its settings.
const SERVICE: &str = "listindexfs";
/// Auth hangs up on a longer line, bytes with the LF.
const REQUEST_MAX: usize = 1024;
/// No reply is longer, bytes: it holds a user's settings.
pub const REPLY_MAX: usize = 64 << 10;

/// More of a reason is not told, characters.
const REASON_MAX: usize = 200;

/// What userdb says of a user, as far as it tells where his INDEX is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// His home directory.
    pub home: Option<Vec<u8>>,
    /// 2.3's `mail=` (`mail_location`).
    pub mail: Option<Vec<u8>>,
    /// 2.4's `mail_path=`.
    pub mail_path: Option<Vec<u8>>,
    /// 2.4's `mail_index_path=`.
    pub mail_index_path: Option<Vec<u8>>,
}

/// An answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The user exists.
    User(Fields),
    /// He does not.
    NotFound,
    /// The lookup failed; the reason, if one is told.
    Failed(String),
}

/// A line of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The first one.
    Version,
    /// The answer to the request of this number.
    Answer(u32, Answer),
    /// Of no interest here, such as SPID.
    Other,
}

/// The line that asks for a user, with its LF. `None`: the name is longer than auth would read.
pub fn request(id: u32, name: &[u8]) -> Option<Vec<u8>> {
    let line = [
        format!("USER\t{id}\t").as_bytes(),
        &escape(name),
        format!("\tservice={SERVICE}\n").as_bytes(),
    ]
    .concat();
    (line.len() <= REQUEST_MAX).then_some(line)
}

/// Reads a line, which has no LF any more. `None`: this is no auth-userdb, or one of a version unknown here.
pub fn parse(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|&byte| byte == b'\t');
    let word = fields.next()?;
    if word == b"VERSION" {
        return (fields.next() == Some(MAJOR)).then_some(Line::Version);
    }
    if !matches!(word, b"USER" | b"NOTFOUND" | b"FAIL") {
        return Some(Line::Other);
    }
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let answer = match word {
        b"NOTFOUND" => Answer::NotFound,
        b"FAIL" => {
            let reason = fields.find_map(|field| field.strip_prefix(b"reason="));
            let reason = unescape(reason.unwrap_or_default());
            let reason = String::from_utf8_lossy(&reason);
            Answer::Failed(reason.chars().take(REASON_MAX).collect())
        }
        // The name may be another than was asked for: auth brings it into its own form.
        _ => Answer::User(fields_of(fields.skip(1))),
    };
    Some(Line::Answer(id, answer))
}

fn fields_of<'a>(pairs: impl Iterator<Item = &'a [u8]>) -> Fields {
    let mut fields = Fields::default();
    let mut location = None;
    for pair in pairs {
        let end = pair.iter().position(|&byte| byte == b'=');
        let (key, value) = pair.split_at(end.unwrap_or(pair.len()));
        let slot = match key {
            b"home" => &mut fields.home,
            b"mail" => &mut fields.mail,
            b"mail_location" => &mut location,
            b"mail_path" => &mut fields.mail_path,
            b"mail_index_path" => &mut fields.mail_index_path,
            _ => continue,
        };
        *slot = Some(unescape(value.get(1..).unwrap_or_default()));
    }
    // `mail` is the same by an older name.
    fields.mail = fields.mail.or(location);
    fields
}

/// Each byte that has a meaning to the protocol, and the one that stands for it behind `\001`.
const ESCAPES: [(u8, u8); 5] = [
    (0, b'0'),
    (1, b'1'),
    (b'\t', b't'),
    (b'\r', b'r'),
    (b'\n', b'n'),
];

fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match ESCAPES.iter().find(|(plain, _)| *plain == byte) {
            Some((_, sign)) => out.extend([1, *sign]),
            None => out.push(byte),
        }
    }
    out
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        let sign = if byte == 1 { bytes.next() } else { None };
        match sign {
            None => out.push(byte),
            Some(sign) => {
                let known = ESCAPES.iter().find(|(_, known)| known == sign);
                out.push(known.map_or(*sign, |(plain, _)| *plain));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn user(line: &[u8]) -> Fields {
        match parse(line) {
            Some(Line::Answer(_, Answer::User(fields))) => fields,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_what_auth_reads() {
        let line = request(7, b"alice@example.com").expect("short");
        assert_eq!(line, b"USER\t7\talice@example.com\tservice=listindexfs\n");
        let line = request(8, b"a\tb\nc\x01d\0e\rf\xff").expect("short");
        let escaped = b"USER\t8\ta\x01tb\x01nc\x011d\x010e\x01rf\xff\tservice=listindexfs\n";
        assert_eq!(line, escaped);
    }

    #[test]
    fn a_name_too_long_for_auth_is_not_asked_for() {
        let rest = request(1, b"").expect("short").len();
        let longest = vec![b'x'; REQUEST_MAX - rest];
        assert_eq!(request(1, &longest).map(|line| line.len()), Some(1024));
        assert_eq!(request(1, &[&longest[..], b"x"].concat()), None);
        assert_eq!(request(1, &[&longest[1..], b"\t"].concat()), None);
    }

    /// As Dovecot 2.3.19.1 wrote them.
    #[test]
    fn replies_of_2_3() {
        let line = b"USER\t1\talice\tuid=64100\tgid=64100\thome=/home/alice\tmail=sdbox:~/sdbox:INDEX=~/idx";
        let fields = user(line);
        assert_eq!(fields.home.as_deref(), Some(&b"/home/alice"[..]));
        assert_eq!(
            fields.mail.as_deref(),
            Some(&b"sdbox:~/sdbox:INDEX=~/idx"[..])
        );
        assert_eq!(user(b"USER\t4\tdave"), Fields::default());
        assert_eq!(
            parse(b"NOTFOUND\t8"),
            Some(Line::Answer(8, Answer::NotFound))
        );
        assert_eq!(parse(b"VERSION\t1\t1"), Some(Line::Version));
        assert_eq!(parse(b"SPID\t16607"), Some(Line::Other));
    }

    #[test]
    fn replies_of_2_4() {
        let line = b"USER\t3\talice\thome=/home/alice\tmail_driver=mdbox\tmail_path=~/mdbox\tmail_index_path=/nfs/i/alice";
        let fields = user(line);
        assert_eq!(fields.mail_path.as_deref(), Some(&b"~/mdbox"[..]));
        assert_eq!(
            fields.mail_index_path.as_deref(),
            Some(&b"/nfs/i/alice"[..])
        );
        assert_eq!(fields.mail, None);
    }

    #[test]
    fn values_are_unescaped_and_may_have_anything_in_them() {
        let fields = user(b"USER\t1\ta\x01tb\thome=/a\x01tb=\x011\x01n\x01z\x01\tmail\tx");
        assert_eq!(fields.home.as_deref(), Some(&b"/a\tb=\x01\nz\x01"[..]));
        assert_eq!(fields.mail.as_deref(), Some(&b""[..]));
        let fields = user(b"USER\t1\ta\tmail_location=mbox:~/m");
        assert_eq!(fields.mail.as_deref(), Some(&b"mbox:~/m"[..]));
    }

    #[rstest]
    #[case(b"FAIL\t9", "")]
    #[case(b"FAIL\t9\treason=no\x01tdatabase", "no\tdatabase")]
    #[case(b"FAIL\t9\tcode=temp\treason=x", "x")]
    fn failures_have_reasons_or_none(#[case] line: &[u8], #[case] reason: &str) {
        let failed = Answer::Failed(reason.to_owned());
        assert_eq!(parse(line), Some(Line::Answer(9, failed)));
    }

    #[test]
    fn a_long_reason_is_cut_off() {
        let line = [b"FAIL\t9\treason=".to_vec(), "ä".repeat(20_000).into()].concat();
        let failed = Answer::Failed("ä".repeat(REASON_MAX));
        assert_eq!(parse(&line), Some(Line::Answer(9, failed)));
    }

    #[rstest]
    #[case(b"VERSION\t2\t0")]
    #[case(b"VERSION")]
    #[case(b"VERSION\tauth-master\t1")]
    #[case(b"USER")]
    #[case(b"USER\tx\ta")]
    #[case(b"USER\t-1\ta")]
    #[case(b"NOTFOUND\t99999999999")]
    #[case(b"FAIL\t")]
    fn what_is_no_auth_userdb_is_told(#[case] line: &[u8]) {
        assert_eq!(parse(line), None);
    }

    #[test]
    fn what_is_escaped_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)), all);
        assert!(!escape(&all).iter().any(|byte| b"\0\t\r\n".contains(byte)));
    }
}
