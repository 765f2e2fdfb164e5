//! What may be written for a key: read, bounded, printed, and told in words.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::http::path::{BadTarget, parse_target};

use super::quantity::{self, BadQuantity};
use super::url;

/// A value of any key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Truth(bool),
    /// Durations are in milliseconds; `None` is unlimited.
    Number(Option<u64>),
    /// Also a word; empty is none.
    Text(String),
    /// Empty is none.
    Path(PathBuf),
    Addresses(Vec<SocketAddr>),
}

/// What kinds of values a key takes.
#[derive(Debug)]
pub(super) enum Form {
    Truth,
    /// One of these, in any case.
    Word(&'static [&'static str]),
    Number {
        unit: Unit,
        bounds: RangeInclusive<u64>,
        may_be_unlimited: bool,
    },
    Addresses,
    /// A path that is not empty.
    Directory(&'static str),
    /// A path, or none.
    File(&'static str),
    /// Something with a reader of its own, or none.
    Text(fn(&str) -> Option<String>, &'static str),
    /// The beginning of a path as in a URL.
    Prefix,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A plain number.
    One,
    /// Bytes, or a string with a unit.
    Bytes,
    /// Bytes, a power of two.
    PowerOfTwoBytes,
    /// A plain number of milliseconds, as the key's name says.
    Milliseconds,
    /// Held in milliseconds; written as seconds, or as a string with a unit.
    Duration,
}

/// A value as somebody wrote it.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Truth(bool),
    Integer(Option<i64>),
    Text(String),
    Texts(Vec<String>),
    /// Of a flag or of the environment; it may be no UTF-8.
    Raw(OsString),
    /// What no key takes: a fraction, a date, a table.
    Other,
}

/// Why a key does not take what was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// It is not what the key takes.
    Unusable,
    /// A number or a truth value stands in quotes.
    InQuotes,
    OutOfBounds,
    Quantity(BadQuantity),
    /// One of the addresses is none.
    NotAnAddress(String),
    NothingToListenOn,
    EmptyPath,
    /// A path of Windows, which would make a folder called `D:\..` here.
    WindowsPath,
    Prefix(BadTarget),
}

pub(super) const fn truth() -> Form {
    Form::Truth
}

pub(super) const fn count(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::One, bounds)
}

pub(super) const fn bytes(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::Bytes, bounds)
}

/// In milliseconds, as all durations here.
pub(super) const fn duration(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::Duration, bounds)
}

pub(super) const fn milliseconds(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::Milliseconds, bounds)
}

pub(super) const fn number(unit: Unit, bounds: RangeInclusive<u64>) -> Form {
    Form::Number {
        unit,
        bounds,
        may_be_unlimited: false,
    }
}

/// "unlimited" may stand for the number.
pub(super) const fn or_unlimited(unit: Unit, bounds: RangeInclusive<u64>) -> Form {
    Form::Number {
        unit,
        bounds,
        may_be_unlimited: true,
    }
}

