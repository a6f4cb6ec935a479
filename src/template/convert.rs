//! A template of one Dovecot in the other's syntax, where there is one that means the same.
//!
//! Each variable's operations are written as the other syntax has them. What comes of it counts only if both give the same for
//! each of many names, also those of one letter: where one fails and the other does not, they are not the same.

mod old;

use self::old::old;
use super::digest::{ALGORITHMS, Algorithm};
use super::expr::{Op, Part, Parts, Source, Var};
use super::scan::Syntax;
use super::{Template, eval};

/// Names of every kind that a template may treat in a way of its own.
const NAMES: [&str; 22] = [
    "testuser",
    "alice@example.com",
    "Bob@Example.ORG",
    "a",
    "Z",
    "ab@c",
    "user@",
    "@domain",
    "a@b@c",
    "first.last+tag@mail.example.com",
    "with blank",
    "100",
    "007",
    "müller@exämple.org",
    "a-very-long-name-that-goes-on-and-on-and-on-for-ever@example.com",
    "x1",
    "x2",
    "x3",
    "x4",
    "x5",
    "O'Neil",
    "under_score",
];

impl Template {
    /// The same in `syntax`; `None` where that has no template that gives the same for all names.
    pub fn in_syntax(&self, syntax: Syntax) -> Option<String> {
        let parts = self.parts.iter().zip(&self.places);
        let texts = parts.map(|(part, place)| match (part, syntax) {
            // `%{user}` is in both.
            _ if self.syntax == syntax => Some(self.text[place.bytes.clone()].to_owned()),
            (Part::Literal(text), _) => literal(text, syntax),
            (Part::Home, _) => Some(home(&self.text[place.bytes.clone()], syntax)),
            (Part::Var(var), Syntax::New) => new(var),
            (Part::Var(var), Syntax::Old) => old(var),
        });
        let text: String = texts.collect::<Option<_>>()?;
        let other = Template::parse_with_home(&text).ok()?;
        let fits = other.parts.is_empty() || other.syntax == syntax || is_in_both(&other);
        let (ours, others) = (without_home(self), without_home(&other));
        let expand = |parts: &Parts, name: &str| eval::expand(parts, name.as_bytes());
        let same = |name: &str| match (expand(&ours, name), expand(&others, name)) {
            (Ok(ours), Ok(others)) => ours == others,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        (fits && NAMES.iter().all(|name| same(name))).then_some(text)
    }
}

/// That is the same in both, whatever it is.
fn without_home(template: &Template) -> Parts {
    let parts = template.parts.iter().filter(|part| **part != Part::Home);
    parts.cloned().collect()
}

/// `~` is in both.
fn home(text: &str, syntax: Syntax) -> String {
    let text = match (text, syntax) {
        ("~", _) => text,
        (_, Syntax::Old) => "%h",
        (_, Syntax::New) => "%{home}",
    };
    text.to_owned()
}

/// What has neither's own forms counts as 2.3's.
fn is_in_both(template: &Template) -> bool {
    let mut parts = template.parts.iter();
    parts.all(|part| match part {
        Part::Literal(_) | Part::Home => true,
        Part::Var(var) => var.text == "%{user}",
    })
}

fn literal(text: &[u8], syntax: Syntax) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    match syntax {
        _ if text == "%{" => Some("%%{".to_owned()),
        Syntax::Old => Some(text.replace('%', "%%")),
        Syntax::New => Some(text.to_owned()),
    }
}

/// In Dovecot 2.4's syntax.
fn new(var: &Var) -> Option<String> {
    let mut text = match &var.from {
        Source::Const(text) if var.ops.is_empty() => return String::from_utf8(text.clone()).ok(),
        Source::Const(_) => return None,
        Source::User => "user".to_owned(),
        Source::Local => "user | username".to_owned(),
        Source::Domain => "user | domain".to_owned(),
    };
    let mut ops = var.ops.as_slice();
    while !ops.is_empty() {
        let (filters, used) = filters(ops)?;
        for filter in filters {
            text += " | ";
            text += &filter;
        }
        ops = &ops[used..];
    }
    Some(format!("%{{{text}}}"))
}

