//! How much one task may do before the others of its shard have their turn.
//!
//! An await that is always ready is no await: a client that sends faster than its bytes are dealt
//! with would keep the shard from everybody else, its watchdog and its listeners included. So every
//! loop that may go on without waiting spends from a budget.

use std::cell::Cell;

use crate::vault::disk::Runtime;

/// Bytes of one turn: about a tenth of a millisecond where they are received and written.
const BYTES: usize = 256 * 1024;
/// Operations of one turn: system calls of some microseconds each.
const OPERATIONS: u32 = 64;

/// What is left of a task's turn.
#[derive(Debug)]
pub struct Budget {
    bytes: Cell<usize>,
    operations: Cell<u32>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: Cell::new(BYTES),
            operations: Cell::new(OPERATIONS),
        }
    }
}

impl Budget {
    /// One operation and the bytes it moved; gives way when nothing is left.
    pub async fn spend<R: Runtime>(&self, runtime: &R, bytes: usize) {
        if self.take(bytes) {
            return;
        }
        runtime.give_way().await;
        self.bytes.set(BYTES);
        self.operations.set(OPERATIONS);
    }

    /// Whether something is left.
    fn take(&self, bytes: usize) -> bool {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        self.operations.set(self.operations.get().saturating_sub(1));
        self.bytes.get() > 0 && self.operations.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_operations_both_end_a_turn() {
        let small = Budget::default();
        let turns = (0..OPERATIONS).filter(|_| small.take(1)).count();
        assert_eq!(turns, 63);
        let large = Budget::default();
        assert!(large.take(BYTES - 1));
        assert!(!large.take(1));
        assert!(!Budget::default().take(usize::MAX));
    }
}
