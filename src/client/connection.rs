//! One HTTP/1.1 connection of the client: a packet out, a reply in.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::authorization::{Authorization, NotShowable};
use super::digest::{self, Sent};
use super::head::is_offered;
use super::secure::{NotSecure, Secure, Stream};
use super::upload::Reply;
use super::url::Url;
use crate::unseen;

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to one address.
    pub connect: Duration,
    /// For the server to take bytes.
    pub send: Duration,
    /// For the server to answer; it may be syncing a large file.
    pub reply: Duration,
    /// For the server to answer, before somebody is told that it does not.
    pub silence: Duration,
}

impl Default for Timeouts {
    /// 2 and 5 minutes are those of the Windows client (MC-BUP 3.1.2).
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            send: Duration::from_secs(120),
            reply: Duration::from_secs(300),
            silence: Duration::from_secs(10),
        }
    }
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Broken {
    /// The host's name could not be looked up.
    LookUp(io::Error),
    /// No address took the connection.
    Connect(io::Error),
    /// The server took no more bytes.
    Send(io::Error),
    /// The reply could not be read.
    Receive(io::Error),
    /// The server closed the connection without a whole reply.
    Closed,
    /// What answered does not speak HTTP/1.
    NotHttp(httparse::Error),
    /// The head of the reply is larger than any server's.
    HeadTooLarge,
    /// No secure connection comes about, however often it is tried.
    NotSecure(NotSecure),
    /// Nothing may be shown there of who sends.
    NotShown(NotShowable),
    /// The file could not be read; the connection is not to blame.
    File(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookUp(error) => write!(f, "the host was not found: {error}"),
            Self::Connect(error) => write!(f, "cannot connect: {}", in_words(error)),
            Self::Send(error) => {
                write!(f, "the connection broke while sending: {}", in_words(error))
            }
            Self::Receive(error) => {
                write!(
                    f,
                    "the connection broke while waiting for the answer: {}",
                    in_words(error)
                )
            }
            Self::Closed => f.write_str("the server closed the connection without an answer"),
            Self::NotHttp(error) => write!(f, "what answers there does not speak HTTP: {error}"),
            Self::HeadTooLarge => {
                write!(
                    f,
                    "the head of the answer is longer than {REPLY_HEAD_BYTES_MAX} bytes"
                )
            }
            Self::NotSecure(why) => why.fmt(f),
            Self::NotShown(why) => why.fmt(f),
            Self::File(error) => write!(f, "cannot read the file: {error}"),
        }
    }
}

impl std::error::Error for Broken {}

/// A socket time-out shows as "would block", which tells a user nothing.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    timeouts: Timeouts,
    /// Bytes read and not yet understood; at most one head.
    inbox: Vec<u8>,
    is_reusable: bool,
}

/// How an exchange comes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// The body is sent up to here in the file.
    Sent(u64),
    /// All is sent, and there has been no answer for so long.
    Silent(Duration),
}

/// The wait for one answer. It has an end also where bytes trickle in, or one interim answer after
/// another.
struct Awaited<'h> {
    since: Instant,
    timeouts: Timeouts,
    is_told: bool,
    hear: &'h mut dyn FnMut(Along),
}

impl<'h> Awaited<'h> {
    fn new(timeouts: Timeouts, hear: &'h mut dyn FnMut(Along)) -> Self {
        Self {
            since: Instant::now(),
            timeouts,
            is_told: false,
            hear,
        }
    }

    /// How long the next read may take: until there is something to tell, or the wait is over.
    fn next(&mut self) -> io::Result<Duration> {
        let Timeouts { reply, silence, .. } = self.timeouts;
        let waited = self.since.elapsed();
        if waited >= reply {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !self.is_told && waited >= silence {
            self.is_told = true;
            (self.hear)(Along::Silent(waited));
        }
        Ok(match self.is_told {
            true => reply - waited,
            false => reply.min(silence) - waited,
        })
    }
}

/// Bytes of a file to send as a body.
#[derive(Debug)]
pub struct Body<'f> {
    /// The file.
    pub file: &'f File,
    /// Which bytes.
    pub range: Range<u64>,
    /// Sees them go.
    pub sent: &'f RefCell<Sent>,
}

