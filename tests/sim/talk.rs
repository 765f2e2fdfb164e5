//! A client's end of a conversation: requests as bytes out, answers as values in.

use std::rc::Rc;

use bitsd::bits::protocol::PROTOCOL;
use bitsd::bits::session_id::SessionId;

use crate::identity::Known;
use crate::sim::Sim;
use crate::wire::ClientEnd;

/// How long a client waits for an answer, in milliseconds.
const PATIENCE_MS: u64 = 120_000;

/// BG_E_SESSION_NOT_FOUND.
pub const NOT_FOUND: &str = "0x8020001F";

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// `BITS-Session-Id`.
    pub session: Option<SessionId>,
    /// `BITS-Received-Content-Range`.
    pub received: Option<u64>,
    /// `BITS-Error-Code`.
    pub error: Option<String>,
    /// `BITS-Reply-URL`.
    pub reply_url: Option<String>,
    /// The digest of the file.
    pub digest: Option<String>,
    /// `BITS-Error-Context` is that of the application.
    pub is_of_application: bool,
    /// The client had too many passwords wrong.
    pub is_throttled: bool,
    /// The server ends the connection.
    pub is_last: bool,
}

impl Reply {
    /// Whether the session is unknown to the server.
    pub fn is_not_found(&self) -> bool {
        self.error.as_deref() == Some(NOT_FOUND)
    }
}

/// The connection broke, or nothing came for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// One connection of a client.
pub struct Talk {
    sim: Rc<Sim>,
    end: ClientEnd,
    inbox: Vec<u8>,
    /// Who its client is to the server.
    pub known: Known,
}

impl Talk {
    /// Over a connection just made.
    pub fn new(sim: &Rc<Sim>, end: ClientEnd) -> Self {
        Self {
            sim: Rc::clone(sim),
            end,
            inbox: Vec::new(),
            known: Known::default(),
        }
    }

    /// The connection itself.
    pub fn end(&self) -> &ClientEnd {
        &self.end
    }

    /// Checks that nothing came that was not asked for.
    pub async fn check_silence(&mut self) {
        let now = self.sim.executor.now();
        let mut bytes = [0; 64];
        let unasked = match self.end.read(&mut bytes, now).await {
            Some(Ok(read)) => read,
            _ => 0,
        };
        self.inbox.extend_from_slice(&bytes[..unasked]);
        if !self.inbox.is_empty() {
            let text = String::from_utf8_lossy(&self.inbox).into_owned();
            self.sim
                .judge
                .borrow_mut()
                .fail(format!("6: an answer to nothing: {text:?}"));
        }
    }

    /// Sends bytes. A broken connection shows when the answer is read.
    pub async fn send(&self, bytes: &[u8]) {
        let _shows_later = self.end.send(bytes).await;
    }

    /// Reads one answer.
    pub async fn hear(&mut self) -> Result<Reply, Lost> {
        let deadline = self.sim.executor.now() + PATIENCE_MS;
        loop {
            if let Some(end) = whole_answer(&self.inbox) {
                let head: Vec<u8> = self.inbox.drain(..end).collect();
                let reply = parse(&head);
                self.sim.tell(|| format!("client hears {reply:?}"));
                let Some(reply) = reply else {
                    let text = String::from_utf8_lossy(&head).into_owned();
                    self.sim
                        .judge
                        .borrow_mut()
                        .fail(format!("6: no answer at all: {text:?}"));
                    return Err(Lost);
                };
                return Ok(reply);
            }
            let mut bytes = [0; 512];
            match self.end.read(&mut bytes, deadline).await {
                Some(Ok(read)) if read > 0 => self.inbox.extend_from_slice(&bytes[..read]),
                _ => return Err(Lost),
            }
        }
    }

    /// Reads one answer with a body.
    pub async fn hear_body(&mut self) -> Result<Download, Lost> {
        let deadline = self.sim.executor.now() + PATIENCE_MS;
        loop {
            if let Some(download) = download(&mut self.inbox) {
                let bytes = download.body.len();
                let status = download.status;
                (self.sim).tell(|| format!("client hears {status} with {bytes} bytes"));
                return Ok(download);
            }
            let mut bytes = [0; 512];
            match self.end.read(&mut bytes, deadline).await {
                Some(Ok(read)) if read > 0 => self.inbox.extend_from_slice(&bytes[..read]),
                _ => return Err(Lost),
            }
        }
    }

