//! GET and HEAD of a file: request in, status, fields and pieces of the file out (RFC 9110 8.8, 13,
//! 14).
//!
//! A BITS client fetches the reply of an upload-reply job so, and goes on after a break (MC-BUP
//! 3.5, protocol.md 10.3). It needs exact lengths, validators that stay, single ranges, and several
//! ranges in the order of the request, unmerged.
//!
//! [`parse`] never fails: what is malformed is ignored, as RFC 9110 says. [`plan`] is the whole
//! decision. Whoever carries it out writes the head and then the [`Piece`]s, one after another. The
//! length in the head is the sum of the pieces, so the two cannot disagree.
#![forbid(unsafe_code)]

mod condition;
mod range;

use std::ops::Range;

use super::date;
use super::digest::{REPR_DIGEST, REPR_DIGEST_BYTES, repr_digest};
use super::head::{Head, Method};
use super::response::{Persistence, ResponseHead, TEXT_TYPE};
use condition::{Conditions, Validators, Withheld};
use range::{RangeSet, Selection};

/// What a GET or HEAD asks for, owned so that the head's bytes can be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadRequest {
    /// Whether the bytes are wanted.
    pub method: DownloadMethod,
    /// `None` for a HEAD, whose Range is ignored (RFC 9110 14.2), as a malformed one is.
    range: Option<RangeSet>,
    conditions: Conditions,
}

impl DownloadRequest {
    /// Whether only the fields are wanted.
    pub fn is_head(&self) -> bool {
        self.method == DownloadMethod::Head
    }
}

/// Whether the bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadMethod {
    /// They are.
    Get,
    /// Only the fields.
    Head,
}

/// Reads what a GET or HEAD asks for. The caller has looked at `head.method`; what is not HEAD is
/// taken for GET.
pub fn parse(head: &Head<'_>) -> DownloadRequest {
    let method = match head.method {
        Method::Head => DownloadMethod::Head,
        Method::Get | Method::BitsPost | Method::Other => DownloadMethod::Get,
    };
    // It may stand once (RFC 9110 5.3); a repeated one says nothing.
    let range = match (method, head.only("Range")) {
        (DownloadMethod::Get, Ok(Some(value))) => RangeSet::parse(value),
        _ => None,
    };
    DownloadRequest {
        method,
        range,
        conditions: Conditions::parse(head),
    }
}

/// The file as HTTP sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Representation {
    /// Bytes of the file; `len <= i64::MAX`, as on every Linux file system.
    pub len: u64,
    /// When it was last written to, in seconds since 1970. The client starts again if it changes.
    pub modified_s: u64,
    /// A strong entity tag, quotes included: it changes whenever a byte does.
    pub etag: String,
    /// Whether `modified_s` names these bytes and no others: nobody can have replaced the file
    /// within a second.
    pub is_date_strong: bool,
    /// SHA-256 of all of it, if it is known.
    pub sha256: Option<[u8; 32]>,
}

/// The answer: status, fields, and which bytes of the file follow in which frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub status: u16,
    /// Nothing but a head is sent.
    is_head: bool,
    representation: Representation,
    answer: Answer,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// All of the file.
    Whole,
    /// Its fields alone.
    Fields,
    /// One range.
    Part(Range<u64>),
    /// Several ranges, each with its own head. At least two.
    Parts {
        ranges: Vec<Range<u64>>,
        boundary: String,
    },
    /// None of the ranges that were asked for, and why, in a sentence for people.
    Unsatisfiable(&'static str),
    /// Nothing, because of a condition.
    Withheld(Withheld),
}

/// One piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes: what stands between the ranges.
    Literal(Vec<u8>),
    /// These bytes of the file; never none.
    File(Range<u64>),
}

impl Piece {
    /// Bytes of the piece; at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a piece is never empty")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Literal(bytes) => bytes.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }
}

/// Decides what a request gets of a file.
pub fn plan(request: &DownloadRequest, representation: &Representation) -> Plan {
    let answer = decide(request, representation);
    let status = match &answer {
        Answer::Whole | Answer::Fields => 200,
        Answer::Part(_) | Answer::Parts { .. } => 206,
        Answer::Withheld(Withheld::NotModified) => 304,
        Answer::Withheld(Withheld::PreconditionFailed) => 412,
        Answer::Unsatisfiable(_) => 416,
    };
    Plan {
        status,
        is_head: request.is_head(),
        representation: representation.clone(),
        answer,
    }
}

/// RFC 9110 13.2.2: conditions first, then If-Range, then Range.
fn decide(request: &DownloadRequest, representation: &Representation) -> Answer {
    let conditions = &request.conditions;
    let validators = Validators {
        etag: &representation.etag,
        modified_s: date::nameable(representation.modified_s),
        is_date_strong: representation.is_date_strong,
    };
    if let Some(why) = conditions.withheld(validators) {
        return Answer::Withheld(why);
    }
    let range = match (request.method, &request.range) {
        (DownloadMethod::Head, _) => return Answer::Fields,
        (DownloadMethod::Get, Some(range)) if conditions.may_send_ranges(validators) => range,
        (DownloadMethod::Get, _) => return Answer::Whole,
    };
    match range.select(representation.len) {
        Selection::Unsatisfiable => Answer::Unsatisfiable(UNSATISFIABLE),
        Selection::Excessive => Answer::Unsatisfiable(EXCESSIVE),
        // RFC 9110 15.3.7.2: what is left of several may go as one, and one must not go as several.
        Selection::Ranges(ranges) => match ranges.as_slice() {
            [only] => Answer::Part(only.clone()),
            _ => Answer::Parts {
                ranges,
                boundary: boundary(&representation.etag),
            },
        },
    }
}

