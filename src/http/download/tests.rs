//! Answers to GET and HEAD, by the examples of the RFC and by a naive reading of ranges.

use super::*;
use crate::http::head::{HeadLimits, Parsed};
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 16_384,
    headers_max: 64,
    value_bytes_max: 4_096,
};
const ETAG: &str = "\"1a-2b-3\"";
/// 784,111,777 seconds.
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap()
}

fn request(method: &str, fields: &str) -> DownloadRequest {
    let text = format!("{method} /r HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    match crate::http::head::parse(text.as_bytes(), &LIMITS) {
        Ok(Parsed::Complete(head)) => parse(&head),
        other => panic!("{other:?}"),
    }
}

fn file(len: u64) -> Representation {
    Representation {
        len,
        modified_s: 784_111_777,
        etag: ETAG.to_owned(),
    }
}

/// The whole answer to a GET of a file that holds these bytes.
fn answer(request: &DownloadRequest, bytes: &[u8]) -> (String, Vec<u8>) {
    let plan = plan(request, &file(bytes.len() as u64));
    let mut head = Vec::new();
    plan.write_head(Persistence::KeepAlive, &mut head);
    let mut body = Vec::new();
    for piece in plan.pieces() {
        match piece {
            Piece::Text(text) => body.extend_from_slice(text.as_bytes()),
            Piece::File(range) => {
                body.extend_from_slice(&bytes[index(range.start)..index(range.end)]);
            }
        }
    }
    (String::from_utf8(head).unwrap(), body)
}

fn status(method: &str, fields: &str, len: u64) -> u16 {
    plan(&request(method, fields), &file(len)).status()
}

#[test]
fn a_whole_file_has_all_that_bits_asks_for() {
    let (head, body) = answer(&request("GET", ""), b"hello");
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: application/octet-stream\r\n\
             Last-Modified: {MODIFIED}\r\nETag: {ETAG}\r\nAccept-Ranges: bytes\r\n\r\n"
        )
    );
    assert_eq!(body, b"hello");
    let (only, none) = answer(&request("HEAD", ""), b"hello");
    assert_eq!((only, none), (head, vec![]));
    let (empty, body) = answer(&request("GET", ""), b"");
    assert!(empty.contains("Content-Length: 0\r\n") && body.is_empty());
}

#[test]
fn a_range_is_answered_as_recorded() {
    // Protocol section P10 and the recorded conversation.
    let (head, body) = answer(&request("GET", "Range: bytes=0-9976\r\n"), &[7; 10_240]);
    assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\nContent-Length: 9977\r\n"));
    assert!(
        head.contains("Content-Range: bytes 0-9976/10240\r\n"),
        "{head}"
    );
    assert_eq!(body.len(), 9_977);
    // Range means nothing to HEAD.
    assert_eq!(status("HEAD", "Range: bytes=0-1\r\n", 10), 200);
}

#[test]
fn several_ranges_come_in_the_order_of_the_request() {
    let (head, body) = answer(&request("GET", "Range: bytes=7-8,0-2\r\n"), b"0123456789");
    assert!(
        head.contains("Content-Type: multipart/byteranges; boundary=bitsd-1a2b3\r\n"),
        "{head}"
    );
    let part = "Content-Type: application/octet-stream\r\nContent-Range: bytes";
    let expected = format!(
        "--bitsd-1a2b3\r\n{part} 7-8/10\r\n\r\n78\r\n--bitsd-1a2b3\r\n{part} 0-2/10\r\n\r\n012\r\n--bitsd-1a2b3--\r\n"
    );
    assert_eq!(String::from_utf8(body.clone()).unwrap(), expected);
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
}

#[test]
fn what_cannot_be_sent_is_416_with_the_length() {
    for (range, len) in [("bytes=10-", 10), ("bytes=0-0", 0), ("bytes=-5", 0)] {
        let request = request("GET", &format!("Range: {range}\r\n"));
        let (head, body) = answer(&request, &vec![0; len]);
        assert!(head.starts_with("HTTP/1.1 416 "), "{head}");
        assert!(
            head.contains(&format!("Content-Range: bytes */{len}\r\n")),
            "{head}"
        );
        assert!(head.contains("Content-Length: 0\r\n") && body.is_empty());
    }
    // Malformed, or of another unit: as if it were not there.
    assert_eq!(status("GET", "Range: bytes=1-0\r\n", 10), 200);
    assert_eq!(status("GET", "Range: lines=1-2\r\n", 10), 200);
}

