//! How long a connection may take for what is waited for; the watchdog's side of it.

use std::cell::Cell;

use crate::config::Limits;
use crate::event::Hangup;
use crate::vault::disk::Millis;

/// A connection is told to hurry when a read lasts longer than this, in milliseconds.
const HURRY_MS: u64 = 1_000;
/// A piece of an answer has to be taken within so many times of `body_stall_ms_max`, however
/// steadily: it holds a block of memory as long. By default that is 64 KiB in four minutes.
const ANSWER_STALLS_MAX: u64 = 4;
/// What a client has to close after its last answer when the server stops. Nothing is waited for
/// but an end.
pub const FAREWELL_DRAIN_MS: u64 = 500;

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The handshake of TLS, before the first request.
    Handshake,
    /// The first byte of a request.
    Request,
    /// The rest of a head; the clock started with its first byte.
    Head,
    /// Bytes of a body; the clock starts again with each that comes.
    Body,
    /// The same of a body of which nothing is stored: what its packet hears is settled.
    Rest,
    /// The client to take an answer.
    Answer,
    /// The client to close after its last answer; the clock started with that.
    Farewell,
    /// Our own work: not the client's fault.
    Nothing,
}

/// What is to be done about a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nothing.
    Wait,
    /// A read of a whole block is to come back with what it has.
    Hurry,
    /// It is to be ended.
    End(Hangup),
}

/// What one connection is waiting for, and since when.
#[derive(Debug)]
pub struct Patience {
    waiting: Cell<Waiting>,
    since_ms: Cell<Millis>,
    /// Since when it is waited for, whatever came meanwhile.
    begun_ms: Cell<Millis>,
    /// Whether what is waited for was told to come back with what it has.
    was_hurried: Cell<bool>,
    /// Bytes that the peer had taken when it was last looked at, of all that was ever sent.
    taken: Cell<Option<u64>>,
}

impl Patience {
    /// For a connection that was just accepted.
    pub fn new(now: Millis) -> Self {
        Self {
            waiting: Cell::new(Waiting::Request),
            since_ms: Cell::new(now),
            begun_ms: Cell::new(now),
            was_hurried: Cell::new(false),
            taken: Cell::new(None),
        }
    }

    /// Says what is waited for, and starts its clock.
    pub fn wait_for(&self, waiting: Waiting, now: Millis) {
        self.waiting.set(waiting);
        self.since_ms.set(now);
        self.begun_ms.set(now);
        self.was_hurried.set(false);
        self.taken.set(None);
    }

    /// What is waited for.
    pub fn waiting(&self) -> Waiting {
        self.waiting.get()
    }

    /// For how long, in milliseconds.
    pub fn waited_ms(&self, now: Millis) -> u64 {
        now.saturating_sub(self.since_ms.get())
    }

    /// The shard stood still for so long. Bytes that arrived meanwhile were not read, and no client
    /// is to blame for that.
    pub fn excuse(&self, stalled_ms: u64, now: Millis) {
        let since_ms = self.since_ms.get().saturating_add(stalled_ms);
        self.since_ms.set(since_ms.min(now));
        let begun_ms = self.begun_ms.get().saturating_add(stalled_ms);
        self.begun_ms.set(begun_ms.min(now));
    }