impl Plan {
    /// Writes the head of the answer.
    pub fn write_head(&self, persistence: Persistence, out: &mut Vec<u8>) {
        let mut head = ResponseHead::new(out, self.status);
        match &self.answer {
            Answer::Whole => {
                self.write_validators(&mut head);
                head.field("Content-Type", CONTENT_TYPE);
                head.number("Content-Length", self.body_len());
            }
            Answer::Fields => {
                self.write_validators(&mut head);
                head.field("Content-Type", CONTENT_TYPE);
                head.number("Content-Length", self.representation.len);
            }
            Answer::Part(range) => {
                self.write_validators(&mut head);
                head.field("Content-Type", CONTENT_TYPE);
                head.field("Content-Range", &self.content_range(range));
                head.number("Content-Length", self.body_len());
            }
            Answer::Parts { boundary, .. } => {
                self.write_validators(&mut head);
                let content_type = format!("multipart/byteranges; boundary={boundary}");
                head.field("Content-Type", &content_type);
                head.number("Content-Length", self.body_len());
            }
            Answer::Unsatisfiable(why) => {
                let len = self.representation.len;
                head.field("Content-Range", &format!("bytes */{len}"));
                head.field("Content-Type", TEXT_TYPE);
                head.number("Content-Length", why.len() as u64);
            }
            // It ends with its head whatever its fields say, and its length would be that of the
            // file.
            Answer::Withheld(Withheld::NotModified) => {
                head.field("ETag", &self.representation.etag);
            }
            Answer::Withheld(Withheld::PreconditionFailed) => {
                head.field("Content-Type", TEXT_TYPE);
                head.number("Content-Length", PRECONDITION_FAILED.len() as u64);
            }
        }
        head.end(persistence);
    }

    /// What a client goes on with after a break.
    fn write_validators(&self, head: &mut ResponseHead<'_>) {
        let modified = date::format(self.representation.modified_s);
        head.field("Last-Modified", &modified);
        head.field("ETag", &self.representation.etag);
        head.field("Accept-Ranges", "bytes");
        if let Some(sha256) = &self.representation.sha256 {
            // Of the whole file, whatever part of it is sent (RFC 9530 3).
            let mut value = [0; REPR_DIGEST_BYTES];
            head.field(REPR_DIGEST, repr_digest(sha256, &mut value));
        }
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> u64 {
        self.pieces().map(|piece| piece.len()).sum()
    }

    /// The body, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let pieces_len = match &self.answer {
            Answer::Whole => usize::from(self.representation.len > 0),
            Answer::Part(_) => 1,
            // A head and a range for each, and the end.
            Answer::Parts { ranges, .. } => 2 * ranges.len() + 1,
            Answer::Withheld(Withheld::PreconditionFailed) => usize::from(!self.is_head),
            Answer::Unsatisfiable(_) => 1,
            Answer::Fields | Answer::Withheld(Withheld::NotModified) => 0,
        };
        (0..pieces_len).map(|index| self.piece(index))
    }

    fn piece(&self, index: usize) -> Piece {
        match &self.answer {
            Answer::Part(range) => Piece::File(range.clone()),
            Answer::Parts { ranges, boundary } => match ranges.get(index / 2) {
                Some(range) if index.is_multiple_of(2) => {
                    Piece::Literal(self.part_head(index == 0, boundary, range))
                }
                Some(range) => Piece::File(range.clone()),
                None => Piece::Literal(format!("\r\n--{boundary}--\r\n").into_bytes()),
            },
            Answer::Unsatisfiable(why) => Piece::Literal((*why).into()),
            Answer::Withheld(_) => Piece::Literal(PRECONDITION_FAILED.into()),
            Answer::Whole | Answer::Fields => Piece::File(0..self.representation.len),
        }
    }

    /// BITS bears two fields in a part, and up to two line ends before the first one (MC-BUP 3.5).
    /// We send it none.
    fn part_head(&self, is_first: bool, boundary: &str, range: &Range<u64>) -> Vec<u8> {
        let line_end = if is_first { "" } else { "\r\n" };
        let content_range = self.content_range(range);
        format!(
            "{line_end}--{boundary}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Range: {content_range}\r\n\r\n"
        )
        .into_bytes()
    }

    /// Inclusive on the wire.
    fn content_range(&self, range: &Range<u64>) -> String {
        let len = self.representation.len;
        format!("bytes {}-{}/{len}", range.start, range.end - 1)
    }
}

/// Why there are no bytes, in a sentence for people.
const UNSATISFIABLE: &str = "the file has none of the bytes that were asked for\n";
/// The bounds of [`RangeSet::select`].
const EXCESSIVE: &str = "more than 64 ranges are asked for, or more than twice the whole file\n";
const PRECONDITION_FAILED: &str = "the file is not the one that the conditions name\n";

/// Replies are bytes to us.
const CONTENT_TYPE: &str = "application/octet-stream";

/// A boundary that every answer about the same file shares. Where a part ends is said by its
/// Content-Range; a client that searches instead is misled by a file that holds the boundary, by
/// chance one byte in 2^64.
fn boundary(etag: &str) -> String {
    format!("bitsd-{:016x}", fnv1a(etag.as_bytes()))
}

/// FNV-1a of 64 bits: short, the same on every machine, and that is all that is asked of it.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests;
