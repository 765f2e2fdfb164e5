//! How much of the memory that there is clients may make grow, and what for.
//!
//! Each bound of the settings is harmless by itself, and all of them together may be more than a
//! small machine or a container has. What is left of the smallest limit, when the server has what
//! it needs for itself, is dealt to what clients can make grow, and each bound is lowered to its
//! share. So the kernel never has to end the server, and a start finds room for what the server
//! before it has taken. Where all bounds fit, nothing is lowered.

use super::limit::{MemoryLimit, SetBy};
use super::{needed, needed_in_use};
use crate::config::{Config, Limits, quantity};
use crate::ring::blocks;
use crate::vault::weight;

/// Shares of what is left, in sixteenths; the last one is for all that has no share.
const SHARES: u64 = 16;
const OF_SESSIONS: u64 = 6;
const OF_CONNECTIONS: u64 = 6;
const OF_LONG_HEADS: u64 = 1;
const OF_TOMBSTONES: u64 = 2;
/// What may be read back at a start: no client has a connection yet.
const OF_READING_BACK: u64 = 15;

/// What a connection takes beside its head block: of the server, and of the kernel for its socket.
const CONNECTION_BYTES: u64 = 2 << 10;
const SOCKET_BYTES: u64 = 6 << 10;
/// The same of TLS, in the middle of a handshake.
const TLS_BYTES: u64 = 32 << 10;
/// However little there is, so many connections and long heads are served.
const CONNECTIONS_MIN: u64 = 64;
const LONG_HEADS_MIN: u64 = 4;
/// And sessions of so much weight are let in.
const SESSIONS_BYTES_MIN: u64 = 256 << 10;

/// What clients may make grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The limit that leaves least.
    pub limit: MemoryLimit,
    /// What the server needs of it for itself,
    own: u64,
    /// and what it leaves.
    left: u64,
    shards: u64,
    /// What a connection takes at the most.
    connection: u64,
    long_head: u64,
}

/// A bound that the settings set higher than there is memory, or descriptors, for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    pub key: &'static str,
    pub from: usize,
    pub to: usize,
}

impl Lowered {
    /// Lowers a bound to what fits, unless it does.
    pub fn to(key: &'static str, bound: &mut usize, fits: u64) -> Option<Self> {
        let to = usize::try_from(fits).unwrap_or(usize::MAX);
        (to < *bound).then(|| {
            let from = std::mem::replace(bound, to);
            Self { key, from, to }
        })
    }
}

impl Allowance {
    /// Under these settings, and what limits memory.
    pub fn of(config: &Config, limits: Vec<MemoryLimit>) -> Self {
        let own_of = |limit: &MemoryLimit| match limit.set_by.counts_what_is_unused() {
            true => needed(config),
            false => needed_in_use(config),
        };
        let left_of = |limit: &MemoryLimit| {
            let left = limit.bytes.saturating_sub(limit.taken);
            left.saturating_sub(own_of(limit))
        };
        let unlimited = MemoryLimit {
            bytes: u64::MAX,
            set_by: SetBy::Machine,
            taken: 0,
        };
        let least = limits.into_iter().min_by_key(left_of);
        let limit = least.unwrap_or(unlimited);
        let head = blocks::block_bytes(config.limits.head_bytes_max);
        let is_secure = config.listeners.iter().any(|listener| listener.tls);
        Self {
            own: own_of(&limit),
            left: left_of(&limit),
            shards: config.cores as u64,
            connection: blocks::head_block_bytes(config.limits.head_bytes_max) as u64
                + CONNECTION_BYTES
                + if limit.set_by.counts_what_is_unused() {
                    0
                } else {
                    SOCKET_BYTES
                }
                + if is_secure { TLS_BYTES } else { 0 },
            long_head: head as u64,
            limit,
        }
    }

    fn share(&self, of: u64) -> u64 {
        self.left / SHARES * of
    }

    /// So much may the sessions of one shard weigh.
    pub fn sessions_bytes_max(&self) -> u64 {
        (self.share(OF_SESSIONS) / self.shards).max(SESSIONS_BYTES_MIN)
    }

    /// So much may all weigh that is read back at a start.
    pub fn read_back_bytes_max(&self) -> u64 {
        self.share(OF_READING_BACK)
            .max(self.shards * SESSIONS_BYTES_MIN)
    }

    /// Lowers the bounds to what there is memory for; which ones, and by how much.
    pub fn lower(&self, limits: &mut Limits) -> Vec<Lowered> {
        let mut lowered = Vec::new();
        let mut lower = |key, bound: &mut usize, fits: u64| {
            lowered.extend(Lowered::to(key, bound, fits));
        };
        let of_shard = |share, each: u64| self.share(share) / self.shards / each;
        let connections = of_shard(OF_CONNECTIONS, self.connection).max(CONNECTIONS_MIN);
        lower(
            "connections_per_shard_max",
            &mut limits.connections_per_shard_max,
            connections,
        );
        if limits.connections_per_shard_max as u64 == connections {
            // No one client keeps all others out, as by the defaults.
            lower(
                "connections_per_client_max",
                &mut limits.connections_per_client_max,
                connections / 4 * 3,
            );
        }
        lower(
            "long_heads_per_shard_max",
            &mut limits.long_heads_per_shard_max,
            of_shard(OF_LONG_HEADS, self.long_head).max(LONG_HEADS_MIN),
        );
        lower(
            "sessions_per_shard_max",
            &mut limits.sessions_per_shard_max,
            weight::sessions_in(self.sessions_bytes_max()),
        );
        lower(
            "tombstones_per_shard_max",
            &mut limits.tombstones_per_shard_max,
            of_shard(OF_TOMBSTONES, weight::TOMBSTONE_BYTES),
        );
        lowered
    }

