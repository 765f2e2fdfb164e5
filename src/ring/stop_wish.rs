//! Whether somebody has asked for a stop, for whoever waits before there is anybody to hear of it.

use std::sync::atomic::{AtomicBool, Ordering};

/// A start that waits for something gives up then.
static IS_ASKED_FOR: AtomicBool = AtomicBool::new(false);

/// Somebody asks for it.
pub fn note() {
    IS_ASKED_FOR.store(true, Ordering::SeqCst);
}

/// Whether somebody has.
pub fn is_noted() -> bool {
    IS_ASKED_FOR.load(Ordering::SeqCst)
}
