//! What the client does next, decided without I/O: protocol.md 6 from the client's side.
//!
//! An [`Upload`] says which packet to send, hears the reply or learns that the connection broke,
//! and says what follows. The server's offset is the truth: the next fragment begins where
//! `BITS-Received-Content-Range` says, on 200 and on 416, forward and backward.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::digest::Digest;
pub use refused::Refused;
pub use stranger::Stranger;

mod refused;
mod stranger;
mod words;

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Opens a connection, and is sent again on each new one after a failure.
    Ping,
    /// Asks for a session.
    CreateSession,
    /// Carries these bytes of the file; empty only where the file is.
    Fragment {
        /// Bytes of the file, half-open.
        range: Range<u64>,
    },
    /// Ends a session whose bytes have all arrived.
    CloseSession,
    /// Gives a session up.
    CancelSession,
}

impl Packet {
    /// Its `BITS-Packet-Type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "Ping",
            Self::CreateSession => "Create-Session",
            Self::Fragment { .. } => "Fragment",
            Self::CloseSession => "Close-Session",
            Self::CancelSession => "Cancel-Session",
        }
    }
}

/// What a reply says to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// `BITS-Session-Id`.
    pub session: Option<String>,
    /// `BITS-Received-Content-Range`, if it is a number.
    pub received: Option<u64>,
    /// `BITS-Error-Code`, or `BITS-Error` where the former is missing (protocol.md 1.11).
    pub hresult: Option<u32>,
    /// Whether it has a `BITS-Packet-Type`, as every answer of a BITS server has.
    pub is_bits: bool,
    /// It names a `BITS-Protocol`, and none that was offered.
    pub is_other_protocol: bool,
    /// `Server`, if given.
    pub server: Option<String>,
    /// `Location`, if given.
    pub location: Option<String>,
    /// Why, in a sentence: bitsd says it in `Bitsd-Reason`.
    pub reason: Option<String>,
    /// `BITS-Host-Id`: the node that has the session.
    pub node: Option<String>,
    /// `BITS-Host-Id-Fallback-Timeout`.
    pub node_fallback: Option<Duration>,
    /// SHA-256 of the file, as the server has it (`Repr-Digest`).
    pub digest: Option<Digest>,
}

/// What follows a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The upload came forward: send the next packet.
    Forward,
    /// Send the next packet, though this one brought nothing new.
    Again,
    /// The server cannot just now: wait, then connect anew and go on.
    Later,
}