impl Connection {
    /// Connects to the first address of the host that answers.
    ///
    /// # Errors
    /// [`Broken::LookUp`], [`Broken::Connect`] or [`Broken::NotSecure`].
    pub fn open(url: &Url, timeouts: Timeouts, secure: Option<&Secure>) -> Result<Self, Broken> {
        let addresses = (url.host(), url.port())
            .to_socket_addrs()
            .map_err(Broken::LookUp)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeouts.connect) {
                Ok(stream) => {
                    let made = Self::configure(stream, url.host(), timeouts, secure);
                    return made.map_err(|error| or_not_secure(error, Broken::Connect));
                }
                Err(error) => last = error,
            }
        }
        Err(Broken::Connect(last))
    }

    fn configure(
        stream: TcpStream,
        host: &str,
        timeouts: Timeouts,
        secure: Option<&Secure>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(timeouts.send))?;
        stream.set_read_timeout(Some(timeouts.reply))?;
        let stream = Stream::open(stream, host, secure)?;
        Ok(Self {
            stream,
            timeouts,
            inbox: Vec::new(),
            is_reusable: true,
        })
    }

    /// Whether this may be shown to whoever is at the other end: asked before each packet.
    ///
    /// # Errors
    /// [`Broken::NotShown`]
    pub fn may_show(&self, shown: Option<&Authorization>) -> Result<(), Broken> {
        let Some(shown) = shown else { return Ok(()) };
        let peer = self.stream.socket().peer_addr().ok().map(|peer| peer.ip());
        let is_secure = matches!(self.stream, Stream::Secure(_));
        (shown.check_peer(is_secure, peer)).map_err(Broken::NotShown)
    }

    /// How long to wait for what from now on.
    pub fn wait_by(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// Whether another packet may follow.
    pub fn is_reusable(&self) -> bool {
        self.is_reusable
    }

    /// Sends a packet and awaits its reply.
    ///
    /// # Errors
    /// [`Broken`]; the connection is of no use afterwards.
    pub fn exchange(
        &mut self,
        head: String,
        body: Option<&Body<'_>>,
        hear: &mut dyn FnMut(Along),
    ) -> Result<Reply, Broken> {
        match self.send(head.into_bytes(), body, hear)? {
            Some(early) => {
                // The rest of the body was not sent, so nothing can follow it.
                self.is_reusable = false;
                Ok(early)
            }
            None => self.final_reply(&mut Awaited::new(self.timeouts, hear)),
        }
    }

    /// Sends head and body. A server that refuses answers before it has the whole body, and may
    /// close at once: such an early reply ends the sending.
    fn send(
        &mut self,
        mut buffer: Vec<u8>,
        body: Option<&Body<'_>>,
        hear: &mut dyn FnMut(Along),
    ) -> Result<Option<Reply>, Broken> {
        let range = body.map_or(0..0, |body| body.range.clone());
        let mut offset = range.start;
        loop {
            if let Some(body) = body {
                let head_bytes = buffer.len();
                let filled = fill(&mut buffer, body.file, offset..range.end);
                let filled = filled.map_err(Broken::File)?;
                body.sent.borrow_mut().see(offset, &buffer[head_bytes..]);
                offset += filled;
            }
            let written = self.stream.write_all(&buffer);
            if let Err(error) = written.and_then(|()| self.stream.flush()) {
                let broken = or_not_secure(error, Broken::Send);
                return self.last_words(hear).map(Some).ok_or(broken);
            }
            buffer.clear();
            hear(Along::Sent(offset));
            if offset == range.end {
                return Ok(None);
            }
            if self.stream.has_something_to_read()
                && let Some(reply) = self.next_reply(&mut Awaited::new(self.timeouts, hear))?
            {
                return Ok(Some(reply));
            }
        }
    }

    /// What the server said before it stopped taking bytes.
    fn last_words(&mut self, hear: &mut dyn FnMut(Along)) -> Option<Reply> {
        let timeouts = Timeouts {
            reply: self.timeouts.reply.min(LAST_WORDS_WAIT),
            ..self.timeouts
        };
        self.final_reply(&mut Awaited::new(timeouts, hear)).ok()
    }

    fn final_reply(&mut self, wait: &mut Awaited<'_>) -> Result<Reply, Broken> {
        loop {
            if let Some(reply) = self.next_reply(wait)? {
                return Ok(reply);
            }
        }
    }

    /// The next reply; `None` for an interim one (1xx).
    fn next_reply(&mut self, wait: &mut Awaited<'_>) -> Result<Option<Reply>, Broken> {
        let head = loop {
            if let Some(head) = parse_head(&self.inbox)? {
                break head;
            }
            if self.inbox.len() >= REPLY_HEAD_BYTES_MAX {
                return Err(Broken::HeadTooLarge);
            }
            let read = self.read_more(wait);
            if read.map_err(|error| or_not_secure(error, Broken::Receive))? == 0 {
                return Err(Broken::Closed);
            }
        };
        self.inbox.drain(..head.head_bytes);
        if (100..200).contains(&head.reply.status) {
            return Ok(None);
        }
        self.is_reusable &= head.keeps_alive;
        self.drop_body(head.body_bytes, wait);
        Ok(Some(head.reply))
    }

    /// Reads the body of a reply (a proxy's error page) out of the way, or gives the connection up.
    fn drop_body(&mut self, body_bytes: Option<u64>, wait: &mut Awaited<'_>) {
        let Some(mut left) = body_bytes.filter(|bytes| *bytes <= REPLY_BODY_BYTES_MAX) else {
            self.is_reusable = false;
            return;
        };
        while self.is_reusable && left > 0 {
            if self.inbox.is_empty() && !self.read_more(wait).is_ok_and(|read| read > 0) {
                self.is_reusable = false;
            }
            let here =
                usize::try_from(left).map_or(self.inbox.len(), |left| left.min(self.inbox.len()));
            self.inbox.drain(..here);
            left -= here as u64;
        }
        // Nobody asked for more than one reply.
        self.is_reusable &= self.inbox.is_empty();
    }

    fn read_more(&mut self, wait: &mut Awaited<'_>) -> io::Result<usize> {
        let held = self.inbox.len();
        self.inbox.resize(REPLY_HEAD_BYTES_MAX, 0);
        let read = read_within(&mut self.stream, &mut self.inbox[held..], wait);
        self.inbox
            .truncate(held + read.as_ref().map_or(0, |read| *read));
        read
    }
}

