//! TLS between the flow of a connection and what lies beneath ([`Carrier`]): what a wire does that
//! has a TLS session.
//!
//! Cipher bytes never stay in the kernel longer than needed, and never in a buffer of a connection
//! that waits: small reads use one scratch of the shard within one turn, and a whole-block receive
//! takes a cipher block for as long as it lasts, of which there are never more out than body
//! blocks.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, ServerConfig};

use super::alert;
use super::line::{Carrier, CipherPool, Received};
use super::pace::Pace;
use super::session::{
    CIPHER_KEPT_MAX, Digested, RECORD_BYTES_MAX, RECORD_PLAIN_BYTES_MAX, TlsSession, bytes_to_come,
};
use super::trouble::{self, Trouble};
use super::validity::Validity;
use crate::http::date;
use crate::server::crowd;
use crate::server::floor::{Fill, Security};
use crate::vault::disk::Block;
use crate::wall_clock;

/// Bytes that are received at a time, behind what was kept: small enough for the processor's cache,
/// in which they are decrypted.
const RECEIVE_BYTES_MAX: usize = 128 << 10;
/// Room for them and for what was kept; whole pages.
const CIPHER_BLOCK_BYTES: usize =
    (RECEIVE_BYTES_MAX + CIPHER_KEPT_MAX).next_multiple_of(PAGE_BYTES);
const PAGE_BYTES: usize = 4096;
/// Bytes of a block that is sent which are encrypted at a time.
const SEND_BYTES: usize = 4 * RECORD_PLAIN_BYTES_MAX;
/// The answer to whoever speaks plain HTTP here. A client of BITS shows the status, a browser the
/// sentence.
const SPEAK_TLS: &str = "this port speaks TLS: the URL must begin with https://";

/// What the connections of one shard have in common.
#[derive(Default)]
pub struct Kit {
    /// How many handshakes begin.
    pub pace: Pace,
    scratch: RefCell<Vec<u8>>,
    ciphers: CipherPool,
}

/// TLS of one connection.
pub struct Tls {
    /// `None` where the peer was refused and hears so without TLS, and after the connection was
    /// handed over.
    session: RefCell<Option<Box<TlsSession>>>,
    kit: Rc<Kit>,
    /// Something is being sent; nothing else may come in between.
    is_sending: Cell<bool>,
    /// Hands were shaken here, and not on another shard; and it was not told.
    is_fresh: Cell<bool>,
    /// At the other end is a proxy that hands TLS through, and many are behind it.
    is_of_many: bool,
}

impl Tls {
    /// For a connection that was just accepted.
    pub fn new(config: Arc<ServerConfig>, kit: Rc<Kit>) -> Option<Self> {
        // It fails only for settings that no server starts with.
        let session = TlsSession::new(config).ok()?;
        Some(Self::with(Box::new(session), kit))
    }

    /// For a connection that was handed over.
    pub fn with(session: Box<TlsSession>, kit: Rc<Kit>) -> Self {
        Self {
            session: RefCell::new(Some(session)),
            kit,
            is_sending: Cell::new(false),
            is_fresh: Cell::new(false),
            is_of_many: false,
        }
    }

    /// The same, for a client that gets in as long as these vouch for it.
    pub fn vouched_for_by(self, validity: Validity) -> Self {
        if let Some(session) = self.session.borrow_mut().as_mut() {
            session.vouched_for_by(validity);
        }
        self
    }

    /// The same, but whether at the other end is a proxy that is trusted.
    pub fn of_many(self, is_of_many: bool) -> Self {
        Self { is_of_many, ..self }
    }

    /// Whose handshake it is, by the address at the other end and the one that it announces.
    /// `None` where it may be anybody's behind a proxy.
    pub fn whose(&self, peer: SocketAddr, announced: Option<SocketAddr>) -> Option<IpAddr> {
        let peer = (!self.is_of_many).then_some(peer);
        announced.or(peer).map(crowd::client)
    }

    /// Whether what let the client in counts no more ([`TlsSession::is_distrusted`]).
    pub fn is_distrusted(&self) -> bool {
        (self.session.borrow().as_ref()).is_some_and(|session| session.is_distrusted())
    }

