//! The session state machine: every transition of every session is in this file.
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
//!   Cancel, Expire, Poison (any state) ──────► Gone ◄── Close ── Published
//! ```
//!
//! [`State::on`] takes a state and an event and gives the next state and one [`Decision`], which the
//! flow in `server/` carries out. Nothing here knows files, sockets or the time.
//! The states are those of protocol section P7; `Gone` is its tombstone.

use super::range::{ContentRange, Placement};
use super::reply::Refusal;
use crate::event::Ending;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Bytes are arriving.
    Receiving {
        /// Bytes stored; the next offset expected. `received <= total`, and equal to the length of the work file.
        received: u64,
        /// Size of the file, fixed by the first fragment.
        total: Option<u64>,
    },
    /// All bytes are ours to keep; the file waits for its name.
    Sealed {
        /// Size of the file.
        total: u64,
    },
    /// The file is being given its name.
    Closing {
        /// Size of the file.
        total: u64,
        /// What the client is waiting for.
        then: AfterPublish,
    },
    /// The file has its name; the client has not closed yet (`publish = "last-fragment"`).
    Published {
        /// Size of the file.
        total: u64,
    },
    /// The session ended; remembered so that a repeated Close or Cancel gets the same answer.
    Gone(Ending),
}

/// What a publication was asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPublish {
    /// By Close-Session: the session ends.
    End,
    /// By the last fragment: Close-Session is still to come.
    AwaitClose,
}

/// Something that happens to a session. Events of one session never overlap in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A fragment of the file is offered; its body has not been read.
    Fragment(ContentRange),
    /// A fragment that announces an empty file (P4.4).
    EmptyFile,
    /// Bytes were appended to the work file at the watermark.
    Stored {
        /// How many; never beyond what [`Decision::Store`] asked for.
        bytes: u64,
    },
    /// The body of the fragment came to its proper end.
    FragmentEnded,
    /// What [`Decision::Seal`] asked for is done.
    Sealed,
    /// Close-Session.
    Close,
    /// What [`Decision::Publish`] asked for is done.
    Published,
    /// The destination could not be given to the file.
    PublishRefused,
    /// Cancel-Session.
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
    /// Read the body: drop `skip` bytes, append the rest at `at`; then [`Event::FragmentEnded`].
    Store(Plan),
    /// Answer a fragment with the watermark; an unread body is dropped.
    AckFragment {
        /// The next offset expected.
        received: u64,
    },
    /// Make all bytes safe (as `durability` says); then [`Event::Sealed`].
    Seal {
        /// Size of the file.
        total: u64,
    },
    /// Give the file its name; then [`Event::Published`] or [`Event::PublishRefused`].
    Publish,
    /// Remove the session's files, then carry out the answer.
    Discard {
        /// The answer to the client, if one is waiting.
        answer: Answer,
    },
    /// Answer; no file is touched.
    Say(Answer),
    /// Refuse.
    Refuse(Refusal),
}

/// The answers that end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody is waiting.
    Nobody,
    /// 200 to a Close-Session.
    Closed,
    /// 200 to a Cancel-Session.
    Cancelled,
}

/// How the body of an accepted fragment is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
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
    /// Bytes of one fragment.
    pub fragment_bytes_max: u64,
    /// Bytes of one file; `u64::MAX` is unlimited.
    pub upload_bytes_max: u64,
    /// Publish with the last fragment instead of at Close.
    pub publish_with_last_fragment: bool,
    /// A session closed without any fragment is an empty file.
    pub close_creates_empty_file: bool,
}

impl State {
    /// The state of a new session.
    pub const NEW: Self = Self::Receiving {
        received: 0,
        total: None,
    };

    /// Bytes received so far, as far as the state still knows.
    pub fn received(self) -> u64 {
        match self {
            Self::Receiving { received, .. } => received,
            Self::Sealed { total } | Self::Closing { total, .. } | Self::Published { total } => {
                total
            }
            Self::Gone(_) => 0,
        }
    }

