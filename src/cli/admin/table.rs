//! Tables and quantities for a person: columns line up, and numbers have units.

use std::io::{self, BufWriter, ErrorKind, Write};

use indicatif::HumanBytes;

use bitsd::unseen;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Between the values of a row. None has it: [`printable`] takes it out.
const BETWEEN: char = '\0';

/// The values of a row in one piece. Of very many rows, this takes the least memory.
pub fn joined(values: impl IntoIterator<Item = String>) -> Box<str> {
    let mut row = String::new();
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            row.push(BETWEEN);
        }
        row.push_str(&printable(&value));
    }
    row.into_boxed_str()
}

/// Lines of columns, each as wide as its widest value; the last one takes what it needs.
pub struct Columns {
    sides: Vec<Side>,
    widths: Vec<usize>,
    rows: Vec<Box<str>>,
}

impl Columns {
    /// With these headings.
    pub fn new(headings: &[(&str, Side)]) -> Self {
        let mut columns = Self {
            sides: headings.iter().map(|(_, side)| *side).collect(),
            widths: vec![0; headings.len()],
            rows: Vec::new(),
        };
        columns.row(headings.iter().map(|(name, _)| (*name).to_owned()));
        columns
    }

    /// One more row.
    pub fn row(&mut self, values: impl IntoIterator<Item = String>) {
        self.joined_row(joined(values));
    }

    /// One more row, of [`joined`] values.
    pub fn joined_row(&mut self, row: Box<str>) {
        for (width, value) in self.widths.iter_mut().zip(row.split(BETWEEN)) {
            *width = (*width).max(value.chars().count());
        }
        self.rows.push(row);
    }

    /// Whether there is none but the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// As text.
    pub fn to_text(&self) -> String {
        self.lines().collect()
    }

    /// The same, line by line.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.rows.iter().map(|row| {
            let mut line = String::new();
            let values = row.split(BETWEEN).zip(&self.sides);
            for ((value, side), width) in values.zip(&self.widths) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let blanks = " ".repeat(width - value.chars().count());
                match side {
                    Side::Left => line.push_str(&format!("{value}{blanks}")),
                    Side::Right => line.push_str(&format!("{blanks}{value}")),
                }
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            line
        })
    }
}

/// Without what would move the cursor or spoil a line: names come from clients.
pub fn printable(text: &str) -> String {
    unseen::replace(text, '?')
}

/// Bytes with a unit.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A time, as its two largest parts.
pub fn time(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..]
        .iter()
        .take(2)
        .filter(|(count, _)| *count > 0);
    let words: Vec<_> = shown
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    match words.is_empty() {
        true => "0s".to_owned(),
        false => words.join(" "),
    }
}

/// Who reads what is written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Reads,
    /// It has seen enough (`| head`), which is no failure. What is still to be done is done.
    Gone,
}

/// Writes to stdout; whether anybody reads on.
///
/// # Errors
/// What stdout says otherwise.
pub fn print(text: &str) -> io::Result<Reader> {
    print_all([text])
}

/// The same with several texts, one behind the other.
///
/// # Errors
/// What stdout says otherwise.
pub fn print_all<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> io::Result<Reader> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut texts = texts.into_iter();
    let written = texts.try_for_each(|text| out.write_all(text.as_ref().as_bytes()));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        written => written.map(|()| Reader::Reads),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut columns = Columns::new(&[
            ("NAME", Side::Left),
            ("SIZE", Side::Right),
            ("PATH", Side::Left),
        ]);
        assert!(columns.is_empty());
        columns.row(["ä".to_owned(), "12".to_owned(), "a\nb".to_owned()]);
        columns.row(["longer".to_owned(), "1234567".to_owned(), String::new()]);
        let expected = "NAME       SIZE  PATH\nä            12  a?b\nlonger  1234567\n";
        assert_eq!(columns.to_text(), expected);
    }

    #[test]
    fn quantities_have_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(3 << 30), "3.00 GiB");
        let times = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_661, "1h 1m"),
            (7_205, "2h"),
            (86_400 * 3 + 3_600, "3d 1h"),
        ];
        for (seconds, words) in times {
            assert_eq!(time(seconds), words);
        }
    }
}
