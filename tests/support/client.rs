//! A BITS client for tests that reads like the protocol: `client.send(fragment(0..100).of(300))`.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;

use super::content::content;
use super::raw::{Raw, Response};
use super::server::Server;

/// The protocol's GUID.
pub const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";
/// Error code for an unknown session.
pub const SESSION_NOT_FOUND: &str = "0x8020001F";
/// Error code for a malformed packet.
pub const E_INVALIDARG: &str = "0x80070057";
/// Error code for what may not be done.
pub const E_ACCESSDENIED: &str = "0x80070005";
/// Error code for a file over the limit.
pub const BG_E_TOO_LARGE: &str = "0x80200020";
/// Error code for a full disk.
pub const DISK_FULL: &str = "0x80070070";

/// Uploads a file of so many bytes, in one fragment.
#[track_caller]
pub fn upload(server: &Server, path: &str, bytes: u64) {
    let mut client = Client::create(server.address(), path);
    client.send(fragment(0..bytes)).assert(200, None);
    client.close().assert(200, None);
}

/// The line by which a user shows a password.
pub fn basic(user: &str, password: &str) -> String {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {encoded}\r\n")
}

/// A client with one connection and at most one session.
pub struct Client {
    address: SocketAddr,
    /// The connection.
    pub raw: Raw,
    /// Whom it trusts, where it speaks TLS.
    trust: Option<Arc<ClientConfig>>,
    path: String,
    session: Option<String>,
    /// What it says in Host.
    pub host: String,
    /// Whole lines that stand in the head of each packet.
    pub lines: String,
    /// Which file it sends; see [`content`].
    pub seed: u64,
}

/// A fragment to be sent.
#[derive(Clone, Debug)]
pub struct Fragment {
    range: Range<u64>,
    total: u64,
    extra: String,
    is_chunked: bool,
}

/// Bytes `range` of a file; say of how many with [`Fragment::of`].
pub fn fragment(range: Range<u64>) -> Fragment {
    Fragment {
        total: range.end,
        range,
        extra: String::new(),
        is_chunked: false,
    }
}

impl Fragment {
    /// Of a file of so many bytes.
    pub fn of(mut self, total: u64) -> Self {
        self.total = total;
        self
    }

    /// Its body comes in chunks.
    pub fn in_chunks(mut self) -> Self {
        self.is_chunked = true;
        self
    }

    /// With further header lines (each ending in CR LF).
    pub fn with(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self
    }
}

#[track_caller]
fn connect(address: SocketAddr, trust: Option<&Arc<ClientConfig>>) -> Raw {
    match trust {
        None => Raw::connect(address),
        Some(trust) => Raw::secure(address, trust),
    }
}

