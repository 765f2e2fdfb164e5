//! One line of the log: logfmt for people, JSON for collectors, with the same fields under the same
//! names in both.
//!
//! Whatever stands in a value, a line stays one line and a value stays one value. Control
//! characters, quotes and characters that turn the direction of writing are escaped as in JSON, in
//! both forms. A value is cut at [`VALUE_BYTES_MAX`].

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::config::LogFormat;
use crate::http::date;
use crate::unseen::is_unseen;

/// Bytes of a value that are written; the rest is cut off, and `…` stands for it. More than any
/// path has (2,200).
pub const VALUE_BYTES_MAX: usize = 2_560;

/// For whom a line is dressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// A file, a pipe.
    Plain,
    /// A terminal: the level has a colour, in text.
    Terminal,
    /// The journal of systemd: the priority stands before the line, as sd-daemon(3) says, and the
    /// time, which the journal notes itself, is left out of text.
    Journal,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Text or JSON.
    pub format: LogFormat,
    /// For whom.
    pub dress: Dress,
}

/// A line that is being written.
#[derive(Debug)]
pub struct Line {
    text: String,
    format: LogFormat,
    has_fields: bool,
}

impl Line {
    /// Begins a line: when, how grave, which kind (a word that never changes), and what in a
    /// sentence.
    pub fn new(style: Style, level: Level, event: &str, message: &str) -> Self {
        Self::at(SystemTime::now(), style, level, event, message)
    }

    /// [`Line::new`] at a given time.
    pub fn at(when: SystemTime, style: Style, level: Level, event: &str, message: &str) -> Self {
        let mut line = Self {
            text: String::with_capacity(320),
            format: style.format,
            has_fields: false,
        };
        if style.dress == Dress::Journal {
            line.text.push_str(priority(level));
        }
        let is_text = style.format == LogFormat::Text;
        if !is_text {
            line.text.push('{');
        }
        if !(is_text && style.dress == Dress::Journal) {
            line.word("timestamp", &timestamp(when));
        }
        if is_text && style.dress == Dress::Terminal {
            line.key("level");
            line.text.push_str(colour(level));
            line.text.push_str(level.as_str());
            line.text.push_str("\x1b[0m");
        } else {
            line.word("level", level.as_str());
        }
        line.word("event", event);
        line.quoted("message", message);
        line
    }

    /// A text from wherever: always quoted.
    pub fn quoted(&mut self, key: &str, value: &str) {
        self.key(key);
        let end = value.floor_char_boundary(VALUE_BYTES_MAX);
        self.text.push('"');
        escape(&value[..end], &mut self.text);
        if end < value.len() {
            self.text.push('…');
        }
        self.text.push('"');
    }

    /// A number or a truth.
    pub fn number(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        // A String takes everything.
        let _ = write!(self.text, "{value}");
    }

    /// A value that is no number, such as an address: quoted only where the form, or a character in
    /// it, asks for that.
    pub fn word(&mut self, key: &str, value: &str) {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\');
        let is_short = (1..=VALUE_BYTES_MAX).contains(&value.len());
        if self.format == LogFormat::Text && is_short && value.bytes().all(is_plain) {
            self.key(key);
            self.text.push_str(value);
        } else {
            self.quoted(key, value);
        }
    }

    /// The whole line, with its end.
    pub fn end(mut self) -> String {
        self.text.push_str(match self.format {
            LogFormat::Text => "\n",
            LogFormat::Json => "}\n",
        });
        self.text
    }

    /// Keys are ours, and need no escape.
    fn key(&mut self, key: &str) {
        let is_first = !std::mem::replace(&mut self.has_fields, true);
        match self.format {
            LogFormat::Text => {
                if !is_first {
                    self.text.push(' ');
                }
                self.text.push_str(key);
                self.text.push('=');
            }
            LogFormat::Json => {
                if !is_first {
                    self.text.push(',');
                }
                self.text.push('"');
                self.text.push_str(key);
                self.text.push_str("\":");
            }
        }
    }
}

/// Writes a text as it stands between the quotes of a JSON string.
pub fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unseen(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
}

/// UTC, to the microsecond.
fn timestamp(when: SystemTime) -> String {
    // Before 1970 there was no bitsd.
    let since = (when.duration_since(SystemTime::UNIX_EPOCH)).unwrap_or(Duration::ZERO);
    let plain = date::format_plainly(since.as_secs());
    format!("{plain}.{:06}Z", since.subsec_micros())
}

