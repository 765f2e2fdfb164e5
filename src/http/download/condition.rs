//! Conditional requests (RFC 9110 13): whether the file that the client knows is the one we have.

use crate::http::date;
use crate::http::head::Head;

/// The conditions of a GET or HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    /// Seconds since 1970, as below.
    if_unmodified_since: Option<i64>,
    if_modified_since: Option<i64>,
    if_range: Option<Known>,
}

/// Why the file is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// 304: the client has it.
    NotModified,
    /// 412: it is not the one the client wants.
    PreconditionFailed,
}

/// The validators of a file.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'f> {
    /// A strong entity tag, quotes included.
    pub etag: &'f str,
    /// Last-Modified, in seconds since 1970.
    pub modified_s: i64,
    /// Whether no other file can have had it.
    pub is_date_strong: bool,
}

/// The value of If-Match and If-None-Match.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// `*`.
    Any,
    /// Those that could be read; what could not matches nothing.
    These(Vec<Tag>),
}

/// An entity tag (RFC 9110 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    /// With its quotes.
    opaque: Vec<u8>,
}

/// What If-Range says the client has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Tag(Tag),
    Date(i64),
    /// Neither: a file that we never had.
    Unreadable,
}

impl Conditions {
    /// Reads them. Dates that are not are ignored (RFC 9110 13.1.3, 13.1.4), and so are repeated
    /// ones. A tag that is not one matches nothing, so that the client gets what it would get if
    /// its file were old.
    pub fn parse(head: &Head<'_>) -> Self {
        let seconds = |name| date::parse(head.only(name).ok()??);
        Self {
            if_match: Tags::parse(head, "If-Match"),
            if_none_match: Tags::parse(head, "If-None-Match"),
            if_unmodified_since: seconds("If-Unmodified-Since"),
            if_modified_since: seconds("If-Modified-Since"),
            if_range: match head.only("If-Range") {
                Ok(None) => None,
                Ok(Some(value)) => Some(Known::parse(value)),
                Err(_repeated) => Some(Known::Unreadable),
            },
        }
    }

    /// Whether the file is withheld, in the order of RFC 9110 13.2.2: If-Match hides
    /// If-Unmodified-Since, and If-None-Match hides If-Modified-Since.
    pub fn withheld(&self, file: Validators<'_>) -> Option<Withheld> {
        let is_the_one = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => tags.matches(file.etag, Comparison::Strong),
            (None, Some(since)) => file.modified_s <= since,
            (None, None) => true,
        };
        if !is_the_one {
            return Some(Withheld::PreconditionFailed);
        }
        let is_known = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => tags.matches(file.etag, Comparison::Weak),
            (None, Some(since)) => file.modified_s <= since,
            (None, None) => false,
        };
        is_known.then_some(Withheld::NotModified)
    }

    /// Whether a Range may be answered with ranges: there is no If-Range, or it names this very
    /// file (RFC 9110 13.1.5).
    ///
    /// A date must be the same one, and strong: it is believed where the file did not change twice
    /// in a second (8.8.2.2). Who has an entity tag, as everybody has who was answered by us, must
    /// not show a date anyway (13.1.5).
    pub fn may_send_ranges(&self, file: Validators<'_>) -> bool {
        match &self.if_range {
            None => true,
            Some(Known::Tag(tag)) => tag.matches(file.etag, Comparison::Strong),
            Some(Known::Date(date)) => file.is_date_strong && *date == file.modified_s,
            Some(Known::Unreadable) => false,
        }
    }
}

/// How tags are compared (RFC 9110 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    /// A weak tag matches nothing.
    Strong,
    /// Whether a tag is weak says nothing.
    Weak,
}

impl Tags {
    /// All fields of a name, which are one list (RFC 9110 5.3); `None` if there are none.
    fn parse(head: &Head<'_>, name: &str) -> Option<Self> {
        let is_named = |found: &str| found.eq_ignore_ascii_case(name);
        let mut values = (head.fields.iter())
            .filter(|(found, _)| is_named(found))
            .map(|&(_, value)| value)
            .peekable();
        values.peek()?;
        let mut tags = Vec::new();
        for value in values {
            if value == b"*" {
                return Some(Self::Any);
            }
            read_tags(value, &mut tags);
        }
        Some(Self::These(tags))
    }

    fn matches(&self, etag: &str, how: Comparison) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag.matches(etag, how)),
        }
    }
}

impl Tag {
    /// The tag at the start of a text, and what follows it.
    fn split_off(text: &[u8]) -> Option<(Self, &[u8])> {
        let (is_weak, text) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let inside = text.strip_prefix(b"\"")?;
        let len = inside.iter().position(|&byte| byte == b'"')?;
        // RFC 9110 8.8.3: visible characters and those beyond ASCII; a comma is one of them, a
        // blank is not.
        let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte >= 0x80;
        if !inside[..len].iter().all(is_text) {
            return None;
        }
        let opaque = text[..len + 2].to_vec();
        Some((Self { is_weak, opaque }, &inside[len + 1..]))
    }

    /// Ours is always strong.
    fn matches(&self, etag: &str, how: Comparison) -> bool {
        (how == Comparison::Weak || !self.is_weak) && self.opaque == etag.as_bytes()
    }
}

/// Reads a list of tags. What is none is skipped up to the next comma.
fn read_tags(value: &[u8], tags: &mut Vec<Tag>) {
    let mut rest = value;
    loop {
        let start = (rest.iter()).position(|byte| !matches!(byte, b' ' | b'\t' | b','));
        let Some(start) = start else {
            return;
        };
        rest = &rest[start..];
        if let Some((tag, after)) = Tag::split_off(rest) {
            let next = after.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
            rest = after;
            if matches!(next, None | Some(b',')) {
                tags.push(tag);
                continue;
            }
        }
        let comma = rest.iter().position(|&byte| byte == b',');
        rest = &rest[comma.unwrap_or(rest.len())..];
    }
}