    /// Whether the client has used its time up. `taken` tells how much it has taken of all that was
    /// ever sent, where that can be known; it is asked only of one that takes its time.
    pub fn judge(
        &self,
        now: Millis,
        limits: &Limits,
        is_draining: bool,
        taken: impl FnOnce() -> Option<u64>,
    ) -> Measure {
        let waited_ms = self.waited_ms(now);
        let (ms_max, why) = match self.waiting.get() {
            Waiting::Handshake => (limits.head_ms_max, Hangup::HandshakeTimeout),
            Waiting::Request => (limits.idle_ms_max, Hangup::Idle),
            Waiting::Head => (limits.head_ms_max, Hangup::HeadTimeout),
            Waiting::Body | Waiting::Rest | Waiting::Answer => {
                (limits.body_stall_ms_max, Hangup::BodyStalled)
            }
            Waiting::Farewell if is_draining => {
                (FAREWELL_DRAIN_MS.min(limits.head_ms_max), Hangup::NotClosed)
            }
            Waiting::Farewell => (limits.head_ms_max, Hangup::NotClosed),
            Waiting::Nothing => return Measure::Wait,
        };
        if self.waiting.get() == Waiting::Body && waited_ms >= HURRY_MS.min(ms_max) {
            // A read of a whole block may have bytes to show: it is judged when it had to tell.
            if !self.was_hurried.replace(true) || waited_ms < ms_max {
                return Measure::Hurry;
            }
        }
        if self.waiting.get() == Waiting::Answer && waited_ms >= HURRY_MS.min(ms_max) {
            let took_ms = now.saturating_sub(self.begun_ms.get());
            let is_over = took_ms >= ms_max.saturating_mul(ANSWER_STALLS_MAX);
            let stands_still = self.stands_still(taken(), now);
            return match is_over || stands_still && waited_ms >= ms_max {
                true => Measure::End(why),
                false => Measure::Wait,
            };
        }
        match waited_ms >= ms_max {
            true => Measure::End(why),
            false => Measure::Wait,
        }
    }