impl Form {
    /// The value as written, if the key takes it.
    pub fn read(&self, written: Written) -> Result<Value, Complaint> {
        let written = self.plain(written)?;
        match (self, written) {
            (Self::Truth, Written::Truth(truth)) => Ok(Value::Truth(truth)),
            (
                Self::Number {
                    may_be_unlimited: true,
                    ..
                },
                Written::Text(text),
            ) if text.eq_ignore_ascii_case(UNLIMITED) => Ok(Value::Number(None)),
            (Self::Number { unit, .. }, Written::Text(text)) => self.bounded(
                unit.parse(&text)
                    .ok_or(Complaint::InQuotes)?
                    .map_err(Complaint::Quantity)?,
            ),
            (Self::Number { unit, .. }, Written::Integer(number)) => {
                let number = number.and_then(|number| u64::try_from(number).ok());
                let number = number.and_then(|number| number.checked_mul(unit.of_an_integer()));
                self.bounded(number.ok_or(Complaint::OutOfBounds)?)
            }
            (Self::Truth, Written::Text(_)) => Err(Complaint::InQuotes),
            (Self::Word(words), Written::Text(text)) => {
                let known = words.iter().find(|word| word.eq_ignore_ascii_case(&text));
                known
                    .map(|word| Value::Text((*word).to_owned()))
                    .ok_or(Complaint::Unusable)
            }
            (Self::Addresses, Written::Text(text)) => {
                Ok(Value::Addresses(vec![parse_address(&text)?]))
            }
            (Self::Addresses, Written::Texts(texts)) if texts.is_empty() => {
                Err(Complaint::NothingToListenOn)
            }
            (Self::Addresses, Written::Texts(texts)) => {
                let addresses: Result<_, _> =
                    texts.iter().map(|text| parse_address(text)).collect();
                addresses.map(Value::Addresses)
            }
            (Self::Directory(_), Written::Text(text)) if text.is_empty() => {
                Err(Complaint::EmptyPath)
            }
            (Self::Directory(_) | Self::File(_), Written::Text(text)) if is_of_windows(&text) => {
                Err(Complaint::WindowsPath)
            }
            (Self::Directory(_) | Self::File(_), Written::Text(text)) => {
                Ok(Value::Path(text.into()))
            }
            (Self::Directory(_) | Self::File(_), Written::Raw(path)) => {
                Ok(Value::Path(path.into()))
            }
            (Self::Text(..), Written::Text(text)) if text.is_empty() => Ok(Value::Text(text)),
            (Self::Text(parse, _), Written::Text(text)) => {
                parse(&text).map(Value::Text).ok_or(Complaint::Unusable)
            }
            (Self::Prefix, Written::Text(text)) => parse_prefix(&text).map(Value::Text),
            _ => Err(Complaint::Unusable),
        }
    }

    /// What a flag says is a text; an integer where only those are taken. A path that is no UTF-8 stays as it is.
    fn plain(&self, written: Written) -> Result<Written, Complaint> {
        let Written::Raw(raw) = written else {
            return Ok(written);
        };
        match (raw.into_string(), self) {
            (Ok(text), Self::Truth) => Ok(text.parse().map_or(Written::Text(text), Written::Truth)),
            (Ok(text), Self::Number { .. }) => Ok(match text.parse() {
                Ok(number) => Written::Integer(Some(number)),
                Err(_) => Written::Text(text),
            }),
            (Ok(text), _) => Ok(Written::Text(text)),
            (Err(raw), Self::Directory(_) | Self::File(_)) => Ok(Written::Raw(raw)),
            (Err(_), _) => Err(Complaint::Unusable),
        }
    }

    fn bounded(&self, number: u64) -> Result<Value, Complaint> {
        let Self::Number { unit, bounds, .. } = self else {
            return Err(Complaint::Unusable);
        };
        let is_right = *unit != Unit::PowerOfTwoBytes || number.is_power_of_two();
        if bounds.contains(&number) && is_right {
            Ok(Value::Number(Some(number)))
        } else {
            Err(Complaint::OutOfBounds)
        }
    }

    /// The values it takes, in words.
    pub fn takes(&self) -> String {
        match self {
            Self::Truth => "true or false".to_owned(),
            Self::Word(words) => {
                let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
                let (last, others) = words.split_last().expect("there are words");
                format!("{} or {last}", others.join(", "))
            }
            Self::Number {
                unit,
                bounds,
                may_be_unlimited,
            } => {
                let (min, max) = (unit.in_words(*bounds.start()), unit.in_words(*bounds.end()));
                match unit {
                    _ if *may_be_unlimited => format!("{min} to {max}, or {}", quoted(UNLIMITED)),
                    Unit::PowerOfTwoBytes => format!("powers of two from {min} to {max}"),
                    Unit::Milliseconds => format!("{min} to {max} (milliseconds)"),
                    Unit::One | Unit::Bytes | Unit::Duration => format!("{min} to {max}"),
                }
            }
            Self::Addresses => "`ADDR:PORT`, or an array of them".to_owned(),
            Self::Prefix => PREFIX_TAKES.to_owned(),
            Self::Directory(takes) | Self::File(takes) | Self::Text(_, takes) => {
                (*takes).to_owned()
            }
        }
    }