    /// Reads until the server ends the connection, or for a long while.
    pub async fn hear_the_end(&mut self) {
        let deadline = self.sim.executor.now() + PATIENCE_MS;
        let mut bytes = [0; 512];
        while let Some(Ok(read)) = self.end.read(&mut bytes, deadline).await
            && read > 0
        {}
    }
}

/// One past an answer that is there as a whole: an Ack ends with its head, what is none has a line
/// of text behind it.
fn whole_answer(inbox: &[u8]) -> Option<usize> {
    let end = find(inbox, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&inbox[..end]);
    let is_text = head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n");
    let length = (head.lines()).find_map(|line| line.strip_prefix("Content-Length: "));
    let body = match length {
        Some(length) if is_text => length.parse().ok()?,
        _ => 0,
    };
    (inbox.len() >= end + body).then_some(end + body)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// An answer to a GET.
pub struct Download {
    /// Status code.
    pub status: u16,
    /// All of its body.
    pub body: Vec<u8>,
    /// The server ends the connection.
    pub is_last: bool,
}

/// Takes a whole answer off what came, once it is whole.
fn download(inbox: &mut Vec<u8>) -> Option<Download> {
    let end = find(inbox, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&inbox[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length?.parse().ok()?;
    if inbox.len() < end + length {
        return None;
    }
    let body = inbox.drain(..end + length).skip(end).collect();
    Some(Download {
        status: head.get(9..12)?.parse().ok()?,
        body,
        is_last: head.contains("Connection: close"),
    })
}

fn parse(head: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()?;
    let fields: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let field = |name: &str| {
        (fields.iter())
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    };
    let is_ack = field("BITS-Packet-Type") == Some("Ack");
    if status != 100 && is_ack && field("Content-Length") != Some("0") {
        return None;
    }
    // A refusal says why, and nothing else does: an Ack in a field, what is none in its body.
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let is_said = field("Bitsd-Reason").is_some() || (!is_ack && body.ends_with('\n'));
    if status != 100 && (status >= 400) != is_said {
        return None;
    }
    Some(Reply {
        status,
        session: field("BITS-Session-Id").and_then(|id| SessionId::parse(id.as_bytes())),
        received: field("BITS-Received-Content-Range").and_then(|text| text.parse().ok()),
        error: field("BITS-Error-Code").map(str::to_owned),
        reply_url: field("BITS-Reply-URL").map(str::to_owned),
        digest: field("Repr-Digest").map(str::to_owned),
        is_throttled: text.contains("too many wrong passwords"),
        is_of_application: field("BITS-Error-Context") == Some("0x7"),
        is_last: field("Connection") == Some("close"),
    })
}

/// The head of a packet without a body.
pub fn packet(kind: &str, path: &str, session: Option<SessionId>) -> String {
    let id = session.map_or_else(String::new, |id| format!("BITS-Session-Id: {id}\r\n"));
    let protocols = if kind == "Create-Session" {
        format!("BITS-Supported-Protocols: {PROTOCOL}\r\n")
    } else {
        String::new()
    };
    format!(
        "BITS_POST /{path} HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: {kind}\r\n{id}{protocols}Content-Length: 0\r\n\r\n"
    )
}

/// The head of a fragment.
pub struct FragmentHead<'a> {
    /// Destination.
    pub path: &'a str,
    /// Session.
    pub session: SessionId,
    /// What `Content-Range` says, without the unit; none at all if `None`.
    pub range: Option<String>,
    /// `Content-Length`; chunked if `None`.
    pub length: Option<u64>,
    /// `Expect: 100-continue`.
    pub expects: bool,
}

impl FragmentHead<'_> {
    /// As bytes.
    pub fn text(&self) -> String {
        let range = (self.range.as_ref()).map_or_else(String::new, |range| {
            format!("Content-Range: bytes {range}\r\n")
        });
        let framing = self.length.map_or_else(
            || "Transfer-Encoding: chunked\r\n".to_owned(),
            |length| format!("Content-Length: {length}\r\n"),
        );
        let expect = if self.expects {
            "Expect: 100-continue\r\n"
        } else {
            ""
        };
        format!(
            "BITS_POST /{} HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Fragment\r\nBITS-Session-Id: {}\r\n{range}{framing}{expect}\r\n",
            self.path, self.session
        )
    }
}
