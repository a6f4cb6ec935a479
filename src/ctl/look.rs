//! How the output of `listindexctl` looks: colours, sizes, ages, and lines that fit the terminal. Pure but for [`Look::of_stdout`].
//!
//! Text is measured without its colour, and nothing that a name holds reaches the terminal but what can be printed.

mod table;

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

pub use table::{Column, Facts, Table};

pub use crate::printable::clean;

/// Where a terminal does not tell how wide it is, columns.
const WIDTH: usize = 80;
/// Lines of words are no wider than this, however wide the terminal is: longer ones are hard to read.
const READABLE: usize = 120;
/// The end of the year 9999, where moments end: anybody gives his files what times he likes.
const LAST: u64 = 253_402_300_799;

/// How good it is, as one word in its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Green.
    Ok,
    /// Yellow.
    Warning,
    /// Red.
    Error,
}

impl Level {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }

    /// The colour.
    pub fn style(self) -> Style {
        let colour = match self {
            Level::Ok => AnsiColor::Green,
            Level::Warning => AnsiColor::Yellow,
            Level::Error => AnsiColor::Red,
        };
        colour.on_default()
    }
}

/// Of headings, and names that stand above all else.
pub const BOLD: Style = Style::new().bold();
/// Of what matters less.
pub const DIM: Style = Style::new().dimmed();

/// What whoever reads can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether there are colours.
    pub colour: bool,
    /// How many columns a line has; `None`: a program or a file reads it, and nothing is shortened.
    pub width: Option<usize>,
}

#[cfg(test)]
impl Look {
    /// A terminal of eighty columns, without colours and with them.
    pub const PLAIN: Look = Look {
        colour: false,
        width: Some(80),
    };
    pub const COLOURED: Look = Look {
        colour: true,
        ..Look::PLAIN
    };
}

impl Look {
    /// That of standard output. No colours with `NO_COLOR`, `CLICOLOR=0`, `TERM=dumb`, or where it is no terminal, unless
    /// `CLICOLOR_FORCE` demands them; the width is that of the terminal, or `COLUMNS`.
    pub fn of_stdout() -> Self {
        let stdout = io::stdout();
        let colour = AutoStream::choice(&stdout) != ColorChoice::Never;
        let told = std::env::var("COLUMNS").ok();
        let told = told.and_then(|columns| columns.parse().ok());
        let terminal = || stdout.is_terminal().then(|| terminal_width(&stdout));
        let width = told.filter(|columns| *columns > 0).or_else(terminal);
        Look { colour, width }
    }

    /// The text in this style, where there are colours.
    pub fn paint(&self, style: Style, text: &str) -> String {
        match self.colour && style != Style::new() && !text.is_empty() {
            true => format!("{style}{text}{style:#}"),
            false => text.to_owned(),
        }
    }

    /// The level's word in its colour.
    pub fn level(&self, level: Level) -> String {
        self.paint(level.style(), level.word())
    }

    /// The text in lines that fit, broken between words; all but the first are indented so far, and the first is taken to begin
    /// there. A word that is too long, as a path to be copied, stays whole.
    pub fn wrap(&self, text: &str, indent: usize) -> String {
        let room = self.width.map_or(usize::MAX, |width| {
            width.min(READABLE).saturating_sub(indent).max(20)
        });
        let (mut wrapped, mut used) = (String::new(), 0);
        for word in text.split_whitespace() {
            let long = width_of(word);
            if used > 0 && used + 1 + long > room {
                // Writing to a String does not fail.
                let _ = write!(wrapped, "\n{:indent$}", "");
                used = 0;
            } else if used > 0 {
                wrapped.push(' ');
                used += 1;
            }
            wrapped.push_str(word);
            used += long;
        }
        wrapped
    }
}

fn terminal_width(of: &impl std::os::fd::AsFd) -> usize {
    let size = rustix::termios::tcgetwinsize(of);
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { WIDTH } else { columns }
}

/// How many columns text takes. All characters count alike, as names are of letters.
pub fn width_of(text: &str) -> usize {
    text.chars().count()
}

/// Text that takes so many columns at most: the middle of a longer one goes, since names differ at both ends.
pub fn shorten(text: &str, width: usize) -> String {
    let long = width_of(text);
    if long <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let head = kept.div_ceil(2);
    let start = text.chars().take(head);
    let end = text.chars().skip(long - (kept - head));
    start.chain(['…']).chain(end).collect()
}

