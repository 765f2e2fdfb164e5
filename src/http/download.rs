//! What a GET or HEAD of a file is answered with: conditions, ranges, fields, and which bytes follow (RFC 9110 8.8, 13, 14).
//!
//! BITS wants Content-Length and a stable Last-Modified, single ranges, and several ranges in the order it asked for them, neither merged nor
//! sorted, with little around them (protocol section P10). A 200 to a request for ranges is an error for it, so one
//! that we do not want to serve (too many ranges, or far more bytes than the file has) is answered 416 and not ignored,
//! as RFC 9110 14.2 allows.

mod date;
mod range;

use super::head::{Head, Method};
use super::response::{Persistence, ResponseHead};
pub use range::ByteRange;
use range::{RangeSet, Selected};

/// A GET or HEAD, as far as it says what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadRequest {
    is_head: bool,
    /// Absent too if it is malformed: then it is ignored (RFC 9110 14.2).
    ranges: Option<RangeSet>,
    if_range: Option<Validator>,
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    /// In seconds since 1970.
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
}

/// What If-Range holds (RFC 9110 13.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Validator {
    Tag(String),
    Date(u64),
    /// Neither, or a weak tag: it never matches.
    Never,
}

/// What If-Match and If-None-Match hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    /// The list as sent.
    List(String),
}

impl Tags {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "*" => Self::Any,
            list => Self::List(list.to_owned()),
        }
    }

    /// Whether one of them is this strong tag; weak ones count where the comparison is weak.
    fn has(&self, etag: &str, is_weak: bool) -> bool {
        match self {
            Self::Any => true,
            // Our tags hold no comma.
            Self::List(list) => list.split(',').map(str::trim).any(|tag| {
                tag == etag || (is_weak && tag.strip_prefix("W/").is_some_and(|tag| tag == etag))
            }),
        }
    }
}

/// Reads what is wanted. What is malformed is ignored.
pub fn parse(head: &Head<'_>) -> DownloadRequest {
    let text = |name: &'static str| {
        let value = head.only(name).ok().flatten()?;
        std::str::from_utf8(value).ok()
    };
    DownloadRequest {
        is_head: head.method == Method::Head,
        ranges: text("Range").and_then(RangeSet::parse),
        if_range: text("If-Range").map(|value| match date::parse(value) {
            Some(date) => Validator::Date(date),
            None if value.starts_with('"') => Validator::Tag(value.to_owned()),
            None => Validator::Never,
        }),
        if_match: text("If-Match").map(Tags::parse),
        if_none_match: text("If-None-Match").map(Tags::parse),
        if_modified_since: text("If-Modified-Since").and_then(date::parse),
        if_unmodified_since: text("If-Unmodified-Since").and_then(date::parse),
    }
}

/// A file as HTTP sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Representation {
    /// Its length, in bytes.
    pub len: u64,
    /// When it was last written to, in seconds since 1970.
    pub modified_s: u64,
    /// Its strong entity tag, quotes included; without a comma.
    pub etag: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    status: u16,
    is_head: bool,
    parts: Parts,
    representation: Representation,
}

/// What follows the head.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    None,
    One(ByteRange),
    Many(Vec<ByteRange>),
}

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Text(String),
    /// These bytes of the file.
    File(ByteRange),
}

