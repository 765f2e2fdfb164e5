//! Whole answers: a table of the cases that RFC 9110 names, and any ranges against an oracle that
//! builds all in memory.

use proptest::prelude::*;

use super::*;
use crate::http::head::{self, HeadLimits, Parsed};

const ETAG: &str = "\"1f-2710\"";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BOUNDARY: &str = "bitsd-39c92dfcd49548eb";

fn file(len: u64) -> Representation {
    Representation {
        sha256: None,
        len,
        modified_s: 784_111_777,
        is_date_strong: true,
        etag: ETAG.to_owned(),
    }
}

fn request(method: &str, fields: &str) -> DownloadRequest {
    let text = format!("{method} /reply HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let limits = HeadLimits {
        head_bytes_max: 65_536,
        headers_max: 64,
        value_bytes_max: 65_536,
    };
    match head::parse(text.as_bytes(), &limits) {
        Ok(Parsed::Complete(head)) => parse(&head),
        other => panic!("{other:?}"),
    }
}

/// The answer to a request, its head as text.
fn answer(method: &str, fields: &str, len: u64) -> (Plan, String) {
    let plan = plan(&request(method, fields), &file(len));
    let mut head = Vec::new();
    plan.write_head(Persistence::KeepAlive, &mut head);
    (plan, String::from_utf8(head).unwrap())
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The body of a plan for a file with these bytes.
fn body(plan: &Plan, file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for piece in plan.pieces() {
        let before = body.len();
        match &piece {
            Piece::Literal(bytes) => body.extend_from_slice(bytes),
            Piece::File(range) => {
                let at = |at| usize::try_from(at).unwrap();
                body.extend_from_slice(&file[at(range.start)..at(range.end)]);
            }
        }
        assert_eq!((body.len() - before) as u64, piece.len());
        assert!(body.len() > before, "no piece is empty");
    }
    body
}

fn bytes_of_file(len: u64) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn the_whole_file_is_described_completely() {
    let (plan, head) = answer("GET", "", 10_000);
    let fields = format!(
        "HTTP/1.1 200 OK\r\nLast-Modified: {MODIFIED}\r\nETag: {ETAG}\r\nAccept-Ranges: bytes\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: 10000\r\n\r\n"
    );
    assert_eq!(head, fields);
    assert_eq!(plan.pieces().collect::<Vec<_>>(), [Piece::File(0..10_000)]);
    let (plan, head) = answer("HEAD", "", 10_000);
    assert_eq!(head, fields, "a HEAD hears what a GET would");
    assert_eq!(plan.pieces().count(), 0);
}

#[test]
fn one_range_is_described_completely() {
    let (plan, head) = answer("GET", "Range: bytes=0-9976\r\n", 10_240);
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 206 Partial Content\r\nLast-Modified: {MODIFIED}\r\nETag: {ETAG}\r\n\
             Accept-Ranges: bytes\r\nContent-Type: application/octet-stream\r\n\
             Content-Range: bytes 0-9976/10240\r\nContent-Length: 9977\r\n\r\n"
        )
    );
    assert_eq!(plan.pieces().collect::<Vec<_>>(), [Piece::File(0..9977)]);
}

#[test]
fn several_ranges_are_framed_as_bits_bears_it() {
    let (plan, head) = answer("GET", "Range: bytes=8-,0-1\r\n", 10);
    let content_type = format!("multipart/byteranges; boundary={BOUNDARY}");
    assert_eq!(field(&head, "Content-Type"), Some(&*content_type));
    assert_eq!(field(&head, "Content-Range"), None, "RFC 9110 15.3.7.2");
    let expected = format!(
        "--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n\
         --{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
         --{BOUNDARY}--\r\n"
    );
    let body = String::from_utf8(body(&plan, b"0123456789")).unwrap();
    assert_eq!(body, expected);
    assert_eq!(
        field(&head, "Content-Length"),
        Some(&*expected.len().to_string())
    );
}

