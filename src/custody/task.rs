//! What the thread that writes the ledger is asked for.

use std::io;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::entry::LedgerEntry;

/// An order.
pub(super) enum Task {
    Write(Box<Wanted>),
    /// The server ends.
    End(mpsc::Sender<()>),
}

/// A line that is to be written.
pub(super) struct Wanted {
    pub entry: LedgerEntry,
    /// It has to survive a power cut before anybody hears of it.
    pub is_durable: bool,
    pub since_ms: u64,
    pub tell: Option<oneshot::Sender<io::Result<()>>>,
}
