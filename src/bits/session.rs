//! The session state machine: its states, steps and decisions. Every transition of every session
//! is in `session/transitions.rs`.
//!
//! ```text
//!                 Fragment / FragmentEnded
//!                     ┌────┐
//!                     ▼    │            all bytes here
//!   Create ───────► Receiving ─────────────────────────────► (Decision::Seal)
//!                     │                                            │ Sealed
//!                     │ Close: Incomplete                          ▼
//!                     │                   publish refused       Sealed ◄──────────┐
//!                     │                                            │ Close, or    │
//!                     │                                            │ last fragment│
//!                     │                                            ▼              │
//!                     │                                         Closing ──────────┘
//!                     │                                            │ Published
//!                     ▼                                            ▼
//!   Cancel, Expire, Poison (but see below) ───► Gone ◄── Close ── Published
//!
//!   A file in Closing may have its name already. Into a folder, Cancel and Expire publish it. On
//!   its way into a store Expire leaves it alone, and what was promised ends by Published only.
//!
//!   Where an application is told of each file (protocol.md 9.1), Sealed leads there by its answer:
//!
//!   Sealed ── Decision::Notify ─┬─ yes: Notified ── Close ──► Closing if it asked for the file,
//!                               │                           else Gone
//!                               ├─ never (403): Denied ── Close ──► Gone
//!                               └─ not now: Sealed; the next duplicate of the last fragment asks
//!                                  again
//! ```
//!
//! [`State::on`] takes a state and a step and gives the next state and one [`Decision`], which
//! the flow in `server/` carries out. Nothing here knows files, sockets or the time. The states are
//! those of MC-BUP 3.2.1.4 (protocol.md 7.1); `Gone` is a tombstone.

mod transitions;

use super::range::ContentRange;
use super::reply::Refusal;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Bytes are arriving.
    Receiving {
        /// Bytes stored; the next offset expected. `received <= total`, and equal to the length of
        /// the part.
        received: u64,
        /// Size of the file, fixed by the first fragment.
        total: Option<u64>,
    },
    /// All bytes are ours to keep; the file waits for its name.
    Sealed { total: u64 },
    /// The application took the file; the client has not closed yet.
    Notified {
        total: u64,
        /// The application wants the file at its destination.
        copies: bool,
        /// What it has for the client.
        reply: Reply,
    },
    /// The application refused the file for good (403): it is not asked again.
    Denied { total: u64 },
    /// The file is being given its name.
    Closing {
        total: u64,
        /// What follows when it has it.
        then: AfterPublish,
        /// The reply of the application that asked for it; `None` if there was none to ask.
        told: Option<Reply>,
    },
    /// The file has its name; the client has not closed yet (`publish = "last-fragment"`).
    Published {
        total: u64,
        /// What the application has for the client.
        reply: Reply,
    },
    /// The session ended; remembered so that a repeated Close or Cancel gets the same answer.
    Gone(Ending),
}

/// What an application has for the client of an upload-reply job (protocol.md 10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    None,
    /// A file that we keep and serve until the session ends.
    File,
    /// A URL of its own.
    Elsewhere,
}

/// What follows when a file has got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPublish {
    /// Close-Session is answered, and the session ends.
    End,
    /// The last fragment is answered; Close-Session is still to come.
    AwaitClose,
    /// The session ends and nobody is answered: Close-Session was acknowledged when the file was
    /// durable here, and an object store gets it, however long that takes.
    Promised,
}

/// How a session ended; one line per session is logged from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Closed by the client; the file stands at its destination.
    Published,
    /// Closed by the client; its application took the file and wants none at the destination.
    Delivered,
    /// Closed by the client after its application had refused the file; discarded.
    Denied,
    /// Closed by the client before its last byte; discarded.
    Incomplete,
    /// Cancelled by the client; discarded.
    Cancelled,
    /// No progress for the session time-out; discarded.
    Expired,
    /// The disk failed under it (or its record was damaged); discarded.
    Poisoned,
}

impl Ending {
    /// What the ledger and events call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Delivered => "delivered",
            Self::Denied => "denied",
            Self::Incomplete => "incomplete",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Poisoned => "poisoned",
        }
    }

    /// Whether the file came whole, and somebody has it.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Published | Self::Delivered)
    }
}

/// Something that happens to a session. Steps of one session never overlap in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A fragment of the file is offered; its body has not been read.
    Fragment(ContentRange),
    /// A fragment that announces an empty file (protocol.md 4.7).
    EmptyFile,
    /// Bytes were appended to the part at the watermark.
    Stored {
        /// How many; never beyond what [`Decision::Store`] asked for.
        bytes: u64,
    },
    /// The body of the fragment came to its proper end.
    FragmentEnded,
    /// What [`Decision::Seal`] asked for is done.
    Sealed,
    /// The application took the file, and that is recorded.
    Notified {
        /// It wants the file at its destination.
        copies: bool,
        /// What it has for the client.
        reply: Reply,
    },
    /// The application refused the file for good.
    Denied,
    Close,
    /// What [`Decision::Publish`] asked for is ours to do from now on, and that is recorded
    /// ([`AfterPublish::Promised`]).
    Taken,
    /// What [`Decision::Publish`] asked for is done.
    Published,
    /// The destination could not be given to the file.
    PublishRefused,
    Cancel,
    /// No progress for the session time-out.
    Expire,
    /// The disk can no longer be trusted with this session.
    Poison,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// Read the body: drop `skip` bytes, append the rest at `at`; then [`Step::FragmentEnded`].
    Store(StorePlan),
    /// Answer a fragment with the watermark; an unread body is dropped.
    AckFragment {
        /// The next offset expected.
        received: u64,
    },
    /// Make all bytes safe (as `durability` says); then [`Step::Sealed`].
    Seal {
        total: u64,
    },
    /// Tell the application of the file; then [`Step::Notified`], [`Step::Denied`], or nothing if
    /// it is to be asked again.
    Notify,
    /// Give the file its name; then [`Step::Published`], [`Step::PublishRefused`], or
    /// [`Step::Taken`] where the name can come later.
    Publish,
    /// Remove the session's files, then carry out the answer.
    Discard {
        /// How the session ends.
        ending: Ending,
        /// The answer to the client, if one is waiting.
        answer: Goodbye,
    },
    /// Answer; no file is touched.
    Say(Goodbye),
    Refuse(Refusal),
}

