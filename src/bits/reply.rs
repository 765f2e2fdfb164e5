//! Acks and refusals: status, HRESULT, context and fields of every answer.
//!
//! The answer decides what the client does (protocol.md 6). Our 4xx end its job, except 413 and
//! 416, which it obeys in silence. "Session not found" starts it again. 501 and "too large" end it,
//! and other 5xx make it wait. So a cause has the answer that leads to its cure, which is not
//! always the one that HTTP would give: never 413 for a file that is too large (the client would
//! shrink its fragments for ever), never 409 for a file that exists (it would retry for ever).
//!
//! Errors carry their HRESULT twice: MC-BUP and Windows Server 2003 call the field `BITS-Error`,
//! all else `BITS-Error-Code`. Answers to a gap and to overload carry none, as MC-BUP note 4
//! allows. Why something was refused stands in a field of our own, [`REASON`]: an Ack has no body
//! (MC-BUP 2.2.3.3 and its like), and clients ignore fields that they do not know (2.2). The Ack of
//! a Fragment is written without an allocation, unless its buffer must grow.

use std::fmt;

use super::packet::PROTOCOL;
use super::session_id::SessionId;
use crate::http::head::BadHead;
use crate::http::response::{Persistence, PlainRefusal, ResponseHead};

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
    },
    Closed {
        session: SessionId,
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

/// A negative answer: each variant is one exact cause and knows what the client hears (protocol.md
/// 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    // -- the packet is wrong: 400 + E_INVALIDARG
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
    TargetIsDirectory,
    /// The total differs from the one an earlier fragment gave.
    TotalChanged {
        was: u64,
        /// The total of this fragment, in bytes.
        is: u64,
    },
    // -- 403 + E_ACCESSDENIED
    /// The destination exists and may not be overwritten.
    TargetExists,
    /// The server may not write there.
    AccessDenied,
    /// No file can get that name as things stand.
    Obstructed(Obstacle),
    // -- 404
    /// The folder of the destination does not exist.
    ParentMissing,
    DataVanished,
    // -- 413: the client shrinks its fragments
    /// The fragment is larger than the limit.
    FragmentTooLarge {
        limit: u64,
    },
    // -- 416 + the offset to go on from
    /// The fragment begins after the watermark.
    Gap {
        received: u64,
    },
    // -- 500
    /// BG_E_SESSION_NOT_FOUND: the client starts again.
    SessionNotFound,
    /// BG_E_TOO_LARGE: the file is larger than the limit.
    UploadTooLarge {
        limit: u64,
    },
    /// BG_E_TOO_LARGE: no file of that size can ever stand there.
    FileTooLarge,
    /// HRESULT_FROM_WIN32(ERROR_DISK_FULL).
    DiskFull,
    /// The same: the file is larger than what is free now.
    NoRoom,
    /// The same: a disk quota is used up.
    QuotaExceeded,
    /// The same: what is left is for the uploads that run.
    SpaceLow,
    /// HRESULT_FROM_WIN32(ERROR_WRITE_PROTECT).
    ReadOnly,
    /// HRESULT_FROM_WIN32(ERROR_IO_DEVICE); the session goes on.
    DiskFailed,
    // -- 501 + E_ACCESSDENIED
    UploadsDisabled,
    // -- the server application's own status, context 0x7 (protocol.md 5.4)
    /// The application refused the file, for now or for good.
    Application {
        status: u16,
        /// Bytes received: all of them.
        received: u64,
    },
    /// 502: nobody listens there, or what it said is no answer.
    ApplicationFailed {
        /// Bytes received: all of them, where whoever says it knows how many.
        received: Option<u64>,
    },
    /// 408: it did not answer in time.
    ApplicationTimedOut {
        /// Bytes received: all of them.
        received: u64,
    },
    /// 400 + E_INVALIDARG: its reply URL is longer than 2,200 characters.
    ReplyUrlTooLong {
        /// Bytes received: all of them.
        received: u64,
    },
    /// What was answered before, from memory: the application is not asked again so soon.
    AsBefore {
        /// That answer.
        last: Box<Refusal>,
        /// When it may be asked again, in seconds from now.
        retry_after_s: u64,
    },
    // -- 503: the client comes back later
    /// The client has as many sessions as the location lets it have.
    TooManySessions,
    /// Too many open files, sessions, notifications, or connections waiting.
    Busy,
    /// The disk cannot be used now: its directory is gone or may not be written, its server cannot
    /// be reached.
    DiskUnusable,
    /// The server is starting or stopping.
    Unavailable,
}

