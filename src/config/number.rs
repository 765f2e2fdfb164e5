//! Numbers among the settings: one row each, from which reading, printing and documentation are made.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::error::{ConfigError, Origin};
use super::quantity::{self, GIB, KIB, MIB, TIB};

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A plain number.
    Count,
    /// Bytes, or a string with a unit.
    Bytes,
    /// Bytes, a power of two.
    PowerOfTwoBytes,
    /// A plain number of milliseconds, as the key's name says.
    Milliseconds,
    /// Held in milliseconds; written as seconds, or as a string with a unit.
    Duration,
}

impl Kind {
    /// The value in words.
    pub fn in_words(self, value: u64) -> String {
        match self {
            Self::Count | Self::Milliseconds => value.to_string(),
            Self::Bytes | Self::PowerOfTwoBytes => quantity::render_size(value),
            Self::Duration => quantity::render_duration(Duration::from_millis(value)),
        }
    }

    /// The value as TOML.
    pub fn to_toml(self, value: u64) -> String {
        match self {
            Self::Count | Self::Milliseconds => self.in_words(value),
            Self::Bytes | Self::PowerOfTwoBytes | Self::Duration => quoted(&self.in_words(value)),
        }
    }
}

/// A number among the settings: its key, default, bounds and form.
#[derive(Debug)]
pub(super) struct Number {
    pub key: &'static str,
    pub default: u64,
    pub bounds: RangeInclusive<u64>,
    pub kind: Kind,
    /// Whether "unlimited" may stand for the number; it is the default then.
    pub may_be_unlimited: bool,
}

impl Number {
    /// A row; the default of one that [may be unlimited](Self::or_unlimited) does not count.
    pub const fn new(
        key: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
        kind: Kind,
    ) -> Self {
        Self {
            key,
            default,
            bounds,
            kind,
            may_be_unlimited: false,
        }
    }

    /// The row, unlimited by default.
    pub const fn or_unlimited(mut self) -> Self {
        self.may_be_unlimited = true;
        self
    }

    /// The duration as written, or the default.
    pub fn resolve_duration(
        &self,
        written: Option<(Origin, Amount)>,
    ) -> Result<Duration, ConfigError> {
        self.resolve(written).map(Duration::from_millis)
    }

    /// The value as written; `None` is unlimited, as by default.
    pub fn resolve_limit(
        &self,
        written: Option<(Origin, Amount)>,
    ) -> Result<Option<u64>, ConfigError> {
        match written {
            None => Ok(None),
            Some((_, Amount::Text(text))) if text == UNLIMITED => Ok(None),
            Some((origin, amount)) => self.read(origin, &amount).map(Some),
        }
    }

    /// A value of [`Self::resolve_limit`] as TOML.
    pub fn limit_to_toml(&self, limit: Option<u64>) -> String {
        limit.map_or_else(|| quoted(UNLIMITED), |number| self.kind.to_toml(number))
    }

    /// The value as written, or the default.
    pub fn resolve(&self, written: Option<(Origin, Amount)>) -> Result<u64, ConfigError> {
        match written {
            Some((origin, amount)) => self.read(origin, &amount),
            None => Ok(self.default),
        }
    }

    /// The value, if it may be written so and lies within the bounds.
    fn read(&self, origin: Origin, amount: &Amount) -> Result<u64, ConfigError> {
        let key = self.key;
        let number = match (amount, self.kind) {
            (Amount::Text(text), Kind::Bytes | Kind::PowerOfTwoBytes) => {
                quantity::parse_size(text).map(Some)
            }
            (Amount::Text(text), Kind::Duration) => quantity::parse_duration(text)
                .map(|duration| u64::try_from(duration.as_millis()).ok()),
            (Amount::Text(_), Kind::Count | Kind::Milliseconds) if self.may_be_unlimited => {
                Ok(None)
            }
            (Amount::Text(_), Kind::Count | Kind::Milliseconds) => {
                let (value, bounds) = (amount.to_string(), self.bounds_in_words());
                return Err(ConfigError::NotANumber {
                    origin,
                    key,
                    value,
                    bounds,
                });
            }
            (Amount::Integer(seconds), Kind::Duration) => Ok(u64::try_from(*seconds)
                .ok()
                .and_then(|seconds| seconds.checked_mul(1000))),
            (Amount::Integer(number), _) => Ok(u64::try_from(*number).ok()),
        };
        match number {
            Ok(Some(number)) if self.takes(number) => Ok(number),
            Ok(_) => {
                let (value, bounds) = (amount.to_string(), self.bounds_in_words());
                Err(ConfigError::OutOfBounds {
                    origin,
                    key,
                    value,
                    bounds,
                })
            }
            Err(source) => Err(ConfigError::BadQuantity {
                origin,
                key,
                value: amount.to_string(),
                source,
            }),
        }
    }

