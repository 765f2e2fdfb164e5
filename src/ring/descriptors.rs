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
/// Of what a shard has left, in sixteenths, what its connections may take. The rest is for files,
/// and for whoever asks how the server is.
const OF_CONNECTIONS: u64 = 15;
const SHARES: u64 = 16;
/// However little there is: a server with nothing to do has less open than it may come to.
const CONNECTIONS_MIN: u64 = 16;

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

    /// Lowers the bound of connections to what can be open: where it is reached, idle ones make
    /// room, and where no more files may be open, nobody does.
    pub fn lower(self, limits: &mut Limits) -> Option<Lowered> {
        let bound = &mut limits.connections_per_shard_max;
        let share = self.of_shard.saturating_mul(OF_CONNECTIONS) / SHARES;
        let fits = share.max(CONNECTIONS_MIN);
        Lowered::to("connections_per_shard_max", bound, fits)
    }
}

/// What raises the limit.
pub const RAISE: &str = "raise LimitNOFILE= of the service, or the hard limit of `ulimit -n`";

/// Lowers what the settings set higher than files may be open for, and says so.
pub fn fit(config: &mut Config, descriptors: u64) -> Descriptors {
    let available = Descriptors::of(config, descriptors);
    if let Some(lowered) = available.lower(&mut config.limits) {
        let (event, lowered, remedy) = ("bounds_lowered", in_words(&[lowered]), RAISE);
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
    fn connections_are_no_more_than_can_be_open() {
        let mut config = Config::resolve(Flags::default(), None).unwrap();
        config.cores = 2;
        let needed = needed(&config);
        for (descriptors, expected) in [
            (u64::MAX, 16_384),
            (needed + 2 * 1_600, 1_500),
            (needed + 2 * 32, 30),
            (needed, 16),
        ] {
            let mut limits = config.limits.clone();
            let lowered = Descriptors::of(&config, descriptors).lower(&mut limits);
            let found = limits.connections_per_shard_max;
            assert_eq!(found, expected, "{descriptors}");
            assert_eq!(lowered.is_none(), descriptors == u64::MAX);
        }
    }
}
