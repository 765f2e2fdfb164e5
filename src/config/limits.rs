//! Bounds of the whole server, in one table.

use serde::Deserialize;
use toml::Spanned;

use super::error::ConfigError;
use super::number::{Amount, Kind, Number, narrow, widen};
use super::quantity::{GIB, KIB, MIB};
use super::settings_file::SettingsText;

/// Makes [`Limits`], its defaults, its reader and its writer from one table.
macro_rules! limits {
    ($(#[doc = $doc:literal] $key:ident: $type:ty = $default:expr, in $bounds:expr, $kind:ident;)+) => {
        /// Bounds of the server (design H).
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $doc] pub $key: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: narrow($default),)+ }
            }
        }

        /// `[limits]` as written.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, expecting = "a table")]
        pub(super) struct RawLimits {
            $($key: Option<Spanned<Amount>>,)+
        }

        /// The rows of the table with their meanings.
        pub(super) const LIMITS: &[(Number, &str)] = &[$((
            Number::new(
                concat!("limits.", stringify!($key)),
                $default,
                $bounds,
                Kind::$kind,
            ),
            $doc,
        ),)+];

        impl Limits {
            pub(super) fn resolve(raw: RawLimits, file: &SettingsText) -> Result<Self, ConfigError> {
                let mut rows = LIMITS.iter();
                let mut next = |amount: Option<Spanned<Amount>>| {
                    let (number, _) = rows.next().expect("one row for each field");
                    number.resolve(amount.map(|amount| file.locate(amount)))
                };
                Ok(Self { $($key: narrow(next(raw.$key)?),)+ })
            }

            /// The keys of the values that differ.
            pub(super) fn differences(&self, other: &Self) -> impl Iterator<Item = &'static str> {
                let pairs = self.values().into_iter().zip(other.values());
                let rows = LIMITS.iter().zip(pairs);
                rows.filter(|(_, (one, two))| one != two)
                    .map(|((number, _), _)| number.key)
            }

            /// The values in the order of the table.
            pub(super) fn values(&self) -> Vec<u64> {
                vec![$(widen(self.$key),)+]
            }
        }
    };
}

limits! {
    /// Bytes of a request head.
    head_bytes_max: usize = 16 * KIB, in KIB..=64 * KIB, Bytes;
    /// Fields of a request head.
    headers_max: usize = 64, in 8..=256, Count;
    /// Bytes of one field value.
    value_bytes_max: usize = 4 * KIB, in 256..=64 * KIB, Bytes;
    /// Connections of one shard.
    connections_per_shard_max: usize = 16_384, in 1..=1_048_576, Count;
    /// Large body blocks of one shard.
    body_blocks_per_shard: usize = 16, in 1..=512, Count;
    /// Bytes of one body block; a multiple of the page size.
    block_bytes: usize = 512 * KIB, in 64 * KIB..=8 * MIB, PowerOfTwoBytes;
    /// Sessions of one shard.
    sessions_per_shard_max: usize = 262_144, in 1..=16_777_216, Count;
    /// Connections waiting to be taken over by a shard.
    mailbox_max: usize = 256, in 1..=65_536, Count;
    /// Time for a head to arrive, in milliseconds.
    head_ms_max: u64 = 10_000, in 100..=600_000, Milliseconds;
    /// Time between requests, in milliseconds.
    idle_ms_max: u64 = 120_000, in 100..=3_600_000, Milliseconds;
    /// Time without a byte of a body (or without progress of an answer), in milliseconds.
    body_stall_ms_max: u64 = 60_000, in 100..=3_600_000, Milliseconds;
    /// Bytes of a refused body that are read to keep the connection.
    drain_bytes_max: u64 = 16 * MIB, in 0..=GIB, Bytes;
    /// Time for running requests to finish when the server stops, in milliseconds.
    shutdown_ms_max: u64 = 30_000, in 0..=3_600_000, Milliseconds;
    /// How long a closed or cancelled session is remembered, in milliseconds.
    tombstone_ms_max: u64 = 600_000, in 0..=86_400_000, Milliseconds;
    /// How many closed or cancelled sessions one shard remembers.
    tombstones_per_shard_max: usize = 4096, in 0..=1_048_576, Count;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::number::ALONE;

    #[test]
    fn every_default_lies_within_its_bounds() {
        let rows = LIMITS.iter().map(|(row, _)| row);
        for row in rows.chain(ALONE) {
            assert!(
                row.may_be_unlimited || row.takes(row.default),
                "{}",
                row.key
            );
        }
    }
}