    /// Whether bytes go through TLS.
    pub fn is_on(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Takes the session out, for another shard.
    pub fn take(&self) -> Option<Box<TlsSession>> {
        self.session.take()
    }

    /// The certificate that the client has shown, proven.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        self.session.borrow().as_ref()?.certificate()
    }

    /// By what a ticket can be bound to the connection.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        self.session
            .borrow()
            .as_ref()?
            .end_point()
            .map(<[u8]>::to_vec)
    }

    /// Whether a reader need not wait for the socket ([`TlsSession::has_something`]).
    ///
    /// # Errors
    /// The session is elsewhere by now.
    pub fn has_something(&self) -> io::Result<bool> {
        self.with_session(|session| session.has_something())
    }

    /// Whether something came that was not read to its end.
    pub fn holds_bytes(&self) -> bool {
        (self.session.borrow().as_ref()).is_some_and(|session| session.holds_bytes())
    }

    /// What both sides have agreed on, where that was here, and was not told yet.
    pub fn take_security(&self) -> Option<Security> {
        let mut session = self.session.borrow_mut();
        let session = session.as_mut().filter(|_| self.is_fresh.get())?;
        let security = session.take_security()?;
        self.is_fresh.set(false);
        Some(security)
    }

    /// Something of the session, as long as there is one.
    fn with_session<T>(&self, act: impl FnOnce(&mut TlsSession) -> T) -> io::Result<T> {
        let mut session = self.session.borrow_mut();
        let session = session.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(act(session))
    }
}

/// What one look at the socket brought.
enum Came {
    /// Bytes of plaintext; 0 if there is no whole record yet.
    Bytes(usize),
    /// The end, by whatever means.
    End,
    /// There was nothing.
    Nothing,
}

/// Does the handshake. A peer that speaks plain HTTP gets an answer in plain HTTP. After an error,
/// what still arrives can be read without TLS, and thrown away. `client` is whose turn it takes,
/// by [`Tls::whose`].
pub async fn open<L: Carrier>(link: &L, tls: &Tls, client: Option<IpAddr>) -> io::Result<()> {
    let mut is_first = true;
    if tls.with_session(|session| session.is_handshaking())? {
        take_turn(link, tls, client).await?;
        tls.is_fresh.set(true);
    }
    while tls.with_session(|session| session.is_handshaking())? {
        let mut out = Vec::new();
        let came = receive_now(link, tls, &mut [], is_first, &mut out);
        if matches!(came, Ok(Came::Bytes(_))) {
            is_first = false;
        }
        match came {
            Err(error) => {
                send_now(link, &out);
                tls.take();
                if is_plain_http(&error) {
                    let _heard = link.send_all(answer_in_plain()).await;
                }
                return Err(error);
            }
            Ok(Came::End) if is_first => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Came::End) => return Err(Trouble::LeftEarly.into()),
            Ok(Came::Bytes(_) | Came::Nothing) => {}
        }
        if !out.is_empty() {
            send_all(link, tls, out).await?;
            continue;
        }
        if tls.with_session(|session| session.is_handshaking())? {
            link.readable().await?;
        }
    }
    Ok(())
}

/// Waits until a client begins, and then for its turn.
async fn take_turn(link: &impl Carrier, tls: &Tls, client: Option<IpAddr>) -> io::Result<()> {
    link.readable().await?;
    let first = link.peek_now();
    if first.is_none_or(|first| trouble::of_first_bytes(&[first]).is_some()) {
        // It is gone, or no TLS: that costs nothing.
        return Ok(());
    }
    let now_us = u64::try_from(link.now().as_micros()).unwrap_or(u64::MAX);
    let turn = (tls.kit.pace.turn(client, now_us)).map_err(Trouble::TooMany)?;
    if turn.wait_us > 0 {
        link.pause(Duration::from_micros(turn.wait_us)).await;
    }
    Ok(())
}

