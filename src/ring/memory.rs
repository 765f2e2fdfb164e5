//! The memory that a start needs, and whether the process may have it; and how much of the rest its
//! clients may make grow.

mod allowance;
mod limit;

use std::time::Duration;

use super::rlimit::{self, Limited};
use crate::config::{Config, quantity};

pub use allowance::{Allowance, Lowered, in_words};
pub use limit::{MemoryLimit, SetBy};

/// Threads beside the shards, those that begin later included: each disk has up to three for each
/// shard ([`super::lane`]).
const OWN_THREADS: u64 = 16;
const LANE_THREADS: u64 = 3;
/// As the standard library makes them.
const STACK_BYTES: u64 = 2 << 20;
const MIB: u64 = 1 << 20;
/// What else is allocated before the first connection.
const OWN_BYTES: u64 = 24 * MIB;

/// The memory that the process needs before its first connection: stacks of threads, body blocks,
/// rings, and what the runtime, the log and TLS keep for themselves.
pub fn needed(config: &Config) -> u64 {
    let shards = config.cores as u64 * STACK_BYTES;
    OWN_THREADS * STACK_BYTES + shards + needed_in_use(config)
}

/// The part of it that is written to: stacks hardly are.
fn needed_in_use(config: &Config) -> u64 {
    OWN_BYTES + config.cores as u64 * (blocks_of_shard(config) + MIB)
}

/// Bytes of the body blocks of one shard.
pub fn blocks_of_shard(config: &Config) -> u64 {
    let limits = &config.limits;
    (limits.body_blocks_per_shard as u64).saturating_mul(limits.block_bytes as u64)
}

/// How long it may take until shards have their body blocks: each page of them is touched.
pub fn time_for_blocks(config: &Config) -> Duration {
    /// What the slowest machine brings about.
    const BYTES_PER_SECOND: u64 = 64 * MIB;
    let bytes = blocks_of_shard(config).saturating_mul(config.cores as u64);
    Duration::from_secs(bytes / BYTES_PER_SECOND)
}

/// What clients may make grow, under these settings, here.
pub fn allowance(config: &Config) -> Allowance {
    let limits = limit::all();
    let own_lanes = config.cores as u64 * LANE_THREADS * STACK_BYTES;
    let limits = limits.into_iter().map(|mut limit| {
        if limit.set_by.counts_what_is_unused() {
            limit.taken = limit.taken.saturating_add(own_lanes);
        }
        limit
    });
    Allowance::of(config, limits.collect())
}

/// So much may weigh what is read where no server runs: as much again is made of it, to be shown.
pub fn alone_bytes_max() -> u64 {
    let left = |limit: MemoryLimit| {
        let taken = limit.taken.saturating_add(OWN_BYTES);
        limit.bytes.saturating_sub(taken)
    };
    let least = limit::all().into_iter().map(left).min();
    least.unwrap_or(u64::MAX) / 2
}

/// Lowers what the settings set higher than there is memory for, and says so.
pub fn fit(config: &mut Config) -> Allowance {
    let allowance = allowance(config);
    if let Some(why) = allowance.too_little() {
        let event = "little_memory";
        tracing::warn!(
            event,
            why,
            "there is not the memory that the server needs for itself"
        );
    }
    let lowered = allowance.lower(&mut config.limits);
    if !lowered.is_empty() {
        let event = "bounds_lowered";
        let memory = quantity::render_size(allowance.limit.bytes);
        let limit = allowance.limit.set_by.to_string();
        let remedy = format!(
            "{}, or set these limits to what you need",
            allowance.limit.set_by.remedy()
        );
        let lowered = in_words(&lowered);
        // A small machine is what it is; a limit that somebody has set may be a slip.
        match allowance.limit.set_by {
            SetBy::Machine => tracing::info!(event, memory, limit, lowered, remedy, "{TOO_LITTLE}"),
            _ => tracing::warn!(event, memory, limit, lowered, remedy, "{TOO_LITTLE}"),
        }
    }
    allowance
}

const TOO_LITTLE: &str = "there is not the memory for all that the settings allow";

/// Whether the body blocks alone take more than there is; the limit and what they take, if so. The
/// kernel would end the process while they are made.
pub fn too_small_for_blocks(config: &Config) -> Option<(MemoryLimit, u64)> {
    let blocks = blocks_of_shard(config).saturating_mul(config.cores as u64);
    let mut limits = limit::all().into_iter();
    let small = limits.find(|limit| limit.bytes < blocks)?;
    Some((small, blocks))
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
