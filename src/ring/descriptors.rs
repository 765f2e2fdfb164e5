//! How many files may be open, and how many connections that is enough for.

use rustix::process::{Resource, Rlimit, setrlimit};

use super::lane;
use super::launch_error::LaunchError;
use super::listeners;
use super::memory::{Lowered, in_words};
use super::rlimit::{self, Limited};
use crate::config::{Config, Limits};

/// Descriptors of the process itself: standard streams, signals, settings, locks, applications.
const OWN_DESCRIPTORS: u64 = 24;
/// Descriptors of a shard with nothing to do: its ring and event loop, work directory, journals,
/// files that are freed.
const SHARD_DESCRIPTORS: u64 = 8 + lane::FREEING_MAX as u64;
/// Fewer than this are soon used up: a connection that uploads takes up to three.
pub const FEW_DESCRIPTORS: u64 = 4096;
/// Of what is left for the connections of a shard, in sixteenths: all of them, and those of one
/// client. The rest is for files; the idle ones of whoever has most make room before it is taken.
const OF_CONNECTIONS: u64 = 15;
const OF_CLIENT: u64 = 12;
const SHARES: u64 = 16;

/// Raises the limit of descriptors as far as the hard limit allows, and gives the new limit.
///
/// # Errors
/// [`LaunchError::Descriptors`] if the server would not even come to its first connection.
pub fn raise(config: &Config) -> Result<u64, LaunchError> {
    let limit = rlimit::of(Limited::Files);
    // None is no limit.
    let hard = limit.hard.unwrap_or(u64::MAX);
    let mut soft = limit.soft.unwrap_or(u64::MAX);
    if soft < hard {
        let raised = Rlimit {
            current: limit.hard,
            maximum: limit.hard,
        };
        // It can fail only where something forbids it; then the soft limit is what there is.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            soft = hard;
        }
    }
    let needed = needed(config);
    if soft < needed {
        return Err(LaunchError::Descriptors { soft, needed });
    }
    Ok(soft)
}

/// What a server with nothing to do has open.
fn needed(config: &Config) -> u64 {
    let per_shard =
        SHARD_DESCRIPTORS + listeners::addresses(config).count() as u64 + config.roots.len() as u64;
    OWN_DESCRIPTORS + per_shard * config.cores as u64
}

/// How many descriptors each shard has for its connections, and for the files of their uploads.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    of_shard: u64,
}

impl Descriptors {
    /// Of so many.
    pub fn of(config: &Config, descriptors: u64) -> Self {
        let left = descriptors.saturating_sub(needed(config));
        let of_shard = left / config.cores.max(1) as u64;
        Self { of_shard }
    }

    /// Lowers the bounds of connections to what can be open: beyond that a stranger's idle ones
    /// would keep out everybody, and none of them would make room.
    pub fn lower(self, limits: &mut Limits) -> Vec<Lowered> {
        let share = |share: u64| (self.of_shard / SHARES * share).max(1);
        let all = (
            "connections_per_shard_max",
            &mut limits.connections_per_shard_max,
        );
        let all = Lowered::to(all.0, all.1, share(OF_CONNECTIONS));
        let client = (
            "connections_per_client_max",
            &mut limits.connections_per_client_max,
        );
        let client = Lowered::to(client.0, client.1, share(OF_CLIENT));
        all.into_iter().chain(client).collect()
    }
}

/// What raises the limit.
pub const RAISE: &str = "raise LimitNOFILE= of the service, or the hard limit of `ulimit -n`";

/// Lowers what the settings set higher than files may be open for, and says so.
pub fn fit(config: &mut Config, descriptors: u64) -> Descriptors {
    let available = Descriptors::of(config, descriptors);
    let lowered = available.lower(&mut config.limits);
    if !lowered.is_empty() {
        let (event, lowered, remedy) = ("bounds_lowered", in_words(&lowered), RAISE);
        let why = "fewer files may be open than the settings allow connections";
        match descriptors < FEW_DESCRIPTORS {
            true => tracing::warn!(event, descriptors, lowered, remedy, "{why}"),
            false => tracing::info!(event, descriptors, lowered, remedy, "{why}"),
        }
    }
    available
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    #[test]
    fn connections_are_no_more_than_can_be_open_and_no_client_has_all() {
        let mut config = Config::resolve(Flags::default(), None).unwrap();
        config.cores = 2;
        let needed = needed(&config);
        for (descriptors, all, client) in [
            (u64::MAX, 16_384, 12_288),
            (needed + 2 * 1_600, 1_500, 1_200),
            (needed + 2 * 16, 15, 12),
            (needed, 1, 1),
        ] {
            let mut limits = config.limits.clone();
            let lowered = Descriptors::of(&config, descriptors).lower(&mut limits);
            let found = (
                limits.connections_per_shard_max,
                limits.connections_per_client_max,
            );
            assert_eq!(found, (all, client), "{descriptors}");
            assert_eq!(lowered.is_empty(), descriptors == u64::MAX);
        }
    }
}
