//! Acks and refusals as they are written: status, HRESULT, context and fields of every answer.
//!
//! Errors carry their HRESULT twice: MC-BUP and Windows Server 2003 call the field `BITS-Error`,
//! all else `BITS-Error-Code`. Answers to a gap and to overload carry none, as MC-BUP note 4
//! allows. Why something was refused stands in a field of our own, [`REASON`]: an Ack has no body
//! (MC-BUP 2.2.3.3 and its like), and clients ignore fields that they do not know (2.2). The Ack of
//! a Fragment is written without an allocation, unless its buffer must grow.

pub use super::challenges::{Challenges, NotShown};
use super::protocol::PROTOCOL;
use super::refusal::E_INVALIDARG;
pub use super::refusal::{Obstacle, Reaction, Refusal, Scarce};
use super::session_id::SessionId;
use crate::http::digest::{REPR_DIGEST, REPR_DIGEST_BYTES, repr_digest};
use crate::http::head::BadHead;
use crate::http::response::{AUTHENTICATE, Persistence, PlainRefusal, ResponseHead};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    Ping,
    Created {
        session: SessionId,
        /// The node of a farm that the client is to talk to from now on (protocol.md 8.1).
        node: Option<Node>,
    },
    Fragment {
        session: SessionId,
        /// The next offset we expect.
        received: u64,
        /// Where the reply of an upload-reply job can be fetched; only with the last byte.
        reply_url: Option<Box<str>>,
        /// SHA-256 of the whole file, where it is known; only with the last byte.
        sha256: Option<[u8; 32]>,
    },
    Closed {
        session: SessionId,
        /// SHA-256 of the file that was published, where it is known.
        sha256: Option<[u8; 32]>,
    },
    Cancelled {
        session: SessionId,
    },
}

/// A node of a farm (MC-BUP 2.2.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// BITS-Host-Id: a host name or an IP literal, without scheme and port.
    pub host: Box<str>,
    /// BITS-Host-Id-Fallback-Timeout, in seconds: how long after the node was last reached the
    /// client goes back to the name it began with.
    pub fallback_s: u64,
}

/// Appends a positive Ack (MC-BUP 2.2.3, 2.2.5, 2.2.7, 2.2.9, 2.2.11).
pub fn write_ack(ack: &Ack, persistence: Persistence, out: &mut Vec<u8>) {
    let mut head = begin(200, out);
    // In the order of IIS, which names the session in its answer to Create-Session only.
    match ack {
        Ack::Ping => {
            head.number(CONTENT_LENGTH, 0);
        }
        Ack::Created { session, node } => {
            head.field("BITS-Protocol", PROTOCOL);
            session_id(&mut head, *session);
            // Both or none: protocol.md 8.2.
            if let Some(node) = node {
                head.field("BITS-Host-Id", &node.host);
                head.number("BITS-Host-Id-Fallback-Timeout", node.fallback_s);
            }
            head.number(CONTENT_LENGTH, 0);
            // Mandatory on this Ack only; there is no other coding (MC-BUP note 7).
            head.field("Accept-Encoding", "identity");
        }
        Ack::Fragment {
            session,
            received,
            reply_url,
            sha256,
        } => {
            head.number(CONTENT_LENGTH, 0);
            head.number(RECEIVED_RANGE, *received);
            if let Some(url) = reply_url {
                head.field("BITS-Reply-URL", url);
            }
            session_id(&mut head, *session);
            digest(&mut head, sha256.as_ref());
        }
        Ack::Closed { session, sha256 } => {
            head.number(CONTENT_LENGTH, 0);
            session_id(&mut head, *session);
            digest(&mut head, sha256.as_ref());
        }
        Ack::Cancelled { session } => {
            head.number(CONTENT_LENGTH, 0);
            session_id(&mut head, *session);
        }
    }
    head.end(persistence);
}

/// Appends a negative Ack; `session` is echoed where the packet named one.
pub fn write_refusal(
    refusal: &Refusal,
    session: Option<SessionId>,
    persistence: Persistence,
    out: &mut Vec<u8>,
) {
    let (reason, retry_after_s) = (refusal, refusal.retry_after_s());
    let refusal = match refusal {
        Refusal::AsBefore { last, .. } => last,
        refusal => refusal,
    };
    let (status, hresult) = refusal.answer();
    let mut head = begin(status, out);
    for challenge in challenges(refusal) {
        head.field(AUTHENTICATE, &challenge);
    }
    if let Some(seconds) = retry_after_s {
        head.number("Retry-After", seconds);
    }
    if let Some(received) = refusal.received() {
        head.number(RECEIVED_RANGE, received);
    }
    if let Some(session) = session {
        session_id(&mut head, session);
    }
    let context = match refusal.is_of_application() {
        true => CONTEXT_APPLICATION,
        false => CONTEXT_SERVER,
    };
    if let Some(hresult) = hresult {
        error_fields(&mut head, hresult, context);
    } else if refusal.is_of_application() {
        head.field(ERROR_CONTEXT, context);
    }
    head.sentence(REASON, reason);
    head.number(CONTENT_LENGTH, 0);
    head.end(persistence);
}

