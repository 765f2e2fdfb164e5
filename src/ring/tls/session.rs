//! One TLS connection without its socket: what comes in, what goes out, and what has to be kept in
//! between.
//!
//! Little is kept, and all of it is bounded: cipher bytes that are no whole record yet
//! ([`CIPHER_KEPT_MAX`]), and of the last record what the reader had no room for.

use std::mem;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic};
use rustls::{
    AlertDescription, Error, HandshakeKind, PeerIncompatible, ProtocolVersion, ServerConfig,
};

use super::alert;
use super::hello;
use super::kept::{KeptBytes, PlainSink};
use super::served;
use super::trouble::Trouble;
use super::validity::Validity;
use crate::server::floor::Security;
use crate::wall_clock;

/// Bytes of plaintext in a record (RFC 8446 5.1).
pub const RECORD_PLAIN_BYTES_MAX: usize = 16_384;
/// What a record may have more than its plaintext, its header included (RFC 5246 6.2.3: up to 2,048
/// by any cipher).
const RECORD_EXTRA_BYTES_MAX: usize = 5 + 2_048;
/// The longest record.
pub const RECORD_BYTES_MAX: usize = RECORD_PLAIN_BYTES_MAX + RECORD_EXTRA_BYTES_MAX;
/// A handshake message may come in several records, and rustls takes none of more than 64 KiB. All
/// of it is kept until its end comes, and with it a record that has begun.
pub const CIPHER_KEPT_MAX: usize = (64 << 10) + 2 * RECORD_BYTES_MAX;
/// What the suites that rustls has add to a record that we send: header, nonce, tag, and the type
/// of its content.
const SEALING_BYTES: usize = 5 + 8 + 16 + 1;
/// Bytes of a record's header: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;

/// One connection.
pub struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Of the certificate that the client was shown.
    end_point: Option<Arc<[u8]>>,
    /// Its bytes of records are at most [`CIPHER_KEPT_MAX`].
    kept: KeptBytes,
    /// The kept bytes stand in memory that is being received into.
    is_lent: bool,
    /// The peer said that nothing more comes.
    has_ended: bool,
    /// Nothing more is sent: we said so, or it has failed.
    is_closed: bool,
    /// What came made no sense. rustls is not asked again: it would look at the same bytes once
    /// more.
    has_failed: bool,
    /// The name that the client asked for, until it is told.
    server_name: Option<Box<str>>,
    /// Of whoever vouches for the client.
    validity: Option<Validity>,
    /// When the certificates stop to count that have let the client in: seconds since 1970.
    trusted_until_s: u64,
}

/// What came of some cipher bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digested {
    /// This many of them are done with.
    pub consumed: usize,
    /// Bytes that the reader got.
    pub read: usize,
}

