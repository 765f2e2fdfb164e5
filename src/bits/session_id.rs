//! The name of a session: 128 bits, unguessable, and telling which shard owns it.

use std::fmt;

/// A session id: a version 4 UUID whose first byte also names the owning shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(uuid::Uuid);

impl SessionId {
    /// Makes an id owned by `shard` of `shards` from 16 random bytes. `shards` is 1..=256 and `shard < shards`.
    pub fn mint(_random: [u8; 16], _shard: usize, _shards: usize) -> Self {
        todo!()
    }
    /// The owner among `shards` shards: the first byte modulo `shards`.
    pub fn shard(self, _shards: usize) -> usize {
        let _ = self.0;
        todo!()
    }
    /// Reads what a client sends: any case, with or without braces. `None` if it is no GUID (then it is no session of ours).
    pub fn parse(_text: &[u8]) -> Option<Self> {
        todo!()
    }
}

/// On the wire: braced, upper case.
impl fmt::Display for SessionId {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