fn read_within(
    stream: &mut Stream,
    memory: &mut [u8],
    wait: &mut Awaited<'_>,
) -> io::Result<usize> {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    loop {
        stream.socket().set_read_timeout(Some(wait.next()?))?;
        match stream.read(memory) {
            // Whether it was the last one, the wait knows.
            Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => {}
            read => return read,
        }
    }
}

/// What no retry mends is told as such.
pub(crate) fn or_not_secure(error: io::Error, otherwise: fn(io::Error) -> Broken) -> Broken {
    NotSecure::of(&error).map_or_else(|| otherwise(error), Broken::NotSecure)
}

/// Appends bytes of the file until the buffer is full or the range ends; returns how many.
fn fill(buffer: &mut Vec<u8>, file: &File, range: Range<u64>) -> io::Result<u64> {
    let held = buffer.len();
    let room = SEND_BYTES.saturating_sub(held) as u64;
    let bytes = room.min(range.end - range.start);
    buffer.resize(held + usize::try_from(bytes).unwrap_or(0), 0);
    file.read_exact_at(&mut buffer[held..], range.start)?;
    Ok(bytes)
}

/// The head of a reply.
pub(crate) struct ReplyHead {
    /// What it says to us.
    pub(crate) reply: Reply,
    /// How long it is.
    pub(crate) head_bytes: usize,
    /// Whether another request may follow.
    pub(crate) keeps_alive: bool,
    /// `None`: until the connection closes, or chunked.
    pub(crate) body_bytes: Option<u64>,
}