    /// The next state, and what is to be done.
    #[must_use]
    pub fn on(self, event: Event, rules: &Rules) -> (Self, Decision) {
        match (self, event) {
            (Self::Receiving { received, total }, Event::Fragment(range)) => {
                receive(received, total, range, rules)
            }
            (Self::Receiving { received, total }, Event::EmptyFile) => match total {
                None | Some(0) => {
                    assert!(received == 0, "bytes of a file without a size");
                    (
                        Self::Receiving {
                            received: 0,
                            total: Some(0),
                        },
                        Decision::Seal { total: 0 },
                    )
                }
                Some(was) => (self, Decision::Refuse(Refusal::TotalChanged { was, is: 0 })),
            },
            (Self::Receiving { received, total }, Event::Stored { bytes }) => {
                let received = received + bytes;
                assert!(
                    total.is_some_and(|total| received <= total),
                    "stored beyond the total"
                );
                (Self::Receiving { received, total }, Decision::Nothing)
            }
            (Self::Receiving { received, total }, Event::FragmentEnded) => match total {
                Some(total) if received == total => (self, Decision::Seal { total }),
                _ => (self, Decision::AckFragment { received }),
            },
            (Self::Receiving { received, total }, Event::Sealed) => {
                assert!(total == Some(received), "sealed before its last byte");
                let sealed = Self::Sealed { total: received };
                if rules.publish_with_last_fragment {
                    sealed.publish(received, AfterPublish::AwaitClose)
                } else {
                    (sealed, Decision::AckFragment { received })
                }
            }
            (
                Self::Receiving {
                    received: 0,
                    total: None,
                },
                Event::Close,
            ) if rules.close_creates_empty_file => {
                // P4.4 (b). The flow seals, then closes again.
                (
                    Self::Receiving {
                        received: 0,
                        total: Some(0),
                    },
                    Decision::Seal { total: 0 },
                )
            }
            // Every byte is here and only the seal failed: a success must not throw them away.
            (
                Self::Receiving {
                    received,
                    total: Some(total),
                },
                Event::Close,
            ) if received == total => (self, Decision::Seal { total }),
            // MC-BUP 2.2.8: closing before the last byte deletes what arrived; the answer is still a success.
            (Self::Receiving { .. }, Event::Close) => (
                Self::Gone(Ending::Incomplete),
                Decision::Discard {
                    answer: Answer::Closed,
                },
            ),

            (Self::Sealed { total }, Event::Fragment(range)) => {
                self.repeat(total, range.total(), range.end() == total, rules)
            }
            (Self::Sealed { total }, Event::EmptyFile) => self.repeat(total, 0, total == 0, rules),
            (Self::Sealed { total }, Event::Close) => self.publish(total, AfterPublish::End),

            (Self::Closing { total, then }, Event::Published) => match then {
                AfterPublish::End => (Self::Gone(Ending::Published), Decision::Say(Answer::Closed)),
                AfterPublish::AwaitClose => (
                    Self::Published { total },
                    Decision::AckFragment { received: total },
                ),
            },
            (Self::Closing { total, .. }, Event::PublishRefused) => {
                (Self::Sealed { total }, Decision::Nothing)
            }

            (Self::Published { total } | Self::Closing { total, .. }, Event::Fragment(range)) => {
                self.repeat_published(total, range.total())
            }
            (Self::Published { total } | Self::Closing { total, .. }, Event::EmptyFile) => {
                self.repeat_published(total, 0)
            }
            (Self::Published { .. }, Event::Close) => {
                (Self::Gone(Ending::Published), Decision::Say(Answer::Closed))
            }
            // [W32 cancel-session]: a Cancel after the last fragment has no effect on the file.
            (Self::Published { .. }, Event::Cancel) => (
                Self::Gone(Ending::Published),
                Decision::Say(Answer::Cancelled),
            ),
            (Self::Published { .. }, Event::Expire | Event::Poison) => {
                (Self::Gone(Ending::Published), Decision::Say(Answer::Nobody))
            }

            (
                Self::Receiving { .. } | Self::Sealed { .. } | Self::Closing { .. },
                Event::Cancel,
            ) => (
                Self::Gone(Ending::Cancelled),
                Decision::Discard {
                    answer: Answer::Cancelled,
                },
            ),
            (Self::Receiving { .. } | Self::Sealed { .. }, Event::Expire) => (
                Self::Gone(Ending::Expired),
                Decision::Discard {
                    answer: Answer::Nobody,
                },
            ),
            (
                Self::Receiving { .. } | Self::Sealed { .. } | Self::Closing { .. },
                Event::Poison,
            ) => (
                Self::Gone(Ending::Poisoned),
                Decision::Discard {
                    answer: Answer::Nobody,
                },
            ),

            // The tombstone: the same answer as the first time, anything else is unknown.
            (Self::Gone(Ending::Published | Ending::Incomplete), Event::Close) => {
                (self, Decision::Say(Answer::Closed))
            }
            (Self::Gone(Ending::Cancelled), Event::Cancel) => {
                (self, Decision::Say(Answer::Cancelled))
            }
            (Self::Gone(_), Event::Expire | Event::Poison) => (self, Decision::Nothing),
            (
                Self::Gone(_),
                Event::Fragment(_) | Event::EmptyFile | Event::Close | Event::Cancel,
            ) => (self, Decision::Refuse(Refusal::SessionNotFound)),

            // A file in the middle of getting its name is neither expired nor closed twice.
            (Self::Closing { .. }, Event::Expire) => (self, Decision::Nothing),
            (Self::Closing { .. }, Event::Close) => (self, Decision::Refuse(Refusal::Busy)),

            (state, event) => panic!("{event:?} cannot happen in {state:?}: the flow is wrong"),
        }
    }