/// Priorities of syslog, as the journal takes them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(format: LogFormat, dress: Dress) -> Style {
        Style { format, dress }
    }

    fn line(style: Style, level: Level) -> Line {
        let when = SystemTime::UNIX_EPOCH + Duration::from_micros(784_111_777_000_042);
        Line::at(when, style, level, "session_ended", "session ended")
    }

    #[test]
    fn text_is_logfmt_and_json_has_the_same_fields() {
        let fill = |format| {
            let mut line = line(style(format, Dress::Plain), Level::INFO);
            line.number("bytes", 7);
            line.word("peer", "192.0.2.1:5");
            line.word("why", "two words");
            line.quoted("path", "a\"b");
            line.end()
        };
        assert_eq!(
            fill(LogFormat::Text),
            "timestamp=1994-11-06T08:49:37.000042Z level=INFO event=session_ended message=\"session ended\" \
             bytes=7 peer=192.0.2.1:5 why=\"two words\" path=\"a\\\"b\"\n"
        );
        let json: serde_json::Value = serde_json::from_str(&fill(LogFormat::Json)).unwrap();
        let expected = serde_json::json!({
            "timestamp": "1994-11-06T08:49:37.000042Z", "level": "INFO", "event": "session_ended",
            "message": "session ended", "bytes": 7, "peer": "192.0.2.1:5", "why": "two words", "path": "a\"b",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_journal_gets_the_priority_and_notes_the_time_itself() {
        for (level, priority) in [
            (Level::ERROR, "<3>"),
            (Level::WARN, "<4>"),
            (Level::INFO, "<6>"),
            (Level::DEBUG, "<7>"),
        ] {
            let text = line(style(LogFormat::Text, Dress::Journal), level).end();
            assert!(
                text.starts_with(&format!("{priority}level={level} ")),
                "{text}"
            );
            assert!(
                !text.contains("timestamp") && !text.contains('\x1b'),
                "{text}"
            );
            let json = line(style(LogFormat::Json, Dress::Journal), level).end();
            let object = json.strip_prefix(priority).expect("the priority");
            assert!(serde_json::from_str::<serde_json::Value>(object).is_ok());
        }
    }

    #[test]
    fn only_a_terminal_sees_colours_and_only_in_text() {
        for format in [LogFormat::Text, LogFormat::Json] {
            for dress in [Dress::Plain, Dress::Terminal, Dress::Journal] {
                let text = line(style(format, dress), Level::WARN).end();
                let is_coloured = format == LogFormat::Text && dress == Dress::Terminal;
                assert_eq!(text.contains('\x1b'), is_coloured, "{text}");
            }
        }
    }

    #[test]
    fn every_character_that_could_forge_or_hide_something_is_escaped_and_comes_back() {
        for value in [
            "a\nb",
            "a\r\tb",
            "a\u{1b}[31m",
            "a\u{0}",
            "a\u{7f}",
            "a\u{85}",
            "a\u{202e}b",
            "a\u{e0041}b",
            "a\\b",
            "a=b c",
            "\"",
            "",
            "ä",
            "\u{1f600}",
        ] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let mut line = line(style(format, Dress::Plain), Level::INFO);
                line.word("x", value);
                let text = line.end();
                assert_eq!(text.matches('\n').count(), 1, "{text}");
                let unseen = text.trim_end().chars().find(|c| is_unseen(*c));
                assert_eq!(unseen, None, "{text}");
                let quoted = match format {
                    LogFormat::Json => text.clone(),
                    LogFormat::Text => match text.split(" x=").nth(1).map(str::trim_end) {
                        Some(bare) if !bare.starts_with('"') => format!("{{\"x\":\"{bare}\"}}"),
                        quoted => format!("{{\"x\":{}}}", quoted.unwrap()),
                    },
                };
                let json: serde_json::Value = serde_json::from_str(&quoted).unwrap();
                assert_eq!(json["x"], value, "{text}");
            }
        }
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let mut line = line(style(LogFormat::Text, Dress::Plain), Level::INFO);
        line.quoted("x", &"ä".repeat(VALUE_BYTES_MAX));
        let text = line.end();
        assert!(text.len() < VALUE_BYTES_MAX + 200);
        assert!(text.ends_with("ä…\"\n"));
    }
}