/// What may be shown instead: the values of WWW-Authenticate, one for each way.
fn challenges(refusal: &Refusal) -> Vec<String> {
    let Refusal::Unauthorized(asked) = refusal else {
        return Vec::new();
    };
    let schemes = asked.schemes.iter();
    schemes
        .filter_map(|scheme| scheme.challenge(&asked.realm, &asked.token))
        .collect()
}

/// Appends the answer to a GET or HEAD of somebody who may not have the file.
pub fn write_plain_refusal(
    refusal: &Refusal,
    is_head: bool,
    persistence: Persistence,
    out: &mut Vec<u8>,
) {
    let why = match refusal {
        // Nobody learns whether it is there.
        Refusal::SessionNotFound => "nothing can be downloaded under this name".to_owned(),
        refusal => refusal.to_string(),
    };
    PlainRefusal {
        status: plain_status(refusal),
        why: &why,
        allow: None,
        challenges: &challenges(refusal),
        retry_after_s: refusal.retry_after_s(),
        is_head,
    }
    .write(persistence, out);
}

/// The status of [`write_plain_refusal`].
pub fn plain_status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::SessionNotFound => 404,
        refusal => refusal.status(),
    }
}

/// Appends the answer to bytes that are no request; the connection ends with it. `request` is how
/// they begin: a client that speaks BITS gets an Ack, others a line of text.
pub fn write_bad_head(why: BadHead, request: &[u8], out: &mut Vec<u8>) {
    let status = why.status();
    let request = request.trim_ascii_start();
    // What ends within its first word may have been the beginning of one.
    let speaks = |method: &[u8]| request.starts_with(method) || method.starts_with(request);
    if speaks(b"BITS_POST ") || speaks(b"POST ") {
        let mut head = begin(status, out);
        if status == 400 {
            // MC-BUP 2.2.1.2 asks for it where a field value is over 4 KiB; the others are no
            // better arguments.
            error_fields(&mut head, E_INVALIDARG, CONTEXT_SERVER);
        }
        head.sentence(REASON, &why);
        head.number(CONTENT_LENGTH, 0);
        return head.end(Persistence::Close);
    }
    PlainRefusal {
        status,
        why: &why,
        allow: None,
        challenges: &[],
        retry_after_s: None,
        is_head: speaks(b"HEAD "),
    }
    .write(Persistence::Close, out);
}

/// Both names of the error code: documents and servers disagree, and clients read either
/// (protocol.md 1.11).
fn error_fields(head: &mut ResponseHead<'_>, hresult: u32, context: &str) {
    let hresult = format!("{hresult:#010X}");
    head.field("BITS-Error-Code", &hresult);
    head.field("BITS-Error", &hresult);
    head.field(ERROR_CONTEXT, context);
}

/// What every answer begins with. `Pragma` keeps caches away, as IIS does.
fn begin(status: u16, out: &mut Vec<u8>) -> ResponseHead<'_> {
    let mut head = ResponseHead::new(out, status);
    head.field("Pragma", "no-cache");
    head.field("BITS-Packet-Type", "Ack");
    head
}

fn session_id(head: &mut ResponseHead<'_>, session: SessionId) {
    head.field(
        "BITS-Session-Id",
        session.encode(&mut [0; SessionId::TEXT_LEN]),
    );
}

/// Clients ignore fields that they do not know (MC-BUP 2.2); ours compares.
fn digest(head: &mut ResponseHead<'_>, sha256: Option<&[u8; 32]>) {
    if let Some(sha256) = sha256 {
        let mut value = [0; REPR_DIGEST_BYTES];
        head.field(REPR_DIGEST, repr_digest(sha256, &mut value));
    }
}

/// Why a packet was refused, in a sentence for people.
pub const REASON: &str = "Bitsd-Reason";

const CONTENT_LENGTH: &str = "Content-Length";
const RECEIVED_RANGE: &str = "BITS-Received-Content-Range";

const ERROR_CONTEXT: &str = "BITS-Error-Context";
/// BG_ERROR_CONTEXT_REMOTE_FILE: the fault is the server's.
const CONTEXT_SERVER: &str = "0x5";
/// BG_ERROR_CONTEXT_REMOTE_APPLICATION: it is the server application's.
const CONTEXT_APPLICATION: &str = "0x7";

#[cfg(test)]
mod tests;
