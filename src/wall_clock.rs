//! The wall clock, as time since 1970. It may jump: what is measured has a clock of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now; none has passed on a machine whose clock is set to before 1970.
pub fn since_1970() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// The last millisecond of the year 9999: what comes after it has no form (RFC 3339 1).
pub const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// So many seconds after 1970 as RFC 3339 has them, in UTC; at most the end of the year 9999.
pub fn to_the_second(seconds: u64) -> String {
    let time = at(seconds.saturating_mul(1_000));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The same of milliseconds.
pub fn to_the_millisecond(ms: u64) -> String {
    humantime::format_rfc3339_millis(at(ms)).to_string()
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.min(TIME_MS_MAX))
}

/// What [`since_1970`] gives, in milliseconds.
pub fn ms_since_1970() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate, a list, a file or a broken clock may say any number.
    #[test]
    fn no_time_is_too_late_to_be_said() {
        assert_eq!(to_the_second(0), "1970-01-01T00:00:00Z");
        assert_eq!(to_the_millisecond(1_001), "1970-01-01T00:00:01.001Z");
        assert_eq!(to_the_millisecond(TIME_MS_MAX), "9999-12-31T23:59:59.999Z");
        for late in [TIME_MS_MAX + 1, u64::MAX / 1_000, u64::MAX] {
            assert_eq!(to_the_second(late), "9999-12-31T23:59:59Z");
            assert_eq!(to_the_millisecond(late), "9999-12-31T23:59:59.999Z");
        }
    }
}
