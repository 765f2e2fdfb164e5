//! The machine that makes a struct of settings, its rows and its readers from one declaration
//! (`keys.rs`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::certificate::Rule as CertificateRule;
use crate::auth::networks::Networks;
use crate::auth::policy::{Allowed, Scheme};
use crate::http::digest::Algorithms;

use super::form::{Form, Value};
use super::secret::Secret;
use super::section::Scope;
use super::words::{
    ChannelBinding, Download, Durability, EmptyFile, Io, LogFormat, LogLevel, NoReplace,
    NotificationType, Persist, PrefixCase, ProxyProtocol, Publish, StoreAck, StoreKind, TlsVersion,
};

/// What is known of a key.
#[derive(Debug)]
pub struct Row {
    /// The key; those that stand only in a table, such as `[limits]`, begin with its name.
    pub key: &'static str,
    pub scope: Scope,
    pub(super) form: Form,
    meaning: &'static str,
    /// Whether there is a flag, and an environment variable, of that name.
    pub has_flag: bool,
    /// Whether a running server goes over to a new value at SIGHUP.
    pub is_live: bool,
    /// Whether it names a file that holds a secret, or what a password can be guessed from.
    pub is_secret: bool,
    /// What the documentation says of a default that follows from something else.
    pub(super) default: Option<&'static str>,
    /// What bounds alone do not say.
    note: &'static str,
    /// The properties of IIS whose place the key takes.
    pub iis: &'static [&'static str],
}

impl Row {
    /// A row that knows its form only; the rest follows.
    pub(super) const fn of(form: Form) -> Self {
        Self {
            key: "",
            scope: Scope::Server,
            form,
            meaning: "",
            has_flag: false,
            is_live: false,
            is_secret: false,
            default: None,
            note: "",
            iis: &[],
        }
    }

    /// A flag and an environment variable set it too.
    pub(super) const fn flag(mut self) -> Self {
        self.has_flag = true;
        self
    }

    /// A reload changes it. Keys that may stand in a location are so without saying it.
    pub(super) const fn live(mut self) -> Self {
        self.is_live = true;
        self
    }

    /// What stands in its file is for the server only.
    pub(super) const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// The key, where it is not called as its field is.
    pub(super) const fn called(mut self, key: &'static str) -> Self {
        self.key = key;
        self
    }

    /// The default in words, where it follows from something else.
    pub(super) const fn by_default(mut self, words: &'static str) -> Self {
        self.default = Some(words);
        self
    }

    /// What else to say of the values that it takes.
    pub(super) const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// The properties of IIS whose place it takes.
    pub(super) const fn iis(mut self, names: &'static [&'static str]) -> Self {
        self.iis = names;
        self
    }

    /// The finished row.
    pub(super) const fn row(
        mut self,
        key: &'static str,
        scope: Scope,
        meaning: &'static str,
    ) -> Self {
        if self.key.is_empty() {
            self.key = key;
        }
        self.scope = scope;
        self.meaning = meaning;
        if matches!(scope, Scope::Both | Scope::Location) {
            self.is_live = true;
        }
        self
    }

    /// The key as it stands in its table.
    pub fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Whether it names a file that is read.
    pub fn names_a_file(&self) -> bool {
        matches!(self.form, Form::File(_))
    }

    /// The values it takes, in words.
    pub fn takes(&self) -> String {
        format!("{}{}", self.form.takes(), self.note)
    }

    /// What it is for.
    pub fn meaning(&self) -> &'static str {
        self.meaning.trim()
    }

    /// What stands for its value in help texts.
    pub fn value_name(&self) -> &'static str {
        match self.form {
            Form::Word(_) => "WORD",
            Form::Addresses => "ADDR:PORT",
            Form::Number(_) => "N",
            Form::Directory(_) => "DIR",
            Form::File(_) | Form::Place(_) => "FILE",
            _ => "VALUE",
        }
    }

    /// The words that it takes, if it takes one of several.
    pub fn words(&self) -> &'static [&'static str] {
        match self.form {
            Form::Word(words) => words,
            _ => &[],
        }
    }

    /// Whether its flag may be repeated.
    pub fn is_list(&self) -> bool {
        matches!(self.form, Form::Addresses)
    }
}

/// A struct whose fields are settings.
pub(super) trait Table: Default {
    /// One row for each field that is a setting.
    const ROWS: &[Row];

    /// The value of the row with this number.
    fn value(&self, row: usize) -> Value;

    /// Sets the row with this number; the value is of its form.
    fn set(&mut self, row: usize, value: Value);

    /// Every row with its value.
    fn entries(&self) -> impl Iterator<Item = (&'static Row, Value)> {
        let rows = Self::ROWS.iter().enumerate();
        rows.map(|(index, row)| (row, self.value(index)))
    }
}

