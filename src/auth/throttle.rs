//! How soon a client may try the next password after it had some wrong.
//!
//! Counted is by client, never by user: otherwise anybody could lock anybody out. Who has to wait
//! hears 503, since 401 says that the password is wrong, and nobody has looked at it. What was
//! proven a moment ago ([`super::memory`]) is not held up, and does not count as a success either:
//! whoever knows one password could try others without end. For the same reason a success that was
//! looked at counts once in a while only, whatever is remembered and for how long.

use std::collections::BTreeMap;

/// From this wrong one on a client waits, without a right one that was looked at between them.
/// Those before it cost nothing: somebody who mistypes, a task with an old password.
pub const WAIT_FROM: u32 = 10;
/// The first wait, in milliseconds; each further failure doubles it.
pub const WAIT_MS_MIN: u64 = 1_000;
/// The longest wait, in milliseconds.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Clients that are remembered. Beyond them those go that failed longest ago.
pub const CLIENTS_MAX: usize = 16_384;
/// How often the right password of one user may end the count of a client, in milliseconds: as
/// often as it is looked at where it is remembered for as long as is usual.
pub const PARDON_MS: u64 = 5 * 60_000;
/// Counts that were ended so, of all clients. Beyond them none is ended until one of these is old.
pub const PARDONS_MAX: usize = 4_096;
/// Failures of a client that has been quiet for so long are forgotten, in milliseconds.
const FORGET_MS: u64 = 10 * 60_000;

/// Who failed how often.
#[derive(Debug, Default)]
pub struct Throttle {
    clients: BTreeMap<u64, Failures>,
    /// By which user the count of which client was ended, and when.
    pardons: BTreeMap<(u64, Box<str>), u64>,
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
        match self.count.checked_sub(WAIT_FROM) {
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
        under_way == 0 || count.saturating_add(under_way) < WAIT_FROM
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

    /// A password of this client was right, that of this user.
    pub fn succeeded(&mut self, client: u64, user: &str, now_ms: u64) {
        if !self.clients.contains_key(&client) {
            return;
        }
        let is_fresh = |at_ms: u64| now_ms.saturating_sub(at_ms) < PARDON_MS;
        let key = (client, Box::from(user));
        let had_one = self.pardons.get(&key).copied().is_some_and(is_fresh);
        if !had_one && self.pardons.len() >= PARDONS_MAX {
            self.pardons.retain(|_, at_ms| is_fresh(*at_ms));
        }
        if !had_one && self.pardons.len() < PARDONS_MAX {
            self.pardons.insert(key, now_ms);
            self.clients.remove(&client);
        }
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
        for _ in 0..WAIT_FROM - 1 {
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
        throttle.succeeded(1, "anna", 1_000);
        throttle.failed(1, 1_000);
        assert_eq!(throttle.wait_ms(1, 1_000), 0);
    }

    #[test]
    fn who_knows_one_password_ends_the_count_once_in_a_while() {
        let mut throttle = Throttle::default();
        let mut guess = |at_ms, user: &str| {
            (1..WAIT_FROM).for_each(|_| throttle.failed(1, at_ms));
            throttle.succeeded(1, user, at_ms);
            throttle.failed(1, at_ms);
            throttle.wait_ms(1, at_ms)
        };
        assert_eq!(guess(0, "anna"), 0);
        assert!(guess(1_000, "anna") > 0);
        // Who has the password of another has that of one more.
        assert_eq!(guess(1_000, "bert"), 0);
        assert!(guess(PARDON_MS - 1, "anna") > 0);
        assert_eq!(guess(PARDON_MS, "anna"), 0);
    }

    #[test]
    fn the_counts_that_were_ended_are_bounded() {
        let mut throttle = Throttle::default();
        let mut is_pardoned = |client, at_ms| {
            throttle.failed(client, at_ms);
            throttle.succeeded(client, "anna", at_ms);
            assert!(throttle.pardons.len() <= PARDONS_MAX);
            !throttle.clients.contains_key(&client)
        };
        for client in 0..PARDONS_MAX as u64 {
            assert!(is_pardoned(client, client));
        }
        let late = PARDONS_MAX as u64;
        assert!(!is_pardoned(late, late), "nobody makes room for himself");
        assert!(is_pardoned(late, PARDON_MS));
    }

    #[test]
    fn who_was_quiet_begins_anew() {
        let mut throttle = Throttle::default();
        for _ in 0..WAIT_FROM {
            throttle.failed(1, 0);
        }
        throttle.failed(1, FORGET_MS + 1);
        assert_eq!(throttle.wait_ms(1, FORGET_MS + 1), 0);
    }

    #[test]
    fn the_table_is_bounded_and_the_newest_stay() {
        let mut throttle = Throttle::default();
        for client in 0..2 * CLIENTS_MAX as u64 {
            for _ in 0..WAIT_FROM {
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