#[test]
fn every_answer_has_its_status_and_its_length() {
    let range = "Range: bytes=0-4\r\n";
    for (method, fields, len, status, content_range, content_length) in [
        ("GET", String::new(), 0, 200, None, Some("0")),
        ("HEAD", String::new(), 0, 200, None, Some("0")),
        ("HEAD", range.into(), 10, 200, None, Some("10")),
        (
            "HEAD",
            "Range: bytes=99-\r\n".into(),
            10,
            200,
            None,
            Some("10"),
        ),
        (
            "GET",
            "Range: bytes=0-\r\n".into(),
            10,
            206,
            Some("bytes 0-9/10"),
            Some("10"),
        ),
        (
            "GET",
            "Range: bytes=-3\r\n".into(),
            10,
            206,
            Some("bytes 7-9/10"),
            Some("3"),
        ),
        (
            "GET",
            "Range: bytes=99-,-3\r\n".into(),
            10,
            206,
            Some("bytes 7-9/10"),
            Some("3"),
        ),
        (
            "GET",
            "Range: bytes=10-\r\n".into(),
            10,
            416,
            Some("bytes */10"),
            Some("51"),
        ),
        (
            "GET",
            "Range: bytes=0-\r\n".into(),
            0,
            416,
            Some("bytes */0"),
            Some("51"),
        ),
        (
            "GET",
            "Range: bytes=-5\r\n".into(),
            0,
            416,
            Some("bytes */0"),
            Some("51"),
        ),
        (
            "GET",
            "Range: bytes=4-0\r\n".into(),
            10,
            200,
            None,
            Some("10"),
        ),
        (
            "GET",
            "Range: lines=0-4\r\n".into(),
            10,
            200,
            None,
            Some("10"),
        ),
        ("GET", format!("{range}{range}"), 10, 200, None, Some("10")),
        (
            "GET",
            format!("{range}If-Range: {ETAG}\r\n"),
            10,
            206,
            Some("bytes 0-4/10"),
            Some("5"),
        ),
        (
            "GET",
            format!("{range}If-Range: {MODIFIED}\r\n"),
            10,
            206,
            Some("bytes 0-4/10"),
            Some("5"),
        ),
        (
            "GET",
            format!("{range}If-Range: \"old\"\r\n"),
            10,
            200,
            None,
            Some("10"),
        ),
        (
            "GET",
            "Range: bytes=99-\r\nIf-Range: \"old\"\r\n".into(),
            10,
            200,
            None,
            Some("10"),
        ),
        (
            "GET",
            format!("If-Range: {ETAG}\r\n"),
            10,
            200,
            None,
            Some("10"),
        ),
        (
            "GET",
            format!("{range}If-Match: \"old\"\r\n"),
            10,
            412,
            None,
            Some("49"),
        ),
        (
            "GET",
            format!("{range}If-Match: {ETAG}\r\n"),
            10,
            206,
            Some("bytes 0-4/10"),
            Some("5"),
        ),
        (
            "GET",
            format!("{range}If-None-Match: {ETAG}\r\n"),
            10,
            304,
            None,
            None,
        ),
        (
            "HEAD",
            format!("If-None-Match: {ETAG}\r\n"),
            10,
            304,
            None,
            None,
        ),
        (
            "HEAD",
            "If-Match: \"old\"\r\n".into(),
            10,
            412,
            None,
            Some("49"),
        ),
        (
            "GET",
            format!("Range: bytes=99-\r\nIf-Modified-Since: {MODIFIED}\r\n"),
            10,
            304,
            None,
            None,
        ),
        (
            "GET",
            format!("If-Unmodified-Since: {MODIFIED}\r\n"),
            10,
            200,
            None,
            Some("10"),
        ),
    ] {
        let (plan, head) = answer(method, &fields, len);
        let found = (
            plan.status,
            field(&head, "Content-Range"),
            field(&head, "Content-Length"),
        );
        assert_eq!(
            found,
            (status, content_range, content_length),
            "{method} {fields:?} of {len}"
        );
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(field(&head, "Content-Encoding"), None, "identity");
        let is_sent = method == "GET" && matches!(status, 200 | 206);
        let body = body(&plan, &bytes_of_file(len));
        assert_eq!(body.len() as u64, plan.body_len());
        if is_sent {
            assert_eq!(Some(&*body.len().to_string()), content_length);
        } else if method == "GET" && matches!(status, 412 | 416) {
            // Why not, in a sentence.
            assert_eq!(Some(&*body.len().to_string()), content_length);
            assert!(body.starts_with(b"the file ") && body.ends_with(b"\n"));
        } else {
            assert_eq!(body, b"", "{method} {fields:?}");
        }
    }
}

#[test]
fn persistence_is_told() {
    let plan = plan(&request("GET", ""), &file(1));
    let mut head = Vec::new();
    plan.write_head(Persistence::Close, &mut head);
    let head = String::from_utf8(head).unwrap();
    assert_eq!(field(&head, "Connection"), Some("close"));
}

#[test]
fn the_largest_file_has_a_length() {
    let len = i64::MAX.unsigned_abs();
    for (value, status) in [("0-", 206), ("0-0,2-", 206), ("0-,-1", 416), ("0-,0-", 416)] {
        let (plan, head) = answer("GET", &format!("Range: bytes={value}\r\n"), len);
        assert_eq!(plan.status, status, "{value}");
        let length: u64 = field(&head, "Content-Length").unwrap().parse().unwrap();
        assert_eq!(length, plan.body_len());
        assert!(status == 416 || length >= len - 1, "{value}");
    }
}

#[test]
fn a_time_that_no_year_can_name_is_still_the_same_every_time() {
    let late = Representation {
        modified_s: u64::MAX,
        ..file(10)
    };
    let mut head = Vec::new();
    plan(&request("GET", ""), &late).write_head(Persistence::KeepAlive, &mut head);
    let head = String::from_utf8(head).unwrap();
    let modified = field(&head, "Last-Modified").unwrap();
    let again = request("GET", &format!("If-Modified-Since: {modified}\r\n"));
    assert_eq!(plan(&again, &late).status, 304);
}

