//! Answers of the interface, written to a blocking stream. Each ends its connection.

use std::io::{self, Write};

use serde::Serialize;

use super::view::OrderOutcome;
use crate::http::date;
use crate::http::head::Version;
use crate::wall_clock;

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

    /// Uploads are still being read back.
    pub fn not_all_known(why: &str) -> Self {
        let why = format!("not all uploads are known yet: {why}; ask again when that is done");
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
    let date = date::format(wall_clock::since_1970().as_secs());
    format!(
        "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nServer: bitsd\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Type: {media_type}\r\n"
    )
}

/// An answer whose length nobody knows before its end: objects, each on a line. It comes in chunks,
/// so that one that was cut short is seen to be; but not to a client of HTTP/1.0, which does not
/// know them (RFC 9112 6.1): there the end of the connection is that of the answer.
pub struct JsonLines<'w, W: Write> {
    out: &'w mut W,
    version: Version,
    /// Room for the size of the next chunk, and its lines so far.
    chunk: Vec<u8>,
}

/// Sixteen digits and the end of a line: more than any size of a chunk takes.
const SIZE_ROOM: usize = 18;

impl<'w, W: Write> JsonLines<'w, W> {
    /// Begins it.
    ///
    /// # Errors
    /// What the stream says.
    pub fn begin(out: &'w mut W, version: Version) -> io::Result<Self> {
        let coding = match version {
            Version::Http11 => "Transfer-Encoding: chunked\r\n\r\n",
            Version::Http10 => "\r\n",
        };
        let head = begin(200, JSON_LINES) + coding;
        out.write_all(head.as_bytes())?;
        out.flush()?;
        let chunk = vec![0; SIZE_ROOM];
        Ok(Self {
            out,
            version,
            chunk,
        })
    }

    /// One more line of the next chunk, by whoever appends it.
    ///
    /// # Errors
    /// What that says.
    pub fn add(&mut self, append: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        append(&mut self.chunk)?;
        self.chunk.push(b'\n');
        Ok(())
    }

    /// Sends the lines that were added, in one piece: each write wakes whoever reads.
    ///
    /// # Errors
    /// What the stream says.
    pub fn send(&mut self) -> io::Result<()> {
        let bytes = self.chunk.len() - SIZE_ROOM;
        // An empty chunk would be the last one.
        if bytes == 0 {
            return Ok(());
        }
        let mut from = SIZE_ROOM;
        if self.version == Version::Http11 {
            let size = format!("{bytes:x}\r\n");
            from -= size.len();
            self.chunk[from..SIZE_ROOM].copy_from_slice(size.as_bytes());
            self.chunk.extend_from_slice(b"\r\n");
        }
        self.out.write_all(&self.chunk[from..])?;
        self.out.flush()?;
        self.chunk.truncate(SIZE_ROOM);
        Ok(())
    }

    /// The end.
    ///
    /// # Errors
    /// What the stream says.
    pub fn end(mut self) -> io::Result<()> {
        self.send()?;
        if self.version == Version::Http11 {
            self.out.write_all(b"0\r\n\r\n")?;
        }
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

    /// What was written, and how often.
    #[derive(Default)]
    struct Pieces(Vec<String>);

    impl Write for Pieces {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8(piece.to_vec()).unwrap());
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_in_chunks_of_one_piece_each() {
        let out = lines_for(Version::Http11);
        let [head, chunks @ ..] = &out.0[..] else {
            panic!("nothing was written");
        };
        assert!(head.ends_with("Transfer-Encoding: chunked\r\n\r\n"));
        let two_lines = "10\r\n0123456789abcd\n\n\r\n";
        assert_eq!(chunks, [two_lines, "2\r\nx\n\r\n", "0\r\n\r\n"]);
    }

    #[test]
    fn to_clients_of_the_old_version_lines_come_as_they_are() {
        let out = lines_for(Version::Http10);
        let [head, lines @ ..] = &out.0[..] else {
            panic!("nothing was written");
        };
        assert!(!head.contains("Transfer-Encoding") && head.contains("Connection: close"));
        assert_eq!(lines, ["0123456789abcd\n\n", "x\n"]);
    }

    /// Two lines, and one more.
    fn lines_for(version: Version) -> Pieces {
        let mut out = Pieces::default();
        let mut lines = JsonLines::begin(&mut out, version).unwrap();
        let add = |lines: &mut JsonLines<'_, _>, text: &str| {
            let append = |line: &mut Vec<u8>| line.write_all(text.as_bytes());
            lines.add(append).unwrap();
        };
        lines.send().unwrap();
        add(&mut lines, "0123456789abcd");
        add(&mut lines, "");
        lines.send().unwrap();
        lines.send().unwrap();
        add(&mut lines, "x");
        lines.end().unwrap();
        out
    }
}
