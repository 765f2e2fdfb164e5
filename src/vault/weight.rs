//! What sessions weigh in memory, by what is written of them.
//!
//! A start that reads sessions back needs more than a server that has them: for a moment each
//! stands in a record that was read, in a table, and in a list of the folder. Weighed is what that
//! takes, so a server that takes no more sessions than it may have memory for can always be started
//! again. Measured with 80,000 of them, under a limit of addresses, and with room to spare.

/// A session, whatever it is called.
const SESSION_BYTES: u64 = 1_200;
/// A session that ended, and what a reader has beside it.
pub const TOMBSTONE_BYTES: u64 = 200;
/// A record without its path, as it is written.
const FRAME_BYTES: u64 = 320;
/// What else may stand in one, each.
const MORE_BYTES: u64 = 400;

/// So many sessions whose newest records take so many bytes.
pub fn of_sessions(count: usize, frame_bytes: u64) -> u64 {
    (count as u64)
        .saturating_mul(SESSION_BYTES)
        .saturating_add(frame_bytes)
        .saturating_add(frame_bytes / 2)
}

/// So many sessions with short paths may weigh so much, and no more.
pub fn sessions_in(bytes: u64) -> u64 {
    bytes / of_sessions(1, FRAME_BYTES)
}

/// A session with a path of so many bytes, and so many things that not every record has: digests,
/// an event, an answer, an object, a certificate.
pub fn of_session(path_bytes: usize, more: usize) -> u64 {
    of_sessions(
        1,
        FRAME_BYTES + path_bytes as u64 + more as u64 * MORE_BYTES,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_let_in_as_weigh_no_more() {
        let bytes = 10 << 20;
        let count = sessions_in(bytes);
        let weight = |count| of_sessions(count, count as u64 * FRAME_BYTES);
        let count = usize::try_from(count).unwrap();
        assert!(weight(count) <= bytes && bytes < weight(count + 1));
        assert_eq!(of_sessions(usize::MAX, u64::MAX), u64::MAX);
    }
}
