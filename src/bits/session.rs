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
//! [`State::on`] takes a state and an event and gives the next state and one [`Decision`], which
//! the flow in `server/` carries out. Nothing here knows files, sockets or the time. The states are
//! those of MC-BUP 3.2.1.4 (protocol.md 7.1); `Gone` is a tombstone.

use super::range::{ContentRange, Placement};
use super::reply::Refusal;
use crate::planted::{self, Bug};

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
        /// What the client is waiting for.
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

/// What asked for a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPublish {
    /// By Close-Session: the session ends.
    End,
    /// By the last fragment: Close-Session is still to come.
    AwaitClose,
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

/// Something that happens to a session. Events of one session never overlap in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
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
    /// Read the body: drop `skip` bytes, append the rest at `at`; then [`Event::FragmentEnded`].
    Store(Plan),
    /// Answer a fragment with the watermark; an unread body is dropped.
    AckFragment {
        /// The next offset expected.
        received: u64,
    },
    /// Make all bytes safe (as `durability` says); then [`Event::Sealed`].
    Seal {
        total: u64,
    },
    /// Tell the application of the file; then [`Event::Notified`], [`Event::Denied`], or nothing if
    /// it is to be asked again.
    Notify,
    /// Give the file its name; then [`Event::Published`] or [`Event::PublishRefused`].
    Publish,
    /// Remove the session's files, then carry out the answer.
    Discard {
        /// How the session ends.
        ending: Ending,
        /// The answer to the client, if one is waiting.
        answer: Answer,
    },
    /// Answer; no file is touched.
    Say(Answer),
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
    pub fragment_bytes_max: u64,
    /// Bytes of one file; `u64::MAX` is unlimited.
    pub upload_bytes_max: u64,
    /// Publish with the last fragment instead of at Close.
    pub publish_with_last_fragment: bool,
    /// A session closed without any fragment is an empty file.
    pub close_creates_empty_file: bool,
    /// An application is told of each whole file, and says whether it is published.
    pub notifies: bool,
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
                Self::Sealed { total: received }.conclude(rules)
            }
            (
                Self::Receiving {
                    received: 0,
                    total: None,
                },
                Event::Close,
            ) if rules.close_creates_empty_file => {
                // protocol.md 4.7. The flow seals, then closes again.
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
            // MC-BUP 2.2.8: closing before the last byte deletes what arrived; the answer is still
            // a success.
            (Self::Receiving { .. }, Event::Close) => discard(Ending::Incomplete, Answer::Closed),

            (
                Self::Sealed { .. }
                | Self::Notified { .. }
                | Self::Denied { .. }
                | Self::Closing { .. }
                | Self::Published { .. },
                Event::Fragment(range),
            ) => self.repeat(range.total(), rules),
            (
                Self::Sealed { .. }
                | Self::Notified { .. }
                | Self::Denied { .. }
                | Self::Closing { .. }
                | Self::Published { .. },
                Event::EmptyFile,
            ) => self.repeat(0, rules),

            // An application that was never told must not lose a file to a client that is done with
            // it.
            (Self::Sealed { .. }, Event::Close) if rules.notifies => (self, Decision::Notify),
            (Self::Sealed { .. } | Self::Notified { copies: true, .. }, Event::Close) => {
                self.publish(AfterPublish::End)
            }
            (Self::Notified { .. }, Event::Close) if planted::is(Bug::PublishedUnasked) => {
                self.publish(AfterPublish::End)
            }
            (Self::Notified { copies: false, .. }, Event::Close) => {
                discard(Ending::Delivered, Answer::Closed)
            }
            (Self::Denied { .. }, Event::Close) => discard(Ending::Denied, Answer::Closed),
            (Self::Sealed { total }, Event::Notified { copies, reply }) => Self::Notified {
                total,
                copies,
                reply,
            }
            .conclude(rules),
            (Self::Sealed { total }, Event::Denied) => {
                (Self::Denied { total }, Decision::Refuse(denied(total)))
            }

            (Self::Closing { total, then, told }, Event::Published) => match then {
                AfterPublish::End => (Self::Gone(Ending::Published), Decision::Say(Answer::Closed)),
                AfterPublish::AwaitClose => (
                    Self::Published {
                        total,
                        reply: told.unwrap_or(Reply::None),
                    },
                    Decision::AckFragment { received: total },
                ),
            },
            (Self::Closing { .. }, Event::PublishRefused) => {
                (self.unpublished(), Decision::Nothing)
            }

            (Self::Published { .. }, Event::Close) => {
                (Self::Gone(Ending::Published), Decision::Say(Answer::Closed))
            }
            // protocol.md 7.6: a Cancel after the last fragment has no effect on the file.
            (Self::Published { .. }, Event::Cancel) => (
                Self::Gone(Ending::Published),
                Decision::Say(Answer::Cancelled),
            ),
            (Self::Published { .. }, Event::Expire | Event::Poison) => {
                (Self::Gone(Ending::Published), Decision::Say(Answer::Nobody))
            }

            (
                Self::Receiving { .. }
                | Self::Sealed { .. }
                | Self::Notified { .. }
                | Self::Denied { .. }
                | Self::Closing { .. },
                Event::Cancel,
            ) => discard(Ending::Cancelled, Answer::Cancelled),
            (
                Self::Receiving { .. }
                | Self::Sealed { .. }
                | Self::Notified { .. }
                | Self::Denied { .. },
                Event::Expire,
            ) => discard(Ending::Expired, Answer::Nobody),
            (
                Self::Receiving { .. }
                | Self::Sealed { .. }
                | Self::Notified { .. }
                | Self::Denied { .. }
                | Self::Closing { .. },
                Event::Poison,
            ) => discard(Ending::Poisoned, Answer::Nobody),

            // The tombstone: the same answer as the first time, anything else is unknown.
            (
                Self::Gone(
                    Ending::Published | Ending::Incomplete | Ending::Delivered | Ending::Denied,
                ),
                Event::Close,
            ) => (self, Decision::Say(Answer::Closed)),
            (Self::Gone(Ending::Cancelled), Event::Cancel) => {
                (self, Decision::Say(Answer::Cancelled))
            }
            // The repeated Cancel of a file that was published before the first.
            (Self::Gone(Ending::Published), Event::Cancel) if rules.publish_with_last_fragment => {
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
            Event::Notified { .. } | Event::Denied => matches!(self, Self::Sealed { .. }),
            Event::Published | Event::PublishRefused => matches!(self, Self::Closing { .. }),
        }
    }

    /// The publication of a file that is sealed, or that its application wants to have at its
    /// destination.
    fn publish(self, then: AfterPublish) -> (Self, Decision) {
        let told = match self {
            Self::Notified { reply, .. } => Some(reply),
            _ => None,
        };
        let total = self.received();
        (Self::Closing { total, then, told }, Decision::Publish)
    }

    /// What is left to do before the final Ack, once every byte of a file is kept. It is asked
    /// again by every duplicate, since every Ack of all bytes says that all of it is done.
    fn conclude(self, rules: &Rules) -> (Self, Decision) {
        match self {
            Self::Sealed { .. } if rules.notifies => (self, Decision::Notify),
            Self::Sealed { .. } | Self::Notified { copies: true, .. }
                if rules.publish_with_last_fragment =>
            {
                self.publish(AfterPublish::AwaitClose)
            }
            Self::Denied { total } => (self, Decision::Refuse(denied(total))),
            _ => {
                let received = self.received();
                (self, Decision::AckFragment { received })
            }
        }
    }

    /// A fragment of a file that we have whole: the final Ack again (protocol.md 4.9).
    fn repeat(self, claimed: u64, rules: &Rules) -> (Self, Decision) {
        let total = self.received();
        if claimed != total {
            return (
                self,
                Decision::Refuse(Refusal::TotalChanged {
                    was: total,
                    is: claimed,
                }),
            );
        }
        self.conclude(rules)
    }
}

