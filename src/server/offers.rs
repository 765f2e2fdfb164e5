//! What the client of an upload has offered, when it was answered, and whether it was interrupted.

use std::ops::Range;
use std::rc::Rc;

use super::floor::World;
use super::held::Held;
use super::phase::Phase;
use super::session::Session;
use super::shard::Shard;
use crate::bits::session::State;
use crate::event::Event;

/// A client that is silent for longer between an answer and its next fragment was interrupted.
const SILENCE_MS: u64 = 5_000;

impl<W: World> Held<W> {
    /// A fragment is offered. Whether the upload was interrupted before it: it begins again where
    /// it had been, or was silent for long, or its server was started anew. Connections say nothing
    /// of that: a proxy may use one per request.
    pub async fn note_offer(&mut self, range: Range<u64>) {
        let shard = Rc::clone(&self.shard);
        let now = shard.world.now();
        let is_receiving = matches!(self.state(), State::Receiving { .. });
        let offers = &mut self.work().offers;
        let is_back = range.start < offers.end;
        let is_late = now.saturating_sub(offers.answered_ms) > SILENCE_MS && offers.has_any;
        let is_restored = std::mem::take(&mut offers.is_restored);
        offers.has_any = true;
        // An application that is asked again by a duplicate of the last fragment is no
        // interruption.
        if is_receiving && !offers.is_resuming && (is_back || is_late || is_restored) {
            offers.is_resuming = true;
            let work = self.work();
            let count = work.keep.kept().count_interruption();
            let (session, series) = (self.id(), self.location().series);
            (shard.world).emit(Event::SessionResumed { session, series });
            let work = self.work();
            // A client that begins again and again costs no record each time.
            if count < 16 || count.is_power_of_two() {
                work.keep.note_life(&shard.store).await;
            }
        }
    }

    /// The fragment that was offered is taken: its bytes are stored now, or were before.
    pub fn note_taken(&mut self, range: Range<u64>) {
        let offers = &mut self.work().offers;
        offers.end = range.end;
        offers.is_resuming = false;
    }

    /// The fragment that was offered is refused. Where it begins behind what is here (`is_gap`),
    /// its client goes back to that.
    pub async fn note_refused(&mut self, range: Range<u64>, is_gap: bool) {
        if is_gap {
            self.work().offers.end = range.end;
        }
        self.note_vain_offer().await;
    }

    /// Bytes were offered, and none is taken. A Close without bytes may mean an empty file, so a
    /// restart has to know of the offer: whatever the settings say now, since others may hold when
    /// it is closed. It is one record for a session, however often its client is refused.
    pub async fn note_vain_offer(&mut self) {
        if self.session().note_vain_offer() {
            let shard = Rc::clone(&self.shard);
            self.keep().note_life(&shard.store).await;
        }
    }

    /// A fragment that began then is stored and answered.
    pub(super) fn note_fragment(&self, began_us: u64) {
        let world = &self.shard.world;
        let took_us = world.now_us().saturating_sub(began_us);
        let metrics = world.metrics().location(self.location().series);
        metrics.fragments.note(took_us);
    }

    /// The answer to a packet is decided.
    pub fn note_answer(&mut self) {
        let now = self.shard.world.now();
        self.work().offers.answered_ms = now;
    }
}

/// Bytes were offered to a session, and it is not asked about them: they were not understood, or
/// nothing is taken there now. Whoever works on it is not stopped for that.
pub async fn note_unread<W: World>(shard: &Rc<Shard<W>>, session: &Rc<Session<W>>) {
    // What is being read back gets no record meanwhile.
    let held = match shard.phase() {
        Phase::Recovering => None,
        _ => Held::for_shard(shard, session),
    };
    match held {
        Some(mut held) => held.note_vain_offer().await,
        None => {
            session.note_vain_offer();
        }
    }
}