/// What the first operations are in 2.4, and how many of them.
fn filters(ops: &[Op]) -> Option<(Vec<String>, usize)> {
    let one = |filter: &str| Some((vec![filter.to_owned()], 1));
    match ops {
        // Digits that are cut off at once need not be made.
        [Op::Hexlify(0), Op::Take(len), ..] => Some((vec![format!("hexlify({len})")], 2)),
        [Op::Skip(from), Op::Take(len), ..] => Some((vec![format!("substr({from}, {len})")], 2)),
        [Op::Lower, ..] => one("lower"),
        [Op::Upper, ..] => one("upper"),
        [Op::Reverse, ..] => one("reverse"),
        [Op::LdapDn, ..] => one("ldap_dn"),
        [
            Op::OldHash {
                md5: true,
                modulus,
                pad,
            },
            ..,
        ] => Some((old_hash(*modulus, *pad)?, 1)),
        [
            Op::Digest {
                algorithm,
                rounds,
                salt,
            },
            ..,
        ] => one(&digest(*algorithm, *rounds, salt)?),
        [Op::TruncateBits(bits), ..] => one(&format!("truncate(bits={bits})")),
        [Op::Hexlify(0), ..] => one("hexlify"),
        [Op::Hexlify(len), ..] => one(&format!("hexlify({len})")),
        [Op::Base64 { url, pad }, ..] => one(&base64(*url, *pad)),
        [Op::Skip(from), ..] => one(&format!("substr({from})")),
        [Op::Last(len), ..] => one(&format!("substr(-{len})")),
        [Op::Take(len), ..] => one(&format!("truncate({len})")),
        [Op::DropEnd(len), ..] => one(&format!("substr(0, -{len})")),
        [Op::ZeroPad(len), ..] => one(&format!("lfill({len}, '0')")),
        _ => None,
    }
}

/// 2.3 prints the low 32 bits, and pads but never cuts.
fn old_hash(modulus: i32, pad: usize) -> Option<Vec<String>> {
    let modulus = match modulus {
        0 => 1 << 32,
        modulus => i64::from(modulus),
    };
    let digits = digits_below(modulus)?;
    let number = format!("substr(0, 8) % {modulus}");
    let mut filters = vec!["md5".to_owned(), number];
    filters.extend(match pad {
        0 => vec!["hex".to_owned()],
        pad if pad >= digits => vec![format!("hex({pad})")],
        pad => vec!["hex".to_owned(), format!("lfill({pad}, '0')")],
    });
    Some(filters)
}

/// How many hexadecimal digits the numbers below have at most.
fn digits_below(modulus: i64) -> Option<usize> {
    let largest = u64::try_from(modulus).ok()?.checked_sub(1)?;
    Some(format!("{largest:x}").len())
}

fn digest(algorithm: Algorithm, rounds: u32, salt: &Parts) -> Option<String> {
    let mut arguments = Vec::new();
    if rounds != 1 {
        arguments.push(format!("rounds={rounds}"));
    }
    if !salt.is_empty() {
        arguments.push(format!("salt='{}'", plain(salt)?));
    }
    let name = name_of(algorithm)?;
    Some(match arguments.is_empty() {
        true => name.to_owned(),
        false => format!("{name}({})", arguments.join(", ")),
    })
}

fn base64(url: bool, pad: bool) -> String {
    let arguments = [(!pad).then_some("pad=0"), url.then_some("url=1")];
    let arguments: Vec<_> = arguments.into_iter().flatten().collect();
    match arguments.is_empty() {
        true => "base64".to_owned(),
        false => format!("base64({})", arguments.join(", ")),
    }
}

fn name_of(algorithm: Algorithm) -> Option<&'static str> {
    let mut all = ALGORITHMS.into_iter();
    all.find(|(_, known)| *known == algorithm)
        .map(|(name, _)| name)
}

