//! What may be written for a key: read, bounded, printed, and told in words.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{self, parse_addresses};
use super::complaint::Complaint;
use super::meant::{UNLIMITED, is_none, nearest, no_bound, of_prefix};
use super::quantity;
use super::shown::{of_user, quoted};
use super::text::Text;
use crate::auth::policy::Scheme;
use crate::http::path::parse_target;

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
    Texts(Vec<String>),
}

/// What kinds of values a key takes.
#[derive(Debug)]
pub(super) enum Form {
    Truth,
    /// One of these, in any case.
    Word(&'static [&'static str]),
    Number(Number),
    Addresses,
    /// A path that is not empty.
    Directory(&'static str),
    /// The path of a file that is read, or none.
    File(&'static str),
    /// The path of what the server makes, or none.
    Place(&'static str),
    Text(Text),
    /// The same, or none.
    TextOrNone(Text),
    /// Any of these, each once, in any case.
    Words(&'static [&'static str]),
    /// Several texts.
    Texts(Text),
    /// The beginning of a path as in a URL.
    Prefix,
}

/// Which numbers, and how they are written.
#[derive(Debug)]
pub(super) struct Number {
    pub unit: Unit,
    pub bounds: RangeInclusive<u64>,
    /// Whether "unlimited" may stand for the number.
    pub may_be_unlimited: bool,
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
    /// A plain number of hundredths.
    Percent,
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

pub(super) const fn truth() -> Form {
    Form::Truth
}

pub(super) const fn count(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::One, bounds)
}

pub(super) const fn bytes(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::Bytes, bounds)
}

pub(super) const fn duration(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::Duration, bounds)
}

pub(super) const fn milliseconds(bounds: RangeInclusive<u64>) -> Form {
    number(Unit::Milliseconds, bounds)
}

/// Numbers within bounds; those of durations are in milliseconds.
pub(super) const fn number(unit: Unit, bounds: RangeInclusive<u64>) -> Form {
    let may_be_unlimited = false;
    Form::Number(Number {
        unit,
        bounds,
        may_be_unlimited,
    })
}

/// The same, or none.
pub(super) const fn or_unlimited(unit: Unit, bounds: RangeInclusive<u64>) -> Form {
    let may_be_unlimited = true;
    Form::Number(Number {
        unit,
        bounds,
        may_be_unlimited,
    })
}

impl Form {
    /// The value as written, if the key takes it.
    pub fn read(&self, written: Written) -> Result<Value, Complaint> {
        let is_raw = matches!(written, Written::Raw(_));
        self.read_plain(self.plain(written))
            .map_err(|why| match why {
                Complaint::InQuotes if !is_raw => why,
                Complaint::InQuotes if matches!(self, Self::Number(_)) => Complaint::NoNumber,
                Complaint::InQuotes => Complaint::Unusable,
                why => why,
            })
    }

    fn read_plain(&self, written: Written) -> Result<Value, Complaint> {
        match (self, written) {
            (Self::Number(number), written) => number.read(written),
            (Self::Truth, Written::Truth(truth)) => Ok(Value::Truth(truth)),
            (Self::Truth, Written::Text(_)) => Err(Complaint::InQuotes),
            (Self::Word(words), Written::Text(text)) => {
                let known = words.iter().find(|word| word.eq_ignore_ascii_case(&text));
                let word = known.ok_or(Complaint::Unusable)?;
                Ok(Value::Text((*word).to_owned()))
            }
            (Self::Addresses, Written::Text(text)) => {
                parse_addresses(&[text]).map(Value::Addresses)
            }
            (Self::Addresses, Written::Texts(texts)) => {
                parse_addresses(&texts).map(Value::Addresses)
            }
            (Self::Directory(_) | Self::File(_) | Self::Place(_), Written::Raw(path)) => {
                self.read_path(path)
            }
            (Self::Directory(_), Written::Text(text)) if text.is_empty() => {
                Err(Complaint::EmptyPath)
            }
            (Self::Directory(_), Written::Text(text))
                if text.trim() != text || text.chars().any(char::is_control) =>
            {
                Err(Complaint::OddPath)
            }
            (Self::Directory(_) | Self::File(_) | Self::Place(_), Written::Text(text)) => {
                if is_of_windows(&text) {
                    Err(Complaint::WindowsPath)
                } else if is_for_a_shell(&text) {
                    Err(Complaint::ShellPath)
                } else {
                    self.read_path(text.into())
                }
            }
            (Self::TextOrNone(_), Written::Text(text)) if text.is_empty() => Ok(Value::Text(text)),
            (Self::Text(kind) | Self::TextOrNone(kind), Written::Text(text)) => {
                let read = (kind.parse)(&text).map(Value::Text);
                read.ok_or(Complaint::Unusable)
            }
            (Self::Words(_) | Self::Texts(_), Written::Text(text)) => self.read_all(&[text]),
            (Self::Words(_) | Self::Texts(_), Written::Texts(texts)) => self.read_all(&texts),
            (Self::Prefix, Written::Text(text)) => parse_prefix(&text).map(Value::Text),
            _ => Err(Complaint::Unusable),
        }
    }

