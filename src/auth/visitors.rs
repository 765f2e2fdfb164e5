//! Those who show passwords: how much of each client's is looked at, and who had too many wrong.
//!
//! All shards share it: the connections of one client are spread over them, and what is free for it
//! would be free once for each. It is touched where a password is compared, and not where one is
//! remembered ([`super::memory`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::throttle::Throttle;

/// The share of the queue that one client may have: a flood of one leaves places to others. A whole
/// site may be one client, behind one address.
const SHARE_OF_CLIENT: usize = 8;

/// Who shows passwords just now, and who had how many wrong.
#[derive(Debug)]
pub struct Visitors {
    /// So much of one client's may be looked at, or wait for that, at a time.
    under_way_max: usize,
    tries: Mutex<Tries>,
}

#[derive(Debug, Default)]
struct Tries {
    throttle: Throttle,
    /// What of each client's is looked at just now.
    under_way: BTreeMap<u64, UnderWay>,
}

/// What of one client's is looked at, or waits for that.
#[derive(Debug, Default)]
struct UnderWay {
    count: usize,
    /// So many are passwords that are compared.
    compared: u32,
    /// Who waits until one of those was.
    waiting: Vec<Waker>,
}

/// What becomes of a password whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordTurn {
    /// It is known to be right.
    Known,
    /// Nobody looks at it: its client must wait for so many milliseconds.
    TooSoon(u64),
    /// It is compared; [`Visitors::leave`] says when it was.
    Compare,
}

/// As much of this client's is looked at as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

impl Visitors {
    /// Of a queue in which so much may wait.
    pub fn before(queue_max: usize) -> Self {
        Self {
            under_way_max: (queue_max / SHARE_OF_CLIENT).max(1),
            tries: Mutex::default(),
        }
    }

    /// Something of a client's is going to be looked at; [`Self::leave`] when it was.
    ///
    /// # Errors
    /// [`TooMuch`]
    pub fn enter(&self, client: u64) -> Result<(), TooMuch> {
        let mut tries = self.tries();
        let under_way = tries.under_way.entry(client).or_default();
        if under_way.count >= self.under_way_max {
            return Err(TooMuch);
        }
        under_way.count += 1;
        Ok(())
    }

    /// How many milliseconds a client must wait before its next password is looked at; 0: none.
    pub fn wait_ms(&self, client: u64, now_ms: u64) -> u64 {
        self.tries().throttle.wait_ms(client, now_ms)
    }

