//! Those who have shown who they are, and those who failed to: what one shard remembers.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};

use super::memory::{Claim, Memory};
use super::throttle::Throttle;

/// So much of one client's may be looked at, or wait for that, at a time: an eighth of the queue.
/// So a flood of one client leaves places to others. A whole site may be one client, behind one
/// address.
pub const UNDER_WAY_MAX: u32 = 32;

/// What a shard remembers of passwords.
pub struct Visitors {
    /// Which were right.
    pub memory: Memory,
    /// Who had how many wrong.
    pub throttle: Throttle,
    /// What of each client's is looked at just now.
    under_way: BTreeMap<u64, UnderWay>,
}

/// What of one client's is looked at, or waits for that.
#[derive(Debug, Default)]
struct UnderWay {
    count: u32,
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
    /// Nobody has come yet; `secret` is 32 bytes that nobody knows.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            memory: Memory::new(secret),
            throttle: Throttle::default(),
            under_way: BTreeMap::new(),
        }
    }

    /// Something of a client's is going to be looked at; [`Self::leave`] when it was.
    ///
    /// # Errors
    /// [`TooMuch`]
    pub fn enter(&mut self, client: u64) -> Result<(), TooMuch> {
        let under_way = self.under_way.entry(client).or_default();
        if under_way.count >= UNDER_WAY_MAX {
            return Err(TooMuch);
        }
        under_way.count += 1;
        Ok(())
    }

    /// What becomes of a password of a client that has entered. While others of its are compared it
    /// may have to wait, and what these bring holds for it too: whoever sends many at once has no
    /// more tries than whoever sends one after the other.
    pub fn poll_turn(
        &mut self,
        client: u64,
        claim: Option<Claim>,
        now_ms: u64,
        waker: &Waker,
    ) -> Poll<PasswordTurn> {
        if claim.is_some_and(|claim| self.memory.knows(claim, now_ms)) {
            return Poll::Ready(PasswordTurn::Known);
        }
        let wait_ms = self.throttle.wait_ms(client, now_ms);
        if wait_ms > 0 {
            return Poll::Ready(PasswordTurn::TooSoon(wait_ms));
        }
        let under_way = self.under_way.entry(client).or_default();
        if self
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

    /// It was looked at; `was_compared` after [`PasswordTurn::Compare`].
    pub fn leave(&mut self, client: u64, was_compared: bool) {
        let Some(under_way) = self.under_way.get_mut(&client) else {
            return;
        };
        under_way.count = under_way.count.saturating_sub(1);
        if was_compared {
            under_way.compared = under_way.compared.saturating_sub(1);
            under_way.waiting.drain(..).for_each(Waker::wake);
        }
        if under_way.count == 0 {
            self.under_way.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::PasswordHash;
    use super::super::throttle::{WAIT_FROM, WAIT_MS_MIN};
    use super::*;

    const HASH: &str = "$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0";

    #[test]
    fn one_client_leaves_places_to_others() {
        let mut visitors = Visitors::new([0; 32]);
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
        assert!(visitors.under_way.is_empty(), "nobody is kept who is gone");
    }

    /// Sends so many passwords at once, all of them wrong; how many were compared.
    fn burst(visitors: &mut Visitors, count: u32, now_ms: u64) -> u32 {
        let (mut waiting, mut compared) = (0, 0);
        for _ in 0..count {
            visitors.enter(1).unwrap();
            waiting += 1;
        }
        let mut under_way = 0;
        loop {
            let turns: u32 = waiting;
            for _ in 0..turns {
                match visitors.poll_turn(1, None, now_ms, Waker::noop()) {
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
            visitors.throttle.failed(1, now_ms);
            visitors.leave(1, true);
        }
    }

    #[test]
    fn who_sends_many_at_once_has_no_more_tries_than_one_after_the_other() {
        let mut visitors = Visitors::new([0; 32]);
        assert_eq!(burst(&mut visitors, UNDER_WAY_MAX, 1_000), WAIT_FROM);
        assert_eq!(visitors.throttle.wait_ms(1, 1_000), WAIT_MS_MIN);
        assert_eq!(burst(&mut visitors, UNDER_WAY_MAX, 1_500), 0);
        // One for each wait, and each is twice as long as the one before.
        assert_eq!(burst(&mut visitors, UNDER_WAY_MAX, 2_000), 1);
        assert_eq!(visitors.throttle.wait_ms(1, 2_000), 2 * WAIT_MS_MIN);
        assert_eq!(burst(&mut visitors, UNDER_WAY_MAX, 4_000), 1);
        assert!(visitors.under_way.is_empty());
    }

    #[test]
    fn whoever_waits_for_a_turn_hears_what_came_out_meanwhile() {
        let mut visitors = Visitors::new([0; 32]);
        let hash = PasswordHash::parse(HASH).unwrap();
        let claim = visitors.memory.claim("anna", b"sesame", &hash);
        (0..WAIT_FROM - 1).for_each(|_| visitors.throttle.failed(1, 0));
        (0..2).for_each(|_| visitors.enter(1).unwrap());
        let turn = |visitors: &mut Visitors| visitors.poll_turn(1, Some(claim), 0, Waker::noop());
        assert_eq!(turn(&mut visitors), Poll::Ready(PasswordTurn::Compare));
        assert_eq!(turn(&mut visitors), Poll::Pending);
        visitors.memory.keep(claim, 100);
        visitors.leave(1, true);
        assert_eq!(turn(&mut visitors), Poll::Ready(PasswordTurn::Known));
    }
}