impl TlsSession {
    /// A connection on which nothing has arrived yet.
    ///
    /// # Errors
    /// rustls refuses the settings.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            end_point: None,
            kept: KeptBytes::default(),
            is_lent: false,
            has_ended: false,
            is_closed: false,
            has_failed: false,
            server_name: None,
            validity: None,
            trusted_until_s: u64::MAX,
        })
    }

    /// The client gets in as long as these vouch for it.
    pub fn vouched_for_by(&mut self, validity: Validity) {
        self.validity = Some(validity);
    }

    /// Whether what let the client in counts no more: others are trusted now, or a certificate has
    /// expired, or the list that says that it is not revoked.
    pub fn is_distrusted(&self) -> bool {
        self.validity.as_ref().is_some_and(|validity| {
            let has_expired = self.trusted_until_s != u64::MAX
                && self.trusted_until_s <= wall_clock::since_1970().as_secs();
            validity.has_ended() || has_expired
        })
    }

    /// Remembers how long the certificates count that the client has just proven.
    fn has_let_in(&mut self) {
        let shown = self.connection.peer_certificates();
        if let (Some(validity), Some(shown)) = (&self.validity, shown) {
            let now_s = wall_clock::since_1970().as_secs();
            self.trusted_until_s = validity.until_s(shown, now_s);
        }
    }

    /// Whether both sides have not agreed on keys yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The client's certificate, once the handshake is over, if one is asked for.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let own = self.connection.peer_certificates()?.first()?;
        (!self.is_handshaking()).then(|| own.to_vec())
    }

    /// By what a ticket can be bound to this connection, once hands were shaken.
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// What both sides have agreed on; `None` as long as they have not. The name is told once.
    pub fn take_security(&mut self) -> Option<Security> {
        let version = match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_3 => "1.3",
            _ => "1.2",
        };
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        Some(Security {
            version,
            suite: suite.as_str().unwrap_or_default(),
            server_name: self.server_name.take(),
            is_resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    /// Whether the peer said that nothing more comes. What was decrypted before is still to be
    /// read.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether a reader would get something, or hear of the end, without anything new from the
    /// socket.
    pub fn has_something(&self) -> bool {
        self.has_plain() || self.has_ended
    }

    /// Whether something is decrypted and was not read.
    pub fn has_plain(&self) -> bool {
        self.kept.has_plain()
    }

    /// Whether anything has come that was not read to its end.
    pub fn holds_bytes(&self) -> bool {
        self.has_something() || self.kept.has_cipher()
    }

    /// Gives decrypted bytes to a reader, and says how many.
    pub fn read(&mut self, memory: &mut [u8]) -> usize {
        self.kept.read_plain(memory)
    }

    /// Moves the kept cipher bytes to the front of `memory`; what is received goes behind them.
    pub fn lend(&mut self, memory: &mut [u8]) -> usize {
        let kept = self.kept.take_cipher();
        self.is_lent = true;
        memory[..kept.len()].copy_from_slice(&kept);
        kept.len()
    }

    /// Keeps cipher bytes that are no whole record yet.
    ///
    /// # Errors
    /// There are more than any record or message has.
    pub fn keep(&mut self, cipher: &[u8]) -> Result<(), Trouble> {
        self.is_lent = false;
        if cipher.len() > CIPHER_KEPT_MAX {
            self.fail();
            return Err(Trouble::Oversized);
        }
        if !cipher.is_empty() {
            self.kept.set_cipher(cipher.to_vec());
        }
        Ok(())
    }

    /// Works through cipher bytes that have arrived, the kept ones first ([`TlsSession::lend`]).
    /// Decrypted bytes go into `memory`. What is to be sent in return is appended to `out`, even
    /// after an error.
    ///
    /// # Errors
    /// What arrived is no TLS, or not what both sides agreed on. The connection cannot be
    /// used any more.
    pub fn digest(
        &mut self,
        cipher: &mut [u8],
        memory: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Digested, Trouble> {
        if self.has_failed {
            return Err(Trouble::Closed);
        }
        let is_first = self.end_point.is_none();
        let was_handshaking = self.is_handshaking();
        if is_first {
            // What a client that failed has left there.
            let _of_others = (served::take_shown(), served::take_asked());
        }
        let mut sink = PlainSink::new(memory);
        let mut consumed = 0;
        loop {
            let status = self.connection.process_tls_records(&mut cipher[consumed..]);
            let mut discard = status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(Trouble::from)?;
                        discard += record.discard;
                        sink.take(record.payload, &mut self.kept);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.has_ended = true;
                    // What follows has no meaning.
                    consumed = cipher.len();
                    break;
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    consumed += discard;
                    break;
                }
                // Early data is never offered, and there is no other state.
                Ok(_) => {
                    self.fail();
                    return Err(Trouble::Closed);
                }
                Err(error) => {
                    let seen = &mut cipher[consumed..];
                    return Err(match is_of_old_version(&error, seen) {
                        true => self.say_too_old(out),
                        false => {
                            self.say_why(&error, &mut seen[discard..], out);
                            Trouble::of_handshake(error, served::take_shown())
                        }
                    });
                }
            }
            consumed += discard;
        }
        if is_first {
            // A certificate is chosen as soon as the client has said hello; it may say so twice.
            self.end_point = served::take_shown().map(|(end_point, _)| end_point);
            self.server_name = served::take_asked();
        }
        if was_handshaking && !self.is_handshaking() {
            self.has_let_in();
        }
        Ok(Digested {
            consumed,
            read: sink.filled(),
        })
    }

    fn fail(&mut self) {
        self.is_closed = true;
        self.has_failed = true;
    }

    /// Says that the version is too old (RFC 5246 E.1), instead of what rustls would say.
    fn say_too_old(&mut self, out: &mut Vec<u8>) -> Trouble {
        self.fail();
        out.extend_from_slice(&alert::record(AlertDescription::ProtocolVersion));
        Trouble::from(Error::from(PeerIncompatible::Tls12NotOffered))
    }

    /// Says what was wrong, by the alert that rustls has prepared, or by ours where it has none.
    /// `cipher` is what it has not worked through yet: it may look there.
    fn say_why(&mut self, error: &Error, cipher: &mut [u8], out: &mut Vec<u8>) {
        self.fail();
        let before = out.len();
        // It is asked only until it has nothing to say, since it would look at the same bytes
        // again.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(cipher).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(_unread)) = traffic.next_record() {}
                }
                _ => break,
            }
        }
        if out.len() == before
            && self.speaks_in_the_clear()
            && let Some(description) = alert::of(error)
        {
            out.extend_from_slice(&alert::record(description));
        }
    }

    /// Whether what we send is not sealed yet: before a version is agreed on, and with TLS 1.2 in
    /// a handshake that resumes nothing, where our keys are used last (RFC 5246 7.3).
    fn speaks_in_the_clear(&self) -> bool {
        let is_resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        match self.connection.protocol_version() {
            None => true,
            Some(ProtocolVersion::TLSv1_2) => self.is_handshaking() && !is_resumed,
            Some(_) => false,
        }
    }

    /// Encrypts bytes, behind what else is to be sent.
    ///
    /// # Errors
    /// Nothing can be sent yet, or nothing any more.
    pub fn seal(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Trouble> {
        out.reserve(sealed_bytes(bytes.len()));
        self.write(out, |traffic, memory| traffic.encrypt(bytes, memory))
    }

    /// Says that nothing more is sent (close_notify), unless that was said before or cannot be
    /// said.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        // While something is received, rustls may not look at anything.
        if !self.is_closed && !self.is_lent && !self.is_handshaking() {
            // It fails where nothing can be sent any more.
            let _ = self.write(out, |traffic, memory| traffic.queue_close_notify(memory));
        }
        self.is_closed = true;
    }

    /// Appends to `out`, which grows as far as rustls asks for.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        write: impl Fn(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Trouble> {
        if self.is_closed {
            return Err(Trouble::Closed);
        }
        let mut cipher = self.kept.take_cipher();
        let written = self.write_behind(&mut cipher, out, write);
        self.kept.set_cipher(cipher);
        written
    }

    /// [`Self::write`], with what came before it and is no whole record yet.
    fn write_behind(
        &mut self,
        cipher: &mut Vec<u8>,
        out: &mut Vec<u8>,
        write: impl Fn(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Trouble> {
        loop {
            let status = self.connection.process_tls_records(cipher);
            let discard = status.discard;
            match status.state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let written = append(out, |memory| write(&mut traffic, memory));
                    cipher.drain(..discard);
                    return written;
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        self.kept.add_plain(record.payload);
                    }
                }
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(_) => return Err(Trouble::Closed),
                Err(error) => {
                    let mut rest = mem::take(cipher);
                    self.say_why(&error, &mut rest[discard..], out);
                    return Err(Trouble::from(error));
                }
            }
            cipher.drain(..discard);
        }
    }
}