#[test]
fn conditions_are_looked_at_in_the_order_of_the_rfc() {
    let range = "Range: bytes=0-1\r\n";
    for (fields, expected) in [
        (format!("If-Match: {ETAG}\r\n"), 200),
        (format!("If-Match: \"x\", {ETAG}\r\n{range}"), 206),
        ("If-Match: *\r\n".to_owned(), 200),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        (format!("If-Match: W/{ETAG}\r\n"), 412),
        (format!("If-Unmodified-Since: {MODIFIED}\r\n{range}"), 206),
        (format!("If-Unmodified-Since: {BEFORE}\r\n{range}"), 412),
        // If-Match makes If-Unmodified-Since void.
        (
            format!("If-Match: {ETAG}\r\nIf-Unmodified-Since: {BEFORE}\r\n"),
            200,
        ),
        (format!("If-None-Match: {ETAG}\r\n"), 304),
        (format!("If-None-Match: W/{ETAG}\r\n"), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        (format!("If-Modified-Since: {MODIFIED}\r\n"), 304),
        (format!("If-Modified-Since: {BEFORE}\r\n"), 200),
        (
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {MODIFIED}\r\n"),
            200,
        ),
        (format!("If-Match: \"x\"\r\nIf-None-Match: {ETAG}\r\n"), 412),
        (format!("If-Range: {ETAG}\r\n{range}"), 206),
        (format!("If-Range: {MODIFIED}\r\n{range}"), 206),
        (format!("If-Range: {BEFORE}\r\n{range}"), 200),
        (format!("If-Range: W/{ETAG}\r\n{range}"), 200),
        (format!("If-Range: \"x\"\r\n{range}"), 200),
        ("If-Range: \"x\"\r\nRange: bytes=99-\r\n".to_owned(), 200),
    ] {
        assert_eq!(status("GET", &fields, 10), expected, "{fields}");
    }
}

/// The naive answer: whatever a range says, byte by byte.
fn naive(ranges: &[(Option<u64>, Option<u64>)], bytes: &[u8]) -> Vec<Vec<u8>> {
    let len = bytes.len() as u64;
    let mut parts = Vec::new();
    for &(first, last) in ranges {
        let part: Vec<u8> = (0..len)
            .filter(|&at| match (first, last) {
                (Some(first), Some(last)) => at >= first && at <= last,
                (Some(first), None) => at >= first,
                (None, Some(suffix)) => len - at <= suffix,
                (None, None) => false,
            })
            .map(|at| bytes[index(at)])
            .collect();
        if !part.is_empty() {
            parts.push(part);
        }
    }
    parts
}

proptest! {
    #[test]
    fn ranges_agree_with_a_naive_reading(
        len in 0usize..12,
        specs in proptest::collection::vec((0u64..14, 0u64..14, 0u8..3), 1..4),
    ) {
        let bytes: Vec<u8> = (0..u8::try_from(len).unwrap()).collect();
        let ranges: Vec<_> = (specs.iter())
            .map(|&(a, b, kind)| match kind {
                0 => (Some(a.min(b)), Some(a.max(b))),
                1 => (Some(a), None),
                _ => (None, Some(b)),
            })
            .collect();
        let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
        let text: Vec<_> = ranges.iter().map(|&(a, b)| format!("{}-{}", number(a), number(b))).collect();
        let request = request("GET", &format!("Range: bytes={}\r\n", text.join(",")));
        let (head, body) = answer(&request, &bytes);
        let parts = naive(&ranges, &bytes);
        let sum: usize = parts.iter().map(Vec::len).sum();
        let announced = format!("Content-Length: {}\r\n", body.len());
        prop_assert!(head.contains(&announced), "{}", head);
        match &parts[..] {
            _ if parts.is_empty() || sum > 2 * len => prop_assert!(head.starts_with("HTTP/1.1 416 ")),
            [one] => {
                prop_assert!(head.starts_with("HTTP/1.1 206 "));
                prop_assert_eq!(&body, one);
            }
            many => {
                prop_assert!(head.starts_with("HTTP/1.1 206 "));
                let mut rest = &body[..];
                for part in many {
                    let at = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
                    prop_assert_eq!(&rest[at..at + part.len()], &part[..]);
                    rest = &rest[at + part.len()..];
                }
                prop_assert_eq!(rest, b"\r\n--bitsd-1a2b3--\r\n");
            }
        }
    }
}
