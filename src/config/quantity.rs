//! Sizes and durations as people write them: `20 GiB`, `14d`.
//!
//! Used by the settings file and by the flags, so that both take the same words. What is rendered
//! here parses back to the same number. Sizes have a reader of our own: the crates for them count
//! in floating point, or take K for 1000 or MB for 1,048,576, and their messages do not say which
//! units there are.

use std::time::Duration;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
pub const GIB: u64 = 1024 * MIB;
pub const TIB: u64 = 1024 * GIB;

/// Why a text is not a size or a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// It does not begin with a whole number.
    #[error("it does not begin with a whole number")]
    NoNumber,
    /// It has a decimal point or comma.
    #[error("it is a fraction: write a whole number of a smaller unit, such as 1536 MiB or 90m")]
    Fraction,
    /// It is a time span as .NET and IIS write it.
    #[error("it is a time span as IIS writes it: write {0:?}")]
    TimeSpan(String),
    /// Its digits stand in groups.
    #[error("it has separators between its digits: write {0}")]
    Grouped(String),
    /// Its unit is not one of those that exist.
    #[error("the unit {unit:?} does not exist; known are {known}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// Those that exist.
        known: &'static str,
    },
    /// It is no row of numbers with units.
    #[error("it is not a number with a unit, or several such as 1h 30m")]
    NotAQuantity,
    /// The number does not fit into 63 bits of the smallest unit (bytes or milliseconds).
    #[error("the number is too large")]
    TooLarge,
}

/// Reads a number of bytes: `65536`, `64 KiB`, `20GiB`, `10 MB`. Units are read in any case.
///
/// # Errors
/// [`BadQuantity`] names what is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, BadQuantity> {
    let (number, unit) = split(text)?;
    let unit_bytes = SIZE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .map(|(_, bytes)| *bytes)
        .ok_or_else(|| BadQuantity::UnknownUnit {
            unit: unit.to_owned(),
            known: SIZE_UNITS_KNOWN,
        })?;
    bounded_product(number, unit_bytes)
}

/// Reads a duration: `250ms`, `30s`, `1h 30m`, `2 weeks`; a bare number means seconds.
///
/// The crate `humantime` reads it; the units are looked at before, because it would take a slip of
/// the shift key (`10 M`) for ten months, and its messages do not name all units.
///
/// # Errors
/// [`BadQuantity`] names what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, BadQuantity> {
    if let Some(span) = time_span(text) {
        return Err(BadQuantity::TimeSpan(render_duration(span)));
    }
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return bounded_product(number, 1000).map(Duration::from_millis);
    }
    let mut units = text
        .split(|c: char| !c.is_alphabetic() && c != '.')
        .filter(|unit| !unit.is_empty());
    if let Some(unit) =
        units.find(|unit| !DURATION_UNITS_READ.split(' ').any(|known| known == *unit))
    {
        return Err(BadQuantity::UnknownUnit {
            unit: unit.to_owned(),
            known: DURATION_UNITS_KNOWN,
        });
    }
    match humantime::parse_duration(&text.replace('_', "")) {
        Ok(duration) => bounded_product(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), 1)
            .map(Duration::from_millis),
        Err(humantime::DurationError::NumberOverflow) => Err(BadQuantity::TooLarge),
        Err(_) => Err(BadQuantity::NotAQuantity),
    }
}

/// The size in its largest exact binary unit: `64 KiB`, `65537 B`.
pub fn render_size(bytes: u64) -> String {
    [("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)]
        .iter()
        .find(|(_, unit_bytes)| bytes > 0 && bytes.is_multiple_of(*unit_bytes))
        .map_or_else(
            || format!("{bytes} B"),
            |(unit, unit_bytes)| format!("{} {unit}", bytes / unit_bytes),
        )
}

/// The duration in its largest exact unit: `14d`, `90s`, `1500ms`. What is finer than a millisecond
/// is dropped.
pub fn render_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, unit_ms)| ms > 0 && ms.is_multiple_of(u128::from(*unit_ms)))
        .map_or_else(
            || format!("{ms}ms"),
            |(unit, unit_ms)| format!("{}{unit}", ms / u128::from(*unit_ms)),
        )
}