/// Why an upload cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server said no, and would say so again.
    Refused(Refused),
    /// The server refuses fragments of the smallest size.
    FragmentTooLarge {
        /// The size it refused.
        bytes: u64,
    },
    /// The server forgot the session or asked for bytes again too often.
    Setbacks {
        /// How often.
        times: u32,
        /// What happened last.
        last: Setback,
    },
    /// A positive reply lacks what it must say, or contradicts what was sent.
    Nonsense {
        /// The packet it answers.
        packet: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What throws an upload back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The session was not found.
    SessionForgotten,
    /// The server asked for bytes it had acknowledged, or acknowledged nothing new.
    Rewound,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::FragmentTooLarge { bytes } => {
                write!(
                    f,
                    "the server refuses even fragments of {bytes} bytes (413)"
                )
            }
            Self::Setbacks {
                times,
                last: Setback::SessionForgotten,
            } => {
                write!(
                    f,
                    "the server forgot the session {times} times without any progress"
                )
            }
            Self::Setbacks {
                times,
                last: Setback::Rewound,
            } => {
                write!(
                    f,
                    "the server asked for the same bytes {times} times without any progress"
                )
            }
            Self::Nonsense { packet, why } => {
                write!(f, "the answer to {packet} makes no sense: {why}")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// Where an upload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// No session yet.
    Creating,
    /// A session of an earlier run; nobody here knows yet how far it is.
    Asking { session: String },
    /// `offset <= total` is what the server says it has.
    Sending { session: String, offset: u64 },
    /// All bytes are there.
    Closing { session: String },
    /// The file stands at its destination.
    Done,
}

/// One file on its way.
#[derive(Debug)]
pub struct Upload {
    total: u64,
    fragment_bytes: u64,
    stage: Stage,
    /// True at the start and after each failure: a new connection begins with a Ping (protocol.md
    /// 6.6).
    is_ping_due: bool,
    /// Where the furthest fragment ends that was sent in this session, or begun: the server has no
    /// byte beyond it. `total` in a session of an earlier run.
    sent_end: u64,
    /// The most bytes that any session of this upload had acknowledged.
    highest: u64,
    /// Setbacks since `highest` last grew.
    setbacks: u32,
    /// Fragments in a row that broke off.
    broken_fragments: u32,
    /// The Close is one that an earlier run may have sent.
    is_recalled_close: bool,
}

impl Upload {
    /// An upload of `total` bytes in fragments of at most `fragment_bytes`.
    pub fn new(total: u64, fragment_bytes: u64) -> Self {
        let fragment_bytes = fragment_bytes.max(FRAGMENT_BYTES_MIN);
        Self {
            total,
            fragment_bytes,
            stage: Stage::Creating,
            is_ping_due: true,
            sent_end: 0,
            highest: 0,
            setbacks: 0,
            broken_fragments: 0,
            is_recalled_close: false,
        }
    }

    /// Goes on with the session of an earlier run that may have closed it.
    pub fn resume_close(total: u64, fragment_bytes: u64, session: String) -> Self {
        Self {
            stage: Stage::Closing { session },
            is_recalled_close: true,
            sent_end: total,
            ..Self::new(total, fragment_bytes)
        }
    }

    /// Goes on with the session of an earlier run.
    pub fn resume(total: u64, fragment_bytes: u64, session: String) -> Self {
        Self {
            stage: Stage::Asking { session },
            sent_end: total,
            ..Self::new(total, fragment_bytes)
        }
    }

    /// The packet to send now; `None` when the upload is done.
    pub fn packet(&self) -> Option<Packet> {
        match &self.stage {
            Stage::Done => None,
            _ if self.is_ping_due => Some(Packet::Ping),
            Stage::Creating => Some(Packet::CreateSession),
            // The last byte lies beyond a gap or completes the file: either answer says how far
            // the server is.
            Stage::Asking { .. } => Some(Packet::Fragment {
                range: self.total.saturating_sub(1)..self.total,
            }),
            Stage::Sending { offset, .. } => {
                let end = self.total.min(offset.saturating_add(self.fragment_bytes));
                Some(Packet::Fragment {
                    range: *offset..end,
                })
            }
            Stage::Closing { .. } => Some(Packet::CloseSession),
        }
    }

    /// The session, while there is one.
    pub fn session(&self) -> Option<&str> {
        match &self.stage {
            Stage::Asking { session }
            | Stage::Sending { session, .. }
            | Stage::Closing { session } => Some(session),
            Stage::Creating | Stage::Done => None,
        }
    }

    /// Bytes the server has acknowledged in this session.
    pub fn offset(&self) -> u64 {
        match &self.stage {
            Stage::Creating | Stage::Asking { .. } => 0,
            Stage::Sending { offset, .. } => *offset,
            Stage::Closing { .. } | Stage::Done => self.total,
        }
    }

    /// Another host is talked to from now on.
    pub fn greets(&mut self) {
        self.is_ping_due = true;
    }

    /// The connection broke while [`Upload::packet`] was sent or its reply awaited.
    ///
    /// A line that breaks fragment after fragment gets smaller ones: what the server kept of a
    /// broken fragment is learned only from the reply to a whole one.
    pub fn broken(&mut self) {
        self.note_sent();
        if let (Stage::Sending { .. }, Some(Packet::Fragment { range })) =
            (&self.stage, self.packet())
        {
            self.broken_fragments += 1;
            if self.broken_fragments > 1 {
                self.fragment_bytes = ((range.end - range.start) / 2).max(FRAGMENT_BYTES_MIN);
            }
        }
        self.is_ping_due = true;
    }

    fn note_sent(&mut self) {
        if let Some(Packet::Fragment { range }) = self.packet() {
            self.sent_end = self.sent_end.max(range.end);
        }
    }

    /// Takes the reply to [`Upload::packet`].
    ///
    /// # Errors
    /// [`Failure`] if there is nothing more to try.
    pub fn answered(&mut self, reply: &Reply) -> Result<Next, Failure> {
        let Some(packet) = self.packet() else {
            return Ok(Next::Again);
        };
        self.note_sent();
        if is_nobodys_ack(&packet, reply) {
            self.is_ping_due = true;
            return Ok(Next::Later);
        }
        match (reply.status, &packet) {
            (200 | 201, _) => self.acked(&packet, reply),
            (416, Packet::Fragment { range }) => self.moved(range, reply),
            (413, Packet::Fragment { range }) => self.shrink(range),
            _ if reply.hresult == Some(SESSION_NOT_FOUND) => self.start_over(),
            _ if is_transient(reply) => {
                self.is_ping_due = true;
                Ok(Next::Later)
            }
            // It may have lost bytes since: it is asked how far it is.
            (_, Packet::CloseSession) if std::mem::take(&mut self.is_recalled_close) => {
                if let Stage::Closing { session } = &self.stage {
                    let session = session.clone();
                    self.stage = Stage::Asking { session };
                }
                Ok(Next::Again)
            }
            _ => Err(Failure::Refused(Refused::of(packet.name(), reply))),
        }
    }

    fn acked(&mut self, packet: &Packet, reply: &Reply) -> Result<Next, Failure> {
        match packet {
            Packet::Ping => {
                self.is_ping_due = false;
                Ok(Next::Again)
            }
            Packet::CreateSession if reply.is_other_protocol => Err(Failure::Nonsense {
                packet: "Create-Session",
                why: "it names a BITS-Protocol that was not offered",
            }),
            Packet::CreateSession => {
                let session = reply.session.clone().ok_or(Failure::Nonsense {
                    packet: "Create-Session",
                    why: "it has no usable BITS-Session-Id",
                })?;
                self.stage = Stage::Sending { session, offset: 0 };
                self.sent_end = 0;
                Ok(Next::Forward)
            }
            Packet::Fragment { range } => self.moved(range, reply),
            Packet::CloseSession | Packet::CancelSession => {
                self.stage = Stage::Done;
                Ok(Next::Forward)
            }
        }
    }

    /// The server says where to go on, after a fragment stored or refused.
    fn moved(&mut self, sent: &Range<u64>, reply: &Reply) -> Result<Next, Failure> {
        let nonsense = |why| {
            Err(Failure::Nonsense {
                packet: "Fragment",
                why,
            })
        };
        let Some(received) = reply.received else {
            return nonsense("it has no usable BITS-Received-Content-Range");
        };
        if received > self.total {
            return nonsense("its BITS-Received-Content-Range lies beyond the end of the file");
        }
        if received > self.sent_end {
            return nonsense("its BITS-Received-Content-Range lies beyond what was sent");
        }
        let was_asked = matches!(self.stage, Stage::Asking { .. });
        let (Stage::Sending { session, .. } | Stage::Asking { session }) = &self.stage else {
            unreachable!("fragments are sent in these stages only")
        };
        let session = session.clone();
        // An empty file is complete with the first positive answer, though its offset stays 0.
        let is_complete = received == self.total && (self.total > 0 || reply.status != 416);
        self.stage = if is_complete {
            Stage::Closing { session }
        } else {
            Stage::Sending {
                session,
                offset: received,
            }
        };
        if received > self.highest {
            self.highest = received;
            self.setbacks = 0;
        }
        self.broken_fragments = 0;
        if received > sent.start || is_complete || was_asked {
            return Ok(Next::Forward);
        }
        self.set_back(Setback::Rewound)
    }

    /// 413 means the fragment, never the file: half of it, but not less than Windows sends.
    fn shrink(&mut self, sent: &Range<u64>) -> Result<Next, Failure> {
        let bytes = sent.end - sent.start;
        if bytes <= FRAGMENT_BYTES_MIN {
            return Err(Failure::FragmentTooLarge { bytes });
        }
        self.fragment_bytes = (bytes / 2).max(FRAGMENT_BYTES_MIN);
        Ok(Next::Again)
    }

    fn start_over(&mut self) -> Result<Next, Failure> {
        // An earlier run may lie longer back than the server keeps sessions.
        let is_recalled = std::mem::take(&mut self.is_recalled_close);
        if is_recalled || matches!(self.stage, Stage::Asking { .. }) {
            self.stage = Stage::Creating;
            return Ok(Next::Again);
        }
        self.stage = Stage::Creating;
        self.set_back(Setback::SessionForgotten)
    }

    fn set_back(&mut self, last: Setback) -> Result<Next, Failure> {
        self.setbacks += 1;
        if self.setbacks > SETBACKS_MAX {
            return Err(Failure::Setbacks {
                times: self.setbacks,
                last,
            });
        }
        Ok(Next::Again)
    }
}

/// Whether a success is a page of somebody in between (a maintenance page, a login page), which
/// says nothing of the upload: an Ack has `BITS-Packet-Type` (protocol.md 1.5).
fn is_nobodys_ack(packet: &Packet, reply: &Reply) -> bool {
    let lacks_its_field = match packet {
        Packet::Ping => false,
        Packet::CreateSession => reply.session.is_none(),
        Packet::Fragment { .. } => reply.received.is_none(),
        Packet::CloseSession | Packet::CancelSession => true,
    };
    !reply.is_bits && matches!(reply.status, 200 | 201) && lacks_its_field
}

/// Whether the same packet may be answered otherwise later (protocol.md 6.4).
fn is_transient(reply: &Reply) -> bool {
    if reply
        .hresult
        .is_some_and(|hresult| FATAL.contains(&hresult))
    {
        return false;
    }
    match reply.status {
        300..=305 | 307 | 501 | 505 => false,
        408 | 409 => true,
        400..=499 => false,
        _ => true,
    }
}

/// BG_E_SESSION_NOT_FOUND.
pub const SESSION_NOT_FOUND: u32 = 0x8020_001F;
/// E_INVALIDARG.
const INVALID_ARGUMENT: u32 = 0x8007_0057;
/// BG_E_TOO_LARGE.
const TOO_LARGE: u32 = 0x8020_0020;
const FATAL: [u32; 2] = [INVALID_ARGUMENT, TOO_LARGE];
/// Windows clients never go below (MC-BUP 3.1.5.2.4).
pub const FRAGMENT_BYTES_MIN: u64 = 5 * 1024;
/// Enough for a server that is restored or cleaned while we upload; a server that does it each time
/// is broken.
const SETBACKS_MAX: u32 = 5;

#[cfg(test)]
mod tests;