    /// What becomes of a password of a client that has entered; `is_known` if it was found right
    /// meanwhile. While others of its are compared it may have to wait, and what these bring holds
    /// for it too: whoever sends many at once has no more tries than whoever sends one after the
    /// other.
    pub fn poll_turn(
        &self,
        client: u64,
        is_known: bool,
        now_ms: u64,
        waker: &Waker,
    ) -> Poll<PasswordTurn> {
        if is_known {
            return Poll::Ready(PasswordTurn::Known);
        }
        let tries = &mut *self.tries();
        let wait_ms = tries.throttle.wait_ms(client, now_ms);
        if wait_ms > 0 {
            return Poll::Ready(PasswordTurn::TooSoon(wait_ms));
        }
        let under_way = tries.under_way.entry(client).or_default();
        if tries
            .throttle
            .may_compare(client, under_way.compared, now_ms)
        {
            under_way.compared += 1;
            return Poll::Ready(PasswordTurn::Compare);
        }
        if !under_way.waiting.iter().any(|one| one.will_wake(waker)) {
            under_way.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    /// A password of this client was wrong.
    pub fn failed(&self, client: u64, now_ms: u64) {
        self.tries().throttle.failed(client, now_ms);
    }

    /// A password of this client was right, that of this user.
    pub fn succeeded(&self, client: u64, user: &str, now_ms: u64) {
        self.tries().throttle.succeeded(client, user, now_ms);
    }

    /// It was looked at; `was_compared` after [`PasswordTurn::Compare`].
    pub fn leave(&self, client: u64, was_compared: bool) {
        let woken = self.tries().leave(client, was_compared);
        // Some of them on other shards, which want the lock at once.
        woken.into_iter().for_each(Waker::wake);
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tries {
    /// Who waited for that.
    fn leave(&mut self, client: u64, was_compared: bool) -> Vec<Waker> {
        let Some(under_way) = self.under_way.get_mut(&client) else {
            return Vec::new();
        };
        under_way.count = under_way.count.saturating_sub(1);
        let mut woken = Vec::new();
        if was_compared {
            under_way.compared = under_way.compared.saturating_sub(1);
            woken = std::mem::take(&mut under_way.waiting);
        }
        if under_way.count == 0 {
            self.under_way.remove(&client);
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::super::throttle::{WAIT_FROM, WAIT_MS_MIN};
    use super::*;

    const UNDER_WAY_MAX: u32 = 32;

    fn visitors() -> Visitors {
        Visitors::before(8 * UNDER_WAY_MAX as usize)
    }

    #[test]
    fn one_client_leaves_places_to_others() {
        let visitors = visitors();
        for _ in 0..UNDER_WAY_MAX {
            assert_eq!(visitors.enter(1), Ok(()));
        }
        assert_eq!(visitors.enter(1), Err(TooMuch));
        assert_eq!(visitors.enter(2), Ok(()));
        visitors.leave(1, false);
        assert_eq!(visitors.enter(1), Ok(()));
        for _ in 0..UNDER_WAY_MAX {
            visitors.leave(1, false);
        }
        visitors.leave(2, false);
        assert!(
            visitors.tries().under_way.is_empty(),
            "nobody is kept who is gone"
        );
    }

    /// Sends so many passwords at once, all of them wrong; how many were compared.
    fn burst(visitors: &Visitors, count: u32, now_ms: u64) -> u32 {
        let (mut waiting, mut compared) = (0, 0);
        for _ in 0..count {
            visitors.enter(1).unwrap();
            waiting += 1;
        }
        let mut under_way = 0;
        loop {
            let turns: u32 = waiting;
            for _ in 0..turns {
                match visitors.poll_turn(1, false, now_ms, Waker::noop()) {
                    Poll::Ready(PasswordTurn::Compare) => {
                        (under_way, waiting) = (under_way + 1, waiting - 1)
                    }
                    Poll::Ready(PasswordTurn::TooSoon(_)) => {
                        waiting -= 1;
                        visitors.leave(1, false);
                    }
                    Poll::Ready(PasswordTurn::Known) => panic!("nothing is known"),
                    Poll::Pending => {}
                }
            }
            if under_way == 0 {
                assert_eq!(waiting, 0, "whoever waits is woken");
                return compared;
            }
            (under_way, compared) = (under_way - 1, compared + 1);
            visitors.failed(1, now_ms);
            visitors.leave(1, true);
        }
    }

    #[test]
    fn who_sends_many_at_once_has_no_more_tries_than_one_after_the_other() {
        let visitors = visitors();
        assert_eq!(burst(&visitors, UNDER_WAY_MAX, 1_000), WAIT_FROM);
        assert_eq!(visitors.wait_ms(1, 1_000), WAIT_MS_MIN);
        assert_eq!(burst(&visitors, UNDER_WAY_MAX, 1_500), 0);
        // One for each wait, and each is twice as long as the one before.
        assert_eq!(burst(&visitors, UNDER_WAY_MAX, 2_000), 1);
        assert_eq!(visitors.wait_ms(1, 2_000), 2 * WAIT_MS_MIN);
        assert_eq!(burst(&visitors, UNDER_WAY_MAX, 4_000), 1);
        assert!(visitors.tries().under_way.is_empty());
    }

    #[test]
    fn whoever_waits_for_a_turn_hears_what_came_out_meanwhile() {
        let visitors = visitors();
        (0..WAIT_FROM - 1).for_each(|_| visitors.failed(1, 0));
        (0..2).for_each(|_| visitors.enter(1).unwrap());
        let turn = |is_known| visitors.poll_turn(1, is_known, 0, Waker::noop());
        assert_eq!(turn(false), Poll::Ready(PasswordTurn::Compare));
        assert_eq!(turn(false), Poll::Pending);
        visitors.leave(1, true);
        assert_eq!(turn(true), Poll::Ready(PasswordTurn::Known));
    }

    /// Whoever is woken may be on another thread, and look at once.
    #[test]
    fn whoever_is_woken_can_look_at_once() {
        struct LooksAtOnce(Arc<Visitors>, Mutex<Option<Poll<PasswordTurn>>>);
        impl Wake for LooksAtOnce {
            fn wake(self: Arc<Self>) {
                let turn = self.0.poll_turn(1, false, 0, Waker::noop());
                *self.1.lock().unwrap() = Some(turn);
            }
        }
        let visitors = Arc::new(visitors());
        (0..WAIT_FROM - 1).for_each(|_| visitors.failed(1, 0));
        (0..2).for_each(|_| visitors.enter(1).unwrap());
        let turn = |waker: &Waker| visitors.poll_turn(1, false, 0, waker);
        assert_eq!(turn(Waker::noop()), Poll::Ready(PasswordTurn::Compare));
        let looks = Arc::new(LooksAtOnce(Arc::clone(&visitors), Mutex::default()));
        assert_eq!(turn(&Arc::clone(&looks).into()), Poll::Pending);
        visitors.leave(1, true);
        let looked = looks.1.lock().unwrap().take();
        assert_eq!(looked, Some(Poll::Ready(PasswordTurn::Compare)));
    }
}