/// A regular expression that every size matches.
pub fn size_pattern() -> String {
    let units = SIZE_UNITS.iter().filter(|(unit, _)| !unit.is_empty());
    let units: Vec<_> = units.map(|(unit, _)| in_any_case(unit)).collect();
    format!(r"^\s*[0-9][0-9_]*\s*({})?\s*$", units.join("|"))
}

/// A regular expression that every duration matches.
pub fn duration_pattern() -> String {
    let units = DURATION_UNITS_READ.replace(' ', "|");
    format!(r"^\s*[0-9][0-9_]*\s*$|^\s*([0-9][0-9_]*\s*({units})\s*)+$")
}

/// A regular expression for a word in any case.
pub fn in_any_case(word: &str) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        // With its flag `u`, ECMA-262 lets nothing else stand behind a backslash.
        false if r"^$\.*+?()[]{}|/".contains(c) => format!(r"\{c}"),
        false => c.to_string(),
    };
    word.chars().map(letter).collect()
}

/// `14.00:00:00`, `01:30:00`: days if there are any, hours, minutes, seconds.
fn time_span(text: &str) -> Option<Duration> {
    let mut parts = text.trim().rsplit(':');
    let mut next = || parts.next()?.parse::<u64>().ok();
    let (seconds, minutes) = (next()?, next()?);
    let rest = parts.next()?;
    let (days, hours) = rest.split_once('.').unwrap_or(("0", rest));
    let (days, hours) = (days.parse::<u64>().ok()?, hours.parse::<u64>().ok()?);
    let fits = parts.next().is_none() && days <= 100_000 && hours < 100 && minutes < 60;
    (fits && seconds < 60)
        .then(|| Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
}

/// `20,000,000` with underscores; `None` where it may be a fraction.
fn regrouped(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | '.' | '\''));
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let mark = digits.chars().find(|c| !c.is_ascii_digit())?;
    let mut groups = digits.split(mark);
    let first = groups.next()?;
    let groups: Vec<_> = groups.collect();
    let is_first = (1..=3).contains(&first.len()) && first != "0";
    let is_group = |group: &&str| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit());
    let is_one = is_first && groups.iter().all(is_group) && (groups.len() > 1 || mark == ',');
    is_one.then(|| format!("{first}_{}{unit}", groups.join("_")))
}

/// Digits (underscores between them allowed, as in TOML), then the unit.
fn split(text: &str) -> Result<(u64, &str), BadQuantity> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let digits = text[..end].replace('_', "");
    if digits.is_empty() || text.starts_with('_') {
        return Err(BadQuantity::NoNumber);
    }
    let number = digits.parse().map_err(|_| BadQuantity::TooLarge)?;
    if let Some(written) = regrouped(text) {
        return Err(BadQuantity::Grouped(written));
    }
    let mut rest = text[end..].chars();
    if matches!(rest.next(), Some('.' | ',')) && rest.next().is_some_and(|c| c.is_ascii_digit()) {
        return Err(BadQuantity::Fraction);
    }
    Ok((number, text[end..].trim_start()))
}

/// TOML integers and file offsets are signed 64-bit numbers, hence the bound.
fn bounded_product(number: u64, unit: u64) -> Result<u64, BadQuantity> {
    number
        .checked_mul(unit)
        .filter(|product| i64::try_from(*product).is_ok())
        .ok_or(BadQuantity::TooLarge)
}

const SIZE_UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("KiB", KIB),
    ("MiB", MIB),
    ("GiB", GIB),
    ("TiB", TIB),
    ("K", KIB),
    ("M", MIB),
    ("G", GIB),
    ("T", TIB),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const SIZE_UNITS_KNOWN: &str =
    "B, KiB, MiB, GiB, TiB (K, M, G, T for short), and kB, MB, GB, TB for powers of 1000";
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const DURATION_UNITS_READ: &str =
    "ms s sec secs second seconds m min mins minute minutes h hour hours d day days w week weeks";
