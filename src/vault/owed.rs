//! What is owed to the outside when a session has ended: that others hear of it.
//!
//! **The journal is the outbox.** The record that says how a session ends says in the same frame
//! that an event of it is owed, so nothing can end without owing it, and no event is owed for what
//! did not happen. It is owed until every target has said that it has it: the record stays in the
//! journal for so long, through renewals and restarts, and a tombstone takes its place after that.
//! Nothing is dropped; what may be owed is bounded where sessions are made
//! (`limits.events_owed_per_shard_max`).
//!
//! *A published file* is owed for by the record `closing`, which is written before the rename:
//! a restart that finds the part gone under it knows that the rename happened. Before its Ack a
//! durable publication syncs that record too: by the one sync of all where the file system commits
//! in order, and before the rename where it does not, or where the journal is on another disk. So
//! whoever heard of a file by an Ack has a record that owes for it. If a power cut takes the record
//! back to `sealed` before the Ack, and the file has its name all the same, its inode says so at
//! the next start, and the event is owed from then on.
//!
//! *An event can be told twice*: a crash between the target's answer and the tombstone, or a power
//! cut that takes the tombstone back, tells it again, under the same id. It cannot be told without
//! a file: it is handed over only when the publication was done as its durability asks.
//!
//! What can lose one: a medium that destroys a record that was synced (the journal is set aside
//! then, with a line in the log), `durability = "none"` and a power cut, which may lose the file
//! too. An end without a file is told as far as its record could be written.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ending_words::{ending_from_text, ending_to_text};
use crate::bits::session::{Ending, State};

/// Who hears of sessions that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventTarget {
    /// An HTTP server.
    Webhook,
    /// A stream of NATS JetStream.
    Nats,
}

impl EventTarget {
    /// All that there can be.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Nats];

    /// Its name, in records, settings and series.
    pub fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Nats => "nats",
        }
    }

    /// Its number among all.
    pub fn index(self) -> usize {
        match self {
            Self::Webhook => 0,
            Self::Nats => 1,
        }
    }

    fn bit(self) -> u8 {
        1 << self.index()
    }
}

/// Some targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTargets(u8);

impl EventTargets {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub fn with(self, target: EventTarget) -> Self {
        Self(self.0 | target.bit())
    }

    /// Whether it is one of them.
    pub fn has(self, target: EventTarget) -> bool {
        self.0 & target.bit() != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are not among others.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = EventTarget> {
        EventTarget::ALL
            .into_iter()
            .filter(move |target| self.has(*target))
    }

    /// Of their names; those that only a newer version knows are left out.
    pub fn from_words<'w>(words: impl Iterator<Item = &'w str>) -> Self {
        words.fold(Self::NONE, |targets, word| {
            let named = EventTarget::ALL
                .into_iter()
                .find(|target| target.word() == word);
            named.map_or(targets, |target| targets.with(target))
        })
    }
}

/// An event that is owed: all of it that the rest of the record does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// How the session ends, or what became of its file, where it goes on until its client closes.
    pub ending: Ending,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes that had come.
    pub bytes: u64,
    /// EventTargets that have said that they have it.
    pub told: EventTargets,
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct OwedText<'a> {
    ending: Cow<'a, str>,
    at: u64,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<Cow<'a, str>>,
}

impl OwedText<'_> {
    pub fn of(owed: &Owed) -> Self {
        Self {
            ending: Cow::Borrowed(ending_to_text(owed.ending)),
            at: owed.at_ms,
            bytes: owed.bytes,
            told: (owed.told.iter())
                .map(|target| Cow::Borrowed(target.word()))
                .collect(),
        }
    }

    pub fn read(&self) -> Option<Owed> {
        Some(Owed {
            ending: ending_from_text(&self.ending)?,
            at_ms: self.at,
            bytes: self.bytes,
            told: EventTargets::from_words(self.told.iter().map(|word| &**word)),
        })
    }
}

/// Whether a session that stands there may owe something: its file has its name or is about to get
/// it, or it ended.
pub fn may_owe(state: State) -> bool {
    match state {
        State::Closing { .. } | State::Published { .. } | State::Gone(_) => true,
        State::Receiving { .. }
        | State::Sealed { .. }
        | State::Notified { .. }
        | State::Denied { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_a_set_and_unknown_words_are_none() {
        let both = EventTargets::NONE
            .with(EventTarget::Nats)
            .with(EventTarget::Webhook);
        assert_eq!(
            EventTargets::from_words(["nats", "webhook", "pigeon"].into_iter()),
            both
        );
        let nats = EventTargets::NONE.with(EventTarget::Nats);
        assert_eq!(
            both.without(nats).iter().collect::<Vec<_>>(),
            [EventTarget::Webhook]
        );
        assert!(both.without(both).is_empty() && !nats.has(EventTarget::Webhook));
        for target in EventTarget::ALL {
            assert_eq!(EventTarget::ALL[target.index()], target);
        }
    }
}
