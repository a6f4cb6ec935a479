//! Text of others' making, as names, paths and what servers say, so that it can be printed. Pure.

/// Without control characters, which could move a cursor or begin a line of a log.
pub fn clean(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
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
    }
}
