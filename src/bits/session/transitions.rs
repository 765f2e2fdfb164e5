//! The transitions of a session: for each step the next state, and what is to be done.
//!
//! Every state is named in every function, so that a new one is a question to each.

use super::{AfterPublish, Decision, Ending, Goodbye, Keeper, Rules, State, Step, StorePlan};
use crate::bits::range::{ContentRange, Placement};
use crate::bits::reply::Refusal;

impl State {
    /// The next state, and what is to be done.
    #[must_use]
    pub fn on(self, step: Step, rules: &Rules) -> (Self, Decision) {
        match step {
            Step::Fragment(range) => self.on_fragment(range, rules),
            Step::EmptyFile => self.on_empty_file(rules),
            Step::Stored { .. } | Step::FragmentEnded | Step::Sealed => self.on_stored(step, rules),
            Step::Notified { .. } | Step::Denied => self.on_answered(step, rules),
            Step::Published | Step::PublishRefused | Step::Taken => self.on_published(step),
            Step::Close => self.on_close(rules),
            Step::Cancel => self.on_cancel(rules),
            Step::Expire => self.on_expire(rules),
            Step::Poison => self.on_poison(),
        }
    }

    fn on_fragment(self, range: ContentRange, rules: &Rules) -> (Self, Decision) {
        match self {
            Self::Receiving { received, total } => receive(received, total, range, rules),
            Self::Sealed { .. }
            | Self::Notified { .. }
            | Self::Denied { .. }
            | Self::Closing { .. }
            | Self::Published { .. } => self.repeat(range.len(), range.total(), rules),
            Self::Gone(_) => (self, Decision::Refuse(Refusal::SessionNotFound)),
        }
    }

    fn on_empty_file(self, rules: &Rules) -> (Self, Decision) {
        match self {
            Self::Receiving { received, total } => match total {
                None | Some(0) => {
                    assert!(received == 0, "bytes of a file without a size");
                    EMPTY
                }
                Some(was) => (self, Decision::Refuse(Refusal::TotalChanged { was, is: 0 })),
            },
            Self::Sealed { .. }
            | Self::Notified { .. }
            | Self::Denied { .. }
            | Self::Closing { .. }
            | Self::Published { .. } => self.repeat(0, 0, rules),
            Self::Gone(_) => (self, Decision::Refuse(Refusal::SessionNotFound)),
        }
    }

    /// What the flow tells of bytes on their way to the disk; only while the file is not whole.
    fn on_stored(self, step: Step, rules: &Rules) -> (Self, Decision) {
        let Self::Receiving { received, total } = self else {
            self.never(step)
        };
        match step {
            Step::Stored { bytes } => {
                let received = received + bytes;
                assert!(
                    total.is_some_and(|total| received <= total),
                    "stored beyond the total"
                );
                (Self::Receiving { received, total }, Decision::Nothing)
            }
            Step::FragmentEnded => match total {
                Some(total) if received == total => (self, Decision::Seal { total }),
                _ => (self, Decision::AckFragment { received }),
            },
            Step::Sealed => {
                assert!(total == Some(received), "sealed before its last byte");
                Self::Sealed { total: received }.conclude(rules)
            }
            _ => self.never(step),
        }
    }

    /// What the application said of a whole file.
    fn on_answered(self, step: Step, rules: &Rules) -> (Self, Decision) {
        match (self, step) {
            (Self::Sealed { total }, Step::Notified { copies, reply }) => Self::Notified {
                total,
                copies,
                reply,
            }
            .conclude(rules),
            (Self::Sealed { total }, Step::Denied) => (
                Self::Denied { total },
                Decision::Refuse(Refusal::denied(Some(total))),
            ),
            _ => self.never(step),
        }
    }

    /// How a publication ended.
    fn on_published(self, step: Step) -> (Self, Decision) {
        match (self, step) {
            (Self::Closing { total, then, .. }, Step::Published) => match then {
                AfterPublish::End | AfterPublish::Promised => (
                    Self::Gone(Ending::Published),
                    Decision::Say(Goodbye::Closed),
                ),
                AfterPublish::AwaitClose => {
                    (self.named(), Decision::AckFragment { received: total })
                }
            },
            (
                Self::Closing {
                    then: AfterPublish::Promised,
                    ..
                },
                Step::Taken,
            ) => (self, Decision::Say(Goodbye::Closed)),
            // Its client was told that it is kept, and has gone.
            (
                Self::Closing {
                    then: AfterPublish::Promised,
                    ..
                },
                Step::PublishRefused,
            ) => (self, Decision::Nothing),
            (Self::Closing { .. }, Step::PublishRefused) => (self.unpublished(), Decision::Nothing),
            _ => self.never(step),
        }
    }