    /// Whether `event` may be given to this state at all; the others are our own mistakes.
    pub fn admits(self, event: Event) -> bool {
        match event {
            Event::Fragment(_)
            | Event::EmptyFile
            | Event::Close
            | Event::Cancel
            | Event::Expire
            | Event::Poison => true,
            Event::Stored { bytes } => {
                matches!(self, Self::Receiving { received, total: Some(total) }
                if received.checked_add(bytes).is_some_and(|after| after <= total))
            }
            Event::FragmentEnded => matches!(self, Self::Receiving { .. }),
            Event::Sealed => {
                matches!(self, Self::Receiving { received, total } if total == Some(received))
            }
            Event::Published | Event::PublishRefused => matches!(self, Self::Closing { .. }),
        }
    }

    fn publish(self, total: u64, then: AfterPublish) -> (Self, Decision) {
        (Self::Closing { total, then }, Decision::Publish)
    }

    /// A fragment of a file of which we have every byte: the final Ack again (P4.3). If the file was
    /// to be published with its last fragment and could not be, the last fragment tries again.
    fn repeat(self, total: u64, claimed: u64, is_last: bool, rules: &Rules) -> (Self, Decision) {
        if claimed != total {
            return (
                self,
                Decision::Refuse(Refusal::TotalChanged {
                    was: total,
                    is: claimed,
                }),
            );
        }
        if is_last && rules.publish_with_last_fragment {
            return self.publish(total, AfterPublish::AwaitClose);
        }
        (self, Decision::AckFragment { received: total })
    }

    fn repeat_published(self, total: u64, claimed: u64) -> (Self, Decision) {
        let decision = if claimed == total {
            Decision::AckFragment { received: total }
        } else {
            Decision::Refuse(Refusal::TotalChanged {
                was: total,
                is: claimed,
            })
        };
        (self, decision)
    }
}

/// The table of P4.2, in its order; the syntax of the range and the length were checked before.
fn receive(
    received: u64,
    total: Option<u64>,
    range: ContentRange,
    rules: &Rules,
) -> (State, Decision) {
    let state = State::Receiving { received, total };
    if let Some(was) = total
        && was != range.total()
    {
        return (
            state,
            Decision::Refuse(Refusal::TotalChanged {
                was,
                is: range.total(),
            }),
        );
    }
    // MC-BUP 3.1.5.2.1: the limit is one of the file, told at its first fragment and never by 413.
    if range.total() > rules.upload_bytes_max {
        return (
            state,
            Decision::Refuse(Refusal::UploadTooLarge {
                limit: rules.upload_bytes_max,
            }),
        );
    }
    if range.len() > rules.fragment_bytes_max {
        let limit = rules.fragment_bytes_max;
        return (state, Decision::Refuse(Refusal::FragmentTooLarge { limit }));
    }
    let skip = match range.place(received) {
        Placement::Gap => return (state, Decision::Refuse(Refusal::Gap { received })),
        // All bytes are here but the seal failed earlier: try it again before the final Ack.
        Placement::Known if total == Some(received) => {
            return (state, Decision::Seal { total: received });
        }
        Placement::Known => return (state, Decision::AckFragment { received }),
        Placement::Fresh => 0,
        Placement::Overlap { skip } => skip,
    };
    let plan = Plan {
        skip,
        at: received,
        bytes: range.len() - skip,
        fixes_total: total.is_none().then_some(range.total()),
    };
    (
        State::Receiving {
            received,
            total: Some(range.total()),
        },
        Decision::Store(plan),
    )
}
