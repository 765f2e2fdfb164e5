//! What is counted of the custody ledger.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

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
    /// Why the last one did, if it did.
    wrong: Mutex<Option<LedgerTrouble>>,
    /// Whether it did: shards ask, and do not wait for the lock.
    is_failing: AtomicBool,
    /// Times that its folder or its file was not what the server had made of it.
    pub disturbances: Count,
    /// Since when the oldest of the lines waits that are being written, by the shards' clock, in
    /// milliseconds; 0: none is.
    pub oldest_ms: Gauge,
}

/// Why the ledger cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerTrouble {
    pub why: String,
    /// What helps, where that is known.
    pub remedy: Option<&'static str>,
}

impl LedgerMetrics {
    /// How the last write went.
    pub fn note(&self, wrong: Option<LedgerTrouble>) {
        self.is_failing.store(wrong.is_some(), Ordering::Relaxed);
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = wrong;
    }

    /// Whether the last write failed, and nothing has shown since that the next one would not.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Why it failed, if it did.
    pub fn wrong(&self) -> Option<LedgerTrouble> {
        let wrong = self.wrong.lock();
        wrong.unwrap_or_else(PoisonError::into_inner).clone()
    }

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