    /// Evidence must not depend on where the server was started from, and whoever asks it by its
    /// socket was started elsewhere: such places are named from `/` on.
    fn read_path(&self, path: OsString) -> Result<Value, Complaint> {
        let path = PathBuf::from(path);
        let is_place = matches!(self, Self::Place(_));
        match is_place && path.is_relative() && !path.as_os_str().is_empty() {
            true => Err(Complaint::Unusable),
            false => Ok(Value::Path(path)),
        }
    }

    /// Says what was meant too, where it can be told. `written` is the value as it stands there.
    pub fn explain(&self, why: Complaint, written: &str) -> Complaint {
        // A part of a URL with a password in it may be a part of the password.
        if !of_user(written).is_empty() {
            return why;
        }
        let written = written.trim_matches(['"', '\'']);
        let hint = match (self, &why) {
            (Self::Number(number), _) => number.hint(&why, written),
            (Self::Prefix, Complaint::Unusable | Complaint::Prefix(_)) => of_prefix(written),
            (_, Complaint::NotOneOf(text)) => self.hint(text),
            (_, Complaint::Unusable) => self.hint(written),
            _ => None,
        };
        match hint {
            Some(hint) => Complaint::Meant(Box::new(why), hint),
            None => why,
        }
    }

    fn hint(&self, text: &str) -> Option<String> {
        match self {
            Self::Words(words) if *words == Scheme::WORDS && is_none(text) => {
                Some("; did you mean [], which asks nobody?".to_owned())
            }
            Self::Word(words) | Self::Words(words) => nearest(words, text),
            Self::Addresses => {
                let port = text.parse::<u16>().ok()?;
                Some(format!("; {}", address::port_alone(port)))
            }
            Self::Text(kind) | Self::TextOrNone(kind) | Self::Texts(kind) => (kind.hint)(text),
            _ => None,
        }
    }

    /// Each of several texts; what stands twice counts once.
    fn read_all(&self, texts: &[String]) -> Result<Value, Complaint> {
        let mut read = Vec::new();
        for text in texts {
            let one = match self {
                Self::Words(words) => {
                    let known = words.iter().find(|word| word.eq_ignore_ascii_case(text));
                    known.map(|word| (*word).to_owned())
                }
                Self::Texts(kind) => (kind.parse)(text),
                _ => None,
            };
            let one = one.ok_or_else(|| Complaint::NotOneOf(text.clone()))?;
            if !read.contains(&one) {
                read.push(one);
            }
        }
        Ok(Value::Texts(read))
    }

    /// What a flag says is a text; a truth value or an integer where those are taken. Only paths
    /// may be no UTF-8.
    fn plain(&self, written: Written) -> Written {
        let Written::Raw(raw) = written else {
            return written;
        };
        let is_path = matches!(self, Self::Directory(_) | Self::File(_) | Self::Place(_));
        match (raw.into_string(), self) {
            (Ok(text), Self::Truth) => text.parse().map_or(Written::Text(text), Written::Truth),
            (Ok(text), Self::Number(_)) => match text.parse() {
                Ok(number) => Written::Integer(Some(number)),
                Err(_) => Written::Text(text),
            },
            // `a, b` in a variable.
            (Ok(text), Self::Addresses) => Written::Text(text.trim().to_owned()),
            (Ok(text), _) => Written::Text(text),
            (Err(raw), _) if is_path => Written::Raw(raw),
            (Err(_), _) => Written::Other,
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
            Self::Number(number) => number.takes(),
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
                format!("an array of {}", words.join(", "))
            }
            Self::Addresses => "`ADDR:PORT`, or an array of them".to_owned(),
            Self::Prefix => PREFIX_TAKES.to_owned(),
            Self::Directory(takes)
            | Self::File(takes)
            | Self::Place(takes)
            | Self::Text(Text { takes, .. })
            | Self::Texts(Text { takes, .. }) => (*takes).to_owned(),
            Self::TextOrNone(kind) => format!("{}, or \"\" for none", kind.takes),
        }
    }

    /// A value of this form as TOML.
    pub fn to_toml(&self, value: &Value) -> String {
        match (value, self) {
            (Value::Truth(truth), _) => truth.to_string(),
            (Value::Number(Some(value)), Self::Number(number)) => number.unit.to_toml(*value),
            (Value::Number(_), _) => quoted(UNLIMITED),
            (Value::Text(text), _) => quoted(text),
            (Value::Path(path), _) => quoted(&path.to_string_lossy()),
            (Value::Texts(texts), _) => {
                let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            (Value::Addresses(addresses), _) => {
                let addresses: Vec<_> = addresses.iter().map(|a| quoted(&a.to_string())).collect();
                match &*addresses {
                    [one] => one.clone(),
                    all => format!("[{}]", all.join(", ")),
                }
            }
        }
    }
}

