//! The downloads' share of a shard's body blocks.
//!
//! A client that stops reading keeps its block until the watchdog ends it, and uploads must not
//! wait for that: so downloads may hold one in so many of the blocks.

use std::cell::Cell;

/// Of so many blocks, downloads may hold one.
const ONE_IN: usize = 4;

/// How many body blocks downloads hold, and may.
#[derive(Debug)]
pub struct Shares {
    held: Cell<usize>,
    held_max: usize,
}

impl Shares {
    /// None held, out of so many blocks.
    pub fn of(blocks: usize) -> Self {
        Self {
            held: Cell::new(0),
            held_max: blocks / ONE_IN,
        }
    }

    /// The right to one more, if one is left.
    pub fn take(&self) -> Option<Share<'_>> {
        (self.held.get() < self.held_max).then(|| {
            self.held.set(self.held.get() + 1);
            Share(&self.held)
        })
    }
}

/// The right of a download to one body block; given back when dropped.
pub struct Share<'s>(&'s Cell<usize>);

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