/// Why no file can get this name, whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is on another mount than the work directory: a file cannot move there in one step.
    OtherMount,
    /// A link on the way leads out of the root.
    LinkLeadsOut,
    /// A link on the way leads into the work directory.
    LinkIntoWork,
    /// A link on the way leads to nothing.
    LinkDangles,
    LinkLoop,
    /// The folder is sticky, and what stands there is somebody else's.
    Sticky,
    /// The folder, or what stands there, is append-only.
    AppendOnly,
    /// The folder, or what stands there, is immutable.
    Immutable,
    /// What stands there is no file: a pipe, a socket or a device.
    NoFile,
    /// Something is mounted on it.
    InUse,
    /// Its file system takes no such name.
    NameRefused,
    /// A folder on the way cannot hold another folder.
    FolderFull,
}

impl Obstacle {
    pub const ALL: [Self; 12] = [
        Self::OtherMount,
        Self::LinkLeadsOut,
        Self::LinkIntoWork,
        Self::LinkDangles,
        Self::LinkLoop,
        Self::Sticky,
        Self::AppendOnly,
        Self::Immutable,
        Self::NoFile,
        Self::InUse,
        Self::NameRefused,
        Self::FolderFull,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Self::OtherMount => "the destination is on another mount",
            Self::LinkLeadsOut => "a link on the way to the destination leads out of the root",
            Self::LinkIntoWork => {
                "a link on the way to the destination leads into the work directory"
            }
            Self::LinkDangles => "a link on the way to the destination leads to nothing",
            Self::LinkLoop => "the links on the way to the destination go in circles",
            Self::Sticky => "the folder is sticky, and the file there is somebody else's",
            Self::AppendOnly => "the folder of the destination, or the file there, is append-only",
            Self::Immutable => "the folder of the destination, or the file there, is immutable",
            Self::NoFile => "a pipe, a socket or a device stands at the destination",
            Self::InUse => "something is mounted on the destination",
            Self::NameRefused => "the file system of the destination takes no such name",
            Self::FolderFull => "a folder on the way to the destination can hold no more folders",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Obstacle {}

/// What a BITS client does after a refusal (MC-BUP 3.1.5.2; for bare statuses as Microsoft
/// documents it for those of server applications).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It does as it is told, in silence: smaller fragments, another offset.
    Obeys,
    /// It makes a new session.
    StartsAgain,
    /// It waits, and goes on.
    ComesBack,
    /// Its job ends in an error.
    GivesUp,
}

impl Refusal {
    pub fn status(&self) -> u16 {
        self.answer().0
    }

    /// HRESULT, where protocol.md 5.1 gives one.
    pub fn hresult(&self) -> Option<u32> {
        self.answer().1
    }

    /// What the client does.
    pub fn reaction(&self) -> Reaction {
        match self.answer() {
            (_, Some(BG_E_SESSION_NOT_FOUND)) => Reaction::StartsAgain,
            (_, Some(E_INVALIDARG | BG_E_TOO_LARGE)) => Reaction::GivesUp,
            (413 | 416, _) => Reaction::Obeys,
            (408 | 409, _) => Reaction::ComesBack,
            (300..=305 | 307 | 400..=499 | 501 | 505, _) => Reaction::GivesUp,
            _ => Reaction::ComesBack,
        }
    }