/// A session ends without a file.
fn discard(ending: Ending, answer: Answer) -> (State, Decision) {
    (State::Gone(ending), Decision::Discard { ending, answer })
}

/// What a client hears whose file the application has refused for good (protocol.md 9.5).
fn denied(total: u64) -> Refusal {
    Refusal::Application {
        status: 403,
        received: total,
    }
}

/// protocol.md 4.2, in its order; the syntax of the range and the length were checked before.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const RULES: Rules = Rules {
        fragment_bytes_max: 1 << 20,
        upload_bytes_max: 1 << 40,
        publish_with_last_fragment: false,
        close_creates_empty_file: false,
        notifies: false,
    };

    fn range(start: u64, end: u64, total: u64) -> ContentRange {
        ContentRange::new(start, end, total).unwrap()
    }

    /// Every event that a client, the flow or the clock can cause over a 3-byte file.
    fn all_events() -> Vec<Event> {
        let mut events = vec![
            Event::EmptyFile,
            Event::Stored { bytes: 1 },
            Event::Stored { bytes: 2 },
            Event::FragmentEnded,
            Event::Sealed,
            Event::Close,
            Event::Published,
            Event::PublishRefused,
            Event::Denied,
            Event::Cancel,
            Event::Expire,
            Event::Poison,
        ];
        for copies in [false, true] {
            for reply in [Reply::None, Reply::File, Reply::Elsewhere] {
                events.push(Event::Notified { copies, reply });
            }
        }
        for total in [2, 3] {
            for start in 0..total {
                for end in start + 1..=total {
                    events.push(Event::Fragment(range(start, end, total)));
                }
            }
        }
        events
    }

    fn all_rules() -> Vec<Rules> {
        let mut all = Vec::new();
        for switches in 0..8 {
            for fragment_bytes_max in [2, 100] {
                for upload_bytes_max in [2, 100] {
                    all.push(Rules {
                        fragment_bytes_max,
                        upload_bytes_max,
                        publish_with_last_fragment: switches & 1 != 0,
                        close_creates_empty_file: switches & 2 != 0,
                        notifies: switches & 4 != 0,
                    });
                }
            }
        }
        all
    }

    /// Goal: no sequence of events breaks an invariant or panics. Method: walk every sequence to
    /// depth 7 (states that were seen at the same or a smaller depth are not walked again).
    #[test]
    fn every_sequence_of_events_keeps_the_invariants() {
        for rules in all_rules() {
            let mut seen: BTreeSet<String> = BTreeSet::new();
            let mut layer = vec![State::NEW];
            for _depth in 0..7 {
                let mut next = Vec::new();
                for state in layer {
                    for event in all_events()
                        .into_iter()
                        .filter(|&event| state.admits(event))
                    {
                        let (after, decision) = state.on(event, &rules);
                        check_invariants(state, event, after, &decision);
                        check_told(state, after, &decision, &rules);
                        if seen.insert(format!("{after:?}")) {
                            next.push(after);
                        }
                    }
                }
                layer = next;
            }
            assert!(
                seen.len() > 10,
                "the walk reached {} states only",
                seen.len()
            );
        }
    }

    fn check_invariants(before: State, event: Event, after: State, decision: &Decision) {
        let context = format!("{before:?} on {event:?} gave {after:?} and {decision:?}");
        if let State::Receiving { received, total } = after {
            assert!(total.is_none_or(|total| received <= total), "{context}");
            assert!(total.is_some() || received == 0, "{context}");
        }
        if !matches!(after, State::Gone(_)) {
            assert!(
                after.received() >= before.received(),
                "the watermark fell: {context}"
            );
        }
        if matches!(before, State::Gone(_)) {
            assert_eq!(before, after, "the dead rose: {context}");
        }
        match decision {
            Decision::Store(plan) => {
                let State::Receiving {
                    received,
                    total: Some(total),
                } = after
                else {
                    panic!("{context}")
                };
                assert_eq!(plan.at, received, "{context}");
                assert!(plan.bytes > 0 && plan.at + plan.bytes <= total, "{context}");
            }
            Decision::AckFragment { received } => {
                assert_eq!(*received, after.received(), "{context}");
            }
            Decision::Seal { total } => {
                let whole = State::Receiving {
                    received: *total,
                    total: Some(*total),
                };
                assert_eq!(after, whole, "{context}");
            }
            Decision::Publish => {
                assert!(matches!(after, State::Closing { .. }), "{context}");
                assert!(
                    matches!(
                        before,
                        State::Sealed { .. }
                            | State::Receiving { .. }
                            | State::Notified { copies: true, .. }
                    ),
                    "{context}"
                );
            }
            Decision::Notify => {
                assert!(matches!(after, State::Sealed { .. }), "{context}");
            }
            Decision::Discard { .. } => {
                assert!(matches!(after, State::Gone(_)), "{context}");
                assert!(
                    !matches!(before, State::Published { .. }),
                    "published lost: {context}"
                );
            }
            Decision::Refuse(_) if event == Event::Denied => {}
            Decision::Refuse(_) => assert_eq!(before, after, "a refusal changed it: {context}"),
            Decision::Nothing | Decision::Say(_) => {}
        }
    }

    /// Where an application is to be told, nothing is published and no last byte acked before it
    /// said yes.
    fn check_told(before: State, after: State, decision: &Decision, rules: &Rules) {
        if !rules.notifies {
            return;
        }
        let context = format!("{before:?} gave {after:?} and {decision:?}");
        if let State::Closing { told, .. } = after {
            assert!(told.is_some(), "published unasked: {context}");
        }
        if let Decision::AckFragment { .. } = decision {
            assert!(!matches!(after, State::Sealed { .. }), "{context}");
        }
    }

    #[test]
    fn a_whole_file_is_told_to_the_application_until_it_answers() {
        let rules = Rules {
            notifies: true,
            ..RULES
        };
        let whole = Event::Fragment(range(0, 5, 5));
        let sealed = State::Sealed { total: 5 };
        let full = State::Receiving {
            received: 5,
            total: Some(5),
        };
        assert_eq!(full.on(Event::Sealed, &rules), (sealed, Decision::Notify));
        assert_eq!(sealed.on(whole, &rules), (sealed, Decision::Notify));
        assert_eq!(sealed.on(Event::Close, &rules), (sealed, Decision::Notify));
        let answer = Event::Notified {
            copies: false,
            reply: Reply::File,
        };
        let (notified, decision) = sealed.on(answer, &rules);
        assert_eq!(decision, Decision::AckFragment { received: 5 });
        assert_eq!(notified.reply(), Reply::File);
        // The cached answer; nobody is asked again.
        assert_eq!(
            notified.on(whole, &rules),
            (notified, Decision::AckFragment { received: 5 })
        );
        let (gone, decision) = notified.on(Event::Close, &rules);
        assert_eq!(gone, State::Gone(Ending::Delivered));
        let answer = Answer::Closed;
        assert!(
            matches!(decision, Decision::Discard { answer: given, .. } if given == answer),
            "{decision:?}"
        );
    }

    #[test]
    fn a_file_that_the_application_wants_is_published_and_its_reply_stays() {
        let rules = Rules {
            notifies: true,
            publish_with_last_fragment: true,
            ..RULES
        };
        let answer = Event::Notified {
            copies: true,
            reply: Reply::Elsewhere,
        };
        let (closing, decision) = State::Sealed { total: 5 }.on(answer, &rules);
        assert_eq!(decision, Decision::Publish);
        assert_eq!(
            closing.on(Event::PublishRefused, &rules).0,
            State::Notified {
                total: 5,
                copies: true,
                reply: Reply::Elsewhere
            }
        );
        let (published, _) = closing.on(Event::Published, &rules);
        assert_eq!(published.reply(), Reply::Elsewhere);
    }

    #[test]
    fn what_the_application_refused_for_good_is_not_offered_again() {
        let rules = Rules {
            notifies: true,
            ..RULES
        };
        let refused = Decision::Refuse(denied(5));
        let (denied, decision) = State::Sealed { total: 5 }.on(Event::Denied, &rules);
        assert_eq!(decision, refused);
        let again = denied.on(Event::Fragment(range(0, 5, 5)), &rules);
        assert_eq!(again, (denied, refused));
        let (gone, _) = denied.on(Event::Close, &rules);
        assert_eq!(gone, State::Gone(Ending::Denied));
    }

    #[test]
    fn the_first_fragment_fixes_the_total() {
        let (state, decision) = State::NEW.on(Event::Fragment(range(0, 2, 3)), &RULES);
        let plan = Plan {
            skip: 0,
            at: 0,
            bytes: 2,
            fixes_total: Some(3),
        };
        assert_eq!(decision, Decision::Store(plan));
        let (_, decision) = state.on(Event::Fragment(range(0, 2, 2)), &RULES);
        assert_eq!(
            decision,
            Decision::Refuse(Refusal::TotalChanged { was: 3, is: 2 })
        );
    }

    #[test]
    fn overlap_keeps_the_bytes_already_stored() {
        let state = State::Receiving {
            received: 2,
            total: Some(5),
        };
        let (_, decision) = state.on(Event::Fragment(range(1, 4, 5)), &RULES);
        let plan = Plan {
            skip: 1,
            at: 2,
            bytes: 2,
            fixes_total: None,
        };
        assert_eq!(decision, Decision::Store(plan));
    }

    #[test]
    fn a_gap_is_refused_with_the_offset_to_go_on_from() {
        let state = State::Receiving {
            received: 2,
            total: Some(5),
        };
        let (after, decision) = state.on(Event::Fragment(range(3, 5, 5)), &RULES);
        assert_eq!(decision, Decision::Refuse(Refusal::Gap { received: 2 }));
        assert_eq!(after, state);
    }

    #[test]
    fn a_complete_duplicate_never_moves_the_watermark_back() {
        let state = State::Receiving {
            received: 4,
            total: Some(5),
        };
        let (_, decision) = state.on(Event::Fragment(range(0, 2, 5)), &RULES);
        assert_eq!(decision, Decision::AckFragment { received: 4 });
    }

    #[test]
    fn a_file_too_large_is_told_before_a_fragment_too_large() {
        let rules = Rules {
            upload_bytes_max: 10,
            fragment_bytes_max: 4,
            ..RULES
        };
        let (_, decision) = State::NEW.on(Event::Fragment(range(0, 11, 11)), &rules);
        assert_eq!(
            decision,
            Decision::Refuse(Refusal::UploadTooLarge { limit: 10 })
        );
        let (_, decision) = State::NEW.on(Event::Fragment(range(0, 5, 10)), &rules);
        assert_eq!(
            decision,
            Decision::Refuse(Refusal::FragmentTooLarge { limit: 4 })
        );
    }

    #[test]
    fn totals_up_to_the_last_u64_do_not_overflow() {
        let rules = Rules {
            upload_bytes_max: u64::MAX,
            fragment_bytes_max: u64::MAX,
            ..RULES
        };
        let whole = range(0, u64::MAX, u64::MAX);
        let (state, decision) = State::NEW.on(Event::Fragment(whole), &rules);
        assert!(matches!(
            decision,
            Decision::Store(Plan {
                bytes: u64::MAX,
                ..
            })
        ));
        let (state, _) = state.on(Event::Stored { bytes: u64::MAX }, &rules);
        let (_, decision) = state.on(Event::FragmentEnded, &rules);
        assert_eq!(decision, Decision::Seal { total: u64::MAX });
    }

    #[test]
    fn close_and_cancel_repeat_their_answers_and_not_each_other() {
        let closed = State::Gone(Ending::Published);
        assert_eq!(
            closed.on(Event::Close, &RULES).1,
            Decision::Say(Answer::Closed)
        );
        let refused = Decision::Refuse(Refusal::SessionNotFound);
        assert_eq!(closed.on(Event::Cancel, &RULES).1, refused);
        let cancelled = State::Gone(Ending::Cancelled);
        assert_eq!(
            cancelled.on(Event::Cancel, &RULES).1,
            Decision::Say(Answer::Cancelled)
        );
        assert_eq!(cancelled.on(Event::Close, &RULES).1, refused);
    }

    #[test]
    fn closing_an_incomplete_upload_discards_it() {
        let state = State::Receiving {
            received: 2,
            total: Some(5),
        };
        let (after, decision) = state.on(Event::Close, &RULES);
        assert_eq!(after, State::Gone(Ending::Incomplete));
        assert_eq!(
            decision,
            Decision::Discard {
                ending: Ending::Incomplete,
                answer: Answer::Closed
            }
        );
    }

    #[test]
    fn closing_a_whole_upload_whose_seal_failed_seals_it_first() {
        let state = State::Receiving {
            received: 5,
            total: Some(5),
        };
        assert_eq!(
            state.on(Event::Close, &RULES),
            (state, Decision::Seal { total: 5 })
        );
    }

    #[test]
    fn a_refused_publication_leaves_the_file_sealed() {
        let sealed = State::Sealed { total: 5 };
        let (closing, decision) = sealed.on(Event::Close, &RULES);
        assert_eq!(decision, Decision::Publish);
        assert_eq!(closing.on(Event::PublishRefused, &RULES).0, sealed);
    }

    #[test]
    fn cancel_after_publication_with_the_last_fragment_keeps_the_file() {
        let published = State::Published {
            total: 5,
            reply: Reply::None,
        };
        let (after, decision) = published.on(Event::Cancel, &RULES);
        assert_eq!(after, State::Gone(Ending::Published));
        assert_eq!(decision, Decision::Say(Answer::Cancelled));
    }
}
