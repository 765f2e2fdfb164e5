//! How soon a client may try the next password after it had some wrong.
//!
//! Counted is by client, never by user: otherwise anybody could lock anybody out. Who has to wait
//! hears 503, since 401 says that the password is wrong, and nobody has looked at it. What was
//! proven a moment ago ([`super::memory`]) is not held up, and does not count as a success either:
//! whoever knows one password could try others without end.

use std::collections::BTreeMap;

/// Wrong ones that cost nothing, without a right one that was looked at: somebody who mistypes, a
/// task with an old password.
pub const FREE: u32 = 10;
/// The first wait, in milliseconds; each further failure doubles it.
pub const WAIT_MS_MIN: u64 = 1_000;
/// The longest wait, in milliseconds.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Clients that are remembered. Beyond them those go that failed longest ago.
pub const CLIENTS_MAX: usize = 16_384;
/// Failures of a client that has been quiet for so long are forgotten, in milliseconds.
const FORGET_MS: u64 = 10 * 60_000;

/// Who failed how often.
#[derive(Debug, Default)]
pub struct Throttle {
    clients: BTreeMap<u64, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last_ms: u64,
}

impl Failures {
    fn are_forgotten(self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_ms) > FORGET_MS
    }

    fn until_ms(self) -> u64 {
        match self.count.checked_sub(FREE) {
            None => self.last_ms,
            Some(over) => {
                let wait = WAIT_MS_MIN.checked_shl(over.min(16)).unwrap_or(WAIT_MS_MAX);
                self.last_ms.saturating_add(wait.min(WAIT_MS_MAX))
            }
        }
    }
}

impl Throttle {
    /// How many milliseconds a client must wait before its next password is looked at; 0: none.
    pub fn wait_ms(&self, client: u64, now_ms: u64) -> u64 {
        let failures = self.clients.get(&client);
        failures.map_or(0, |failures| failures.until_ms().saturating_sub(now_ms))
    }

    /// Whether a password of a client that need not wait may be compared while so many of its are.
    /// Each of those may be wrong: so no more are under way than are free, and behind those one at
    /// a time, however many come at once.
    pub fn may_compare(&self, client: u64, under_way: u32, now_ms: u64) -> bool {
        let failures = self.clients.get(&client);
        let counted = failures.filter(|failures| !failures.are_forgotten(now_ms));
        let count = counted.map_or(0, |failures| failures.count);
        under_way == 0 || count.saturating_add(under_way) < FREE
    }

    /// A password of this client was wrong.
    pub fn failed(&mut self, client: u64, now_ms: u64) {
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            self.make_room(now_ms);
        }
        let failures = self.clients.entry(client).or_insert(Failures {
            count: 0,
            last_ms: now_ms,
        });
        if failures.are_forgotten(now_ms) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last_ms = now_ms;
    }

    /// A password of this client was right.
    pub fn succeeded(&mut self, client: u64) {
        self.clients.remove(&client);
    }

    /// A quarter goes at once, so that a flood does not make each of its members walk the table.
    fn make_room(&mut self, now_ms: u64) {
        self.clients
            .retain(|_, failures| !failures.are_forgotten(now_ms));
        if self.clients.len() >= CLIENTS_MAX {
            let mut last: Vec<_> = self.clients.values().map(|f| f.last_ms).collect();
            let (_, border, _) = last.select_nth_unstable(CLIENTS_MAX / 4);
            let border = *border;
            let mut surplus = CLIENTS_MAX / 4;
            self.clients.retain(|_, failures| {
                let goes = surplus > 0 && failures.last_ms <= border;
                surplus -= usize::from(goes);
                !goes
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end_with_a_success() {
        let mut throttle = Throttle::default();
        for _ in 0..FREE - 1 {
            throttle.failed(1, 1_000);
            assert_eq!(throttle.wait_ms(1, 1_000), 0);
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            throttle.failed(1, 1_000);
            waits.push(throttle.wait_ms(1, 1_000) / 1_000);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(throttle.wait_ms(1, 60_999), 1);
        assert_eq!(throttle.wait_ms(1, 61_000), 0);
        assert_eq!(throttle.wait_ms(2, 1_000), 0, "another client");
        throttle.succeeded(1);
        throttle.failed(1, 1_000);
        assert_eq!(throttle.wait_ms(1, 1_000), 0);
    }

    #[test]
    fn who_was_quiet_begins_anew() {
        let mut throttle = Throttle::default();
        for _ in 0..FREE {
            throttle.failed(1, 0);
        }
        throttle.failed(1, FORGET_MS + 1);
        assert_eq!(throttle.wait_ms(1, FORGET_MS + 1), 0);
    }

    #[test]
    fn the_table_is_bounded_and_the_newest_stay() {
        let mut throttle = Throttle::default();
        for client in 0..2 * CLIENTS_MAX as u64 {
            for _ in 0..FREE {
                throttle.failed(client, client);
            }
            assert!(throttle.clients.len() <= CLIENTS_MAX);
            assert!(
                throttle.wait_ms(client, client) > 0,
                "the one that just failed"
            );
        }
        // Also where all failed at the same time.
        let mut throttle = Throttle::default();
        for client in 0..2 * CLIENTS_MAX as u64 {
            throttle.failed(client, 5);
            assert!(throttle.clients.len() <= CLIENTS_MAX);
        }
    }
}