    fn on_close(self, rules: &Rules) -> (Self, Decision) {
        let close = |ending| discard(ending, Goodbye::Closed);
        match self {
            // protocol.md 4.7. The flow seals, then closes again.
            Self::Receiving {
                received: 0,
                total: None,
            } if rules.close_creates_empty_file => EMPTY,
            // Every byte is here and only the seal failed: a success must not throw them away.
            Self::Receiving {
                received,
                total: Some(total),
            } if received == total => (self, Decision::Seal { total }),
            // MC-BUP 2.2.8: closing before the last byte deletes what arrived; the answer is still
            // a success.
            Self::Receiving { .. } => close(Ending::Incomplete),
            // An application that was never told must not lose a file to a client that is done with
            // it.
            Self::Sealed { .. } if rules.notifies => (self, Decision::Notify),
            Self::Sealed { .. } | Self::Notified { copies: true, .. } => {
                self.publish(match rules.keeper {
                    Keeper::Folder | Keeper::Store => AfterPublish::End,
                    Keeper::StoreLater => AfterPublish::Promised,
                })
            }
            Self::Notified { copies: false, .. } => close(Ending::Delivered),
            // protocol.md 9.5: it may be that nobody has heard the answer yet.
            Self::Denied { .. } => discard(Ending::Denied, Goodbye::Denied),
            // It was closed already, and nothing more is promised than before.
            Self::Closing {
                then: AfterPublish::Promised,
                ..
            } => (self, Decision::Say(Goodbye::Closed)),
            // It has its name, and that could not be made durable; or it is on its way into a
            // store, which is asked again.
            Self::Closing { .. } => self.publish(AfterPublish::End),
            Self::Published { .. } => (
                Self::Gone(Ending::Published),
                Decision::Say(Goodbye::Closed),
            ),
            // The tombstone: the same answer as the first time, anything else is unknown.
            Self::Gone(Ending::Published | Ending::Incomplete | Ending::Delivered) => {
                (self, Decision::Say(Goodbye::Closed))
            }
            Self::Gone(Ending::Denied) => (self, Decision::Say(Goodbye::Denied)),
            Self::Gone(_) => (self, Decision::Refuse(Refusal::SessionNotFound)),
        }
    }

    fn on_cancel(self, rules: &Rules) -> (Self, Decision) {
        let answer = Goodbye::Cancelled;
        match self {
            // As of a session that ended: its file is kept.
            Self::Closing {
                then: AfterPublish::Promised,
                ..
            } => (self, Decision::Refuse(Refusal::SessionNotFound)),
            // protocol.md 7.6, as below.
            Self::Closing { .. } if rules.keeper == Keeper::Folder => {
                self.publish(AfterPublish::End)
            }
            Self::Receiving { .. }
            | Self::Sealed { .. }
            | Self::Notified { .. }
            | Self::Denied { .. }
            | Self::Closing { .. } => discard(Ending::Cancelled, answer),
            // protocol.md 7.6: a Cancel after the last fragment has no effect on the file.
            Self::Published { .. } => (Self::Gone(Ending::Published), Decision::Say(answer)),
            Self::Gone(Ending::Cancelled) => (self, Decision::Say(answer)),
            // The repeated Cancel of a file that was published before the first.
            Self::Gone(Ending::Published) if rules.publish_with_last_fragment => {
                (self, Decision::Say(answer))
            }
            Self::Gone(_) => (self, Decision::Refuse(Refusal::SessionNotFound)),
        }
    }

    fn on_expire(self, rules: &Rules) -> (Self, Decision) {
        let answer = Goodbye::Nobody;
        match self {
            Self::Receiving { .. }
            | Self::Sealed { .. }
            | Self::Notified { .. }
            | Self::Denied { .. } => discard(Ending::Expired, answer),
            Self::Closing {
                then: AfterPublish::Promised,
                ..
            } => (self, Decision::Nothing),
            // It has its name, and that could not be made durable.
            Self::Closing { .. } if rules.keeper == Keeper::Folder => {
                self.publish(AfterPublish::End)
            }
            // On its way into a store.
            Self::Closing { .. } => (self, Decision::Nothing),
            Self::Published { .. } => (Self::Gone(Ending::Published), Decision::Say(answer)),
            Self::Gone(_) => (self, Decision::Nothing),
        }
    }

    fn on_poison(self) -> (Self, Decision) {
        let answer = Goodbye::Nobody;
        match self {
            // Nobody would send it again.
            Self::Closing {
                then: AfterPublish::Promised,
                ..
            } => (self, Decision::Nothing),
            Self::Receiving { .. }
            | Self::Sealed { .. }
            | Self::Notified { .. }
            | Self::Denied { .. }
            | Self::Closing { .. } => discard(Ending::Poisoned, answer),
            Self::Published { .. } => (Self::Gone(Ending::Published), Decision::Say(answer)),
            Self::Gone(_) => (self, Decision::Nothing),
        }
    }

    fn never(self, step: Step) -> ! {
        panic!("{step:?} cannot happen in {self:?}: the flow is wrong")
    }

    /// The publication of a file that is sealed, or that its application wants to have at its
    /// destination; or the rest of one that did not come to its end.
    fn publish(self, then: AfterPublish) -> (Self, Decision) {
        let told = match self {
            Self::Notified { reply, .. } => Some(reply),
            Self::Closing { told, .. } => told,
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
            Self::Sealed { .. }
            | Self::Notified { copies: true, .. }
            | Self::Closing {
                then: AfterPublish::AwaitClose | AfterPublish::End,
                ..
            } if rules.publish_with_last_fragment => self.publish(AfterPublish::AwaitClose),
            Self::Denied { total } => (self, Decision::Refuse(Refusal::denied(Some(total)))),
            _ => {
                let received = self.received();
                (self, Decision::AckFragment { received })
            }
        }
    }

    /// A fragment of `bytes` of a file that we have whole: the final Ack again (protocol.md 4.9),
    /// unless it is too long, as in [`receive`].
    fn repeat(self, bytes: u64, claimed: u64, rules: &Rules) -> (Self, Decision) {
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
        if bytes > rules.fragment_bytes_max {
            let limit = rules.fragment_bytes_max;
            return (self, Decision::Refuse(Refusal::FragmentTooLarge { limit }));
        }
        self.conclude(rules)
    }
}

/// An empty file whose name is known: there is nothing left but to seal it.
const EMPTY: (State, Decision) = (
    State::Receiving {
        received: 0,
        total: Some(0),
    },
    Decision::Seal { total: 0 },
);

/// A session ends without a file.
fn discard(ending: Ending, answer: Goodbye) -> (State, Decision) {
    (State::Gone(ending), Decision::Discard { ending, answer })
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
    let plan = StorePlan {
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