    /// The matrix of protocol.md 5.1.
    fn answer(&self) -> (u16, Option<u32>) {
        match self {
            Self::PacketTypeMissing
            | Self::PacketTypeUnknown
            | Self::FieldRepeated(_)
            | Self::ProtocolsMissing
            | Self::ProtocolUnsupported
            | Self::SessionIdMissing
            | Self::RangeMissing
            | Self::RangeMalformed
            | Self::LengthMismatch
            | Self::LengthMissing
            | Self::ChunkedRefused
            | Self::ChunkedMalformed
            | Self::UnexpectedBody
            | Self::EncodingUnsupported
            | Self::TargetInvalid(_)
            | Self::TargetIsDirectory
            | Self::TotalChanged { .. } => (400, Some(E_INVALIDARG)),
            // MC-BUP 3.2.5.2.3; note 23: Windows answers 400.
            Self::LengthRequired => (411, Some(E_INVALIDARG)),
            Self::TargetExists | Self::AccessDenied | Self::Obstructed(_) => {
                (403, Some(E_ACCESSDENIED))
            }
            Self::ParentMissing | Self::DataVanished => (404, None),
            Self::FragmentTooLarge { .. } => (413, None),
            Self::Gap { .. } => (416, None),
            Self::SessionNotFound => (500, Some(BG_E_SESSION_NOT_FOUND)),
            Self::UploadTooLarge { .. } | Self::FileTooLarge => (500, Some(BG_E_TOO_LARGE)),
            // MC-BUP prints 0x80070112 here: Win32 error 112 is 0x70.
            Self::DiskFull | Self::NoRoom | Self::QuotaExceeded | Self::SpaceLow => {
                (500, Some(DISK_FULL))
            }
            Self::ReadOnly => (500, Some(WRITE_PROTECT)),
            Self::DiskFailed => (500, Some(IO_DEVICE)),
            Self::UploadsDisabled => (501, Some(E_ACCESSDENIED)),
            // The facility of HTTP statuses: no specification names an HRESULT here.
            Self::Application { status, .. } => (*status, Some(FACILITY_HTTP | u32::from(*status))),
            Self::ApplicationFailed { .. } => (502, None),
            // MC-BUP 3.3.6 prints 0x80070112 here, the code of a full disk and a slip: the status
            // says it all.
            Self::ApplicationTimedOut { .. } => (408, None),
            Self::ReplyUrlTooLong { .. } => (400, Some(E_INVALIDARG)),
            Self::AsBefore { last, .. } => last.answer(),
            Self::TooManySessions | Self::Busy | Self::DiskUnusable | Self::Unavailable => {
                (503, None)
            }
        }
    }

    /// BITS-Error-Context where it is told without an HRESULT: the fault is the application's.
    fn is_of_application(&self) -> bool {
        matches!(
            self,
            Self::Application { .. }
                | Self::ApplicationFailed { .. }
                | Self::ApplicationTimedOut { .. }
                | Self::ReplyUrlTooLong { .. }
        )
    }

