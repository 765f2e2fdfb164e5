//! Telling others of sessions that ended: what the journal owes ([`crate::vault::owed`]) is handed
//! to its targets, as often as it takes.
//!
//! Each attempt is a task beside all others, and the targets are spoken with on other threads
//! ([`super::floor::Floor::tell_outside`]): no client waits for any of it. What is remembered here
//! of an event is its age and its next time; all else stands in its session's record. When to try
//! which one is decided in [`super::timetable`].

use std::net::IpAddr;
use std::rc::Rc;

use super::floor::{CloudEvent, World};
use super::phase::Phase;
use super::shard::Shard;
use super::timetable::Aged;
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::config::Location;
use crate::event::{Event, Relayed};
use crate::http::authorization::Scheme;
use crate::vault::owed::{EventTarget, EventTargets, Owed};
use crate::vault::record::Record;

impl<W: World> Shard<W> {
    /// Whether an event is owed for what ends in a location.
    pub fn owes(&self, location: &Location) -> bool {
        location.send_events && !self.outbox.targets.is_empty()
    }

    /// What a session owes that ends like this now, after so many bytes.
    pub(super) fn owed(&self, location: &Location, ending: Ending, bytes: u64) -> Option<Owed> {
        self.owes(location).then(|| Owed {
            ending,
            at_ms: self.world.wall_clock_ms(),
            bytes,
            told: EventTargets::NONE,
        })
    }

    /// Whether as many events are owed as may be: who would owe another one is let in later.
    pub(super) fn owes_too_much(&self, location: &Location, client: IpAddr) -> bool {
        let owed_max = self.limits().events_owed_per_shard_max;
        self.owes(location) && self.outbox.is_full_for(client, owed_max)
    }

    /// What former starts have left untold.
    pub(super) fn fill_outbox(self: &Rc<Self>) {
        let owing = self.store.journal.owing_all();
        if self.outbox.targets.is_empty() && !owing.is_empty() {
            let count = owing.len();
            self.world.emit(Event::NobodyToTell { count });
        }
        let mut settled = Vec::new();
        for (id, kept) in owing {
            match self.store.journal.is_settled(id, self.outbox.targets) {
                true => settled.push(id),
                false => self.put(id, &kept.record()),
            }
        }
        if settled.is_empty() {
            return;
        }
        let shard = Rc::clone(self);
        self.world.spawn(async move {
            let store = &shard.store;
            for id in settled {
                let settled = store.journal.settle(&*store.disk, id, shard.outbox.targets);
                settled.await;
            }
        });
    }

    /// A session has ended, or its file has got its name: if it owes an event, that is told.
    pub(super) fn tell_of(self: &Rc<Self>, id: SessionId) {
        let Some(kept) = self.store.journal.owing(id) else {
            return;
        };
        self.put(id, &kept.record());
        self.tell_what_is_due();
    }

    fn put(&self, id: SessionId, record: &Record) {
        let Some(owed) = record.owed.as_deref() else {
            return;
        };
        for target in self.outbox.targets.without(owed.told).iter() {
            self.outbox.note(id, record.client);
            let times = &self.outbox.times[target.index()];
            times.borrow_mut().add((owed.at_ms, id));
            self.count_owed(target);
        }
    }

    /// Begins to tell what is due, as much as may be on its way at once.
    pub(super) fn tell_what_is_due(self: &Rc<Self>) {
        if self.phase() != Phase::Serving {
            return;
        }
        let in_flight_max = (self.config.events.in_flight_max / self.count).max(1);
        for target in self.outbox.targets.iter() {
            let times = &self.outbox.times[target.index()];
            let next = || times.borrow_mut().next(self.world.now(), in_flight_max);
            while let Some(event) = next() {
                let shard = Rc::clone(self);
                self.world.spawn(async move {
                    shard.tell(target, event).await;
                    shard.tell_what_is_due();
                });
            }
        }
    }

    /// One attempt.
    async fn tell(&self, target: EventTarget, event: Aged) {
        let (_, id) = event;
        let times = &self.outbox.times[target.index()];
        let Some(kept) = self.store.journal.owing(id) else {
            times.borrow_mut().done(event);
            self.outbox.forget(id);
            return self.count_owed(target);
        };
        let told = cloud_event(id, &kept.record(), |record| {
            // Records of before it was written do not say it.
            self.location(&record.path).prefix.clone()
        });
        let outcome = match told {
            Some(told) => self.world.tell_outside(target, told).await,
            None => Ok(()),
        };
        if self.is_over() {
            // Nothing may be written any more: the next start tells it again.
            return;
        }
        match outcome {
            Ok(()) => {
                let all = self.outbox.targets;
                let journal = &self.store.journal;
                if (journal.acknowledge(&*self.world, id, target, all)).await {
                    self.outbox.forget(id);
                }
                let failures = times.borrow().failures();
                times.borrow_mut().done(event);
                let how = Relayed::Taken { failures };
                self.emit_relayed(target, id, how);
            }
            Err(why) => {
                let random = u64::from_le_bytes(std::array::from_fn({
                    let random = self.world.random();
                    move |at| random[at]
                }));
                times.borrow_mut().failed(event, self.world.now(), random);
                let failures = times.borrow().failures();
                let why = &why;
                self.emit_relayed(target, id, Relayed::NotTaken { failures, why });
            }
        }
        self.count_owed(target);
    }

    fn emit_relayed(&self, target: EventTarget, session: SessionId, how: Relayed<'_>) {
        let target = target.word();
        self.world.emit(Event::Relayed {
            session,
            target,
            how,
        });
    }

    fn count_owed(&self, target: EventTarget) {
        let times = self.outbox.times[target.index()].borrow();
        let counts = &self.world.metrics().events[target.index()];
        counts.pending.set(times.count() as u64);
        counts.oldest_ms.set(times.oldest_ms().unwrap_or(0));
    }
}

/// What is told of a session; `None` if nothing is owed.
fn cloud_event(
    session: SessionId,
    record: &Record,
    location: impl FnOnce(&Record) -> String,
) -> Option<CloudEvent> {
    let owed = record.owed.as_deref()?;
    let life = &record.life;
    let place = life.place.as_deref();
    let is_in_folder = owed.ending == Ending::Published && record.object.is_none();
    Some(CloudEvent {
        session,
        ending: owed.ending,
        at_ms: owed.at_ms,
        bytes: owed.bytes,
        location: place.map_or_else(|| location(record), |place| place.location.clone()),
        path: record.path.as_str().to_owned(),
        file_path: (place.filter(|_| is_in_folder)).map(|place| place.path.clone()),
        object: (record.object.as_deref().cloned()).filter(|_| owed.ending.is_good()),
        // Known of a whole file only, however its session ended.
        digests: record.digests(),
        client: record.client,
        user: life.user.clone(),
        proof: life.proof.map(Scheme::word),
        agent: life.agent.clone(),
        begun_ms: record.begun_ms,
        first_ms: life.first_ms,
        last_ms: life.last_ms,
        fragments: life.fragments,
        resumes: life.interruptions,
    })
}
