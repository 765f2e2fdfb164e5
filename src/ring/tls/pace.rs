//! How many handshakes a shard begins in a second.
//!
//! A handshake costs us far more than whoever asks for it (a signature with RSA takes more than
//! half a millisecond), and anybody can ask without end. So there is a rate, and what is beyond it
//! waits for its turn: the uploads that run have theirs in between. Where the wait would be long,
//! it is better to be told so at once.

use std::cell::Cell;

/// After a pause so many microseconds' worth of turns may be taken at once: a few clients that come
/// together need not wait for each other.
const BURST_US: u64 = 100_000;
/// The longest wait, in microseconds. Clients wait for 30 seconds and more, but whoever is that far
/// behind will not be the last.
const WAIT_US_MAX: u64 = 2_000_000;

/// The handshakes of one shard.
#[derive(Debug, Default)]
pub struct Pace {
    /// Microseconds from one to the next; 0: there is no rate.
    each_us: Cell<u64>,
    /// When the next one may begin.
    next_us: Cell<u64>,
}

/// More wait already than begin within the longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Pace {
    /// So many a second.
    pub fn set(&self, per_second: u64) {
        self.each_us.set(1_000_000 / per_second.max(1));
    }

    /// How many microseconds from now, at `now_us`, the next one may begin; its turn is taken.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn turn(&self, now_us: u64) -> Result<u64, TooMany> {
        let at = self.next_us.get().max(now_us.saturating_sub(BURST_US));
        let wait_us = at.saturating_sub(now_us);
        if wait_us > WAIT_US_MAX {
            return Err(TooMany);
        }
        self.next_us.set(at + self.each_us.get());
        Ok(wait_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_at_the_rate() {
        let pace = Pace::default();
        pace.set(100);
        let now = 5_000_000;
        let waits: Vec<_> = (0..14).map(|_| pace.turn(now).unwrap()).collect();
        // A tenth of a second's at once, then one every 10 ms.
        assert_eq!(waits[..11], [0; 11]);
        assert_eq!(waits[11..], [10_000, 20_000, 30_000]);
        // A second later all of that is over.
        assert_eq!(pace.turn(now + 1_000_000), Ok(0));
    }

    #[test]
    fn in_any_second_no_more_begin_than_the_rate_and_the_burst() {
        let pace = Pace::default();
        pace.set(500);
        let (mut begun, mut turned_away) = (Vec::new(), 0);
        // 2,000 come every second.
        for number in 0..10_000 {
            let now = 1_000_000 + number * 500;
            match pace.turn(now) {
                Ok(wait) => begun.push(now + wait),
                Err(TooMany) => turned_away += 1,
            }
        }
        for (at, first) in begun.iter().enumerate() {
            let within = begun[at..]
                .iter()
                .take_while(|one| **one < first + 1_000_000);
            assert!(within.count() <= 551);
        }
        assert!(turned_away > 6_000, "{turned_away}");
    }

    #[test]
    fn nobody_waits_for_long() {
        let pace = Pace::default();
        pace.set(1);
        let waits: Vec<_> = (0..5).map(|_| pace.turn(10_000_000)).collect();
        let us = |tenths: u64| Ok(tenths * 100_000);
        assert_eq!(waits, [us(0), us(9), us(19), Err(TooMany), Err(TooMany)]);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let pace = Pace::default();
        assert!((0..10_000).all(|_| pace.turn(7) == Ok(0)));
    }
}