/// A text that means the same in quotes, in brackets and in a list.
fn plain(parts: &Parts) -> Option<String> {
    let [Part::Literal(text)] = parts.as_slice() else {
        return None;
    };
    let text = std::str::from_utf8(text).ok()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().all(fits).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn convert(text: &str, syntax: Syntax) -> Option<String> {
        Template::parse(text).expect(text).in_syntax(syntax)
    }

    #[rstest]
    #[case(
        "/nfs/idx/%2.256Nu/%u",
        "/nfs/idx/%{user | md5 | substr(0, 8) % 256 | hex(2)}/%{user}"
    )]
    #[case("%d/%n", "%{user | domain}/%{user | username}")]
    #[case("%256Nu/%u", "%{user | md5 | substr(0, 8) % 256 | hex}/%{user}")]
    #[case(
        "%2.4096Nu/%u",
        "%{user | md5 | substr(0, 8) % 4096 | hex | lfill(2, '0')}/%{user}"
    )]
    #[case(
        "%2.256LNu/%Lu",
        "%{user | lower | md5 | substr(0, 8) % 256 | hex(2)}/%{user | lower}"
    )]
    #[case("%8.Nu", "%{user | md5 | substr(0, 8) % 4294967296 | hex(8)}")]
    #[case("%Mu", "%{user | md5 | hexlify}")]
    #[case("%2Mu/%u", "%{user | md5 | hexlify(2)}/%{user}")]
    #[case("%2.3Mu", "%{user | md5 | hexlify | substr(2, 3)}")]
    #[case(
        "%{sha1;truncate=8:user}",
        "%{user | sha1 | truncate(bits=8) | hexlify}"
    )]
    #[case("%1u/%u", "%{user | truncate(1)}/%{user}")]
    #[case("100%%/%u", "100%/%{user}")]
    fn from_2_3_to_2_4_and_back(#[case] old: &str, #[case] new: &str) {
        let to_new = convert(old, Syntax::New);
        // A lone % is not in 2.4's templates here.
        let expected = (!old.contains("%%")).then_some(new);
        assert_eq!(to_new.as_deref(), expected, "{old}");
        if let Some(new) = to_new {
            let back = convert(&new, Syntax::Old).expect("back");
            let (ours, again) = (Template::parse(old), Template::parse(&back));
            let expand = |template: &Template| template.expand(b"Some@One.example");
            assert_eq!(
                expand(&ours.expect("parsed")),
                expand(&again.expect("parsed")),
                "{back}"
            );
        }
    }

    #[rstest]
    #[case("%{user | md5 | substr(0, 8) % 256 | hex(2)}/%{user}", "%2.256Nu/%u")]
    #[case("%{user | sha1 % 256 | hex(2)}/%{user}", "%-2.2{sha1:user}/%u")]
    #[case("%{user | md5 % 256 | hex(2)}/%{user}", "%-2.2Mu/%u")]
    #[case("%{user | domain}/%{user | username | lower}", "%d/%Ln")]
    #[case("%{user | lower | username}", "%Ln")]
    #[case("%{user | sha256 | hexlify(2)}/%{user}", "%2{sha256:user}/%u")]
    #[case("/a/%{user}", "/a/%{user}")]
    fn from_2_4_to_2_3(#[case] new: &str, #[case] old: &str) {
        assert_eq!(convert(new, Syntax::Old).as_deref(), Some(old));
    }

    /// What the other cannot say, or fails at where the first does not.
    #[rstest]
    #[case("%Hu/%u", Syntax::New)]
    #[case("%2.2u", Syntax::New)]
    #[case("%Tu", Syntax::New)]
    #[case("%{user | md5 % 100 | hex(2)}/%{user}", Syntax::Old)]
    #[case("%{user | lower | sha1 | hexlify(2)}", Syntax::Old)]
    #[case("%{user | substr(0, 2)}", Syntax::Old)]
    #[case("%{user | default('x') | md5}", Syntax::Old)]
    fn what_the_other_has_not(#[case] text: &str, #[case] syntax: Syntax) {
        assert_eq!(convert(text, syntax), None);
    }

    #[rstest]
    #[case(
        "%h/i/%2.256Nu",
        Syntax::New,
        "%{home}/i/%{user | md5 | substr(0, 8) % 256 | hex(2)}"
    )]
    #[case("~/index", Syntax::New, "~/index")]
    #[case("%{home}/%{user | lower}", Syntax::Old, "%h/%Lu")]
    fn the_home_is_in_both(#[case] text: &str, #[case] syntax: Syntax, #[case] other: &str) {
        let template = Template::parse_with_home(text).expect(text);
        assert_eq!(template.in_syntax(syntax).as_deref(), Some(other));
    }

    #[rstest]
    #[case("/nfs/%u")]
    #[case("/nfs/%{user | lower}")]
    #[case("/nfs/%{user}")]
    fn its_own_syntax_changes_nothing(#[case] text: &str) {
        let template = Template::parse(text).expect(text);
        assert_eq!(template.in_syntax(template.syntax).as_deref(), Some(text));
    }
}