    /// BITS-Received-Content-Range, where the client is to know it. With an error of the
    /// application it says that all bytes are here and only the notification is to be repeated.
    fn received(&self) -> Option<u64> {
        match *self {
            Self::Gap { received }
            | Self::Application { received, .. }
            | Self::ApplicationTimedOut { received }
            | Self::ReplyUrlTooLong { received } => Some(received),
            Self::ApplicationFailed { received } => received,
            _ => None,
        }
    }
}

/// In words, for logs and for the client: nothing of this machine stands in them, and no path.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PacketTypeMissing => "no BITS-Packet-Type",
            Self::PacketTypeUnknown => "unknown BITS-Packet-Type",
            Self::FieldRepeated(name) => return write!(f, "{name} was sent more than once"),
            Self::ProtocolsMissing => "no BITS-Supported-Protocols",
            Self::ProtocolUnsupported => {
                "none of the offered protocols is the BITS 1.5 upload protocol"
            }
            Self::SessionIdMissing => "no BITS-Session-Id",
            Self::RangeMissing => "no Content-Range",
            Self::RangeMalformed => "malformed Content-Range",
            Self::LengthMismatch => "the length of the body differs from the Content-Range",
            Self::LengthMissing => "a fragment without Content-Length",
            Self::LengthRequired => "no Content-Length",
            Self::ChunkedRefused => "chunked fragments are refused here",
            Self::ChunkedMalformed => "malformed chunked body",
            Self::UnexpectedBody => "a body on a packet that has none",
            Self::EncodingUnsupported => "a Content-Encoding other than identity",
            Self::TargetInvalid(bad) => return write!(f, "bad request target: {bad}"),
            Self::TargetIsDirectory => "the destination is a folder",
            Self::TotalChanged { was, is } => {
                return write!(f, "the size of the file changed from {was} to {is} bytes");
            }
            Self::TargetExists => "the destination exists and may not be overwritten",
            Self::AccessDenied => "the server may not write to the destination",
            Self::Obstructed(obstacle) => return obstacle.fmt(f),
            Self::ParentMissing => "the folder of the destination does not exist",
            Self::DataVanished => "the uploaded bytes are gone",
            Self::FragmentTooLarge { limit } => {
                return write!(f, "the fragment is larger than {limit} bytes");
            }
            Self::Gap { received } => {
                return write!(
                    f,
                    "the fragment begins after byte {received}, the next one expected"
                );
            }
            Self::SessionNotFound => "no such session",
            Self::UploadTooLarge { limit } => {
                return write!(f, "the file is larger than {limit} bytes");
            }
            Self::FileTooLarge => "no file of this size can be stored here",
            Self::DiskFull => "the disk is full",
            Self::NoRoom => "the file is larger than what is free now",
            Self::QuotaExceeded => "the disk quota is used up",
            Self::SpaceLow => "what is free on the disk is kept for uploads that run",
            Self::ReadOnly => "the file system is read-only",
            Self::DiskFailed => "the disk failed",
            Self::UploadsDisabled => "uploads are not enabled here",
            Self::Application { status, .. } => {
                return write!(f, "the server application answered {status}");
            }
            Self::ApplicationFailed { .. } => {
                "the server application gave no answer that makes sense"
            }
            Self::ApplicationTimedOut { .. } => "the server application did not answer in time",
            Self::ReplyUrlTooLong { .. } => {
                "the reply URL of the server application is over 2,200 characters"
            }
            Self::AsBefore {
                last,
                retry_after_s,
            } => {
                return write!(
                    f,
                    "{last}; it is asked again in {retry_after_s} s at the earliest"
                );
            }
            Self::TooManySessions => "the client has too many uploads under way",
            Self::Busy => "too much is open or waiting",
            Self::DiskUnusable => "the disk cannot be used now",
            Self::Unavailable => "the server is starting, stopping or not ready",
        })
    }
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
        } => {
            head.number(CONTENT_LENGTH, 0);
            head.number(RECEIVED_RANGE, *received);
            if let Some(url) = reply_url {
                head.field("BITS-Reply-URL", url);
            }
            session_id(&mut head, *session);
        }
        Ack::Closed { session } | Ack::Cancelled { session } => {
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
    let reason = refusal;
    let (refusal, retry_after_s) = match refusal {
        Refusal::AsBefore {
            last,
            retry_after_s,
        } => (&**last, Some(*retry_after_s)),
        refusal => (refusal, None),
    };
    let (status, hresult) = refusal.answer();
    let mut head = begin(status, out);
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

/// Why a packet was refused, in a sentence for people.
pub const REASON: &str = "Bitsd-Reason";

const CONTENT_LENGTH: &str = "Content-Length";
const RECEIVED_RANGE: &str = "BITS-Received-Content-Range";

const ERROR_CONTEXT: &str = "BITS-Error-Context";
/// BG_ERROR_CONTEXT_REMOTE_FILE: the fault is the server's.
const CONTEXT_SERVER: &str = "0x5";
/// BG_ERROR_CONTEXT_REMOTE_APPLICATION: it is the server application's.
const CONTEXT_APPLICATION: &str = "0x7";

const E_INVALIDARG: u32 = 0x8007_0057;
const E_ACCESSDENIED: u32 = 0x8007_0005;
const BG_E_SESSION_NOT_FOUND: u32 = 0x8020_001F;
const BG_E_TOO_LARGE: u32 = 0x8020_0020;
/// HRESULT_FROM_WIN32(ERROR_DISK_FULL), 112.
const DISK_FULL: u32 = 0x8007_0070;
/// HRESULT_FROM_WIN32(ERROR_WRITE_PROTECT), 19.
const WRITE_PROTECT: u32 = 0x8007_0013;
/// HRESULT_FROM_WIN32(ERROR_IO_DEVICE), 1117.
const IO_DEVICE: u32 = 0x8007_045D;
/// FACILITY_HTTP, to which the status is added.
const FACILITY_HTTP: u32 = 0x8019_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path;

    const ID: &str = "{3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}";

    fn id() -> SessionId {
        SessionId::parse(ID.as_bytes()).unwrap()
    }

    fn acked(ack: &Ack, persistence: Persistence) -> String {
        let mut out = Vec::new();
        write_ack(ack, persistence, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn refused(refusal: &Refusal, session: Option<SessionId>, persistence: Persistence) -> String {
        let mut out = Vec::new();
        write_refusal(refusal, session, persistence, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn lines(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }

    fn bad_target() -> path::BadTarget {
        path::parse_target("").unwrap_err()
    }

    /// Whole answers, byte for byte.
    #[test]
    fn every_ack_has_its_fields() {
        let session = id();
        let begin = [
            "HTTP/1.1 200 OK",
            "Pragma: no-cache",
            "BITS-Packet-Type: Ack",
        ];
        let id = "BITS-Session-Id: {3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}";
        for ack in [
            Ack::Ping,
            Ack::Created {
                session,
                node: None,
            },
            Ack::Fragment {
                session,
                received: 1_048_576,
                reply_url: None,
            },
            Ack::Fragment {
                session,
                received: 0,
                reply_url: None,
            },
            Ack::Fragment {
                session,
                received: u64::MAX,
                reply_url: None,
            },
            Ack::Closed { session },
            Ack::Cancelled { session },
        ] {
            // Exhaustive: a new Ack does not compile without its row.
            let (received, fields): (String, Vec<&str>) = match ack {
                Ack::Ping => (String::new(), vec!["Content-Length: 0"]),
                Ack::Created { .. } => (
                    String::new(),
                    vec![
                        "BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}",
                        id,
                        "Content-Length: 0",
                        "Accept-Encoding: identity",
                    ],
                ),
                Ack::Fragment { received, .. } => (
                    format!("BITS-Received-Content-Range: {received}"),
                    vec!["Content-Length: 0", "received", id],
                ),
                Ack::Closed { .. } | Ack::Cancelled { .. } => {
                    (String::new(), vec!["Content-Length: 0", id])
                }
            };
            let fields = fields.into_iter().map(|field| {
                if field == "received" {
                    &received
                } else {
                    field
                }
            });
            let all: Vec<&str> = begin.into_iter().chain(fields).collect();
            assert_eq!(acked(&ack, Persistence::KeepAlive), lines(&all) + "\r\n");
            assert_eq!(
                acked(&ack, Persistence::Close),
                lines(&all) + "Connection: close\r\n\r\n"
            );
        }
    }

    /// The rows of the recorded upload-reply conversation.
    #[test]
    fn a_node_and_a_reply_are_told() {
        let created = Ack::Created {
            session: id(),
            node: Some(Node {
                host: "FRANKCAO8".into(),
                fallback_s: 110,
            }),
        };
        let text = acked(&created, Persistence::KeepAlive);
        let named = "BITS-Host-Id: FRANKCAO8\r\nBITS-Host-Id-Fallback-Timeout: 110\r\nContent-Length: 0\r\n";
        assert!(text.contains(named), "{text}");
        let last = Ack::Fragment {
            session: id(),
            received: 4_892,
            reply_url: Some("http://h/r".into()),
        };
        let text = acked(&last, Persistence::KeepAlive);
        let told = "BITS-Received-Content-Range: 4892\r\nBITS-Reply-URL: http://h/r\r\n";
        assert!(text.contains(told), "{text}");
    }

    /// One row per cause: status line, HRESULT, words. The rows are the match as well as the list,
    /// so a new cause does not compile without one.
    macro_rules! rows {
        ($($pattern:pat, $refusal:expr => $status:literal, $hresult:expr, $words:expr;)*) => {
            fn expected(refusal: &Refusal) -> (&'static str, Option<&'static str>, String) {
                match refusal { $($pattern => ($status, $hresult, $words.to_string()),)* }
            }
            fn every_refusal() -> Vec<Refusal> {
                $(assert!(matches!($refusal, $pattern));)*
                vec![$($refusal),*]
            }
        };
    }

    use Refusal as R;
    rows! {
        R::PacketTypeMissing, R::PacketTypeMissing
            => "400 Bad Request", Some("0x80070057"), "no BITS-Packet-Type";
        R::PacketTypeUnknown, R::PacketTypeUnknown
            => "400 Bad Request", Some("0x80070057"), "unknown BITS-Packet-Type";
        R::FieldRepeated(_), R::FieldRepeated("BITS-Session-Id")
            => "400 Bad Request", Some("0x80070057"), "BITS-Session-Id was sent more than once";
        R::ProtocolsMissing, R::ProtocolsMissing
            => "400 Bad Request", Some("0x80070057"), "no BITS-Supported-Protocols";
        R::ProtocolUnsupported, R::ProtocolUnsupported
            => "400 Bad Request", Some("0x80070057"), "none of the offered protocols is the BITS 1.5 upload protocol";
        R::SessionIdMissing, R::SessionIdMissing
            => "400 Bad Request", Some("0x80070057"), "no BITS-Session-Id";
        R::RangeMissing, R::RangeMissing
            => "400 Bad Request", Some("0x80070057"), "no Content-Range";
        R::RangeMalformed, R::RangeMalformed
            => "400 Bad Request", Some("0x80070057"), "malformed Content-Range";
        R::LengthMismatch, R::LengthMismatch
            => "400 Bad Request", Some("0x80070057"), "the length of the body differs from the Content-Range";
        R::LengthMissing, R::LengthMissing
            => "400 Bad Request", Some("0x80070057"), "a fragment without Content-Length";
        R::LengthRequired, R::LengthRequired
            => "411 Length Required", Some("0x80070057"), "no Content-Length";
        R::ChunkedRefused, R::ChunkedRefused
            => "400 Bad Request", Some("0x80070057"), "chunked fragments are refused here";
        R::ChunkedMalformed, R::ChunkedMalformed
            => "400 Bad Request", Some("0x80070057"), "malformed chunked body";
        R::UnexpectedBody, R::UnexpectedBody
            => "400 Bad Request", Some("0x80070057"), "a body on a packet that has none";
        R::EncodingUnsupported, R::EncodingUnsupported
            => "400 Bad Request", Some("0x80070057"), "a Content-Encoding other than identity";
        R::TargetInvalid(_), R::TargetInvalid(bad_target())
            => "400 Bad Request", Some("0x80070057"), format!("bad request target: {}", bad_target());
        R::TargetIsDirectory, R::TargetIsDirectory
            => "400 Bad Request", Some("0x80070057"), "the destination is a folder";
        R::TotalChanged { .. }, R::TotalChanged { was: 5, is: 6 }
            => "400 Bad Request", Some("0x80070057"), "the size of the file changed from 5 to 6 bytes";
        R::TargetExists, R::TargetExists
            => "403 Forbidden", Some("0x80070005"), "the destination exists and may not be overwritten";
        R::AccessDenied, R::AccessDenied
            => "403 Forbidden", Some("0x80070005"), "the server may not write to the destination";
        R::Obstructed(_), R::Obstructed(Obstacle::OtherMount)
            => "403 Forbidden", Some("0x80070005"), Obstacle::OtherMount;
        R::ParentMissing, R::ParentMissing
            => "404 Not Found", None, "the folder of the destination does not exist";
        R::DataVanished, R::DataVanished
            => "404 Not Found", None, "the uploaded bytes are gone";
        R::FragmentTooLarge { .. }, R::FragmentTooLarge { limit: 67_108_864 }
            => "413 Content Too Large", None, "the fragment is larger than 67108864 bytes";
        R::Gap { .. }, R::Gap { received: 1_000_000 }
            => "416 Range Not Satisfiable", None, "the fragment begins after byte 1000000, the next one expected";
        R::SessionNotFound, R::SessionNotFound
            => "500 Internal Server Error", Some("0x8020001F"), "no such session";
        R::UploadTooLarge { .. }, R::UploadTooLarge { limit: 9 }
            => "500 Internal Server Error", Some("0x80200020"), "the file is larger than 9 bytes";
        R::FileTooLarge, R::FileTooLarge
            => "500 Internal Server Error", Some("0x80200020"), "no file of this size can be stored here";
        R::DiskFull, R::DiskFull
            => "500 Internal Server Error", Some("0x80070070"), "the disk is full";
        R::NoRoom, R::NoRoom
            => "500 Internal Server Error", Some("0x80070070"), "the file is larger than what is free now";
        R::QuotaExceeded, R::QuotaExceeded
            => "500 Internal Server Error", Some("0x80070070"), "the disk quota is used up";
        R::SpaceLow, R::SpaceLow
            => "500 Internal Server Error", Some("0x80070070"), "what is free on the disk is kept for uploads that run";
        R::ReadOnly, R::ReadOnly
            => "500 Internal Server Error", Some("0x80070013"), "the file system is read-only";
        R::DiskFailed, R::DiskFailed
            => "500 Internal Server Error", Some("0x8007045D"), "the disk failed";
        R::UploadsDisabled, R::UploadsDisabled
            => "501 Not Implemented", Some("0x80070005"), "uploads are not enabled here";
        R::Application { .. }, R::Application { status: 503, received: 5 }
            => "503 Service Unavailable", Some("0x801901F7"), "the server application answered 503";
        R::ApplicationFailed { .. }, R::ApplicationFailed { received: Some(5) }
            => "502 Bad Gateway", None, "the server application gave no answer that makes sense";
        R::ApplicationTimedOut { .. }, R::ApplicationTimedOut { received: 5 }
            => "408 Request Timeout", None, "the server application did not answer in time";
        R::ReplyUrlTooLong { .. }, R::ReplyUrlTooLong { received: 5 }
            => "400 Bad Request", Some("0x80070057"), "the reply URL of the server application is over 2,200 characters";
        R::AsBefore { .. }, R::AsBefore { last: Box::new(R::ApplicationTimedOut { received: 5 }), retry_after_s: 7 }
            => "408 Request Timeout", None,
                "the server application did not answer in time; it is asked again in 7 s at the earliest";
        R::TooManySessions, R::TooManySessions
            => "503 Service Unavailable", None, "the client has too many uploads under way";
        R::Busy, R::Busy
            => "503 Service Unavailable", None, "too much is open or waiting";
        R::DiskUnusable, R::DiskUnusable
            => "503 Service Unavailable", None, "the disk cannot be used now";
        R::Unavailable, R::Unavailable
            => "503 Service Unavailable", None, "the server is starting, stopping or not ready";
    }

    #[test]
    fn every_refusal_has_its_status_hresult_fields_and_words() {
        for refusal in every_refusal() {
            let (status, hresult, words) = expected(&refusal);
            let is_of_application =
                words.starts_with("the server application") || words.starts_with("the reply URL");
            let received = match refusal {
                Refusal::Gap { received } => Some(received),
                _ => is_of_application.then_some(5),
            };
            let received = received.map_or(String::new(), |received| {
                format!("BITS-Received-Content-Range: {received}\r\n")
            });
            let context = if is_of_application { "0x7" } else { "0x5" };
            let context = format!("BITS-Error-Context: {context}\r\n");
            let error = match hresult {
                Some(code) => format!("BITS-Error-Code: {code}\r\nBITS-Error: {code}\r\n{context}"),
                None if is_of_application => context,
                None => String::new(),
            };
            let begin =
                format!("HTTP/1.1 {status}\r\nPragma: no-cache\r\nBITS-Packet-Type: Ack\r\n");
            let again = match refusal {
                Refusal::AsBefore { .. } => "Retry-After: 7\r\n",
                _ => "",
            };
            let named = format!("BITS-Session-Id: {ID}\r\n");
            for (session, named) in [(None, ""), (Some(id()), &*named)] {
                let reason = format!("Bitsd-Reason: {words}\r\n");
                let fields =
                    format!("{begin}{again}{received}{named}{error}{reason}Content-Length: 0\r\n");
                assert_eq!(
                    refused(&refusal, session, Persistence::KeepAlive),
                    format!("{fields}\r\n")
                );
                let closing = format!("{fields}Connection: close\r\n\r\n");
                assert_eq!(refused(&refusal, session, Persistence::Close), closing);
            }
            assert_eq!(refusal.status().to_string(), status[..3]);
            assert_eq!(
                refusal
                    .hresult()
                    .map(|code| format!("0x{code:08X}"))
                    .as_deref(),
                hresult
            );
            assert_eq!(refusal.to_string(), words);
        }
    }

    #[test]
    fn no_answer_makes_a_client_retry_for_ever() {
        for refusal in every_refusal() {
            assert_ne!(refusal.status(), 409, "{refusal}");
        }
        assert_ne!(Refusal::UploadTooLarge { limit: 1 }.status(), 413);
    }

    #[test]
    fn bytes_that_are_no_request_are_answered_in_the_language_they_seem_to_be_in() {
        let why = BadHead::HostMissing;
        let answer = |request: &str| {
            let mut out = Vec::new();
            write_bad_head(why, request.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        let ack = "HTTP/1.1 400 Bad Request\r\nPragma: no-cache\r\nBITS-Packet-Type: Ack\r\n\
            BITS-Error-Code: 0x80070057\r\nBITS-Error: 0x80070057\r\nBITS-Error-Context: 0x5\r\n\
            Bitsd-Reason: an HTTP/1.1 request has no Host\r\nContent-Length: 0\r\n\
            Connection: close\r\n\r\n";
        for request in ["BITS_POST /a", "\r\nBITS_POST /a", "BITS", "", "POST /a"] {
            assert_eq!(answer(request), ack, "{request}");
        }
        let text = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Content-Length: 32\r\nConnection: close\r\n\r\n";
        let words = "an HTTP/1.1 request has no Host\n";
        for request in ["GET /a", "PUT", "\x16\x03\x01", "BITS_POST2 /a"] {
            assert_eq!(answer(request), format!("{text}{words}"), "{request}");
        }
        assert_eq!(answer("HEAD /a"), text);
    }

    #[test]
    fn answers_are_appended() {
        let mut out = b"before".to_vec();
        write_ack(&Ack::Ping, Persistence::KeepAlive, &mut out);
        write_refusal(&Refusal::Busy, None, Persistence::Close, &mut out);
        let text = String::from_utf8(out).unwrap();
        let expected = acked(&Ack::Ping, Persistence::KeepAlive)
            + &refused(&Refusal::Busy, None, Persistence::Close);
        assert_eq!(text, format!("before{expected}"));
    }
}
