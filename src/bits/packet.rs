//! Request head in, BITS packet out.
//!
//! A packet is judged in a fixed order, so that each mistake has one answer: its type, its target,
//! its length, then the fields of that type (after MC-BUP 3.2.5.2.3). Nothing here needs a session.
//! A `BITS-Session-Id` that cannot be one of ours is passed on as `None`, because "session not
//! found" makes the client start again, and 400 would end its job.
//!
//! Fields that we do not know are ignored (MC-BUP 2.2). So are `Content-Name`, which is a remark
//! and no path, and `BITS-Session-Id` on a Ping. Once a [`Fragment`] is parsed, its length and its
//! range agree.

use super::protocol::PROTOCOL;
use super::range::{self, BadRange, ContentRange, RangeField};
use super::reply::Refusal;
use super::session_id::SessionId;
use crate::http::head::{Framing, Head, RepeatedField};
use crate::http::path::{self, Target, UploadPath};

/// One BITS request (MC-BUP 2.2.2 to 2.2.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Opens the connection and nothing else.
    Ping {
        /// What the client is going to upload to.
        target: Target,
    },
    /// Asks for a session for a destination.
    CreateSession {
        /// Where the file is to go.
        target: Target,
    },
    /// Bytes of the file.
    Fragment(Fragment),
    /// The client is done.
    CloseSession(SessionRequest),
    /// The client gave up.
    CancelSession(SessionRequest),
}

impl Packet {
    /// What it is about.
    pub fn path(&self) -> &UploadPath {
        match self {
            Self::Ping { target } | Self::CreateSession { target } => &target.path,
            Self::Fragment(fragment) => &fragment.request.target.path,
            Self::CloseSession(request) | Self::CancelSession(request) => &request.target.path,
        }
    }

    /// Which packet it is.
    pub fn kind(&self) -> PacketKind {
        match self {
            Self::Ping { .. } => PacketKind::Ping,
            Self::CreateSession { .. } => PacketKind::CreateSession,
            Self::Fragment(_) => PacketKind::Fragment,
            Self::CloseSession(_) => PacketKind::CloseSession,
            Self::CancelSession(_) => PacketKind::CancelSession,
        }
    }

    /// The session it names, if it is of a kind that names one.
    pub fn session_request(&self) -> Option<&SessionRequest> {
        match self {
            Self::Ping { .. } | Self::CreateSession { .. } => None,
            Self::Fragment(fragment) => Some(&fragment.request),
            Self::CloseSession(request) | Self::CancelSession(request) => Some(request),
        }
    }
}

/// A packet about an existing session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// The request target; a session is bound to the path it was created for.
    pub target: Target,
    /// The session it names; `None` if what it names cannot be one of ours.
    pub session: Option<SessionId>,
}

/// The head of a Fragment packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Target and session.
    pub request: SessionRequest,
    /// What its body holds.
    pub content: FragmentContent,
    /// How its body is framed.
    pub body: FragmentBody,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// What a fragment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentContent {
    /// Bytes of the file.
    Bytes(ContentRange),
    /// The file is empty (protocol.md 4.7).
    EmptyFile,
}

impl FragmentContent {
    /// Bytes that the body holds; 0 for an empty file.
    #[allow(clippy::len_without_is_empty, reason = "EmptyFile says it better")]
    pub fn len(self) -> u64 {
        match self {
            Self::Bytes(range) => range.len(),
            Self::EmptyFile => 0,
        }
    }

    /// Size of the whole file, in bytes.
    pub fn total(self) -> u64 {
        match self {
            Self::Bytes(range) => range.total(),
            Self::EmptyFile => 0,
        }
    }
}

/// How a fragment's body is framed; for `Length` it was checked against the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentBody {
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked; the decoded length is checked as it arrives.
    Chunked,
}

/// Parses the packet that a head announces. The head's method is `BitsPost`.
///
/// With `strict`, a missing Content-Length is refused on every packet (411) and chunked fragments
/// too.
///
/// # Errors
/// The [`Refusal`] that the client hears.
pub fn parse(head: &Head<'_>, strict: bool) -> Result<Packet, Refusal> {
    parse_with(head, |path| (path, strict))
}

/// As [`parse`], where the target says how its path is spelt and whether it is strict.
///
/// # Errors
/// The [`Refusal`] that the client hears.
pub fn parse_with(
    head: &Head<'_>,
    settle: impl FnOnce(UploadPath) -> (UploadPath, bool),
) -> Result<Packet, Refusal> {
    let kind = kind(head)?;
    let target = path::resolve_target(head.target).map_err(Refusal::TargetInvalid)?;
    let mut target = target.called(head.host);
    let strict;
    (target.path, strict) = settle(target.path);
    if strict && head.framing == Framing::Absent {
        return Err(Refusal::LengthRequired);
    }
    if kind != PacketKind::Fragment {
        without_body(head.framing)?;
    }
    match kind {
        // MC-BUP 2.2.1.2 wants a session id on every packet; 2.2.4 and the wire have none here.
        PacketKind::Ping => Ok(Packet::Ping { target }),
        PacketKind::CreateSession => our_protocol(head).map(|()| Packet::CreateSession { target }),
        PacketKind::Fragment => fragment(head, target, strict).map(Packet::Fragment),
        PacketKind::CloseSession => session_request(head, target).map(Packet::CloseSession),
        PacketKind::CancelSession => session_request(head, target).map(Packet::CancelSession),
    }
}

