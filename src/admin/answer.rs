//! Answers of the interface, written to a blocking stream. Each ends its connection.

use std::io::{self, Write};

use serde::Serialize;

use super::view::OrderOutcome;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAnswer {
    pub status: u16,
    pub media_type: &'static str,
    pub body: String,
    /// With 405: what would be taken.
    pub allow: Option<&'static str>,
    /// With a page: what a browser may do with it.
    pub policy: Option<&'static str>,
}

/// JSON.
pub const JSON: &str = "application/json";
/// One JSON object a line.
pub const JSON_LINES: &str = "application/x-ndjson";
/// A page.
pub const HTML: &str = "text/html; charset=utf-8";
/// What comes for as long as somebody listens.
pub const EVENTS: &str = "text/event-stream; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

impl AdminAnswer {
    /// Text for a person.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            media_type: TEXT,
            body: body.into(),
            allow: None,
            policy: None,
        }
    }

    /// An object.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_string(value).unwrap_or_else(|error| format!("\"{error}\""));
        body.push('\n');
        Self {
            media_type: JSON,
            ..Self::text(status, body)
        }
    }

    /// What an order, or a question that makes no sense, came to.
    pub fn outcome(status: u16, message: impl Into<String>) -> Self {
        let outcome = OrderOutcome {
            ok: status == 200,
            message: message.into(),
        };
        Self::json(status, &outcome)
    }

    /// A shard did not say what it was asked.
    pub fn no_answer() -> Self {
        let why = "the shard does not answer: it is held up, or the server is starting or stopping";
        Self::outcome(503, why)
    }

    /// Writes it; without its body for a HEAD.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write(&self, out: &mut impl Write, is_head: bool) -> io::Result<()> {
        let mut text = begin(self.status, self.media_type);
        if let Some(allow) = self.allow {
            text.push_str(&format!("Allow: {allow}\r\n"));
        }
        if let Some(policy) = self.policy {
            text.push_str(&format!(
                "Content-Security-Policy: {policy}\r\nReferrer-Policy: no-referrer\r\n\
                 Cross-Origin-Resource-Policy: same-origin\r\n"
            ));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        if !is_head {
            text.push_str(&self.body);
        }
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// The answer to HEAD where nobody knows how long that to GET is.
///
/// # Errors
/// What the stream says.
pub fn write_head(out: &mut impl Write, media_type: &str) -> io::Result<()> {
    out.write_all((begin(200, media_type) + "\r\n").as_bytes())?;
    out.flush()
}

/// The head of events that come until one side has had enough.
pub fn begin_events() -> String {
    begin(200, EVENTS) + "\r\n"
}

fn begin(status: u16, media_type: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Refused",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nServer: bitsd\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Type: {media_type}\r\n"
    )
}

/// An answer whose length nobody knows before its end. It comes in chunks, so that one that was
/// cut short is seen to be.
pub struct JsonLines<'w, W: Write> {
    out: &'w mut W,
}

impl<'w, W: Write> JsonLines<'w, W> {
    /// Begins it.
    ///
    /// # Errors
    /// What the stream says.
    pub fn begin(out: &'w mut W) -> io::Result<Self> {
        let head = begin(200, JSON_LINES) + "Transfer-Encoding: chunked\r\n\r\n";
        out.write_all(head.as_bytes())?;
        out.flush()?;
        Ok(Self { out })
    }

    /// Some lines, together.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        // An empty chunk would be the last one.
        if text.is_empty() {
            return Ok(());
        }
        write!(self.out, "{:x}\r\n{text}\r\n", text.len())?;
        self.out.flush()
    }

    /// The end.
    ///
    /// # Errors
    /// What the stream says.
    pub fn end(self) -> io::Result<()> {
        self.out.write_all(b"0\r\n\r\n")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_and_that_to_head_has_no_body() {
        let written = |is_head| {
            let mut out = Vec::new();
            AdminAnswer::text(503, "no")
                .write(&mut out, is_head)
                .unwrap();
            String::from_utf8(out).unwrap()
        };
        let whole = written(false);
        assert!(whole.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(whole.ends_with("Content-Length: 2\r\n\r\nno"));
        assert!(written(true).ends_with("Content-Length: 2\r\n\r\n"));
        let outcome = AdminAnswer::outcome(409, "x");
        assert_eq!(outcome.body, "{\"ok\":false,\"message\":\"x\"}\n");
    }

    #[test]
    fn lines_come_in_chunks() {
        let mut out = Vec::new();
        let mut lines = JsonLines::begin(&mut out).unwrap();
        lines.write("0123456789abcdef\n").unwrap();
        lines.write("").unwrap();
        lines.end().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\r\n\r\n11\r\n0123456789abcdef\n\r\n0\r\n\r\n"));
    }
}
