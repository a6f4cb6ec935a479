//! Refused templates: each message names the variable, its column and the mend, in one line.

use listindexfs::template::{Problem, Template};
use rstest::rstest;

#[rstest]
#[case("%h", Problem::NotFromName, 1, "home directory")]
#[case("/é/%{home}/%u", Problem::NotFromName, 4, "%{home}")]
#[case("%u/%l", Problem::NotFromName, 4, "local IP")]
#[case("%s", Problem::NotFromName, 1, "service")]
#[case("%{lip}", Problem::NotFromName, 1, "%{lip}")]
#[case("%p", Problem::NotFromName, 1, "process id")]
#[case("%{pid}", Problem::NotFromName, 1, "%{pid}")]
#[case("%2.256Ni", Problem::NotFromName, 1, "uid")]
#[case("%X{uid}", Problem::NotFromName, 1, "%{uid}")]
#[case("%{env:HOME}", Problem::NotFromName, 1, "%{env:HOME}")]
#[case("%{md5:home}", Problem::NotFromName, 1, "%{home}")]
#[case("%{auth_user}", Problem::NotFromName, 1, "%{user}")]
#[case("%{user | concat(home)}", Problem::NotFromName, 17, "%{home}")]
#[case("%{userdb:x | lower}", Problem::NotFromName, 3, "%{userdb:x}")]
#[case("%q", Problem::Unknown, 1, "%u, %n, %d")]
#[case("%{usr}", Problem::Unknown, 1, "did you mean %{user}?")]
#[case("%{usernam}", Problem::Unknown, 1, "did you mean %{username}?")]
#[case("%{usr | md5}", Problem::Unknown, 3, "did you mean %{user}?")]
#[case("%{sha11:user}", Problem::Unknown, 1, "did you mean sha1?")]
#[case("%{user | md55}", Problem::Unknown, 10, "did you mean md5?")]
#[case("%{user | hexify(2)}", Problem::Unknown, 10, "did you mean hexlify?")]
#[case(
    "%{user | md5(salts='x')}",
    Problem::Unknown,
    10,
    "no argument `salts`"
)]
#[case("%{user | hash('md6')}", Problem::Unknown, 10, "sha1")]
#[case(
    "%{user | lower}/%{domain}",
    Problem::Unknown,
    19,
    "write %{user | domain}"
)]
#[case("%{username | lower}", Problem::Unknown, 3, "write %{user | username}")]
#[case("%{md4:user}", Problem::Unsupported, 1, "sha1")]
#[case("%{if;%u;eq;a;b;c}", Problem::Unsupported, 1, "without %{if")]
#[case(
    "%{user | regexp('a', 'b')}",
    Problem::Unsupported,
    10,
    "another filter"
)]
#[case("%u/%{user | md5}", Problem::Mixed, 1, "`%{user | md5}` (column 4)")]
#[case("%{user | md5}/100%", Problem::Syntax, 18, "%%")]
#[case("%{user | md5}/%%", Problem::Mixed, 15, "2.4")]
#[case("%{user", Problem::Syntax, 1, "%%{")]
#[case("%{sha1;salt={:user}", Problem::Syntax, 1, "close it")]
#[case("%", Problem::Syntax, 1, "%%")]
#[case("a%2.2", Problem::Syntax, 2, "%%")]
#[case("%{}", Problem::Syntax, 1, "column 3")]
#[case("%{user lower}", Problem::Syntax, 1, "column 8")]
#[case("%{user | lower(}", Problem::Syntax, 1, "column 16")]
#[case("%{user | concat('a\\q')}", Problem::Syntax, 1, "backslash")]
#[case("%{user | concat('a)}", Problem::Syntax, 1, "close")]
#[case("%{lower}x%{user|md5}", Problem::Syntax, 3, "begin with")]
#[case("%{user | md5 | hex(2)}", Problem::Range, 1, "hexlify")]
#[case("%{user | md5 + 1}", Problem::Range, 1, "% n")]
#[case("%{user | md5 % 0}", Problem::Range, 1, "positive")]
#[case("%{user | md5 | substr(0, 17)}", Problem::Range, 1, "outside")]
#[case("%{user | md5 % 256 | hex(300)}", Problem::Range, 22, "255")]
#[case("%{user | md5(rounds=0)}", Problem::Range, 10, "1 to")]
#[case("%{md5;rounds=0:user}", Problem::Range, 1, "1 to")]
#[case("%{md5;rounds=x:user}", Problem::Range, 1, "number")]
#[case("%99999999999u", Problem::Range, 1, "2147483647")]
#[case("%0999u", Problem::Range, 1, "255")]
#[case("a\nb%h", Problem::NotFromName, 4, "home")]
fn refused(
    #[case] text: &str,
    #[case] problem: Problem,
    #[case] column: usize,
    #[case] says: &str,
) {
    let error = Template::parse(text).expect_err(text);
    let line = error.to_string();
    assert_eq!((error.problem, error.column), (problem, column), "{line}");
    assert!(
        line.contains(says) && line.contains(&format!("column {column}")) && line.contains("; "),
        "{line}"
    );
    assert!(!line.contains('\n'), "{line}");
    println!("{line}");
}