/// Finds the answer. Conditions are looked at in the order of RFC 9110 13.2.2.
pub fn plan(request: &DownloadRequest, representation: &Representation) -> Plan {
    let modified_s = representation.modified_s;
    let etag = representation.etag.as_str();
    let whole = ByteRange {
        start: 0,
        end: representation.len,
    };
    let is_unmet = match (&request.if_match, request.if_unmodified_since) {
        (Some(tags), _) => !tags.has(etag, false),
        (None, Some(since)) => modified_s > since,
        (None, None) => false,
    };
    let is_known = match (&request.if_none_match, request.if_modified_since) {
        (Some(tags), _) => tags.has(etag, true),
        (None, Some(since)) => modified_s <= since,
        (None, None) => false,
    };
    let is_same = match &request.if_range {
        None => true,
        Some(Validator::Tag(tag)) => tag == etag,
        Some(Validator::Date(date)) => *date == modified_s,
        Some(Validator::Never) => false,
    };
    let (status, parts) = if is_unmet {
        (412, Parts::None)
    } else if is_known {
        (304, Parts::None)
    } else {
        // Range means something with GET only (RFC 9110 14.2).
        let ranges = request.ranges.as_ref();
        match ranges.filter(|_| is_same && !request.is_head) {
            None => (200, Parts::One(whole)),
            Some(ranges) => match ranges.select(representation.len) {
                Selected::Nothing => (416, Parts::None),
                Selected::One(range) => (206, Parts::One(range)),
                Selected::Many(ranges) => (206, Parts::Many(ranges)),
            },
        }
    };
    Plan {
        status,
        is_head: request.is_head,
        parts,
        representation: representation.clone(),
    }
}

impl Plan {
    /// Its status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends the head.
    pub fn write_head(&self, persistence: Persistence, out: &mut Vec<u8>) {
        let of = &self.representation;
        let mut head = ResponseHead::new(out, self.status);
        if self.status != 304 {
            head.number("Content-Length", self.body_bytes());
        }
        match &self.parts {
            Parts::None if self.status == 416 => {
                head.field("Content-Range", &format!("bytes */{}", of.len));
            }
            Parts::None => {}
            Parts::One(range) => {
                head.field("Content-Type", CONTENT_TYPE);
                if self.status == 206 {
                    head.field("Content-Range", &range.content_range(of.len));
                }
            }
            Parts::Many(_) => {
                let value = format!("multipart/byteranges; boundary={}", self.boundary());
                head.field("Content-Type", &value);
            }
        }
        head.field("Last-Modified", &date::format(of.modified_s));
        head.field("ETag", &of.etag);
        head.field("Accept-Ranges", "bytes");
        head.end(persistence);
    }

    /// The body, in its order.
    pub fn pieces(&self) -> Vec<Piece> {
        match &self.parts {
            _ if self.is_head => Vec::new(),
            Parts::None => Vec::new(),
            Parts::One(range) => vec![Piece::File(*range)],
            Parts::Many(ranges) => {
                let mut pieces = Vec::with_capacity(2 * ranges.len() + 1);
                for (at, range) in ranges.iter().enumerate() {
                    pieces.push(Piece::Text(self.part_head(at, *range)));
                    pieces.push(Piece::File(*range));
                }
                pieces.push(Piece::Text(format!("\r\n--{}--\r\n", self.boundary())));
                pieces
            }
        }
    }

    fn part_head(&self, at: usize, range: ByteRange) -> String {
        let line_end = if at == 0 { "" } else { "\r\n" };
        format!(
            "{line_end}--{}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Range: {}\r\n\r\n",
            self.boundary(),
            range.content_range(self.representation.len)
        )
    }

    fn body_bytes(&self) -> u64 {
        match &self.parts {
            Parts::None => 0,
            Parts::One(range) => range.len(),
            Parts::Many(_) => {
                let bytes = |piece: &Piece| match piece {
                    Piece::Text(text) => text.len() as u64,
                    Piece::File(range) => range.len(),
                };
                self.pieces().iter().map(bytes).sum()
            }
        }
    }

    /// It may stand in the file too: every part says how long it is.
    fn boundary(&self) -> String {
        let is_plain = |c: &char| c.is_ascii_alphanumeric();
        let tag: String = self.representation.etag.chars().filter(is_plain).collect();
        format!("bitsd-{}", &tag[..tag.len().min(40)])
    }
}

const CONTENT_TYPE: &str = "application/octet-stream";

#[cfg(test)]
mod tests;
