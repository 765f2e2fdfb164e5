//! The janitor: what a shard does by the clock, for its sessions and its connections.

use std::rc::Rc;

use super::connection::Connection;
use super::floor::World;
use super::held::{self, Held};
use super::patience::Waiting;
use super::phase::Phase;
use super::session::Session;
use super::shard::Shard;
use crate::bits::refusal::Scarce;
use crate::bits::session::Step;
use crate::event::{Event, Hangup};
use crate::vault::disk::Millis;

/// So many sessions are looked at in one go.
const SESSIONS_PER_TURN: usize = 512;
/// The beat of [`super::floor::Floor::tick`].
const TICK_MS: u64 = 1_000;
/// A tick that is late by less counts as on time: clocks and schedulers are no better.
const STALL_EXCUSED_MS: u64 = 20;
/// An order waits so long for a body under way, however that comes: whoever gave it waits for ten
/// seconds.
const ORDER_WAITS_MS: u64 = 7_000;
/// A shard that stood still for so long is told of.
const STALL_TOLD_MS: u64 = 250;

impl<W: World> Shard<W> {
    /// The watchdog: once per tick ends what is overdue, expires sessions, forgets old tombstones.
    /// Returns when the shard is draining and its last connection has ended.
    pub async fn watch(self: Rc<Self>) {
        let mut before = self.world.now();
        loop {
            let began = self.world.now();
            self.world.tick().await;
            let now = self.world.now();
            let late_ms = now.saturating_sub(began.saturating_add(TICK_MS));
            if late_ms >= STALL_TOLD_MS {
                let what = "the clock came late";
                self.world.emit(Event::Stalled { what, ms: late_ms });
            }
            // What this task did itself counts as well.
            let stalled_ms = now.saturating_sub(before.saturating_add(TICK_MS));
            before = now;
            self.end_overdue_connections(stalled_ms);
            self.give_back();
            self.begin_to_clean_up();
            self.begin_to_remove();
            (self.store.journal).forget_old(self.world.now(), self.limits().tombstone_ms_max);
            self.close_roots();
            self.note_lack();
            self.begin_to_heal();
            self.tell_what_is_due();
            if self.phase() == Phase::Draining && self.connections_len() == 0 {
                return;
            }
        }
    }

    /// Tells those who judge from outside.
    fn note_lack(&self) {
        let number = |lack| Scarce::ALL.iter().position(|known| *known == lack);
        let number = self.lacks().and_then(number).map_or(0, |at| at as u64 + 1);
        self.world.metrics().lacks.set(number);
    }

    /// Ends whoever has used its time up. A tick that came late says that nobody had a turn for so
    /// long; what came from clients meanwhile may stand unread.
    fn end_overdue_connections(self: &Rc<Self>, stalled_ms: u64) {
        let now = self.world.now();
        let limits = self.limits();
        let is_draining = self.phase() == Phase::Draining;
        for connection in self.connections.borrow().values() {
            if stalled_ms >= STALL_EXCUSED_MS {
                connection.patience.excuse(stalled_ms, now);
            }
            let overdue = connection.overdue(now, &limits, is_draining);
            let overdue = overdue.or_else(|| self.keeps_order_waiting(connection, now));
            if let Some(why) = overdue {
                connection.hang_up(why);
            } else if connection.should_part() {
                connection.leave(now);
            } else if connection.should_rest(now) {
                held::rest(self, connection);
            }
        }
    }

    /// Whether an order waits for a body that does not come to a place where it can be left.
    fn keeps_order_waiting(&self, connection: &Connection<W>, now: Millis) -> Option<Hangup> {
        if connection.patience.waiting() != Waiting::Body {
            return None;
        }
        let session = self.session(connection.session.get()?)?;
        let since = session.turnstile.order_since()?;
        let is_in_the_way = session.is_held() && now.saturating_sub(since) >= ORDER_WAITS_MS;
        (is_in_the_way && !connection.is_hung_up()).then_some(Hangup::BodyStalled)
    }