    /// That there is less than the server needs for itself, and what helps, if so. Where memory
    /// counts before it is used, the kernel has been asked for all of that
    /// ([`crate::ring::probe::memory`]).
    pub fn too_little(&self) -> Option<String> {
        let is_asked = self.limit.set_by.counts_what_is_unused();
        (self.left == 0 && !is_asked).then(|| {
            format!(
                "the server needs {} of memory for itself, and there are {} ({}): the kernel may end it; {}, or lower \
                 cores, limits.body_blocks_per_shard or limits.block_bytes",
                quantity::render_size(self.own),
                quantity::render_size(self.limit.bytes),
                self.limit.set_by,
                self.limit.set_by.remedy()
            )
        })
    }

    /// How much there is, and what says so.
    pub fn in_words(&self) -> String {
        let size = quantity::render_size(self.limit.bytes);
        format!("{size} of memory ({})", self.limit.set_by)
    }
}

/// Which bounds were lowered, from what to what.
pub fn in_words(lowered: &[Lowered]) -> String {
    let each = lowered.iter().map(|one| {
        let Lowered { key, from, to } = one;
        format!("{key} from {from} to {to}")
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    const MIB: u64 = 1 << 20;

    fn config() -> Config {
        let mut config = Config::resolve(Flags::default(), None).unwrap();
        config.cores = 2;
        config
    }

    fn limit(bytes: u64, set_by: SetBy) -> MemoryLimit {
        MemoryLimit {
            bytes,
            set_by,
            taken: 0,
        }
    }

    #[test]
    fn where_there_is_much_memory_nothing_is_lowered() {
        let config = config();
        let allowance = Allowance::of(&config, vec![limit(16 << 30, SetBy::Machine)]);
        let mut limits = config.limits.clone();
        assert_eq!(allowance.lower(&mut limits), []);
        let unknown = Allowance::of(&config, Vec::new());
        assert_eq!(unknown.lower(&mut limits), []);
    }

    #[test]
    fn what_all_bounds_add_up_to_fits_into_what_there_is() {
        let config = config();
        for bytes in [100 * MIB, 256 * MIB, 1024 * MIB] {
            for set_by in [SetBy::Group("g".into()), SetBy::Addresses] {
                let allowance = Allowance::of(&config, vec![limit(bytes, set_by)]);
                let mut limits = config.limits.clone();
                let lowered = allowance.lower(&mut limits);
                let shard = limits.connections_per_shard_max as u64 * allowance.connection
                    + limits.long_heads_per_shard_max as u64 * allowance.long_head
                    + limits.tombstones_per_shard_max as u64 * weight::TOMBSTONE_BYTES
                    + allowance.sessions_bytes_max();
                assert!(2 * shard <= allowance.left, "{bytes}: {allowance:?}");
                assert!(allowance.read_back_bytes_max() >= 2 * allowance.sessions_bytes_max());
                assert!(lowered.iter().all(|one| one.to < one.from), "{lowered:?}");
                let client = limits.connections_per_client_max;
                assert!(client < limits.connections_per_shard_max);
                // It is told once, and a reload by the same settings changes nothing.
                assert_eq!(allowance.lower(&mut limits), []);
            }
        }
    }

    #[test]
    fn the_limit_that_leaves_least_counts() {
        let config = config();
        let limits = vec![
            limit(8 << 30, SetBy::Machine),
            limit(200 * MIB, SetBy::Group("g".into())),
            // Stacks of threads count here, used or not.
            limit(201 * MIB, SetBy::Addresses),
        ];
        let allowance = Allowance::of(&config, limits);
        assert_eq!(allowance.limit.set_by, SetBy::Addresses);
        assert_eq!(allowance.in_words(), "201 MiB of memory (RLIMIT_AS)");
    }

    #[test]
    fn however_little_there_is_somebody_is_served() {
        let config = config();
        let allowance = Allowance::of(&config, vec![limit(MIB, SetBy::Machine)]);
        let mut limits = config.limits.clone();
        let lowered = in_words(&allowance.lower(&mut limits));
        assert_eq!(limits.connections_per_shard_max, 64);
        assert!(limits.sessions_per_shard_max > 100);
        let told = "connections_per_shard_max from 16384 to 64, connections_per_client_max";
        assert!(lowered.starts_with(told), "{lowered}");
    }

    #[test]
    fn less_than_the_server_needs_for_itself_is_told() {
        let config = config();
        let too_little =
            |bytes, set_by| Allowance::of(&config, vec![limit(bytes, set_by)]).too_little();
        let group = || SetBy::Group("g".into());
        let told = too_little(30 * MIB, group()).unwrap();
        assert!(
            told.contains("needs 42 MiB of memory for itself, and there are 30 MiB (g)"),
            "{told}"
        );
        assert!(told.contains("raise MemoryMax="), "{told}");
        assert_eq!(too_little(43 * MIB, group()), None);
        // Of these a start is refused before.
        assert_eq!(too_little(30 * MIB, SetBy::Addresses), None);
    }
}
