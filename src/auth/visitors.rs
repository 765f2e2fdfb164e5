//! Those who have shown who they are, and those who failed to: what one shard remembers.

use super::memory::Memory;
use super::throttle::Throttle;

/// What a shard remembers of passwords.
pub struct Visitors {
    /// Which were right.
    pub memory: Memory,
    /// Who had how many wrong.
    pub throttle: Throttle,
}

impl Visitors {
    /// Nobody has come yet; `secret` is 32 bytes that nobody knows.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            memory: Memory::new(secret),
            throttle: Throttle::default(),
        }
    }
}
