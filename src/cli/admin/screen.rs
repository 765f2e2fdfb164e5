//! What is shown on a terminal again and again, each time in the place of what was there.

use std::io::{self, IsTerminal};

/// To the first row.
const HOME: &str = "\x1b[H";
/// Clears what is left of a row.
const REST_OF_ROW: &str = "\x1b[K";
/// Clears all below.
const REST: &str = "\x1b[J";

/// Where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// No terminal, or one that can only write on.
    None,
    /// A terminal of this size.
    Of { rows: usize, columns: usize },
}

impl Screen {
    /// The terminal that stdout is, as large as it is now.
    pub fn of_stdout() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
        if is_dumb || !io::stdout().is_terminal() {
            return Self::None;
        }
        // One that does not say it is as they were.
        let or = |size: u16, usual| if size == 0 { usual } else { usize::from(size) };
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) => Self::Of {
                rows: or(size.ws_row, 24),
                columns: or(size.ws_col, 80),
            },
            Err(_) => Self::None,
        }
    }

    /// What to write so that the text stands there from the first row on, as much of it as fits:
    /// what matters most stands first.
    pub fn filled(self, text: &str) -> String {
        let Self::Of { rows, columns } = self else {
            return text.to_owned();
        };
        let taken = |line: &str| line.chars().count().div_ceil(columns).max(1);
        let lines: Vec<_> = text.lines().collect();
        // The cursor has the last row.
        let room = rows.saturating_sub(1).max(1);
        let mut shown = String::from(HOME);
        let mut add = |line: &str| shown.push_str(&format!("{line}{REST_OF_ROW}\n"));
        if lines.iter().map(|line| taken(line)).sum::<usize>() <= room {
            lines.iter().for_each(|line| add(line));
        } else {
            let (mut left, mut count) = (room - 1, 0);
            for line in &lines {
                let Some(rest) = left.checked_sub(taken(line)) else {
                    break;
                };
                (left, count) = (rest, count + 1);
                add(line);
            }
            add(&format!("and {} more lines", lines.len() - count));
        }
        shown + REST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(rows: usize, columns: usize, text: &str) -> Vec<String> {
        let shown = Screen::Of { rows, columns }.filled(text);
        let shown = shown.strip_prefix(HOME).unwrap().strip_suffix(REST);
        let lines = shown.unwrap().lines();
        let lines = lines.map(|line| line.strip_suffix(REST_OF_ROW).unwrap().to_owned());
        lines.collect()
    }

    #[test]
    fn what_does_not_fit_is_cut_at_its_end() {
        assert_eq!(on(4, 80, "a\nb\nc\n"), ["a", "b", "c"]);
        assert_eq!(on(4, 80, "a\nb\nc\nd\n"), ["a", "b", "and 2 more lines"]);
        // A long line takes two rows.
        assert_eq!(on(4, 2, "abc\nd\n"), ["abc", "d"]);
        assert_eq!(on(4, 2, "abc\nd\ne\n"), ["abc", "and 2 more lines"]);
        assert_eq!(on(1, 80, "a\nb\n"), ["and 2 more lines"]);
        assert_eq!(Screen::None.filled("a\nb\n"), "a\nb\n");
    }
}