    /// Ends expired sessions, as often as the settings say: beside the watchdog, which must not
    /// wait for the disk.
    fn begin_to_clean_up(self: &Rc<Self>) {
        let now = self.world.now();
        if self.is_over() || self.is_cleaning_up.get() || !self.begin_cleanup(now) {
            return;
        }
        self.is_cleaning_up.set(true);
        let shard = Rc::clone(self);
        self.world.spawn(async move {
            shard.clean_up(now).await;
            shard.is_cleaning_up.set(false);
        });
    }

    /// Ends the sessions that have expired by now, a few at a time, and forgets passwords that are
    /// believed no more.
    async fn clean_up(self: &Rc<Self>, now: Millis) {
        self.remembered.borrow_mut().clean_up(now);
        while self.reschedule_some(SESSIONS_PER_TURN) {
            self.world.give_way().await;
        }
        let mut turn = 0;
        while let Some(session) = self.next_due(now) {
            turn += 1;
            if turn % SESSIONS_PER_TURN == 0 {
                self.world.give_way().await;
            }
            let location = self.location(&session.path);
            if session.expires_ms(&location.policy) <= self.world.now() {
                // It may be that somebody is working on it, or that it cannot be ended: then it is
                // looked at again.
                self.expire(&session).await;
                self.world.give_way().await;
            }
            if self.session(session.id).is_some() {
                self.schedule(&session);
            }
            // Slow disks and many sessions must not keep the server from its end.
            if self.is_over() || self.phase() == Phase::Draining {
                return;
            }
        }
    }

    /// Discards a session for want of progress, unless somebody works on it.
    async fn expire(self: &Rc<Self>, session: &Rc<Session<W>>) {
        match Held::for_shard(self, session) {
            Some(mut held) => {
                held.keep().let_go(true);
                let _nobody_hears = held.answer(Step::Expire).await;
                held.keep().let_go(false);
            }
            None => session.note_overdue(),
        }
    }

    /// Removes what could not be removed before: beside the watchdog, and beside the end of
    /// sessions, which may be on a disk that answers.
    fn begin_to_remove(self: &Rc<Self>) {
        let is_idle = self.store.stuck.is_empty() || self.is_over();
        if is_idle || self.is_removing.replace(true) {
            return;
        }
        let shard = Rc::clone(self);
        self.world.spawn(async move {
            shard.store.stuck.try_again(&*shard.world).await;
            shard.is_removing.set(false);
        });
    }

    /// Writes the journal anew where somebody has hurt it: beside the watchdog, which must not wait
    /// for the disk.
    fn begin_to_heal(self: &Rc<Self>) {
        if !self.store.journal.is_hurt() || self.is_healing.replace(true) {
            return;
        }
        let shard = Rc::clone(self);
        self.world.spawn(async move {
            shard.store.journal.heal(&*shard.world).await;
            shard.is_healing.set(false);
        });
    }

    /// Beside the watchdog, which must not wait for the disk.
    fn give_back(self: &Rc<Self>) {
        if self.reservations().is_empty() || self.is_giving_back.replace(true) {
            return;
        }
        let shard = Rc::clone(self);
        self.world.spawn(async move {
            shard.give_back_reservations().await;
            shard.is_giving_back.set(false);
        });
    }

    /// Lets sessions that made no progress for a while give back what is reserved for them.
    async fn give_back_reservations(self: &Rc<Self>) {
        let (now, rest_ms) = (self.world.now(), self.config.limits.reserve_ms_max);
        for id in self.reservations() {
            let Some(session) = self.session(id) else {
                self.forget_reservation(id);
                continue;
            };
            if session.rests_ms(now) < rest_ms {
                continue;
            }
            let Some(mut held) = Held::for_shard(self, &session) else {
                continue;
            };
            let is_given_back = held.give_back().await;
            held.close_if_nobody_is_attached();
            if is_given_back {
                self.forget_reservation(id);
            }
        }
    }
}
