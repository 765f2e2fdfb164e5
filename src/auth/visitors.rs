//! Those who have shown who they are, and those who failed to: what one shard remembers.

use std::collections::BTreeMap;

use super::memory::Memory;
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
    /// How much of each client's is looked at just now.
    under_way: BTreeMap<u64, u32>,
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
        let count = self.under_way.entry(client).or_default();
        if *count >= UNDER_WAY_MAX {
            return Err(TooMuch);
        }
        *count += 1;
        Ok(())
    }

    /// It was looked at.
    pub fn leave(&mut self, client: u64) {
        if let Some(count) = self.under_way.get_mut(&client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.under_way.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_places_to_others() {
        let mut visitors = Visitors::new([0; 32]);
        for _ in 0..UNDER_WAY_MAX {
            assert_eq!(visitors.enter(1), Ok(()));
        }
        assert_eq!(visitors.enter(1), Err(TooMuch));
        assert_eq!(visitors.enter(2), Ok(()));
        visitors.leave(1);
        assert_eq!(visitors.enter(1), Ok(()));
        for _ in 0..UNDER_WAY_MAX {
            visitors.leave(1);
        }
        visitors.leave(2);
        assert!(visitors.under_way.is_empty(), "nobody is kept who is gone");
    }
}
