//! Numbers among the settings: one row each, from which reading, printing and documentation are made.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::error::{ConfigError, Origin};
use super::quantity::{self, KIB, MIB, TIB};

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
}

impl Number {
    /// The value as written, or the default.
    pub fn resolve(&self, written: Option<(Origin, Amount)>) -> Result<u64, ConfigError> {
        match written {
            Some((origin, amount)) => self.read(origin, &amount),
            None => Ok(self.default),
        }
    }

    /// The value, if it may be written so and lies within the bounds.
    pub fn read(&self, origin: Origin, amount: &Amount) -> Result<u64, ConfigError> {
        let key = self.key;
        let number = match (amount, self.kind) {
            (Amount::Text(text), Kind::Bytes | Kind::PowerOfTwoBytes) => {
                quantity::parse_size(text).map(Some)
            }
            (Amount::Text(text), Kind::Duration) => quantity::parse_duration(text)
                .map(|duration| u64::try_from(duration.as_millis()).ok()),
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
            Kind::PowerOfTwoBytes => format!("powers of two from {min} to {max}"),
            Kind::Milliseconds => format!("{min} to {max} (milliseconds)"),
            Kind::Count | Kind::Bytes | Kind::Duration => format!("{min} to {max}"),
        }
    }
}

/// 0 stands for all cores. 256: a session id names its shard in one byte.
pub(super) const CORES: Number = Number {
    key: "cores",
    default: 0,
    bounds: 0..=256,
    kind: Kind::Count,
};
/// Off by default, which the default of this row does not say. 8 EiB is where file offsets end.
pub(super) const UPLOAD_BYTES_MAX: Number = Number {
    key: "upload_bytes_max",
    default: 0,
    bounds: 1..=8_388_607 * TIB,
    kind: Kind::Bytes,
};
/// A Windows client never sends less than 5 KiB for as long as there is more; 16 TiB is the largest ext4 file.
pub(super) const FRAGMENT_BYTES_MAX: Number = Number {
    key: "fragment_bytes_max",
    default: 64 * MIB,
    bounds: 5 * KIB..=16 * TIB,
    kind: Kind::Bytes,
};
/// 14 days as in IIS.
pub(super) const SESSION_TIMEOUT: Number = Number {
    key: "session_timeout",
    default: 14 * DAY_MS,
    bounds: 1000..=3650 * DAY_MS,
    kind: Kind::Duration,
};

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
            ("listen = []", "bitsd.toml:1:10: listen is empty"),
        ] {
            let message = words(text);
            assert!(message.contains(expected), "{message}");
        }
    }
}