/// Bytes, as `12.3 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of the unit: 64 bits have no more than 16 EiB.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    let rounded = |tenths: u128| (tenths + 512) / 1024;
    while rounded(tenths) >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let tenths = rounded(tenths);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// How long ago, or how long: `3 min`, from so many seconds.
pub fn age(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR.. if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        _ => format!("{} days", seconds / DAY),
    }
}

/// A moment in seconds since 1970, as `2026-09-21T14:10:00Z`.
pub fn moment(seconds: u64) -> String {
    let since = Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// A path, with what is not UTF-8 replaced.
pub fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How long something took: `3 ms`, from so many microseconds.
pub fn took(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
    }
}

/// A number with the noun in the right number: `1 user`, `2 users`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0 B")]
    #[case(1023, "1023 B")]
    #[case(1024, "1.0 KiB")]
    #[case(12_900_000, "12.3 MiB")]
    #[case(1024 * 1024 - 1, "1.0 MiB")]
    #[case(20 * 1024, "20.0 KiB")]
    #[case(1023 * 1024, "1023.0 KiB")]
    #[case(u64::MAX, "16.0 EiB")]
    fn sizes_have_one_decimal(#[case] bytes: u64, #[case] expected: &str) {
        assert_eq!(size(bytes), expected);
    }

    #[rstest]
    #[case(0, "0 s")]
    #[case(59, "59 s")]
    #[case(200, "3 min")]
    #[case(3600, "1 h")]
    #[case(47 * 3600, "47 h")]
    #[case(48 * 3600, "2 days")]
    fn ages_have_one_unit(#[case] seconds: u64, #[case] expected: &str) {
        assert_eq!(age(seconds), expected);
    }

    #[rstest]
    #[case(7, "7 µs")]
    #[case(3_999, "3 ms")]
    #[case(1_250_000, "1.2 s")]
    #[case(30_000_000, "30.0 s")]
    fn what_took_so_long(#[case] micros: u64, #[case] expected: &str) {
        assert_eq!(took(micros), expected);
    }

    #[rstest]
    #[case("short", 5, "short")]
    #[case("longer", 5, "lo…er")]
    #[case("longest", 4, "lo…t")]
    #[case("müller@example.org", 10, "mülle….org")]
    #[case("x", 1, "x")]
    #[case("xyz", 1, "…")]
    fn long_names_lose_their_middle(
        #[case] text: &str,
        #[case] width: usize,
        #[case] expected: &str,
    ) {
        assert_eq!(shorten(text, width), expected);
        assert!(width_of(expected) <= width);
    }

    #[test]
    fn colours_come_only_where_they_are_seen() {
        assert_eq!(Look::PLAIN.level(Level::Error), "error");
        assert_eq!(Look::COLOURED.level(Level::Ok), "\u{1b}[32mok\u{1b}[0m");
        assert_eq!(
            Look::COLOURED.level(Level::Warning),
            "\u{1b}[33mwarning\u{1b}[0m"
        );
        assert_eq!(Look::COLOURED.paint(BOLD, "x"), "\u{1b}[1mx\u{1b}[0m");
        assert_eq!(Look::COLOURED.paint(Style::new(), "x"), "x");
    }

    #[test]
    fn lines_break_between_words_and_a_long_word_stays_whole() {
        let with = |width| Look {
            width,
            ..Look::PLAIN
        };
        let text = "it is served from /a/path/that/is/longer/than/the/line so say others";
        assert_eq!(
            with(Some(30)).wrap(text, 4),
            "it is served from\n    /a/path/that/is/longer/than/the/line\n    so say others"
        );
        assert_eq!(with(None).wrap(text, 4), text);
    }

    #[rstest]
    #[case(0, "1970-01-01T00:00:00Z")]
    #[case(1_790_000_000, "2026-09-21T14:13:20Z")]
    #[case(LAST + 1, "9999-12-31T23:59:59Z")]
    #[case(i64::MAX as u64, "9999-12-31T23:59:59Z")]
    #[case(u64::MAX, "9999-12-31T23:59:59Z")]
    fn a_time_beyond_all_years_is_told_too(#[case] seconds: u64, #[case] expected: &str) {
        assert_eq!(moment(seconds), expected);
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(count(1, "user"), "1 user");
        assert_eq!(count(0, "user"), "0 users");
    }
}