/// As a body in chunks of up to 64 KiB.
fn in_chunks(content: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in content.chunks(64 << 10) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

impl Client {
    /// Connects; nothing is sent yet.
    #[track_caller]
    pub fn new(address: SocketAddr, path: &str) -> Self {
        Self::over(address, path, None)
    }

    /// Connects by TLS, if it trusts somebody; nothing is sent yet.
    #[track_caller]
    pub fn over(address: SocketAddr, path: &str, trust: Option<&Arc<ClientConfig>>) -> Self {
        let trust = trust.cloned();
        Self {
            address,
            raw: connect(address, trust.as_ref()),
            trust,
            path: path.to_owned(),
            session: None,
            host: "localhost".to_owned(),
            lines: String::new(),
            seed: 1,
        }
    }

    /// Connects and creates a session.
    #[track_caller]
    pub fn create(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::new(address, path);
        let response = client.try_create();
        response.assert(200, None);
        client
    }

    /// Sends a Create-Session and remembers the session if there is one.
    #[track_caller]
    pub fn try_create(&mut self) -> Response {
        let fields = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
        let response = self.packet("Create-Session", &fields);
        self.session = response.field("BITS-Session-Id").map(str::to_owned);
        response
    }

    /// What it does from now on is about another file; the connection stays.
    pub fn call_file(&mut self, path: &str) {
        self.path = path.to_owned();
    }

    /// The session id as the server wrote it.
    #[track_caller]
    pub fn session(&self) -> &str {
        self.session.as_deref().expect("a session was created")
    }

    /// Goes on with a session that another client created.
    pub fn adopt(&mut self, session: &str) -> &mut Self {
        self.session = Some(session.to_owned());
        self
    }

    /// Sends file content of another seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The shard that owns the session among `shards`.
    pub fn shard(&self, shards: u8) -> u8 {
        u8::from_str_radix(&self.session()[1..3], 16).unwrap() % shards
    }

    /// Drops the connection and makes a new one.
    #[track_caller]
    pub fn reconnect(&mut self) -> &mut Self {
        self.raw = connect(self.address, self.trust.as_ref());
        self
    }

    /// Drops the connection and makes a new one to another address (a restarted server).
    #[track_caller]
    pub fn reconnect_to(&mut self, address: SocketAddr) -> &mut Self {
        self.address = address;
        self.reconnect()
    }

    /// Sends a packet without a body and reads the answer; `fields` are whole lines.
    #[track_caller]
    pub fn packet(&mut self, kind: &str, fields: &str) -> Response {
        let text = self.packet_head(kind, fields);
        self.raw.send(text);
        self.raw.receive()
    }

    fn packet_head(&self, kind: &str, fields: &str) -> String {
        let (path, host, lines) = (&self.path, &self.host, &self.lines);
        format!(
            "BITS_POST {path} HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: {kind}\r\n{fields}\
             User-Agent: Microsoft BITS/7.8\r\nHost: {host}\r\n{lines}Content-Length: 0\r\n\
             Connection: Keep-Alive\r\n\r\n"
        )
    }

    /// Ping.
    #[track_caller]
    pub fn ping(&mut self) -> Response {
        self.packet("Ping", "")
    }

    /// Sends a fragment and reads the answer.
    #[track_caller]
    pub fn send(&mut self, fragment: Fragment) -> Response {
        let range = fragment.range.clone();
        self.send_head(&fragment);
        self.raw.send(content(self.seed, range.start, range.end));
        self.raw.receive()
    }

    /// Sends a fragment that is one piece again and again, and reads the answer. Bytes that nobody
    /// has to make leave the processors to the server.
    #[track_caller]
    pub fn send_repeated(&mut self, fragment: &Fragment, piece: &[u8]) -> Response {
        self.send_head(fragment);
        let Range { start, end } = fragment.range;
        let mut left = usize::try_from(end - start).unwrap();
        while left > 0 {
            let bytes = left.min(piece.len());
            self.raw.send(&piece[..bytes]);
            left -= bytes;
        }
        self.raw.receive()
    }

    /// Sends a fragment; `None` if the connection ended before the answer.
    pub fn try_send(&mut self, fragment: &Fragment) -> Option<Response> {
        let Range { start, end } = fragment.range;
        let head = self.head(fragment);
        self.raw.try_send(head).ok()?;
        let content = content(self.seed, start, end);
        let body = match fragment.is_chunked {
            true => in_chunks(&content),
            false => content,
        };
        self.raw.try_send(body).ok()?;
        self.raw.try_receive().ok()?
    }

    /// Close-Session; `None` if the connection ended before the answer.
    pub fn try_close(&mut self) -> Option<Response> {
        let fields = format!("BITS-Session-Id: {}\r\n", self.session());
        let text = self.packet_head("Close-Session", &fields);
        self.raw.try_send(text).ok()?;
        self.raw.try_receive().ok()?
    }

    /// Sends the head of a fragment and the first `bytes` of its body, and reads nothing.
    #[track_caller]
    pub fn send_part(&mut self, fragment: &Fragment, bytes: u64) {
        self.send_head(fragment);
        let start = fragment.range.start;
        self.raw.send(content(self.seed, start, start + bytes));
    }

    /// The same, as long as the server takes it.
    pub fn try_send_part(&mut self, fragment: &Fragment, bytes: u64) {
        let start = fragment.range.start;
        let mut text = self.head(fragment).into_bytes();
        text.extend(content(self.seed, start, start + bytes));
        let _is_taken = self.raw.try_send(text);
    }

    /// Sends the head of a fragment only.
    #[track_caller]
    pub fn send_head(&mut self, fragment: &Fragment) {
        let text = self.head(fragment);
        self.raw.send(text);
    }

    fn head(&self, fragment: &Fragment) -> String {
        let Fragment {
            range,
            total,
            extra,
            is_chunked,
        } = fragment;
        let (first, last, len) = (range.start, range.end - 1, range.end - range.start);
        let (path, session, host) = (&self.path, self.session(), &self.host);
        let lines = &self.lines;
        let framing = match is_chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {len}"),
        };
        format!(
            "BITS_POST {path} HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Fragment\r\n\
             BITS-Session-Id: {session}\r\nContent-Range: bytes {first}-{last}/{total}\r\n{extra}\
             Host: {host}\r\n{lines}{framing}\r\nConnection: Keep-Alive\r\n\r\n"
        )
    }

    /// Sends all bytes from `offset` on, in fragments of `step` bytes, going on from where each Ack
    /// says.
    #[track_caller]
    pub fn send_rest(&mut self, offset: u64, total: u64, step: u64) {
        let mut offset = offset;
        while offset < total {
            let end = total.min(offset + step);
            let response = self.send(fragment(offset..end).of(total));
            response.assert(200, None);
            offset = response.received();
        }
    }

    /// GET of a URL of this server, with further header lines.
    #[track_caller]
    pub fn get(&mut self, url: &str, fields: &str) -> Response {
        let target = url.splitn(4, '/').nth(3).unwrap_or_default();
        let text = format!("GET /{target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        self.raw.send(text);
        self.raw.receive()
    }

    /// Close-Session.
    #[track_caller]
    pub fn close(&mut self) -> Response {
        let fields = format!("BITS-Session-Id: {}\r\n", self.session());
        self.packet("Close-Session", &fields)
    }

    /// Cancel-Session.
    #[track_caller]
    pub fn cancel(&mut self) -> Response {
        let fields = format!("BITS-Session-Id: {}\r\n", self.session());
        self.packet("Cancel-Session", &fields)
    }
}
