//! Which processors the threads run on that are no shards.
//!
//! A thread begins on the processors of whoever started it. One that a shard has started would stay
//! on the shard's core, and hold its connections up while the kernel is busy for it. So it moves to
//! the processors that no shard has, where there are any, and never to one that the process was not
//! given (`taskset`, `CPUAffinity=`).

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_setaffinity};

/// For threads that are no shards; empty where nobody knows.
static BESIDE: OnceLock<Vec<usize>> = OnceLock::new();

/// Notes the processors that the process may run on; the first ones are those of so many shards. To
/// be called once, before the first shard begins.
pub fn settle(allowed: &[usize], shards: usize) {
    // A second server in one process keeps what the first one has found.
    let _ = BESIDE.set(beside(allowed, shards).to_vec());
}

/// Those without a shard; all of them, where each has one.
fn beside(allowed: &[usize], shards: usize) -> &[usize] {
    match allowed.get(shards..) {
        Some(others) if !others.is_empty() => others,
        _ => allowed,
    }
}

/// Moves this thread to where it holds up no shard. If that cannot be, it stays where it is. Its
/// priority stays in any case: it may hold locks of a file system, for which shards wait.
pub fn leave_to_shards() {
    let Some(beside) = BESIDE.get().filter(|beside| !beside.is_empty()) else {
        return;
    };
    let mut set = CpuSet::new();
    beside.iter().for_each(|processor| set.set(*processor));
    let _ = sched_setaffinity(None, &set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_the_first_processors_to_themselves_where_there_are_more() {
        for (allowed, shards, others) in [
            (&[0, 1, 2, 3][..], 2, &[2, 3][..]),
            (&[4, 6], 1, &[6]),
            (&[0, 1], 2, &[0, 1]),
            (&[3], 4, &[3]),
            (&[], 1, &[]),
        ] {
            assert_eq!(beside(allowed, shards), others);
        }
    }
}
