//! What is counted of the custody ledger.

use std::sync::atomic::{AtomicU64, Ordering};

use super::count::{Count, Gauge};

/// What only grows, by whichever thread.
#[derive(Debug, Default)]
pub struct SharedCount(AtomicU64);

impl SharedCount {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of the custody ledger. But for what is shared, its thread alone counts.
#[derive(Debug, Default)]
pub struct LedgerMetrics {
    /// Whether there is one: 1 or 0.
    pub is_kept: Gauge,
    /// Lines that were written.
    pub lines: Count,
    /// Lines that were asked for.
    pub asked: SharedCount,
    /// Those of them whose fate was told.
    pub answered: SharedCount,
    /// Lines that nobody waited for, and that could not be written.
    pub lost: SharedCount,
    /// Writes and syncs that failed.
    pub failures: Count,
    /// Whether the last one did: 1 or 0.
    pub is_failing: Gauge,
    /// Times that its folder or its file was not what the server had made of it.
    pub disturbances: Count,
    /// Since when the oldest of the lines waits that are being written, by the shards' clock, in
    /// milliseconds; 0: none is.
    pub oldest_ms: Gauge,
}

impl LedgerMetrics {
    /// Lines that wait.
    pub fn waiting(&self) -> u64 {
        // The later one first: it is never more.
        let answered = self.answered.get();
        self.asked.get().saturating_sub(answered)
    }

    /// For how long the oldest of them has waited, in milliseconds; `now_ms` is the shards' clock.
    pub fn oldest_waits_ms(&self, now_ms: u64) -> u64 {
        match self.oldest_ms.get() {
            0 => 0,
            since_ms => now_ms.saturating_sub(since_ms),
        }
    }
}
