//! Refusals: each one exact cause, and what the client hears and does.
//!
//! The answer decides what the client does (protocol.md 6). Our 4xx end its job, except 413 and
//! 416, which it obeys in silence. "Session not found" starts it again. 501 and "too large" end it,
//! and other 5xx make it wait. So a cause has the answer that leads to its cure, which is not
//! always the one that HTTP would give: never 413 for a file that is too large (the client would
//! shrink its fragments for ever), never 409 for a file that exists (it would retry for ever).

use std::fmt;

use super::challenges::Challenges;
pub use obstacle::Obstacle;
pub use scarce::Scarce;

mod obstacle;
mod reason;
mod scarce;

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
    /// In strict mode: a client has put something into the field in which a proxy names the user.
    NamesItself,
    // -- 401, with what the client may show (RFC 9110 15.5.2)
    /// Who asks has not shown who they are.
    Unauthorized(Box<Challenges>),
    // -- 403 + E_ACCESSDENIED
    /// Who asks is not one of those who may upload here.
    NotAllowed,
    /// Passwords and tokens are not taken over a connection that others can read.
    InTheClear,
    /// Nothing is taken from where the client is.
    FromElsewhere,
    /// Only a proxy can say who asks, and none has.
    NotNamed,
    /// A proxy has, by something that is no name.
    NameUnusable,
    /// Only certificates are taken, and the client had no occasion to show one.
    CertificateMissing,
    /// The certificate that the client has shown names no user.
    CertificateNameless,
    /// Users have folders of their own here, and no folder can be called as this one is.
    NoFolder,
    /// The destination exists and may not be overwritten.
    TargetExists,
    /// The server may not write there.
    AccessDenied,
    /// No file can get that name as things stand.
    Obstructed(Obstacle),
    // -- 404
    /// The folder of the destination does not exist.
    ParentMissing,
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
    /// The same: as much waits for the object store as may.
    StagingFull,
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
        /// Bytes received: all of them, where whoever says it knows how many.
        received: Option<u64>,
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
    /// The client had too many passwords wrong; the next one is looked at then.
    TooManyFailures {
        /// From now, in seconds.
        retry_after_s: u64,
    },
    /// Nobody can look at Kerberos tickets now.
    TicketsUnusable,
    /// The client has as many sessions as the location lets it have.
    TooManySessions,
    /// And so has the user.
    TooManyOfUser,
    /// As many events are owed to others as may be.
    EventsOwed,
    /// No line of the custody ledger can be written, and so no upload could be closed.
    LedgerFails,
    /// There is too little of something.
    Busy(Scarce),
    /// The object store has not taken the file yet.
    StorePending,
    /// The object store does not take the file.
    StoreFailed,
    /// The disk cannot be used now: its directory is gone or may not be written, its server cannot
    /// be reached.
    DiskUnusable,
    /// The server is starting or stopping.
    Unavailable,
    /// A root or a folder of the server's own is not what it was.
    Displaced,
    /// The disk of the session was not there when the server started.
    DiskAway,
    /// The bytes of the session are on the disk where its location was before.
    LocationMoved,
}

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
    /// Whether the disk is the reason, whoever uploads and whatever.
    pub fn is_of_disk(&self) -> bool {
        matches!(
            self,
            Self::DiskFull
                | Self::QuotaExceeded
                | Self::ReadOnly
                | Self::DiskFailed
                | Self::DiskUnusable
        )
    }

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
    pub(super) fn answer(&self) -> (u16, Option<u32>) {
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
            | Self::TotalChanged { .. }
            | Self::NamesItself => (400, Some(E_INVALIDARG)),
            // MC-BUP 3.2.5.2.3; note 23: Windows answers 400.
            Self::LengthRequired => (411, Some(E_INVALIDARG)),
            // The client reads the challenge, and comes back with an answer where it has one.
            Self::Unauthorized(_) => (401, None),
            // As where there is no folder at all: to Windows both are a path that is not found.
            Self::ParentMissing | Self::Obstructed(Obstacle::NoFolder) => (404, None),
            Self::NotAllowed
            | Self::InTheClear
            | Self::FromElsewhere
            | Self::NotNamed
            | Self::NameUnusable
            | Self::CertificateMissing
            | Self::CertificateNameless
            | Self::NoFolder
            | Self::TargetExists
            | Self::AccessDenied
            | Self::Obstructed(_) => (403, Some(E_ACCESSDENIED)),
            Self::FragmentTooLarge { .. } => (413, None),
            Self::Gap { .. } => (416, None),
            Self::SessionNotFound => (500, Some(BG_E_SESSION_NOT_FOUND)),
            Self::UploadTooLarge { .. } | Self::FileTooLarge => (500, Some(BG_E_TOO_LARGE)),
            // MC-BUP prints 0x80070112 here: Win32 error 112 is 0x70.
            Self::DiskFull
            | Self::NoRoom
            | Self::QuotaExceeded
            | Self::SpaceLow
            | Self::StagingFull => (500, Some(DISK_FULL)),
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
            Self::TooManyFailures { .. }
            | Self::TicketsUnusable
            | Self::TooManySessions
            | Self::TooManyOfUser
            | Self::EventsOwed
            | Self::LedgerFails
            | Self::Busy(_)
            | Self::StorePending
            | Self::StoreFailed
            | Self::DiskUnusable
            | Self::Unavailable
            | Self::Displaced
            | Self::DiskAway
            | Self::LocationMoved => (503, None),
        }
    }

    /// The application has refused the file for good (protocol.md 9.5).
    pub fn denied(received: Option<u64>) -> Self {
        let status = 403;
        Self::Application { status, received }
    }

    /// BITS-Error-Context where it is told without an HRESULT: the fault is the application's.
    pub(super) fn is_of_application(&self) -> bool {
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
    pub(super) fn received(&self) -> Option<u64> {
        match *self {
            Self::Gap { received }
            | Self::ApplicationTimedOut { received }
            | Self::ReplyUrlTooLong { received } => Some(received),
            Self::Application { received, .. } | Self::ApplicationFailed { received } => received,
            _ => None,
        }
    }
}