/// What is said to whoever asked for the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// Nothing: no client asked for it.
    Nobody,
    /// 200 to a Close-Session; a file that is promised to a store goes there after it.
    Closed,
    /// To a Close-Session, the 403 of the application.
    Denied,
    /// 200 to a Cancel-Session.
    Cancelled,
}

/// How the body of an accepted fragment is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorePlan {
    /// Leading bytes of the body that are stored already.
    pub skip: u64,
    /// Offset of the first byte to be stored; equals `received`.
    pub at: u64,
    /// Bytes to be stored; at least 1.
    pub bytes: u64,
    /// Set by the first fragment: the size of the file, to be recorded before its bytes.
    pub fixes_total: Option<u64>,
}

/// The settings that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub fragment_bytes_max: u64,
    /// Bytes of one file; `u64::MAX` is unlimited.
    pub upload_bytes_max: u64,
    /// Publish with the last fragment instead of at Close.
    pub publish_with_last_fragment: bool,
    /// A session closed without any fragment is an empty file.
    pub close_creates_empty_file: bool,
    /// An application is told of each whole file, and says whether it is published.
    pub notifies: bool,
    /// Where files go.
    pub keeper: Keeper,
}

/// Who has files in the end, and what Close-Session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// A folder, where a file gets its name in one step.
    Folder,
    /// An object store, which may take its time: a file may be asked for again meanwhile.
    Store,
    /// The same; that it is recorded here is enough.
    StoreLater,
}

impl State {
    /// The state of a new session.
    pub const NEW: Self = Self::Receiving {
        received: 0,
        total: None,
    };

    /// Whether its client was told that the file is kept, and a store has to take it yet.
    pub fn is_promised(self) -> bool {
        let then = AfterPublish::Promised;
        matches!(self, Self::Closing { then: after, .. } if after == then)
    }

    /// Bytes received so far, as far as the state still knows.
    pub fn received(self) -> u64 {
        match self {
            Self::Receiving { received, .. } => received,
            Self::Sealed { total }
            | Self::Notified { total, .. }
            | Self::Denied { total }
            | Self::Closing { total, .. }
            | Self::Published { total, .. } => total,
            Self::Gone(_) => 0,
        }
    }

    /// Size of the file, as far as it is known.
    pub fn total(self) -> Option<u64> {
        match self {
            Self::Receiving { total, .. } => total,
            Self::Gone(_) => None,
            other => Some(other.received()),
        }
    }

    /// What the client may fetch now.
    pub fn reply(self) -> Reply {
        match self {
            Self::Notified { reply, .. }
            | Self::Published { reply, .. }
            | Self::Closing {
                told: Some(reply), ..
            } => reply,
            Self::Receiving { .. }
            | Self::Sealed { .. }
            | Self::Denied { .. }
            | Self::Closing { told: None, .. }
            | Self::Gone(_) => Reply::None,
        }
    }

    /// Where a publication that is refused leads back to.
    pub fn unpublished(self) -> Self {
        match self {
            Self::Closing {
                total, told: None, ..
            } => Self::Sealed { total },
            Self::Closing {
                total,
                told: Some(reply),
                ..
            } => Self::Notified {
                total,
                copies: true,
                reply,
            },
            other => other,
        }
    }

    /// Where a publication leads whose client is not told yet that the file has its name.
    pub fn named(self) -> Self {
        match self {
            Self::Closing { total, told, .. } => Self::Published {
                total,
                reply: told.unwrap_or(Reply::None),
            },
            other => other,
        }
    }

    /// Whether `step` may be given to this state at all; the others are our own mistakes.
    pub fn admits(self, step: Step) -> bool {
        match step {
            Step::Fragment(_)
            | Step::EmptyFile
            | Step::Close
            | Step::Cancel
            | Step::Expire
            | Step::Poison => true,
            Step::Stored { bytes } => {
                matches!(self, Self::Receiving { received, total: Some(total) }
                if received.checked_add(bytes).is_some_and(|after| after <= total))
            }
            Step::FragmentEnded => matches!(self, Self::Receiving { .. }),
            Step::Sealed => {
                matches!(self, Self::Receiving { received, total } if total == Some(received))
            }
            Step::Notified { .. } | Step::Denied => matches!(self, Self::Sealed { .. }),
            Step::Published | Step::PublishRefused => matches!(self, Self::Closing { .. }),
            Step::Taken => self.is_promised(),
        }
    }
}

#[cfg(test)]
mod tests;
