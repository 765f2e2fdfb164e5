//! The coarse clock, by which shards and threads go: it never jumps, is read without a system call,
//! and is right to a few milliseconds.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of it, from the start of the machine.
pub fn ms() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    // It starts at zero.
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000 + nanos / 1_000_000
}
