//! The memory that a start needs, and whether the process may have it.

use super::rlimit::{self, Limited};

use crate::config::Config;

/// Threads beside the shards.
const OWN_THREADS: u64 = 16;
/// As the standard library makes them.
const STACK_BYTES: u64 = 2 << 20;
const MIB: u64 = 1 << 20;
/// What else is allocated before the first connection.
const OWN_BYTES: u64 = 24 * MIB;

/// The memory that the process needs before its first connection: stacks of threads, body blocks,
/// rings, and what the runtime, the log and TLS keep for themselves.
pub fn needed(config: &Config) -> u64 {
    let limits = &config.limits;
    let blocks = limits.body_blocks_per_shard as u64 * limits.block_bytes as u64;
    let shard = STACK_BYTES + blocks + MIB;
    OWN_THREADS * STACK_BYTES + OWN_BYTES + config.cores as u64 * shard
}

/// Whether the process may have so much: it is asked for in one piece, and given back untouched.
pub fn can_be_had(bytes: u64) -> bool {
    let mut trial = Vec::<u8>::new();
    let tried = trial.try_reserve_exact(usize::try_from(bytes).unwrap_or(usize::MAX));
    // Nothing is stored in it, and it is asked for all the same.
    std::hint::black_box(&mut trial);
    tried.is_ok()
}

/// Where memory is limited, all threads have one heap. To be called before there are others. glibc
/// would reserve 64 MiB of address space for each (`M_ARENA_MAX` in mallopt(3)), which the limit
/// counts whatever is used of it, and one of their allocations would soon fail.
pub fn be_sparing() {
    #[cfg(target_env = "gnu")]
    if is_limited() {
        // SAFETY: it takes two numbers, and changes nothing of what is allocated.
        let _is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

/// Whether the memory of the process has a limit of its own (setrlimit(2)).
pub fn is_limited() -> bool {
    let limits = [Limited::AddressBytes, Limited::DataBytes];
    (limits.into_iter()).any(|limited| rlimit::of(limited).soft.is_some())
}