fn answer_in_plain() -> Vec<u8> {
    let date = date::format(wall_clock::since_1970().as_secs());
    format!(
        "HTTP/1.1 400 Bad Request\r\nDate: {date}\r\nContent-Type: text/plain\r\nBitsd-Reason: {SPEAK_TLS}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{SPEAK_TLS}\n",
        SPEAK_TLS.len() + 1
    )
    .into_bytes()
}

fn is_plain_http(error: &io::Error) -> bool {
    matches!(Trouble::of(error), Some(Trouble::PlainHttp))
}

/// Reads what is there, or waits for it.
pub async fn read<L: Carrier, B: Block>(
    link: &L,
    tls: &Tls,
    mut block: B,
    range: Range<usize>,
) -> (io::Result<usize>, B) {
    loop {
        let memory = &mut block.bytes_mut()[range.clone()];
        let mut out = Vec::new();
        match receive_now(link, tls, memory, false, &mut out) {
            Ok(Came::Bytes(bytes @ 1..)) => {
                return match send_all(link, tls, out).await {
                    Ok(()) => (Ok(bytes), block),
                    Err(error) => (Err(error), block),
                };
            }
            Ok(Came::End) => return (Ok(0), block),
            Ok(Came::Bytes(0) | Came::Nothing) => {}
            Err(error) => {
                send_now(link, &out);
                return (Err(error), block);
            }
        }
        if let Err(error) = send_all(link, tls, out).await {
            return (Err(error), block);
        }
        // After empty records too: whoever sends only those gets no more turns than others.
        if let Err(error) = link.readable().await {
            return (Err(error), block);
        }
    }
}

/// One look at the socket, and all that came of it; never waits.
fn receive_now(
    link: &impl Carrier,
    tls: &Tls,
    memory: &mut [u8],
    is_first: bool,
    out: &mut Vec<u8>,
) -> io::Result<Came> {
    let received = tls.with_session(|session| {
        let read = session.read(memory);
        if read > 0 {
            return Ok(Came::Bytes(read));
        }
        if session.has_ended() {
            return Ok(Came::End);
        }
        let mut scratch = tls.kit.scratch.borrow_mut();
        scratch.resize(CIPHER_BLOCK_BYTES, 0);
        let kept = session.lend(&mut scratch);
        // No more than the reader takes, or a record: what is read ahead would have to be kept.
        let bytes = memory.len().clamp(RECORD_BYTES_MAX, RECEIVE_BYTES_MAX);
        let room = &mut scratch[kept..kept + bytes];
        let Some(came) = link.receive_now(room)? else {
            session.keep(&scratch[..kept])?;
            return Ok(Came::Nothing);
        };
        if came == 0 {
            session.keep(&scratch[..kept])?;
            return Ok(Came::End);
        }
        if is_first && let Some(trouble) = trouble::of_first_bytes(&scratch[..came]) {
            // "terminate the connection with an "unexpected_message" alert" (RFC 8446 5).
            if matches!(trouble, Trouble::NotTls) && scratch[0] != alert::CONTENT_TYPE {
                let unexpected = alert::record(AlertDescription::UnexpectedMessage);
                out.extend_from_slice(&unexpected);
            }
            return Err(trouble.into());
        }
        let cipher = &mut scratch[..kept + came];
        let Digested { consumed, read } = session.digest(cipher, memory, out)?;
        session.keep(&cipher[consumed..])?;
        Ok(match session.has_ended() && read == 0 {
            true if !session.has_plain() => Came::End,
            _ => Came::Bytes(read),
        })
    });
    received?
}

/// Fills memory, by receives of as much as is certain to come.
pub async fn fill<L: Carrier, B: Block>(
    link: &L,
    tls: &Tls,
    mut block: B,
    range: Range<usize>,
) -> (io::Result<Fill>, B) {
    let begun = tls.with_session(|session| {
        let at = range.start + session.read(&mut block.bytes_mut()[range.clone()]);
        (at, session.has_ended())
    });
    let (at, has_ended) = match begun {
        Ok(begun) => begun,
        Err(error) => return (Err(error), block),
    };
    if at == range.end {
        return (Ok(Fill::Bytes(range.len())), block);
    }
    let filled = match has_ended {
        true => Ok((at, Fill::End)),
        false => fill_on(link, tls, &mut block, at..range.end).await,
    };
    let fill = filled.map(|(at, fill)| match at - range.start {
        0 => fill,
        bytes => Fill::Bytes(bytes),
    });
    (fill, block)
}