const DURATION_UNITS_KNOWN: &str =
    "ms, s, m, h, d and w, or seconds, minutes, hours, days and weeks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("65_536", 65536),
            ("64 KiB", 65536),
            ("64kib", 65536),
            ("64k", 65536),
            (" 20 GiB ", 20 * GIB),
            ("10MB", 10_000_000),
            ("7 B", 7),
            ("9223372036854775807", i64::MAX.cast_unsigned()),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn wrong_sizes_are_refused_with_their_cause() {
        for text in ["", "KiB", "-1", "_1", " "] {
            assert_eq!(parse_size(text), Err(BadQuantity::NoNumber), "{text:?}");
        }
        for text in ["9223372036854775808", "99999999999999999999", "8388608 TiB"] {
            assert_eq!(parse_size(text), Err(BadQuantity::TooLarge), "{text:?}");
        }
        for text in ["1.5 GiB", "0,5 GiB", "1.5"] {
            assert_eq!(parse_size(text), Err(BadQuantity::Fraction), "{text:?}");
        }
        for (text, meant) in [
            ("20,000,000", "20_000_000"),
            ("20.000.000 KiB", "20_000_000 KiB"),
            ("1'048'576", "1_048_576"),
            ("65,536", "65_536"),
        ] {
            let meant = BadQuantity::Grouped(meant.to_owned());
            assert_eq!(parse_size(text), Err(meant), "{text:?}");
        }
        for text in ["1 parsec", "1 0", "0x10"] {
            assert!(
                matches!(parse_size(text), Err(BadQuantity::UnknownUnit { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn durations_are_read_with_and_without_unit() {
        for (text, ms) in [
            ("0", 0),
            ("90", 90_000),
            ("250ms", 250),
            ("30s", 30_000),
            ("10 m", 600_000),
            ("4h", 14_400_000),
            ("14d", 14 * 86_400_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2w", 14 * 86_400_000),
            ("2 weeks", 14 * 86_400_000),
            ("1_000ms", 1000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn wrong_durations_are_refused_with_their_cause() {
        assert_eq!(parse_duration("d"), Err(BadQuantity::NoNumber));
        assert_eq!(
            parse_duration("9223372036854775807d"),
            Err(BadQuantity::TooLarge)
        );
        assert_eq!(parse_duration("1.5h"), Err(BadQuantity::Fraction));
        for (text, meant) in [
            ("14.00:00:00", "14d"),
            ("01:30:00", "90m"),
            ("0.00:00:30", "30s"),
        ] {
            let meant = BadQuantity::TimeSpan(meant.to_owned());
            assert_eq!(parse_duration(text), Err(meant), "{text:?}");
        }
        for text in ["1h30x", "1 M", "1 month"] {
            assert!(
                matches!(parse_duration(text), Err(BadQuantity::UnknownUnit { .. })),
                "{text:?}"
            );
        }
        for text in ["1h30", "1h -3m", "1h, 3m"] {
            assert_eq!(
                parse_duration(text),
                Err(BadQuantity::NotAQuantity),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_rendered_parses_back() {
        for bytes in [
            0,
            1,
            1023,
            1024,
            1025,
            5 * KIB,
            64 * MIB,
            20 * GIB,
            i64::MAX.cast_unsigned(),
        ] {
            assert_eq!(parse_size(&render_size(bytes)), Ok(bytes));
        }
        for ms in [
            0,
            1,
            999,
            1000,
            1500,
            60_000,
            90_000,
            3_600_000,
            14 * 86_400_000,
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&render_duration(duration)), Ok(duration));
        }
        assert_eq!(render_size(64 * MIB), "64 MiB");
        assert_eq!(render_duration(Duration::from_secs(14 * 86_400)), "14d");
    }
}
