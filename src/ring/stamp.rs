//! How a file stands, as the kernel tells it ([`PartStamp`]).

use rustix::fs::Stat;

use crate::vault::disk::PartStamp;

/// Of a file that was looked at.
pub fn of(stat: &Stat) -> PartStamp {
    PartStamp {
        inode: stat.st_ino,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
        changed_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// A time before 1970 is as good as any other, if it is always the same.
fn nanos(seconds: i64, nanos: u64) -> u64 {
    (seconds.cast_unsigned().wrapping_mul(1_000_000_000)).wrapping_add(nanos)
}