impl Number {
    fn read(&self, written: Written) -> Result<Value, Complaint> {
        let number = match written {
            Written::Text(text)
                if self.may_be_unlimited && text.eq_ignore_ascii_case(UNLIMITED) =>
            {
                return Ok(Value::Number(None));
            }
            Written::Text(text) => self.unit.parse(&text)?,
            Written::Integer(number) => (number.and_then(|number| u64::try_from(number).ok()))
                .and_then(|number| number.checked_mul(self.unit.of_an_integer()))
                .ok_or(Complaint::OutOfBounds)?,
            _ => return Err(Complaint::Unusable),
        };
        let is_right = self.unit != Unit::PowerOfTwoBytes || number.is_power_of_two();
        match self.bounds.contains(&number) && is_right {
            true => Ok(Value::Number(Some(number))),
            false => Err(Complaint::OutOfBounds),
        }
    }

    /// The number that somebody meant.
    fn hint(&self, why: &Complaint, written: &str) -> Option<String> {
        let unlimited = self.may_be_unlimited.then(|| no_bound(written));
        if let Some(unlimited) = unlimited.flatten() {
            return Some(unlimited);
        }
        if *why != Complaint::NoNumber {
            return None;
        }
        let meant = match self.unit {
            Unit::Milliseconds => quantity::parse_duration(written).ok()?.as_millis(),
            Unit::Percent => written.strip_suffix('%')?.trim_end().parse().ok()?,
            _ => return None,
        };
        let meant = u64::try_from(meant).ok()?;
        let is_taken = self.bounds.contains(&meant);
        is_taken.then(|| format!("; did you mean {meant}?"))
    }

    fn takes(&self) -> String {
        let (min, max) = (self.bounds.start(), self.bounds.end());
        let (min, max) = (self.unit.in_words(*min), self.unit.in_words(*max));
        match self.unit {
            _ if self.may_be_unlimited => format!("{min} to {max}, or {}", quoted(UNLIMITED)),
            Unit::PowerOfTwoBytes => format!("powers of two from {min} to {max}"),
            Unit::Milliseconds => format!("{min} to {max} (milliseconds)"),
            Unit::One | Unit::Percent | Unit::Bytes | Unit::Duration => format!("{min} to {max}"),
        }
    }
}

impl Unit {
    fn parse(self, text: &str) -> Result<u64, Complaint> {
        match self {
            Self::Bytes | Self::PowerOfTwoBytes => {
                quantity::parse_size(text).map_err(Complaint::Quantity)
            }
            Self::Duration => {
                let duration = quantity::parse_duration(text).map_err(Complaint::Quantity)?;
                u64::try_from(duration.as_millis()).map_err(|_| Complaint::OutOfBounds)
            }
            Self::One | Self::Percent | Self::Milliseconds => Err(match text.parse::<i64>() {
                Ok(_) => Complaint::InQuotes,
                // Without quotes it would be no TOML.
                Err(_) => Complaint::NoNumber,
            }),
        }
    }

    /// An integer without unit is seconds for a duration.
    fn of_an_integer(self) -> u64 {
        if self == Self::Duration { 1000 } else { 1 }
    }

    fn in_words(self, number: u64) -> String {
        match self {
            Self::One | Self::Percent | Self::Milliseconds => number.to_string(),
            Self::Bytes | Self::PowerOfTwoBytes => quantity::render_size(number),
            Self::Duration => quantity::render_duration(Duration::from_millis(number)),
        }
    }

    fn to_toml(self, number: u64) -> String {
        match self {
            Self::One | Self::Percent | Self::Milliseconds => number.to_string(),
            Self::Bytes | Self::PowerOfTwoBytes | Self::Duration => quoted(&self.in_words(number)),
        }
    }
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

/// `~`, `~user`, `$HOME`, `${..}` at the start of a path.
fn is_for_a_shell(text: &str) -> bool {
    text.starts_with(['~', '$'])
}

/// Begins with a drive, or with the two backslashes of a share.
fn is_of_windows(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with("\\\\")
        || matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}

/// What a flag says, as it would stand in the file.
pub(super) fn raw_quoted(text: &OsStr) -> String {
    quoted(&text.to_string_lossy())
}

/// What a prefix may be, in words.
pub(super) const PREFIX_TAKES: &str = "a path as in a URL, such as `/logs/new`, without a query";