/// Whether a hello was refused for want of signature algorithms, of which versions before TLS 1.2
/// know nothing: rustls looks for them before it looks at the version.
fn is_of_old_version(error: &Error, hello: &[u8]) -> bool {
    let wanting = PeerIncompatible::SignatureAlgorithmsExtensionRequired;
    *error == Error::PeerIncompatible(wanting) && hello::is_older_than_tls12(hello)
}

type Traffic<'c> = WriteTraffic<'c, rustls::server::ServerConnectionData>;

/// How many bytes must still arrive, at the least, before more can be read; it follows from those
/// at hand and from the plaintext that is wanted. No client waits for us before it has sent that
/// many, so it is safe to wait for all of them.
pub fn bytes_to_come(cipher: &[u8], wanted: usize) -> usize {
    let record = match cipher {
        [_, _, _, high, low, ..] => {
            RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => RECORD_HEADER_BYTES,
    };
    let of_record = record.saturating_sub(cipher.len());
    // There are never fewer cipher bytes than bytes of plaintext in them.
    of_record.max(wanted.saturating_sub(cipher.len())).max(1)
}

/// The most bytes that so many take once they are encrypted.
fn sealed_bytes(bytes: usize) -> usize {
    bytes + bytes.div_ceil(RECORD_PLAIN_BYTES_MAX).max(1) * SEALING_BYTES
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) {
    let start = out.len();
    // The first call says how much room it needs.
    while let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut out[start..]) {
        out.resize(start + needed.required_size, 0);
    }
}

fn append(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Trouble> {
    let start = out.len();
    out.resize(out.capacity(), 0);
    loop {
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(needed)) => {
                out.resize(start + needed.required_size, 0);
            }
            Err(EncryptError::EncryptExhausted) => {
                out.truncate(start);
                return Err(Trouble::Closed);
            }
        }
    }
}
