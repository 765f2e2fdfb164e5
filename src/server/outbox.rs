//! What the targets of events are still to hear of one shard.

use std::cell::RefCell;

use super::timetable::Timetable;
use crate::config::EventSettings;
use crate::vault::owed::{EventTarget, EventTargets};

/// What the targets of events are still to hear of one shard.
#[derive(Debug)]
pub struct Outbox {
    /// Who is to hear of it.
    pub(super) targets: EventTargets,
    pub(super) times: [RefCell<Timetable>; EventTarget::ALL.len()],
}

impl Outbox {
    /// With nothing in it.
    pub fn new(settings: &EventSettings) -> Self {
        let mut targets = EventTargets::NONE;
        if !settings.webhook.is_empty() {
            targets = targets.with(EventTarget::Webhook);
        }
        if !settings.nats.is_empty() {
            targets = targets.with(EventTarget::Nats);
        }
        Self {
            targets,
            times: Default::default(),
        }
    }

    /// How many events are owed; those that both targets wait for count once.
    pub fn count(&self) -> usize {
        let times = self.times.iter();
        times
            .map(|times| times.borrow().count())
            .max()
            .unwrap_or_default()
    }
}
