//! Request head in, BITS packet out.

use super::range::ContentRange;
use super::reply::Refusal;
use super::session_id::SessionId;
use crate::http::head::Head;
use crate::http::path::Target;

/// One BITS request (MC-BUP 2.2.2 to 2.2.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Opens the connection and nothing else.
    Ping,
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
    /// The file is empty (P4.4).
    EmptyFile,
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
/// With `strict`, a missing Content-Length is refused on every packet (411) and chunked fragments too.
///
/// # Errors
/// The [`Refusal`] that the client hears.
pub fn parse(_head: &Head<'_>, _strict: bool) -> Result<Packet, Refusal> {
    todo!()
}