    pub fn takes(&self, number: u64) -> bool {
        self.bounds.contains(&number)
            && (self.kind != Kind::PowerOfTwoBytes || number.is_power_of_two())
    }

    pub fn bounds_in_words(&self) -> String {
        let (min, max) = (
            self.kind.in_words(*self.bounds.start()),
            self.kind.in_words(*self.bounds.end()),
        );
        match self.kind {
            _ if self.may_be_unlimited => format!("{min} to {max}, or {}", quoted(UNLIMITED)),
            Kind::PowerOfTwoBytes => format!("powers of two from {min} to {max}"),
            Kind::Milliseconds => format!("{min} to {max} (milliseconds)"),
            Kind::Count | Kind::Bytes | Kind::Duration => format!("{min} to {max}"),
        }
    }
}

/// 0 stands for all cores. 256: a session id names its shard in one byte.
pub(super) const CORES: Number = Number::new("cores", 0, 0..=256, Kind::Count);
/// How often is cheap: what has expired stands first in a queue. Bounds as in IIS, but from 1 s; IIS: every 12 h.
pub(super) const CLEANUP_INTERVAL: Number = Number::new(
    "cleanup_interval",
    1000,
    1000..=360 * DAY_MS,
    Kind::Duration,
);
/// 8 EiB is where file offsets end.
pub(super) const UPLOAD_BYTES_MAX: Number =
    Number::new("upload_bytes_max", 0, 1..=8_388_607 * TIB, Kind::Bytes).or_unlimited();
/// A Windows client never sends less than 5 KiB for as long as there is more; 16 TiB is the largest ext4 file.
pub(super) const FRAGMENT_BYTES_MAX: Number = Number::new(
    "fragment_bytes_max",
    64 * MIB,
    5 * KIB..=16 * TIB,
    Kind::Bytes,
);
/// 14 days as in IIS.
pub(super) const SESSION_TIMEOUT: Number = Number::new(
    "session_timeout",
    14 * DAY_MS,
    1000..=3650 * DAY_MS,
    Kind::Duration,
);
/// IIS counts 50 for a user; here an address may be that of a proxy for all of them.
pub(super) const SESSIONS_PER_CLIENT_MAX: Number =
    Number::new("sessions_per_client_max", 0, 1..=1_000_000, Kind::Count).or_unlimited();
/// As in IIS.
pub(super) const HOST_ID_FALLBACK: Number = Number::new(
    "host_id_fallback",
    DAY_MS,
    1000..=365 * DAY_MS,
    Kind::Duration,
);
/// Clients give up after 5 minutes; our 408 must come before (protocol section P9).
pub(super) const NOTIFICATION_TIMEOUT: Number = Number::new(
    "notification_timeout",
    240_000,
    1000..=3_600_000,
    Kind::Duration,
);
/// None, because clients repeat what failed by themselves.
pub(super) const NOTIFICATION_RETRIES: Number =
    Number::new("notification_retries", 0, 0..=10, Kind::Count);
/// Each holds a connection to the server application.
pub(super) const NOTIFICATIONS_IN_FLIGHT_MAX: Number =
    Number::new("notifications_in_flight_max", 64, 1..=1024, Kind::Count);
/// A reply is a file; 16 TiB is the largest of ext4.
pub(super) const REPLY_BYTES_MAX: Number =
    Number::new("reply_bytes_max", GIB, 1..=16 * TIB, Kind::Bytes);

