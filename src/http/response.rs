//! Status and header fields to bytes.

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
    #[should_panic(expected = "one line")]
    fn a_line_end_cannot_be_smuggled_into_a_value() {
        ResponseHead::new(&mut Vec::new(), 200).field("A", "b\r\nC: d");
    }
}