/// `None` while the head is not complete.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<ReplyHead>, Broken> {
    let mut fields = [httparse::EMPTY_HEADER; REPLY_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head_bytes = match response.parse(bytes).map_err(Broken::NotHttp)? {
        httparse::Status::Complete(head_bytes) => head_bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let field = |name: &str| {
        response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .and_then(|field| std::str::from_utf8(field.value).ok())
            .map(str::trim)
    };
    let status = response.code.unwrap_or(0);
    let keeps_alive = response.version == Some(1)
        && !field("Connection").is_some_and(|value| {
            value
                .split(',')
                .any(|option| option.trim().eq_ignore_ascii_case("close"))
        });
    let body_bytes = match (status, field("Transfer-Encoding"), field("Content-Length")) {
        (204 | 304, _, _) => Some(0),
        (_, None, Some(length)) => length.parse().ok(),
        _ => None,
    };
    let reply = Reply {
        status,
        session: field("BITS-Session-Id")
            .filter(|id| !id.is_empty())
            .map(str::to_owned),
        received: field("BITS-Received-Content-Range").and_then(parse_offset),
        hresult: field("BITS-Error-Code")
            .and_then(parse_hresult)
            .or_else(|| field("BITS-Error").and_then(parse_hresult)),
        is_bits: field("BITS-Packet-Type").is_some(),
        is_other_protocol: field("BITS-Protocol").is_some_and(|told| !is_offered(told)),
        server: field("Server").map(str::to_owned),
        location: field("Location").map(str::to_owned),
        reason: field("Bitsd-Reason").and_then(printable),
        node: field("BITS-Host-Id")
            .filter(|node| !node.is_empty())
            .map(str::to_owned),
        node_fallback: field("BITS-Host-Id-Fallback-Timeout")
            .and_then(parse_offset)
            .map(Duration::from_secs),
        digest: field("Repr-Digest").and_then(digest::parse),
    };
    Ok(Some(ReplyHead {
        reply,
        head_bytes,
        keeps_alive,
        body_bytes,
    }))
}

/// What a terminal may show of a sentence from outside.
fn printable(sentence: &str) -> Option<String> {
    let begin: String = sentence.chars().take(REASON_CHARS_MAX).collect();
    (!begin.is_empty()).then(|| unseen::replace(&begin, '?'))
}

fn parse_offset(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn parse_hresult(text: &str) -> Option<u32> {
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text);
    u32::from_str_radix(digits, 16).ok()
}

/// Bytes sent at once; the only part of a file that is ever in memory.
const SEND_BYTES: usize = 256 * 1024;
/// What the server takes for a request; no Ack is near it.
pub(crate) const REPLY_HEAD_BYTES_MAX: usize = 16 * 1024;
/// An error page of a proxy is smaller.
const REPLY_BODY_BYTES_MAX: u64 = 64 * 1024;
const REPLY_FIELDS_MAX: usize = 64;
/// A sentence of ours is shorter.
const REASON_CHARS_MAX: usize = 300;
/// After a send error the reply is there already or never comes.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> ReplyHead {
        let Ok(Some(head)) = parse_head(text.as_bytes()) else {
            panic!("{text:?}")
        };
        head
    }

    #[test]
    fn fields_are_read_in_any_case() {
        let ack = head(
            "HTTP/1.1 200 OK\r\nbits-session-id: {A}\r\nBits-Received-Content-Range: 213\r\ncontent-length: 0\r\n\r\n",
        );
        assert_eq!(ack.reply.session.as_deref(), Some("{A}"));
        assert_eq!(ack.reply.received, Some(213));
        assert_eq!((ack.keeps_alive, ack.body_bytes), (true, Some(0)));
    }

    #[test]
    fn either_error_field_is_read() {
        for name in ["BITS-Error", "BITS-Error-Code"] {
            let refusal = head(&format!("HTTP/1.1 500 X\r\n{name}: 0x8020001F\r\n\r\n"));
            assert_eq!(
                refusal.reply.hresult,
                Some(super::super::upload::SESSION_NOT_FOUND)
            );
        }
    }

    #[test]
    fn a_reason_is_one_line_that_a_terminal_may_show() {
        let reason = |value: &str| {
            let text = format!("HTTP/1.1 400 X\r\nBitsd-Reason: {value}\r\n\r\n");
            head(&text).reply.reason
        };
        assert_eq!(
            reason("no such\u{9b}31m session").unwrap(),
            "no such?31m session"
        );
        assert_eq!(reason(&"x".repeat(1_000)).unwrap().len(), REASON_CHARS_MAX);
        assert_eq!(reason(""), None);
        assert_eq!(head("HTTP/1.1 400 X\r\n\r\n").reply.reason, None);
    }

    #[test]
    fn an_offset_is_one_number() {
        for text in ["", "+1", "-1", "0-9/10", "none", "99999999999999999999"] {
            assert_eq!(parse_offset(text), None, "{text}");
        }
        assert_eq!(parse_offset("007"), Some(7));
    }

    #[test]
    fn a_connection_is_kept_only_where_the_reply_allows() {
        for text in [
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(!head(text).keeps_alive, "{text}");
        }
        assert_eq!(head("HTTP/1.1 200 OK\r\n\r\n").body_bytes, None);
        assert_eq!(head("HTTP/1.1 204 No\r\n\r\n").body_bytes, Some(0));
    }

    #[test]
    fn half_a_head_is_no_reply_and_garbage_is_not_http() {
        assert!(matches!(parse_head(b"HTTP/1.1 200 OK\r\nA: b"), Ok(None)));
        assert!(matches!(
            parse_head(b"SSH-2.0-x\r\n"),
            Err(Broken::NotHttp(_))
        ));
    }
}
