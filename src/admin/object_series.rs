//! The series of object stores.

use std::fmt;

use super::families::{Families, alone};
use crate::metrics::objects::ObjectMetrics;

/// What is counted of object stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectsShown {
    pending: u64,
    pending_bytes: u64,
    stored: u64,
    stored_bytes: u64,
    sent_ahead_bytes: u64,
    failures: u64,
    oldest_ms: u64,
}

impl ObjectsShown {
    /// As it is now, by the clock of the shards.
    pub fn of(metrics: &ObjectMetrics, now_ms: u64) -> Self {
        Self {
            pending: metrics.pending.get(),
            pending_bytes: metrics.pending_bytes.get(),
            stored: metrics.stored.get(),
            stored_bytes: metrics.stored_bytes.get(),
            sent_ahead_bytes: metrics.sent_ahead_bytes.get(),
            failures: metrics.failures.get(),
            oldest_ms: metrics.oldest_ms(now_ms),
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(self, families: &mut Families<'_>) -> fmt::Result {
        let help = "Whole files that an object store has not taken yet";
        families.gauge("bitsd_objects_pending", help, alone(self.pending))?;
        let help = "Bytes of them";
        families.gauge(
            "bitsd_objects_pending_bytes",
            help,
            alone(self.pending_bytes),
        )?;
        let help = "For how long the oldest of them has waited";
        let oldest = alone(self.oldest_ms as f64 / 1e3);
        families.gauge("bitsd_objects_oldest_seconds", help, oldest)?;
        let help = "Files that an object store has taken";
        families.counter("bitsd_objects_stored", help, alone(self.stored))?;
        let help = "Bytes of them";
        families.counter("bitsd_objects_stored_bytes", help, alone(self.stored_bytes))?;
        let help =
            "Bytes that were sent to an object store while the rest of their file was coming";
        let ahead = alone(self.sent_ahead_bytes);
        families.counter("bitsd_objects_sent_ahead_bytes", help, ahead)?;
        let help = "Tries to give a file to an object store that came to nothing";
        families.counter("bitsd_objects_failures", help, alone(self.failures))
    }
}