/// The session that a packet names, whatever else is wrong with it: its refusal names it again
/// (MC-BUP 2.2.1.2).
pub fn named_session(head: &Head<'_>) -> Option<SessionId> {
    SessionId::parse(head.only(SESSION_ID).ok()??)
}

/// MC-BUP 2.2.1 also calls the field `BITS-Package-Type`, a slip: nothing on the wire does.
fn kind(head: &Head<'_>) -> Result<PacketKind, Refusal> {
    let name = only(head, PACKET_TYPE)?.ok_or(Refusal::PacketTypeMissing)?;
    let known = KINDS
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    known
        .map(|&(_, kind)| kind)
        .ok_or(Refusal::PacketTypeUnknown)
}

/// A missing length counts as none: clients and proxies leave it out (protocol.md 1.9).
fn without_body(framing: Framing) -> Result<(), Refusal> {
    match framing {
        Framing::Absent | Framing::Length(0) => Ok(()),
        Framing::Length(_) | Framing::Chunked => Err(Refusal::UnexpectedBody),
    }
}

/// Separated by blanks in Microsoft's documentation, by blanks or commas in MC-BUP 2.2.2.2.
fn our_protocol(head: &Head<'_>) -> Result<(), Refusal> {
    let offered = only(head, SUPPORTED_PROTOCOLS)?.ok_or(Refusal::ProtocolsMissing)?;
    let is_ours = offered
        .split(|byte| matches!(byte, b' ' | b'\t' | b','))
        .filter(|entry| !entry.is_empty())
        .take(PROTOCOLS_MAX)
        .any(|entry| unbraced(entry).eq_ignore_ascii_case(unbraced(PROTOCOL.as_bytes())));
    if is_ours {
        Ok(())
    } else {
        Err(Refusal::ProtocolUnsupported)
    }
}

fn unbraced(guid: &[u8]) -> &[u8] {
    match guid {
        [b'{', plain @ .., b'}'] => plain,
        plain => plain,
    }
}

fn session_request(head: &Head<'_>, target: Target) -> Result<SessionRequest, Refusal> {
    let id = only(head, SESSION_ID)?.ok_or(Refusal::SessionIdMissing)?;
    Ok(SessionRequest {
        target,
        session: SessionId::parse(id),
    })
}

fn fragment(head: &Head<'_>, target: Target, strict: bool) -> Result<Fragment, Refusal> {
    let body = match head.framing {
        Framing::Length(len) => FragmentBody::Length(len),
        Framing::Chunked if strict => return Err(Refusal::ChunkedRefused),
        Framing::Chunked => FragmentBody::Chunked,
        Framing::Absent => return Err(Refusal::LengthMissing),
    };
    let request = session_request(head, target)?;
    if only(head, CONTENT_ENCODING)?.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refusal::EncodingUnsupported);
    }
    let content = content(head, body)?;
    Ok(Fragment {
        request,
        content,
        body,
        expects_continue: head.expects_continue,
    })
}

/// What the range says, if the length says the same.
fn content(head: &Head<'_>, body: FragmentBody) -> Result<FragmentContent, Refusal> {
    let content = match only(head, CONTENT_RANGE)?.map(range::parse) {
        Some(Ok(RangeField::Bytes(range))) => FragmentContent::Bytes(range),
        Some(Ok(RangeField::EmptyFile)) => FragmentContent::EmptyFile,
        Some(Err(BadRange)) => return Err(Refusal::RangeMalformed),
        // protocol.md 4.7: no range can say that a file is empty, so a client may send none.
        None if body == FragmentBody::Length(0) => FragmentContent::EmptyFile,
        None => return Err(Refusal::RangeMissing),
    };
    match body {
        FragmentBody::Length(len) if len != content.len() => Err(Refusal::LengthMismatch),
        FragmentBody::Length(_) | FragmentBody::Chunked => Ok(content),
    }
}

/// The value of a field that may stand once.
fn only<'b>(head: &Head<'b>, name: &'static str) -> Result<Option<&'b [u8]>, Refusal> {
    head.only(name)
        .map_err(|RepeatedField| Refusal::FieldRepeated(name))
}

/// Which packet it is, without what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    Ping,
    CreateSession,
    Fragment,
    CloseSession,
    CancelSession,
}

/// Spelled as on the wire; MC-BUP writes them in capitals.
const KINDS: [(&str, PacketKind); 5] = [
    ("Fragment", PacketKind::Fragment),
    ("Ping", PacketKind::Ping),
    ("Create-Session", PacketKind::CreateSession),
    ("Close-Session", PacketKind::CloseSession),
    ("Cancel-Session", PacketKind::CancelSession),
];

/// Windows looks at no more (MC-BUP note 6).
const PROTOCOLS_MAX: usize = 100;

const PACKET_TYPE: &str = "BITS-Packet-Type";
const SUPPORTED_PROTOCOLS: &str = "BITS-Supported-Protocols";
const SESSION_ID: &str = "BITS-Session-Id";
const CONTENT_RANGE: &str = "Content-Range";
const CONTENT_ENCODING: &str = "Content-Encoding";

#[cfg(test)]
mod tests;
