//! The wall clock, as time since 1970. It may jump: what is measured has a clock of its own.

use std::time::{Duration, UNIX_EPOCH};

/// The time now; none has passed on a machine whose clock is set to before 1970.
pub fn since_1970() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// The same in milliseconds.
pub fn ms_since_1970() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}
