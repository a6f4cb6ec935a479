//! Aligned columns, and lists of facts. A table's lines can be made one by one: its columns have their widths beforehand, so
//! that nobody has to have all lines at once.

use anstyle::Style;

use super::{BOLD, DIM, Level, Look, clean, shorten, width_of};

/// Between columns.
const GAP: &str = "  ";
/// What a column that is shortened keeps at least.
const LEAST: usize = 12;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    heading: &'static str,
    /// At least so wide; wider where its text is.
    width: usize,
    right: bool,
    /// Takes what the others leave, and is shortened to it.
    flexible: bool,
}

impl Column {
    /// Of text that is as wide as this at most.
    pub const fn text(heading: &'static str, width: usize) -> Self {
        Column {
            heading,
            width,
            right: false,
            flexible: false,
        }
    }

    /// Of numbers, at its right side.
    pub const fn number(heading: &'static str, width: usize) -> Self {
        Column {
            heading,
            width,
            right: true,
            flexible: false,
        }
    }

    /// Of names, which take what the other columns leave; the first or the last.
    pub const fn name(heading: &'static str) -> Self {
        Column {
            heading,
            width: LEAST,
            right: false,
            flexible: true,
        }
    }
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    look: Look,
    columns: Vec<Column>,
}

impl Table {
    /// Of these columns, of which one at most is flexible. `widest` is what the widest name takes, if that is known: the column
    /// is no wider then.
    pub fn new(look: Look, columns: &[Column], widest: Option<usize>) -> Self {
        let mut columns = columns.to_vec();
        for column in &mut columns {
            column.width = column.width.max(width_of(column.heading));
        }
        let gaps = GAP.len() * columns.len().saturating_sub(1);
        let others = columns.iter().filter(|column| !column.flexible);
        let others = others.map(|column| column.width).sum::<usize>() + gaps;
        let left = look.width.map(|width| width.saturating_sub(others));
        for column in columns.iter_mut().filter(|column| column.flexible) {
            let wanted = widest.or(left).unwrap_or(LEAST).max(column.width);
            column.width = left.map_or(wanted, |left| wanted.min(left.max(LEAST)));
        }
        Table { look, columns }
    }

    /// The line above all.
    pub fn heading(&self) -> String {
        let headings: Vec<_> = self.columns.iter().map(|column| column.heading).collect();
        let styled = headings.iter().map(|heading| (*heading, BOLD));
        self.line(styled)
    }

    /// One line, of a text and its style for each column.
    pub fn row(&self, cells: &[(&str, Style)]) -> String {
        self.line(cells.iter().copied())
    }