impl Known {
    fn parse(value: &[u8]) -> Self {
        match (Tag::split_off(value), date::parse(value)) {
            (Some((tag, [])), _) => Self::Tag(tag),
            (_, Some(date)) => Self::Date(date),
            _ => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, HeadLimits, Parsed};

    /// 1994-11-06 08:49:37.
    const FILE: Validators<'_> = Validators {
        etag: "\"a,b\"",
        modified_s: 784_111_777,
        is_date_strong: true,
    };
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    const NOT_MODIFIED: Option<Withheld> = Some(Withheld::NotModified);
    const FAILED: Option<Withheld> = Some(Withheld::PreconditionFailed);

    fn conditions(fields: &[(&str, &str)]) -> Conditions {
        let fields: String = (fields.iter())
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let text = format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let limits = HeadLimits {
            head_bytes_max: 16_384,
            headers_max: 64,
            value_bytes_max: 4_096,
        };
        match head::parse(text.as_bytes(), &limits) {
            Ok(Parsed::Complete(head)) => Conditions::parse(&head),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_condition_alone() {
        for (name, value, withheld) in [
            ("If-Match", "*", None),
            ("If-Match", "\"a,b\"", None),
            ("if-match", "\"x\", ,\t\"a,b\"", None),
            ("If-Match", "\"x\"", FAILED),
            ("If-Match", "W/\"a,b\"", FAILED),
            ("If-Match", "a,b", FAILED),
            ("If-Match", "\"a,b", FAILED),
            ("If-Match", "\"A,b\"", FAILED),
            ("If-Match", "\"a,b\" \"x\"", FAILED),
            ("If-Match", "w/\"a,b\"", FAILED),
            ("If-Match", "x, \"a,b\"", None),
            ("If-Match", "", FAILED),
            ("If-None-Match", "*", NOT_MODIFIED),
            ("If-None-Match", "\"a,b\"", NOT_MODIFIED),
            ("If-None-Match", "\"x\", W/\"a,b\"", NOT_MODIFIED),
            ("If-None-Match", "\"a\", \"b\"", None),
            ("If-None-Match", "\"a, b\"", None),
            ("If-None-Match", "nonsense", None),
            ("If-Modified-Since", BEFORE, None),
            ("If-Modified-Since", THEN, NOT_MODIFIED),
            ("If-Modified-Since", AFTER, NOT_MODIFIED),
            ("If-Modified-Since", "yesterday", None),
            ("If-Unmodified-Since", BEFORE, FAILED),
            ("If-Unmodified-Since", THEN, None),
            ("If-Unmodified-Since", AFTER, None),
            ("If-Unmodified-Since", "yesterday", None),
        ] {
            let conditions = conditions(&[(name, value)]);
            assert_eq!(conditions.withheld(FILE), withheld, "{name}: {value}");
            assert!(conditions.may_send_ranges(FILE), "{name}: {value}");
        }
        assert_eq!(conditions(&[]).withheld(FILE), None);
    }

    /// RFC 9110 13.2.2.
    #[test]
    fn conditions_have_an_order() {
        for (fields, withheld) in [
            ([("If-Match", "*"), ("If-Unmodified-Since", BEFORE)], None),
            (
                [("If-Match", "\"x\""), ("If-Unmodified-Since", AFTER)],
                FAILED,
            ),
            (
                [("If-None-Match", "\"x\""), ("If-Modified-Since", THEN)],
                None,
            ),
            (
                [("If-None-Match", "*"), ("If-Modified-Since", BEFORE)],
                NOT_MODIFIED,
            ),
            (
                [("If-None-Match", "nonsense"), ("If-Modified-Since", THEN)],
                None,
            ),
            ([("If-None-Match", "*"), ("If-Match", "\"x\"")], FAILED),
            ([("If-None-Match", "*"), ("If-Match", "*")], NOT_MODIFIED),
            (
                [("If-Modified-Since", THEN), ("If-Unmodified-Since", BEFORE)],
                FAILED,
            ),
            ([("If-Match", "\"x\""), ("If-Match", "\"a,b\"")], None),
            (
                [("If-Modified-Since", THEN), ("If-Modified-Since", THEN)],
                None,
            ),
        ] {
            let found = conditions(&fields).withheld(FILE);
            assert_eq!(found, withheld, "{fields:?}");
        }
    }

    #[test]
    fn ranges_are_for_those_who_have_this_very_file() {
        for (value, may) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", false),
            ("\"a\"", false),
            ("\"a,b\", \"a\"", false),
            ("*", false),
            (THEN, true),
            ("Sun Nov  6 08:49:37 1994", true),
            (BEFORE, false),
            (AFTER, false),
            ("", false),
            ("nonsense", false),
        ] {
            let conditions = conditions(&[("If-Range", value)]);
            assert_eq!(conditions.may_send_ranges(FILE), may, "{value}");
            assert_eq!(conditions.withheld(FILE), None, "{value}");
        }
        let twice = conditions(&[("If-Range", "\"a,b\""), ("If-Range", "\"a,b\"")]);
        assert!(!twice.may_send_ranges(FILE));
        // It may have been replaced within the second that its date names.
        let replaced = Validators {
            is_date_strong: false,
            ..FILE
        };
        assert!(!conditions(&[("If-Range", THEN)]).may_send_ranges(replaced));
        assert!(conditions(&[("If-Range", "\"a,b\"")]).may_send_ranges(replaced));
    }
}