/// Every row that stands alone; those of `[limits]` are in their own table.
#[cfg(test)]
pub(super) const ALONE: [&Number; 11] = [
    &CORES,
    &CLEANUP_INTERVAL,
    &UPLOAD_BYTES_MAX,
    &FRAGMENT_BYTES_MAX,
    &SESSION_TIMEOUT,
    &SESSIONS_PER_CLIENT_MAX,
    &HOST_ID_FALLBACK,
    &NOTIFICATION_TIMEOUT,
    &NOTIFICATION_RETRIES,
    &NOTIFICATIONS_IN_FLIGHT_MAX,
    &REPLY_BYTES_MAX,
];

/// The number in a field's type; the bounds of every row lie within it.
pub(super) fn narrow<T: TryFrom<u64>>(number: u64) -> T {
    let Ok(number) = T::try_from(number) else {
        unreachable!("every bound fits into usize")
    };
    number
}

/// A field's number as it stands in the table.
pub(super) fn widen<T>(number: T) -> u64
where
    u64: TryFrom<T>,
{
    let Ok(number) = u64::try_from(number) else {
        unreachable!("usize is at most 64 bits")
    };
    number
}

/// An integer or a string; what it must be is known by its [`Number`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Integer(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountVisitor;
        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or for sizes and durations a string such as \"64 KiB\" or \"14d\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Amount, E> {
                Ok(Amount::Integer(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Amount, E> {
                i64::try_from(value)
                    .map(Amount::Integer)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Amount, E> {
                Ok(Amount::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(AmountVisitor)
    }
}

/// The value as it would be written in the file.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Text(text) => f.write_str(&quoted(text)),
        }
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

const UNLIMITED: &str = "unlimited";
const DAY_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use crate::config::tests::words;

    #[test]
    fn values_out_of_bounds_are_refused_in_words_naming_the_bounds() {
        for (text, expected) in [
            (
                "cores = 257",
                "bitsd.toml:1:9: cores = 257 is out of bounds: it takes 0 to 256",
            ),
            ("cores = -1", "cores = -1 is out of bounds"),
            (
                "fragment_bytes_max = \"5119 B\"",
                "= \"5119 B\" is out of bounds: it takes 5 KiB to 16 TiB",
            ),
            (
                "session_timeout = \"999ms\"",
                "is out of bounds: it takes 1s to 3650d",
            ),
            ("session_timeout = -1", "is out of bounds"),
            ("upload_bytes_max = 0", "is out of bounds: it takes 1 B to"),
            (
                "[limits]\nheaders_max = 7",
                "bitsd.toml:2:15: limits.headers_max = 7 is out of bounds: it takes 8 to 256",
            ),
            (
                "[limits]\nblock_bytes = 65537",
                "it takes powers of two from 64 KiB to 8 MiB",
            ),
            (
                "[limits]\nhead_bytes_max = \"65 KiB\"",
                "it takes 1 KiB to 64 KiB",
            ),
            ("[limits]\nbody_blocks_per_shard = 0", "it takes 1 to 512"),
            (
                "[limits]\nidle_ms_max = \"1s\"",
                "is a string: it takes 100 to 3600000 (milliseconds), without quotes",
            ),
            (
                "session_timeout = \"2w\"",
                "the unit \"w\" does not exist; known are ms, s, m, h and d",
            ),
            (
                "upload_bytes_max = \"many\"",
                "cannot be read: it does not begin with a whole number",
            ),
            (
                "sessions_per_client_max = 0",
                "= 0 is out of bounds: it takes 1 to 1000000, or \"unlimited\"",
            ),
            (
                "sessions_per_client_max = \"many\"",
                "= \"many\" is out of bounds: it takes 1 to 1000000, or \"unlimited\"",
            ),
            ("cleanup_interval = \"361d\"", "it takes 1s to 360d"),
            ("host_id_fallback = \"366d\"", "it takes 1s to 365d"),
            ("notification_timeout = \"61m\"", "it takes 1s to 1h"),
            (
                "notification_retries = 11",
                "bitsd.toml:1:24: notification_retries = 11 is out of bounds: it takes 0 to 10",
            ),
            ("notifications_in_flight_max = 0", "it takes 1 to 1024"),
            ("reply_bytes_max = 0", "it takes 1 B to 16 TiB"),
            ("listen = []", "bitsd.toml:1:10: listen is empty"),
        ] {
            let message = words(text);
            assert!(message.contains(expected), "{message}");
        }
    }
}