/// Makes a [`Table`]. Each key: its meaning, `field: type = default, form and more;`. Fields after
/// `beside` are no keys.
macro_rules! keys {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident in $scope:ident $prefix:literal
        $(beside { $($(#[doc = $also:literal])+ $part:ident: $part_type:ty = $begin:expr,)+ })?
        {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $row:expr;)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($($(#[doc = $also])+ pub $part: $part_type,)+)?
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($($part: $begin,)+)?
                    $($field: $default,)+
                }
            }
        }

        impl $crate::config::table::Table for $name {
            const ROWS: &[$crate::config::table::Row] = &[$($row.row(
                concat!($prefix, stringify!($field)),
                $crate::config::section::Scope::$scope,
                concat!($($doc),+),
            )),+];

            fn value(&self, row: usize) -> $crate::config::form::Value {
                let fields: &[&dyn Setting] = &[$(&self.$field),+];
                fields[row].to_value()
            }

            fn set(&mut self, row: usize, value: $crate::config::form::Value) {
                let fields: &mut [&mut dyn Setting] = &mut [$(&mut self.$field),+];
                fields[row].take(value);
            }
        }
    };
}
pub(super) use keys;

/// A type that a setting may have.
pub(super) trait Setting {
    /// The value as it is read and printed.
    fn to_value(&self) -> Value;

    /// Becomes the value, which a row of the right form has read.
    fn take(&mut self, value: Value);
}

/// Implements [`Setting`]: the value of a field, and what a value makes of the field.
macro_rules! setting {
    ($type:ty, |$field:ident| $value:expr, $pattern:pat => $become:expr) => {
        impl Setting for $type {
            fn to_value(&self) -> Value {
                let $field = self;
                $value
            }

            fn take(&mut self, value: Value) {
                if let $pattern = value {
                    *self = $become;
                }
            }
        }
    };
}

/// The bounds of every row lie within its field's type.
macro_rules! numbers {
    ($($type:ty)+) => {$(
        setting!(
            $type,
            |number| Value::Number(u64::try_from(*number).ok()),
            Value::Number(Some(number)) => number.try_into().unwrap_or(Self::MAX)
        );
        setting!(
            Option<$type>,
            |number| Value::Number(number.and_then(|number| u64::try_from(number).ok())),
            Value::Number(number) => number.map(|number| number.try_into().unwrap_or(<$type>::MAX))
        );
    )+};
}

/// "none" leaves the type of notifications as it is: there are none.
macro_rules! words {
    ($($type:ty)+) => {$(
        impl Setting for $type {
            fn to_value(&self) -> Value {
                Value::Text(self.name().to_owned())
            }

            fn take(&mut self, value: Value) {
                let is_it = |word: &&Self| value == Value::Text(word.name().to_owned());
                *self = *Self::ALL.iter().find(is_it).unwrap_or(self);
            }
        }
    )+};
}

numbers!(u32 u64 usize);
words!(ChannelBinding Download Durability EmptyFile Io LogFormat LogLevel NotificationType Persist);
words!(NoReplace PrefixCase ProxyProtocol Publish StoreAck StoreKind TlsVersion);
setting!(bool, |truth| Value::Truth(*truth), Value::Truth(truth) => truth);
setting!(
    Duration,
    |duration| Value::Number(u64::try_from(duration.as_millis()).ok()),
    Value::Number(Some(ms)) => Self::from_millis(ms)
);
setting!(String, |text| Value::Text(text.clone()), Value::Text(text) => text);
setting!(
    Option<String>,
    |text| Value::Text(text.clone().unwrap_or_default()),
    Value::Text(text) => Some(text).filter(|text| !text.is_empty())
);
setting!(PathBuf, |path| Value::Path(path.clone()), Value::Path(path) => path);
setting!(
    Vec<SocketAddr>,
    |addresses| Value::Addresses(addresses.clone()),
    Value::Addresses(addresses) => addresses
);
setting!(Vec<String>, |texts| Value::Texts(texts.clone()), Value::Texts(texts) => texts);
setting!(
    Vec<Scheme>,
    |schemes| Value::Texts(schemes.iter().map(|scheme| scheme.word().to_owned()).collect()),
    Value::Texts(words) => words.iter().filter_map(|word| Scheme::from_word(word)).collect()
);
setting!(
    Vec<CertificateRule>,
    |rules| Value::Texts(rules.iter().map(|rule| rule.word().to_owned()).collect()),
    Value::Texts(words) => words.iter().filter_map(|word| CertificateRule::from_word(word)).collect()
);
setting!(
    Algorithms,
    |algorithms| Value::Texts(algorithms.words().iter().map(|word| (*word).to_owned()).collect()),
    Value::Texts(words) => Self::from_words(&words).unwrap_or(Self::None)
);
setting!(
    Vec<Allowed>,
    |allowed| Value::Texts(allowed.iter().map(Allowed::to_text).collect()),
    Value::Texts(texts) => texts.iter().filter_map(|text| Allowed::parse(text)).collect()
);
setting!(
    Networks,
    |networks| Value::Texts(networks.to_texts()),
    Value::Texts(texts) => Self::of(&texts)
);
// Printed as its file; read by who uses it.
setting!(
    Option<Secret>,
    |secret| Value::Path(secret.as_ref().map(|secret| secret.file().to_owned()).unwrap_or_default()),
    Value::Path(_) => None
);
