//! Text of others' making, as names, paths and what servers say, so that it can be printed. Pure.

/// Whether it could move a cursor, begin a line of a log, or have what follows read in another order.
pub fn misleads(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}')
}

/// With what [misleads] escaped.
pub fn clean(text: &str) -> String {
    let escape = |c: char| match misleads(c) {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The same on one line: ends of lines within it (a path may hold some) become blanks.
pub fn one_line(text: &str) -> String {
    clean(&text.replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_begin_a_line() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(clean("\u{9b}müller\r"), "\\u{9b}müller\\r");
        assert_eq!(clean("evil\u{202e}ecila"), "evil\\u{202e}ecila");
    }
}
