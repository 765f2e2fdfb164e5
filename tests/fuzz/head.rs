//! Request heads: any bytes, cut anywhere, give one answer; what is taken could be read in no other
//! way.
#![no_main]

use bitsd::http::head::{self, BadHead, Framing, Head, HeadLimits, Parsed};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1024,
    headers_max: 16,
    value_bytes_max: 256,
};

/// An answer that can be compared.
#[derive(Debug, PartialEq)]
enum Answer {
    Incomplete,
    Bad(BadHead),
    Head(String),
}

fn answer(bytes: &[u8]) -> Answer {
    match head::parse(bytes, &LIMITS) {
        Ok(Parsed::Incomplete) => Answer::Incomplete,
        Ok(Parsed::Complete(head)) => Answer::Head(format!("{head:?}")),
        Err(why) => Answer::Bad(why),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let whole = answer(bytes);
    // Read byte by byte, the first answer that is not "read on" is final.
    let first = (0..=bytes.len())
        .map(|end| answer(&bytes[..end]))
        .find(|answer| *answer != Answer::Incomplete)
        .unwrap_or(Answer::Incomplete);
    match (&whole, &first) {
        // A head that is refused early may have a further mistake behind the first.
        (Answer::Bad(_), Answer::Bad(_)) => {}
        _ => assert_eq!(whole, first),
    }
    if whole == Answer::Incomplete {
        assert!(
            bytes.len() < LIMITS.head_bytes_max,
            "more than a head was asked for"
        );
    }
    if let Ok(Parsed::Complete(head)) = head::parse(bytes, &LIMITS) {
        check(bytes, &head);
    }
});

/// Reads the same head line by line, with strings.
fn check(bytes: &[u8], head: &Head<'_>) {
    let text = &bytes[..head.bytes_len];
    assert!(text.ends_with(b"\r\n\r\n"));
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| {
        // The last piece stands behind the last line end.
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    let request_line = lines
        .find(|line| !line.is_empty())
        .expect("a head has a request line");
    let words: Vec<_> = request_line.split(|&byte| byte == b' ').collect();
    assert_eq!(words.len(), 3, "a request line has three words");
    assert_eq!(words[1], head.target.as_bytes());
    let fields: Vec<(&[u8], &[u8])> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let colon = line
                .iter()
                .position(|&byte| byte == b':')
                .expect("a field has a colon");
            (&line[..colon], line[colon + 1..].trim_ascii())
        })
        .collect();
    assert_eq!(fields.len(), head.fields.len());
    let mut lengths = Vec::new();
    for ((name, value), (found_name, found)) in fields.iter().zip(&head.fields) {
        assert_eq!(*name, found_name.as_bytes());
        assert_eq!(*value, found.trim_ascii());
        let lower = name.to_ascii_lowercase();
        let is_of_protocol = lower.starts_with(b"bits-") || lower.starts_with(b"content-");
        assert!(!is_of_protocol || found.len() <= LIMITS.value_bytes_max);
        if name.eq_ignore_ascii_case(b"Content-Length") {
            lengths.push(str::from_utf8(value).unwrap().parse::<u64>().unwrap());
        }
    }
    // Where it is told, it can stand in a URL.
    if let Some(host) = head.host {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%:[]".contains(&byte);
        assert!(!host.is_empty() && host.bytes().all(is_plain), "{host}");
    }
    match head.framing {
        Framing::Length(length) => assert!(lengths.iter().all(|other| *other == length)),
        Framing::Absent | Framing::Chunked => assert!(lengths.is_empty()),
    }
}
