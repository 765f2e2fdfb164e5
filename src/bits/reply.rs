//! Acks and refusals: status, HRESULT, context and fields of every answer.

use super::session_id::SessionId;
use crate::http::response::Persistence;

/// A positive answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// To a Ping.
    Ping,
    /// To a Create-Session.
    Created {
        /// The new session.
        session: SessionId,
    },
    /// To a Fragment.
    Fragment {
        /// Its session.
        session: SessionId,
        /// The next offset we expect.
        received: u64,
    },
    /// To a Close-Session.
    Closed {
        /// Its session.
        session: SessionId,
    },
    /// To a Cancel-Session.
    Cancelled {
        /// Its session.
        session: SessionId,
    },
}

/// A negative answer: each variant is one exact cause and knows what the client hears (P5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    // -- the packet is wrong: 400 + E_INVALIDARG
    /// No BITS-Packet-Type.
    PacketTypeMissing,
    /// A BITS-Packet-Type that does not exist.
    PacketTypeUnknown,
    /// A BITS field that may stand once was repeated.
    FieldRepeated(&'static str),
    /// Create-Session without BITS-Supported-Protocols.
    ProtocolsMissing,
    /// None of the offered protocols is ours (or it stood behind the 100th).
    ProtocolUnsupported,
    /// A packet about a session without BITS-Session-Id.
    SessionIdMissing,
    /// A fragment without Content-Range.
    RangeMissing,
    /// A Content-Range that is not one.
    RangeMalformed,
    /// Content-Length (or the decoded chunked length) differs from the Content-Range.
    LengthMismatch,
    /// A fragment without a length (strict mode answers 411 instead).
    LengthMissing,
    /// 411: a packet without Content-Length in strict mode.
    LengthRequired,
    /// Chunked fragments are refused in strict mode.
    ChunkedRefused,
    /// The chunked body is malformed.
    ChunkedMalformed,
    /// A body on a packet that has none.
    UnexpectedBody,
    /// Content-Encoding other than identity.
    EncodingUnsupported,
    /// The request target names nothing that may be uploaded to.
    TargetInvalid(crate::http::path::BadTarget),
    /// The destination is a folder.
    TargetIsDirectory,
    /// The total differs from the one an earlier fragment gave.
    TotalChanged {
        /// The earlier total, in bytes.
        was: u64,
        /// The total of this fragment, in bytes.
        is: u64,
    },
    // -- 403 + E_ACCESSDENIED
    /// The destination exists and may not be overwritten.
    TargetExists,
    /// The server may not write there.
    AccessDenied,
    // -- 404
    /// The folder of the destination does not exist.
    ParentMissing,
    /// The uploaded bytes are gone.
    DataVanished,
    // -- 413: the client shrinks its fragments
    /// The fragment is larger than the limit.
    FragmentTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    // -- 416 + the offset to go on from
    /// The fragment begins after the watermark.
    Gap {
        /// The watermark.
        received: u64,
    },
    // -- 500
    /// BG_E_SESSION_NOT_FOUND: the client starts again.
    SessionNotFound,
    /// BG_E_TOO_LARGE: the file is larger than the limit.
    UploadTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// HRESULT_FROM_WIN32(ERROR_DISK_FULL).
    DiskFull,
    /// HRESULT_FROM_WIN32(ERROR_WRITE_PROTECT).
    ReadOnly,
    /// HRESULT_FROM_WIN32(ERROR_IO_DEVICE); the session goes on.
    DiskFailed,
    // -- 501 + E_ACCESSDENIED
    /// Uploads are not enabled here.
    UploadsDisabled,
    // -- 503: the client comes back later
    /// Too many open files, sessions, or connections waiting.
    Busy,
    /// The server is starting or stopping.
    Unavailable,
}

impl Refusal {
    /// Status code.
    pub fn status(&self) -> u16 {
        todo!()
    }
    /// HRESULT, where P5.1 gives one.
    pub fn hresult(&self) -> Option<u32> {
        todo!()
    }
}

/// In words, for logs.
impl std::fmt::Display for Refusal {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

/// Appends a positive Ack.
pub fn write_ack(_ack: &Ack, _persistence: Persistence, _out: &mut Vec<u8>) {
    todo!()
}

/// Appends a negative Ack; `session` is echoed where the packet named one.
pub fn write_refusal(_refusal: &Refusal, _session: Option<SessionId>, _persistence: Persistence, _out: &mut Vec<u8>) {
    todo!()
}
