//! What is counted of the custody ledger, as Prometheus reads it.

use std::fmt;

use super::families::{Families, alone};
use crate::metrics::ledger::LedgerMetrics;

/// Writes its series; none where no ledger is kept.
///
/// # Errors
/// What the writer says.
pub fn write(ledger: &LedgerMetrics, now_ms: u64, families: &mut Families<'_>) -> fmt::Result {
    if ledger.is_kept.get() == 0 {
        return Ok(());
    }
    let help = "Lines that were written into the custody ledger";
    families.counter("bitsd_custody_lines", help, alone(ledger.lines.get()))?;
    let help = "Lines of uploads without a file that could not be written";
    families.counter("bitsd_custody_lines_lost", help, alone(ledger.lost.get()))?;
    let help = "Lines that wait to be written";
    families.gauge("bitsd_custody_lines_waiting", help, alone(ledger.waiting()))?;
    let name = "bitsd_custody_oldest_waiting_seconds";
    let help = "For how long the oldest of the lines waits that are being written";
    let oldest_s = ledger.oldest_waits_ms(now_ms) as f64 / 1e3;
    families.gauge(name, help, alone(oldest_s))?;
    let help = "Writes and syncs of the custody ledger that failed";
    families.counter("bitsd_custody_failures", help, alone(ledger.failures.get()))?;
    let help = "Times that somebody had changed the custody ledger, or taken its end away";
    let count = alone(ledger.disturbances.get());
    families.counter("bitsd_custody_disturbances", help, count)
}