    fn line<'a>(&self, cells: impl Iterator<Item = (&'a str, Style)>) -> String {
        let last = self.columns.len().saturating_sub(1);
        let mut line = String::new();
        for (at, (column, (text, style))) in self.columns.iter().zip(cells).enumerate() {
            let mut text = clean(text);
            if column.flexible && self.look.width.is_some() {
                text = shorten(&text, column.width);
            }
            let padding = " ".repeat(column.width.saturating_sub(width_of(&text)));
            let painted = self.look.paint(style, &text);
            if at > 0 {
                line.push_str(GAP);
            }
            match column.right {
                true => line.extend([padding, painted]),
                false if at == last => line.push_str(&painted),
                false => line.extend([painted, padding]),
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// A list of facts, one a line: what it is about, and the fact, wrapped beside it.
#[derive(Clone, Debug, Default)]
pub struct Facts(Vec<Fact>);

#[derive(Clone, Debug)]
struct Fact {
    about: &'static str,
    text: String,
    style: Style,
    /// In one piece, to be copied.
    whole: bool,
}

impl Facts {
    fn push(&mut self, about: &'static str, text: String, style: Style, whole: bool) {
        let text = clean(&text);
        self.0.push(Fact {
            about,
            text,
            style,
            whole,
        });
    }

    /// One more.
    pub fn add(&mut self, about: &'static str, fact: impl Into<String>) {
        self.push(about, fact.into(), Style::new(), false);
    }

    /// One more, that is good or bad.
    pub fn add_with(&mut self, level: Level, about: &'static str, fact: impl Into<String>) {
        self.push(about, fact.into(), level.style(), false);
    }

    /// One more, that stays in one piece as it is: a path is to be copied.
    pub fn path(&mut self, about: &'static str, path: impl Into<String>) {
        self.push(about, path.into(), Style::new(), true);
    }

    /// One more line about the same.
    pub fn more(&mut self, fact: impl Into<String>) {
        self.add("", fact);
    }

    /// The lines.
    pub fn lines(&self, look: &Look) -> String {
        let widest = self.0.iter().map(|fact| width_of(fact.about)).max();
        let indent = widest.unwrap_or(0) + GAP.len();
        self.0.iter().map(|fact| fact.lines(look, indent)).collect()
    }
}

impl Fact {
    fn lines(&self, look: &Look, indent: usize) -> String {
        let text = match self.whole {
            true => self.text.clone(),
            false => look.wrap(&self.text, indent),
        };
        // Each line for itself, so that no colour reaches over the indent.
        let lines = text.split('\n').map(|line| {
            let words = line.trim_start();
            let indent = &line[..line.len() - words.len()];
            format!("{indent}{}", look.paint(self.style, words))
        });
        let lines: Vec<_> = lines.collect();
        let padding = " ".repeat(indent - width_of(self.about));
        let about = look.paint(DIM, self.about);
        format!("{about}{padding}{}\n", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::name("USER"),
        Column::number("BYTES", 10),
        Column::number("AGE", 7),
        Column::text("STATE", 7),
    ];
    const NAMES: [&str; 2] = [
        "bob",
        "somebody.with.a.very.long.name@mail.department.university.example",
    ];

    fn shown(look: Look, widest: Option<usize>) -> Vec<String> {
        let table = Table::new(look, &COLUMNS, widest);
        let plain = Style::new();
        let row = |name: &&str| {
            table.row(&[
                (name, plain),
                ("12.3 MiB", plain),
                ("3 min", plain),
                ("haunted", Level::Warning.style()),
            ])
        };
        let lines = std::iter::once(table.heading()).chain(NAMES.iter().map(row));
        lines
            .map(|line| line.trim_end_matches('\n').to_owned())
            .collect()
    }

    fn look(colour: bool, width: Option<usize>) -> Look {
        Look { colour, width }
    }

    #[test]
    fn a_table_fits_eighty_columns() {
        let lines = shown(look(false, Some(80)), None);
        assert_eq!(
            lines,
            [
                "USER                                                     BYTES      AGE  STATE",
                "bob                                                   12.3 MiB    3 min  haunted",
                "somebody.with.a.very.long…tment.university.example    12.3 MiB    3 min  haunted",
            ]
            .map(|line| line.to_owned())
        );
        assert!(lines.iter().all(|line| width_of(line) <= 80));
    }

    #[test]
    fn colours_change_no_column() {
        let (plain, coloured) = (
            shown(look(false, Some(80)), None),
            shown(look(true, Some(80)), None),
        );
        for (plain, coloured) in plain.iter().zip(&coloured) {
            assert_ne!(plain, coloured);
            assert_eq!(anstream::adapter::strip_str(coloured).to_string(), *plain);
        }
        assert!(coloured[1].ends_with("\u{1b}[33mhaunted\u{1b}[0m"));
    }

    #[test]
    fn who_has_room_sees_the_whole_name_and_short_names_take_no_more() {
        let lines = shown(look(false, Some(200)), Some(width_of(NAMES[1])));
        assert!(lines[2].starts_with(NAMES[1]), "{}", lines[2]);
        let lines = shown(look(false, None), None);
        assert!(lines[2].starts_with(NAMES[1]), "{}", lines[2]);
        let lines = shown(look(false, Some(80)), Some(3));
        assert_eq!(lines[1], "bob             12.3 MiB    3 min  haunted");
    }

    #[test]
    fn facts_stand_beside_what_they_are_about() {
        let mut facts = Facts::default();
        facts.add("backing", "/var/lib/listindexfs/d0/bob");
        facts.more("20.0 KiB in 3 files");
        facts.add_with(
            Level::Warning,
            "state",
            "haunted: while pid 12 lives, which was refused, nobody is given the list index",
        );
        assert_eq!(
            facts.lines(&look(false, Some(60))),
            "backing  /var/lib/listindexfs/d0/bob\n\
             \u{20}        20.0 KiB in 3 files\n\
             state    haunted: while pid 12 lives, which was refused,\n\
             \u{20}        nobody is given the list index\n"
        );
        let coloured = facts.lines(&look(true, Some(60)));
        assert!(
            coloured.ends_with(
                "refused,\u{1b}[0m\n         \u{1b}[33mnobody is given the list index\u{1b}[0m\n"
            ),
            "{coloured:?}"
        );
    }
}