    /// A value of this form as TOML.
    pub fn to_toml(&self, value: &Value) -> String {
        match (value, self) {
            (Value::Truth(truth), _) => truth.to_string(),
            (Value::Number(Some(number)), Self::Number { unit, .. }) => unit.to_toml(*number),
            (Value::Number(number), _) => {
                number.map_or_else(|| quoted(UNLIMITED), |number| number.to_string())
            }
            (Value::Text(text), _) => quoted(text),
            (Value::Path(path), _) => quoted(&path.to_string_lossy()),
            (Value::Addresses(addresses), _) => {
                let addresses: Vec<_> = addresses.iter().map(|a| quoted(&a.to_string())).collect();
                match &*addresses {
                    [one] => one.clone(),
                    _ => format!("[{}]", addresses.join(", ")),
                }
            }
        }
    }
}

impl Unit {
    fn parse(self, text: &str) -> Option<Result<u64, BadQuantity>> {
        match self {
            Self::Bytes | Self::PowerOfTwoBytes => Some(quantity::parse_size(text)),
            Self::Duration => Some(quantity::parse_duration(text).and_then(|duration| {
                u64::try_from(duration.as_millis()).map_err(|_| BadQuantity::TooLarge)
            })),
            Self::One | Self::Milliseconds => None,
        }
    }

    /// An integer without unit is seconds for a duration.
    fn of_an_integer(self) -> u64 {
        if self == Self::Duration { 1000 } else { 1 }
    }

    fn in_words(self, number: u64) -> String {
        match self {
            Self::One | Self::Milliseconds => number.to_string(),
            Self::Bytes | Self::PowerOfTwoBytes => quantity::render_size(number),
            Self::Duration => quantity::render_duration(Duration::from_millis(number)),
        }
    }

    fn to_toml(self, number: u64) -> String {
        match self {
            Self::One | Self::Milliseconds => number.to_string(),
            Self::Bytes | Self::PowerOfTwoBytes | Self::Duration => quoted(&self.in_words(number)),
        }
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, Complaint> {
    let not_an_address = |hint: &str| {
        let hint = format!(
            "{} is not an address such as 127.0.0.1:8080 or [::]:8080{hint}",
            quoted(text)
        );
        Complaint::NotAnAddress(hint)
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.parse::<u16>().is_ok() {
        return Err(not_an_address(
            ": the address is missing (0.0.0.0 and [::] are all of this machine)",
        ));
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(not_an_address(": the port is missing"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "8080"));
    let is_name =
        host.contains(|c: char| c.is_ascii_alphabetic()) && url::parse_host(host).is_some();
    if !is_name || port.parse::<u16>().is_err() {
        return Err(not_an_address(""));
    }
    Err(not_an_address(&match host {
        "localhost" => format!(": names are not looked up; write 127.0.0.1:{port}"),
        _ => ": names are not looked up; write the address".to_owned(),
    }))
}

/// Decoded, without a slash at either end.
fn parse_prefix(written: &str) -> Result<String, Complaint> {
    let names = written.strip_prefix('/').unwrap_or(written);
    let names = names.strip_suffix('/').unwrap_or(names);
    if names.is_empty() || names.contains('?') {
        return Err(Complaint::Unusable);
    }
    let target = parse_target(&format!("/{names}")).map_err(Complaint::Prefix)?;
    Ok(target.path.as_str().to_owned())
}

/// Begins with a drive, or with the two backslashes of a share.
fn is_of_windows(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with("\\\\")
        || matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// What a flag says, as it would stand in the file.
pub(super) fn raw_quoted(text: &OsStr) -> String {
    quoted(&text.to_string_lossy())
}

/// What a prefix may be, in words.
pub(super) const PREFIX_TAKES: &str = "a path as in a URL, such as `/logs/new`, without a query";
pub(super) const UNLIMITED: &str = "unlimited";