    /// Whether a peer has taken nothing of an answer since it was last looked at; if it has, its
    /// clock starts again. Where nobody can tell, the clock alone counts.
    ///
    /// A send that waits says nothing of that: Linux wakes it only when a third of the socket's
    /// buffer is free, which is more than a megabyte where the network is fast. Nor does what is in
    /// that buffer: it is filled again.
    fn stands_still(&self, taken: Option<u64>, now: Millis) -> bool {
        let Some(taken) = taken else {
            return true;
        };
        match self.taken.replace(Some(taken)) {
            None => false,
            Some(before) if taken > before => {
                self.since_ms.set(now);
                false
            }
            Some(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            idle_ms_max: 9_000,
            head_ms_max: 3_000,
            body_stall_ms_max: 5_000,
            ..Limits::default()
        }
    }

    /// The verdicts at these times, after a wait that began at 10,000.
    fn verdicts(waiting: Waiting, times: &[u64]) -> Vec<Measure> {
        let patience = Patience::new(0);
        patience.wait_for(waiting, 10_000);
        let judge = |now: &u64| patience.judge(*now, &limits(), false, || None);
        times.iter().map(judge).collect()
    }

    #[test]
    fn each_wait_has_its_time() {
        use Measure::{End, Hurry, Wait};
        let idle = verdicts(Waiting::Request, &[18_999, 19_000]);
        assert_eq!(idle, [Wait, End(Hangup::Idle)]);
        let hands = verdicts(Waiting::Handshake, &[12_999, 13_000]);
        assert_eq!(hands, [Wait, End(Hangup::HandshakeTimeout)]);
        let head = verdicts(Waiting::Head, &[12_999, 13_000]);
        assert_eq!(head, [Wait, End(Hangup::HeadTimeout)]);
        let answer = verdicts(Waiting::Answer, &[14_999, 15_000]);
        assert_eq!(answer, [Wait, End(Hangup::BodyStalled)]);
        let body = verdicts(Waiting::Body, &[10_999, 11_000, 14_999, 15_000]);
        assert_eq!(body, [Wait, Hurry, Hurry, End(Hangup::BodyStalled)]);
        // What had no chance to tell what it has is asked first, however late.
        let late = verdicts(Waiting::Body, &[99_000, 99_001]);
        assert_eq!(late, [Hurry, End(Hangup::BodyStalled)]);
        assert_eq!(verdicts(Waiting::Nothing, &[u64::MAX]), [Wait]);
    }

    /// What comes of looks at these times, at which so much was taken; it is sent since 10,000.
    fn looks(looks: &[(u64, u64)]) -> Vec<Measure> {
        let patience = Patience::new(0);
        patience.wait_for(Waiting::Answer, 10_000);
        let judge =
            |(now, taken): &(u64, u64)| patience.judge(*now, &limits(), false, || Some(*taken));
        looks.iter().map(judge).collect()
    }

    #[test]
    fn whoever_takes_some_of_an_answer_is_not_given_up() {
        use Measure::{End, Wait};
        const END: Measure = End(Hangup::BodyStalled);
        // A bit at a time, far longer than the limit.
        let steady: Vec<_> = (11..30).map(|s| (s * 1_000, s)).collect();
        assert_eq!(looks(&steady), vec![Wait; steady.len()]);
        // Since the last bit it has the whole limit, and no more.
        let stops = [(11_000, 10), (14_000, 20), (18_999, 20), (19_000, 20)];
        assert_eq!(looks(&stops), [Wait, Wait, Wait, END]);
        // It never took any.
        let lazy = [(11_000, 10), (14_999, 10), (15_000, 10)];
        assert_eq!(looks(&lazy), [Wait, Wait, END]);
        // A look that comes late has nothing to be compared with.
        assert_eq!(looks(&[(29_000, 10), (29_001, 10)]), [Wait, END]);
    }

    /// Otherwise a few who take a byte at a time would have the memory of all.
    #[test]
    fn a_piece_of_an_answer_has_a_bound_however_steadily_it_is_taken() {
        let bits: Vec<_> = (11..=30).map(|s| (s * 1_000, s)).collect();
        let verdicts = looks(&bits);
        let (last, before) = verdicts.split_last().unwrap();
        assert!(before.iter().all(|verdict| *verdict == Measure::Wait));
        assert_eq!(*last, Measure::End(Hangup::BodyStalled));
    }

    #[test]
    fn what_was_seen_of_one_answer_says_nothing_of_the_next() {
        let patience = Patience::new(0);
        patience.wait_for(Waiting::Answer, 10_000);
        let judge = |now, taken| patience.judge(now, &limits(), false, || Some(taken));
        assert_eq!(judge(11_000, 10), Measure::Wait);
        patience.wait_for(Waiting::Answer, 11_000);
        assert_eq!(judge(12_000, 20), Measure::Wait);
        assert_eq!(judge(16_000, 20), Measure::End(Hangup::BodyStalled));
    }

    #[test]
    fn whoever_has_only_just_begun_is_not_looked_at() {
        let patience = Patience::new(0);
        for waiting in [Waiting::Answer, Waiting::Body, Waiting::Request] {
            patience.wait_for(waiting, 10_000);
            let looked = || unreachable!("it costs a system call");
            patience.judge(10_999, &limits(), false, looked);
        }
    }

    #[test]
    fn a_client_that_does_not_close_holds_no_stop_up() {
        let patience = Patience::new(0);
        patience.wait_for(Waiting::Farewell, 10_000);
        let judge = |now, is_draining| patience.judge(now, &limits(), is_draining, || None);
        assert_eq!(judge(12_999, false), Measure::Wait);
        assert_eq!(judge(10_499, true), Measure::Wait);
        assert_eq!(judge(10_500, true), Measure::End(Hangup::NotClosed));
        assert_eq!(judge(13_000, false), Measure::End(Hangup::NotClosed));
    }

    #[test]
    fn time_in_which_the_shard_stood_still_does_not_count() {
        let patience = Patience::new(0);
        patience.wait_for(Waiting::Head, 10_000);
        // It stood still for 20 s, after 1 s of its own.
        patience.excuse(20_000, 31_000);
        assert_eq!(patience.waited_ms(31_000), 1_000);
        let judge = |now| patience.judge(now, &limits(), false, || None);
        assert_eq!(judge(31_000), Measure::Wait);
        assert_eq!(judge(33_000), Measure::End(Hangup::HeadTimeout));
        // What began in that time began now at the latest.
        patience.wait_for(Waiting::Head, 39_000);
        patience.excuse(20_000, 40_000);
        assert_eq!(patience.waited_ms(40_000), 0);
        assert_eq!(judge(42_999), Measure::Wait);
    }
}
