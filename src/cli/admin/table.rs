//! Tables and quantities for a person: columns line up, and numbers have units.

use std::io::{self, ErrorKind, Write};

use indicatif::HumanBytes;

use bitsd::unseen;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Lines of columns, each as wide as its widest value; the last one takes what it needs.
pub struct Columns {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// With these headings.
    pub fn new(headings: &[(&str, Side)]) -> Self {
        Self {
            sides: headings.iter().map(|(_, side)| *side).collect(),
            rows: vec![
                headings
                    .iter()
                    .map(|(name, _)| (*name).to_owned())
                    .collect(),
            ],
        }
    }

    /// One more row.
    pub fn row(&mut self, values: impl IntoIterator<Item = String>) {
        self.rows
            .push(values.into_iter().map(|value| printable(&value)).collect());
    }

    /// Whether there is none but the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// As text.
    pub fn to_text(&self) -> String {
        let width = |column: usize| {
            let values = self.rows.iter().filter_map(|row| row.get(column));
            values.map(|value| value.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.sides.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((value, side), width) in row.iter().zip(&self.sides).zip(&widths) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let blanks = " ".repeat(width - value.chars().count());
                match side {
                    Side::Left => line.push_str(&format!("{value}{blanks}")),
                    Side::Right => line.push_str(&format!("{blanks}{value}")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
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

/// Writes to stdout. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// What stdout says otherwise.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written,
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