/// In words, for logs and for the client: nothing of this machine stands in them, and no path.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldRepeated(name) => write!(f, "{name} was sent more than once"),
            Self::TargetInvalid(bad) => write!(f, "bad request target: {bad}"),
            Self::TotalChanged { was, is } => {
                write!(f, "the size of the file changed from {was} to {is} bytes")
            }
            Self::Unauthorized(challenges) => challenges.why.fmt(f),
            Self::Obstructed(obstacle) => obstacle.fmt(f),
            Self::FragmentTooLarge { limit } => {
                write!(f, "the fragment is larger than {limit} bytes")
            }
            Self::Gap { received } => {
                write!(
                    f,
                    "the fragment begins after byte {received}, the next one expected"
                )
            }
            Self::UploadTooLarge { limit } => {
                write!(f, "the file is larger than {limit} bytes")
            }
            Self::Application { status, .. } => {
                write!(f, "the server application answered {status}")
            }
            Self::AsBefore {
                last,
                retry_after_s,
            } => {
                write!(
                    f,
                    "{last}; it is asked again in {retry_after_s} s at the earliest"
                )
            }
            plain => f.write_str(plain.words()),
        }
    }
}

impl Refusal {
    /// When the client may come again, in seconds, where that is known (RFC 9110 10.2.3).
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::AsBefore { retry_after_s, .. } | Self::TooManyFailures { retry_after_s } => {
                Some(*retry_after_s)
            }
            _ => None,
        }
    }

    /// The words of those that tell no value; `refused` of all others.
    fn words(&self) -> &'static str {
        match self {
            Self::PacketTypeMissing => "no BITS-Packet-Type",
            Self::PacketTypeUnknown => "unknown BITS-Packet-Type",
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
            Self::TargetIsDirectory => "the destination is a folder",
            Self::NamesItself => "only a proxy may say who sends the request",
            Self::NotAllowed => "this user may not upload here",
            Self::InTheClear => "passwords and tokens are not taken without TLS",
            Self::FromElsewhere => "uploads are not taken from this address",
            Self::NotNamed => "no proxy says who sends the request",
            Self::NameUnusable => "no proxy says who sends the request by a name that can be used",
            Self::CertificateMissing => {
                "a client certificate is asked for, which this port has none of"
            }
            Self::CertificateNameless => "the client certificate names no user",
            Self::TicketsUnusable => "Kerberos tickets cannot be looked at now",
            Self::NoFolder => "no folder can be called as this user is",
            Self::TooManyFailures { .. } => "too many wrong passwords: wait, then try again",
            Self::TargetExists => "the destination exists and may not be overwritten",
            Self::AccessDenied => "the server may not write to the destination",
            Self::ParentMissing => "the folder of the destination does not exist",
            Self::SessionNotFound => "no such session",
            Self::FileTooLarge => "no file of this size can be stored here",
            Self::DiskFull => "the disk is full",
            Self::NoRoom => "the file is larger than what is free now",
            Self::QuotaExceeded => "the disk quota is used up",
            Self::SpaceLow => "what is free on the disk is kept for uploads that run",
            Self::ReadOnly => "the file system is read-only",
            Self::DiskFailed => "the disk failed",
            Self::UploadsDisabled => "uploads are not enabled here",
            Self::ApplicationFailed { .. } => {
                "the server application cannot be reached, or gave no answer that makes sense"
            }
            Self::ApplicationTimedOut { .. } => "the server application did not answer in time",
            Self::ReplyUrlTooLong { .. } => {
                "the reply URL of the server application is over 2,200 characters"
            }
            Self::TooManySessions => "the client has too many uploads under way",
            Self::TooManyOfUser => "the user has too many uploads under way",
            Self::EventsOwed => "others have not taken in yet what has arrived before",
            Self::LedgerFails => "what has arrived cannot be entered into the ledger now",
            Self::Busy(Scarce::File) => "another program has the file",
            Self::Busy(Scarce::FileSystem) => "the file system was interrupted",
            Self::Busy(_) => "too much is open or waiting",
            Self::StorePending => "the object store has not taken the file yet",
            Self::StoreFailed => "the object store does not take the file",
            Self::StagingFull => "too much waits for the object store",
            Self::DiskUnusable => "the disk cannot be used now",
            Self::Unavailable => "the server is starting or stopping",
            Self::Displaced => {
                "a folder of the server is not the one that it was started with; its log says which"
            }
            Self::DiskAway => "the disk of the upload was not there when the server started",
            Self::LocationMoved => "the location has another root than the upload began with",
            Self::FieldRepeated(_)
            | Self::TargetInvalid(_)
            | Self::TotalChanged { .. }
            | Self::Unauthorized(_)
            | Self::Obstructed(_)
            | Self::FragmentTooLarge { .. }
            | Self::Gap { .. }
            | Self::UploadTooLarge { .. }
            | Self::Application { .. }
            | Self::AsBefore { .. } => "refused",
        }
    }
}

pub(super) const E_INVALIDARG: u32 = 0x8007_0057;
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
