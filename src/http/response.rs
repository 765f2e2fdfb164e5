//! Status and header fields to bytes, and answers that are one sentence.

use std::fmt::{Display, Write as _};

/// What the client is told about the connection after this response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection stays open (the default of HTTP/1.1: no Connection field is sent).
    KeepAlive,
    /// `Connection: close` is sent.
    Close,
}

/// The interim response that asks for the body (RFC 9110 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes one response head into a buffer. `Content-Length` is the caller's to give.
pub struct ResponseHead<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> ResponseHead<'o> {
    /// Begins with the status line, always HTTP/1.1, with the standard reason phrase.
    pub fn new(out: &'o mut Vec<u8>, status: u16) -> Self {
        let mut head = Self { out };
        head.out.extend_from_slice(b"HTTP/1.1 ");
        head.digits(status.into());
        head.out.push(b' ');
        head.out.extend_from_slice(reason(status).as_bytes());
        head.line_end()
    }

    /// Adds a field.
    ///
    /// # Panics
    /// If the value holds a line end: what comes from outside must have been parsed before.
    pub fn field(&mut self, name: &str, value: &str) -> &mut Self {
        assert!(
            !value.bytes().any(|byte| byte == b'\r' || byte == b'\n'),
            "a value is one line"
        );
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field whose value is a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.name(name);
        self.digits(value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field whose value is a sentence of ours.
    pub fn sentence(&mut self, name: &str, sentence: &dyn Display) -> &mut Self {
        self.name(name);
        write_sentence(sentence, self.out);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Ends the head (adds `Connection: close` where asked for, then the empty line).
    pub fn end(&mut self, persistence: Persistence) {
        if persistence == Persistence::Close {
            self.field("Connection", "close");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
    }

    fn line_end(self) -> Self {
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Appends a decimal number without allocating.
    fn digits(&mut self, value: u64) {
        // u64::MAX has 20 digits.
        let mut digits = [0; 20];
        let mut from = digits.len();
        let mut rest = value;
        loop {
            from -= 1;
            digits[from] = b'0' + u8::try_from(rest % 10).expect("one digit");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[from..]);
    }
}

/// Adds a field to a head that stands in `out` already and begins at `from`, as its first one.
///
/// # Panics
/// If the value holds a line end, as [`ResponseHead::field`].
pub fn insert_field(out: &mut Vec<u8>, from: usize, name: &str, value: &str) {
    let Some(line) = memchr::memchr(b'\n', &out[from..]) else {
        return;
    };
    let (at, end) = (from + line + 1, out.len());
    ResponseHead { out: &mut *out }.field(name, value);
    let bytes = out.len() - end;
    out[at..].rotate_right(bytes);
}

/// The field by which a server asks who somebody is, and by which it proves itself.
pub const AUTHENTICATE: &str = "WWW-Authenticate";

/// A refusal to whoever speaks plain HTTP.
pub struct PlainRefusal<'a> {
    pub status: u16,
    /// What is refused and why, in words that say nothing of this machine.
    pub why: &'a dyn Display,
    /// Methods that are taken, where the one asked for is not (RFC 9110 15.5.6).
    pub allow: Option<&'a str>,
    /// Ways to show who one is (RFC 9110 11.6.1); with a 401.
    pub challenges: &'a [String],
    /// When to come again, in seconds (RFC 9110 10.2.3); with a 503.
    pub retry_after_s: Option<u64>,
    /// The request was a HEAD: fields as for a GET, and no body (RFC 9110 9.3.2).
    pub is_head: bool,
}

impl PlainRefusal<'_> {
    /// Appends it; the body is one line of plain text.
    pub fn write(&self, persistence: Persistence, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        write_sentence(self.why, &mut body);
        body.push(b'\n');
        let mut head = ResponseHead::new(out, self.status);
        if let Some(allow) = self.allow {
            head.field("Allow", allow);
        }
        for challenge in self.challenges {
            head.field(AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_s {
            head.number("Retry-After", seconds);
        }
        head.field("Content-Type", TEXT_TYPE);
        head.number("Content-Length", body.len() as u64);
        head.end(persistence);
        if !self.is_head {
            out.extend_from_slice(&body);
        }
    }
}

/// Of a sentence.
pub const TEXT_TYPE: &str = "text/plain; charset=utf-8";
/// A sentence is cut there; it is one line of a terminal or two.
const SENTENCE_BYTES_MAX: usize = 300;

/// Appends a sentence: visible ASCII and blanks, whatever is in it.
pub fn write_sentence(sentence: &dyn Display, out: &mut Vec<u8>) {
    struct Sentence<'o> {
        out: &'o mut Vec<u8>,
        left: usize,
    }
    impl std::fmt::Write for Sentence<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            for c in text.chars().take(self.left) {
                let is_plain = c.is_ascii_graphic() || c == ' ';
                self.out.push(if is_plain { c as u8 } else { b'?' });
                self.left -= 1;
            }
            Ok(())
        }
    }
    let left = SENTENCE_BYTES_MAX;
    // It fails only where a value refuses to show itself.
    let _shown = write!(Sentence { out, left }, "{sentence}");
}

/// Reason phrases of RFC 9110 15, as far as we answer with them.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_status_line_fields_and_empty_line() {
        let mut out = Vec::new();
        ResponseHead::new(&mut out, 416)
            .field("BITS-Packet-Type", "Ack")
            .number("Content-Length", 0)
            .number("BITS-Received-Content-Range", u64::MAX)
            .end(Persistence::Close);
        let text = "HTTP/1.1 416 Range Not Satisfiable\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\
            BITS-Received-Content-Range: 18446744073709551615\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    #[test]
    fn a_plain_refusal_is_one_line_of_text() {
        let refusal = |is_head| {
            let mut out = Vec::new();
            PlainRefusal {
                status: 405,
                why: &"only this is taken\r\nX: y \u{e4}",
                allow: Some("BITS_POST"),
                challenges: &[],
                retry_after_s: None,
                is_head,
            }
            .write(Persistence::KeepAlive, &mut out);
            String::from_utf8(out).unwrap()
        };
        let head = "HTTP/1.1 405 Method Not Allowed\r\nAllow: BITS_POST\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Length: 27\r\n\r\n";
        assert_eq!(refusal(true), head);
        assert_eq!(
            refusal(false),
            format!("{head}only this is taken??X: y ?\n")
        );
    }

    #[test]
    fn a_sentence_is_cut() {
        let mut out = Vec::new();
        ResponseHead::new(&mut out, 400)
            .sentence("A", &"b".repeat(1_000))
            .end(Persistence::KeepAlive);
        let expected = format!("\r\nA: {}\r\n\r\n", "b".repeat(300));
        assert!(String::from_utf8(out).unwrap().ends_with(&expected));
    }

    #[test]
    #[should_panic(expected = "one line")]
    fn a_line_end_cannot_be_smuggled_into_a_value() {
        ResponseHead::new(&mut Vec::new(), 200).field("A", "b\r\nC: d");
    }
}