// -- the oracle

/// A range as a client may write it.
#[derive(Clone, Copy, Debug)]
enum Spec {
    FromTo(u64, u64),
    From(u64),
    Last(u64),
}

impl Spec {
    fn text(self) -> String {
        match self {
            Self::FromTo(first, last) => format!("{first}-{last}"),
            Self::From(first) => format!("{first}-"),
            Self::Last(bytes) => format!("-{bytes}"),
        }
    }

    fn is_valid(self) -> bool {
        !matches!(self, Self::FromTo(first, last) if first > last)
    }

    /// Asks every byte of the file whether it is meant.
    fn positions(self, len: u64) -> Vec<u64> {
        let is_meant = |at: &u64| match self {
            Self::FromTo(first, last) => *at >= first && *at <= last,
            Self::From(first) => *at >= first,
            Self::Last(bytes) => len - *at <= bytes,
        };
        (0..len).filter(is_meant).collect()
    }
}

/// Status, Content-Range and body, in the slowest way.
fn oracle(specs: &[Spec], file: &[u8]) -> (u16, Option<String>, Vec<u8>) {
    let len = file.len() as u64;
    if specs.is_empty() || !specs.iter().all(|spec| spec.is_valid()) {
        return (200, None, file.to_vec());
    }
    let found: Vec<_> = (specs.iter())
        .map(|spec| spec.positions(len))
        .filter(|positions| !positions.is_empty())
        .collect();
    let is_abuse = specs.len() > 64 || found.concat().len() > 2 * file.len();
    if found.is_empty() || is_abuse {
        let why = match is_abuse {
            true => "more than 64 ranges are asked for, or more than twice the whole file\n",
            false => "the file has none of the bytes that were asked for\n",
        };
        return (416, Some(format!("bytes */{len}")), why.into());
    }
    let content_range = |positions: &[u64]| {
        let (first, last) = (positions.first().unwrap(), positions.last().unwrap());
        format!("bytes {first}-{last}/{len}")
    };
    let bytes = |positions: &[u64]| -> Vec<u8> {
        let at = |at: &u64| file[usize::try_from(*at).unwrap()];
        positions.iter().map(at).collect()
    };
    if let [only] = &found[..] {
        return (206, Some(content_range(only)), bytes(only));
    }
    let mut parts = Vec::new();
    for positions in &found {
        let range = content_range(positions);
        let mut part = format!("--{BOUNDARY}\r\n").into_bytes();
        part.extend(b"Content-Type: application/octet-stream\r\n");
        part.extend(format!("Content-Range: {range}\r\n\r\n").bytes());
        part.extend(bytes(positions));
        parts.push(part);
    }
    parts.push(format!("--{BOUNDARY}--\r\n").into_bytes());
    (206, None, parts.join(&b"\r\n"[..]))
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let number =
        || prop_oneof![9 => 0..40u64, 1 => prop::sample::select(vec![u64::MAX, u64::MAX - 1])];
    let spec = prop_oneof![
        6 => (number(), number()).prop_map(|(a, b)| Spec::FromTo(a.min(b), a.max(b))),
        2 => number().prop_map(Spec::From),
        2 => number().prop_map(Spec::Last),
        // Perhaps inverted.
        1 => (0..3u64, 0..3u64).prop_map(|(a, b)| Spec::FromTo(a, b)),
    ];
    let few = proptest::collection::vec(spec.clone(), 0..5);
    let short = (0..30u64).prop_map(|first| Spec::FromTo(first, first));
    let many = proptest::collection::vec(short, 55..75);
    prop_oneof![9 => few, 1 => many]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Goal: no set of ranges gets a wrong byte or a wrong length. Method: an oracle that asks each
    /// byte of the file whether it is meant, and glues the whole answer together.
    #[test]
    fn any_ranges_get_what_the_oracle_says(specs in specs(), len in 0..35u64) {
        let file = bytes_of_file(len);
        let texts: Vec<_> = specs.iter().map(|spec| spec.text()).collect();
        let fields = format!("Range: bytes={}\r\n", texts.join(", "));
        let (plan, head) = answer("GET", &fields, len);
        let (status, content_range, expected) = oracle(&specs, &file);
        prop_assert_eq!(plan.status, status);
        prop_assert_eq!(field(&head, "Content-Range"), content_range.as_deref());
        prop_assert_eq!(field(&head, "Content-Length"), Some(&*expected.len().to_string()));
        prop_assert_eq!(body(&plan, &file), expected);
    }

    #[test]
    fn arbitrary_fields_never_panic(values in proptest::collection::vec("[ -~]{0,40}", 5), len in any::<u64>()) {
        let names = ["Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since"];
        let fields: String = (names.iter().zip(&values))
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let (plan, _head) = answer("GET", &fields, len / 2);
        prop_assert!(matches!(plan.status, 200 | 206 | 304 | 412 | 416));
    }
}