/// Goes on at `range.start`. Gives how far it came, and why no further; the reason is to be told
/// only where it came nowhere.
async fn fill_on<L: Carrier, B: Block>(
    link: &L,
    tls: &Tls,
    block: &mut B,
    range: Range<usize>,
) -> io::Result<(usize, Fill)> {
    let mut at = range.start;
    let mut cipher = link.cipher_block(&tls.kit.ciphers, CIPHER_BLOCK_BYTES);
    let mut kept = tls.with_session(|session| session.lend(cipher.bytes_mut()))?;
    let mut end = None;
    while at < range.end && end.is_none() {
        let bytes = bytes_to_come(&cipher.bytes()[..kept], range.end - at);
        let bytes = bytes.min(RECEIVE_BYTES_MAX);
        let receive = kept..kept + bytes;
        let (result, back) = link.receive_all(cipher, receive).await;
        cipher = back;
        let came = match result? {
            Received::Bytes(came) => came,
            Received::Slow => {
                end = Some(Fill::Slow);
                break;
            }
        };
        // Fewer than asked for: it was hurried, or the peer has ended, which the next receive will
        // find out.
        end = match came {
            0 => Some(Fill::End),
            _ if came < bytes => Some(Fill::Slow),
            _ => None,
        };
        let mut out = Vec::new();
        let memory = &mut block.bytes_mut()[at..range.end];
        let all = &mut cipher.bytes_mut()[..kept + came];
        let digested = tls.with_session(|session| session.digest(all, memory, &mut out))?;
        let Digested { consumed, read } = match digested {
            Ok(digested) => digested,
            Err(trouble) => {
                send_now(link, &out);
                return Err(trouble.into());
            }
        };
        at += read;
        let all = kept + came;
        cipher.bytes_mut().copy_within(consumed..all, 0);
        kept = all - consumed;
        // At the most a record begun, or a message of the handshake that nobody needs.
        if kept > CIPHER_KEPT_MAX {
            return Err(Trouble::Oversized.into());
        }
        if tls.with_session(|session| session.has_ended())? {
            end = Some(Fill::End);
        }
        send_all(link, tls, out).await?;
    }
    tls.with_session(|session| session.keep(&cipher.bytes()[..kept]))??;
    Ok((at, end.unwrap_or(Fill::Slow)))
}

/// Encrypts and sends.
pub async fn send<L: Carrier>(link: &L, tls: &Tls, bytes: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    let sealed = tls.with_session(|session| session.seal(bytes, &mut out))?;
    match sealed {
        Ok(()) => send_all(link, tls, out).await,
        Err(trouble) => {
            send_now(link, &out);
            Err(trouble.into())
        }
    }
}

/// Encrypts and sends a part of a block, piece by piece.
pub async fn send_block<L: Carrier, B: Block>(
    link: &L,
    tls: &Tls,
    block: &B,
    range: Range<usize>,
) -> io::Result<()> {
    for piece in block.bytes()[range].chunks(SEND_BYTES) {
        send(link, tls, piece).await?;
    }
    Ok(())
}

/// Says that nothing more is sent, unless something is on its way just now.
pub fn close(link: &impl Carrier, tls: &Tls) {
    if tls.is_sending.get() {
        return;
    }
    let mut out = Vec::new();
    if tls.with_session(|session| session.close(&mut out)).is_ok() {
        send_now(link, &out);
    }
}

async fn send_all(link: &impl Carrier, tls: &Tls, bytes: Vec<u8>) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    tls.is_sending.set(true);
    let result = link.send_all(bytes).await;
    // Half of it was sent: nothing can follow.
    tls.is_sending.set(result.is_err());
    result
}

/// Sends last words. What is not taken at once is dropped.
fn send_now(link: &impl Carrier, bytes: &[u8]) {
    if !bytes.is_empty() {
        link.send_now(bytes);
    }
}
