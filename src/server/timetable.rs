//! Which events a target of events is to hear next, and when: pure, but for what it remembers.
//!
//! Each event that fails has a pause of its own, so that one that the target never takes is in
//! nobody's way. And the target has one, which every failure in a row makes longer: while it is
//! away, one event asks for all whether it is back. Those that were on their way together fail
//! together, and are one failure. Order is not promised; the oldest go first.

use std::collections::{BTreeMap, BTreeSet};

use crate::bits::session_id::SessionId;
use crate::vault::disk::Millis;

/// The first pause.
const PAUSE_MS: u64 = 1_000;
/// The longest one.
const PAUSE_MS_MAX: u64 = 300_000;

/// An event by its age, in milliseconds since 1970, and its session.
pub type Aged = (u64, SessionId);

/// What one target is still to hear of one shard.
#[derive(Debug, Default)]
pub struct Timetable {
    /// With how often each has failed.
    pending: BTreeMap<Aged, u32>,
    /// Those that are not on their way, by the time from which they may be.
    due: BTreeSet<(Millis, Aged)>,
    in_flight: usize,
    /// Failures since the last success; those that were on their way together are one.
    failures: u32,
    /// Those of the last failure that are still on their way.
    stragglers: usize,
    /// Nothing is sent before.
    rests_until: Millis,
}

impl Timetable {
    /// One more is owed. Whether it was not known yet.
    pub fn add(&mut self, event: Aged) -> bool {
        if self.pending.contains_key(&event) {
            return false;
        }
        self.pending.insert(event, 0);
        self.due.insert((0, event));
        true
    }

    /// How many are owed.
    pub fn count(&self) -> usize {
        self.pending.len()
    }

    /// When the oldest one happened, in milliseconds since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        (self.pending.keys().next()).map(|(at_ms, _)| *at_ms)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The next one to be sent, if it is time, and so many may be on their way.
    pub fn next(&mut self, now: Millis, in_flight_max: usize) -> Option<Aged> {
        let max = match self.failures {
            0 => in_flight_max,
            _ => 1,
        };
        if self.in_flight >= max || now < self.rests_until {
            return None;
        }
        let first = *self.due.first()?;
        if first.0 > now {
            return None;
        }
        self.due.remove(&first);
        self.in_flight += 1;
        Some(first.1)
    }

    /// The target has it, or it is owed no more. How often it had failed before.
    pub fn done(&mut self, event: Aged) -> u32 {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.failures = 0;
        self.stragglers = 0;
        self.rests_until = 0;
        self.pending.remove(&event).unwrap_or(0)
    }

    /// The target has not said that it has it; `random` spreads the next tries of many servers.
    pub fn failed(&mut self, event: Aged, now: Millis, random: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match self.stragglers.checked_sub(1) {
            Some(left) => self.stragglers = left,
            None => {
                self.stragglers = self.in_flight;
                self.failures = self.failures.saturating_add(1);
                self.rests_until = now.saturating_add(pause_ms(self.failures, random));
            }
        }
        let Some(tries) = self.pending.get_mut(&event) else {
            return;
        };
        *tries = tries.saturating_add(1);
        let due = now.saturating_add(pause_ms(*tries, random));
        self.due.insert((due, event));
    }
}

/// The pause after so many failures: twice as long each time, less up to a half of it.
fn pause_ms(failures: u32, random: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let ms = (PAUSE_MS << doublings).min(PAUSE_MS_MAX);
    ms - random % (ms / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Aged {
        (number, SessionId::from_u128(u128::from(number)))
    }

    fn filled(events: u64) -> Timetable {
        let mut times = Timetable::default();
        for number in (1..=events).rev() {
            assert!(times.add(event(number)));
            assert!(!times.add(event(number)));
        }
        times
    }

    #[test]
    fn the_oldest_go_first_and_only_so_many_at_once() {
        let mut times = filled(5);
        assert_eq!(times.next(0, 2), Some(event(1)));
        assert_eq!(times.next(0, 2), Some(event(2)));
        assert_eq!(times.next(0, 2), None);
        assert_eq!(times.oldest_ms(), Some(1));
        times.done(event(1));
        assert_eq!((times.count(), times.oldest_ms()), (4, Some(2)));
        assert_eq!(times.next(0, 2), Some(event(3)));
        assert!(!times.add(event(3)), "on its way");
    }

    #[test]
    fn one_asks_for_all_while_the_target_is_away() {
        let mut times = filled(9);
        let mut now = 0;
        let mut tries = 0;
        while now < 3_600_000 {
            while let Some(event) = times.next(now, 8) {
                tries += 1;
                times.failed(event, now, tries);
            }
            now += 1_000;
        }
        // One in five minutes, at the least in half of that; not nine times as many.
        assert!((12..60).contains(&tries), "{tries}");
        now += PAUSE_MS_MAX;
        let first = times.next(now, 8).unwrap();
        assert_eq!(times.next(now, 8), None, "until one has come");
        assert!(times.done(first) > 0);
        let rest = std::iter::from_fn(|| times.next(now, 9)).count();
        assert_eq!(rest, 8, "then all");
    }

    /// Else a target that was away for a moment would hear nothing for minutes.
    #[test]
    fn those_that_fail_together_are_one_failure() {
        let mut times = filled(9);
        let together: Vec<_> = std::iter::from_fn(|| times.next(0, 8)).collect();
        assert_eq!(together.len(), 8);
        for event in together {
            times.failed(event, 10, 0);
            assert_eq!(times.failures(), 1);
        }
        assert_eq!(times.next(1_009, 8), None);
        let again = times.next(1_010, 8).unwrap();
        times.failed(again, 1_020, 0);
        assert_eq!(times.failures(), 2, "it was alone");
        assert_eq!(times.next(3_019, 8), None);
        // Who comes late says nothing of a target that has taken another one meanwhile.
        let mut times = filled(3);
        let late: Vec<_> = std::iter::from_fn(|| times.next(0, 3)).collect();
        times.failed(late[0], 10, 0);
        times.done(late[1]);
        assert_eq!(times.failures(), 0);
        times.failed(late[2], 20, 0);
        assert_eq!(times.failures(), 1, "after it");
    }

    #[test]
    fn one_that_is_never_taken_is_in_nobodys_way() {
        let mut times = filled(1);
        let bad = times.next(0, 4).unwrap();
        times.failed(bad, 0, 0);
        for number in 2..200 {
            times.add(event(number));
            let now = number * 1_000;
            while let Some(event) = times.next(now, 4) {
                match event == bad {
                    true => times.failed(event, now, 0),
                    false => drop(times.done(event)),
                }
            }
        }
        assert_eq!(times.count(), 1);
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_are_spread() {
        assert_eq!(
            (pause_ms(1, 0), pause_ms(2, 0), pause_ms(3, 0)),
            (1_000, 2_000, 4_000)
        );
        assert_eq!(pause_ms(u32::MAX, 0), PAUSE_MS_MAX);
        for random in 0..1_000 {
            let ms = pause_ms(4, random * 7_919);
            assert!((4_000..=8_000).contains(&ms), "{ms}");
        }
    }
}
