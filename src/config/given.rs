//! What flags and file say, each value with its place, before it is settled.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::complaint::Complaint;
use super::error::{Cause, ConfigError, Origin};
use super::form::{Value, Written, raw_quoted};
use super::keys::rows;
use super::table::{Row, Table};

/// A value that somebody gave.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub row: &'static Row,
    pub value: Value,
    pub origin: Origin,
    /// As it was written.
    pub written: String,
}

impl Entry {
    /// Says where it stands, and why it cannot.
    pub fn refused(&self, why: Complaint) -> ConfigError {
        let (origin, written) = (self.origin.clone(), self.written.clone());
        Cause::Refused(origin, self.row.key, written, why, self.row.takes()).into()
    }
}

/// The values that somebody gave, by key as it stands in its table.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(BTreeMap<&'static str, Entry>);

impl Given {
    /// Whether no key was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn read(
        &mut self,
        row: &'static Row,
        value: Written,
        origin: Origin,
        written: String,
    ) -> Result<(), ConfigError> {
        let value = match row.form.read(value) {
            Ok(value) => value,
            Err(why) => {
                let why = row.form.explain(why, &written);
                return Err(Cause::Refused(origin, row.key, written, why, row.takes()).into());
            }
        };
        let entry = Entry {
            row,
            value,
            origin,
            written,
        };
        self.0.insert(row.name(), entry);
        Ok(())
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.get(key)
    }

    /// The same, of a path, a text or a list that is not empty.
    pub fn said(&self, key: &str) -> Option<&Entry> {
        self.get(key).filter(|entry| match &entry.value {
            Value::Text(text) => !text.is_empty(),
            Value::Path(path) => !path.as_os_str().is_empty(),
            Value::Addresses(addresses) => !addresses.is_empty(),
            Value::Texts(texts) => !texts.is_empty(),
            Value::Truth(_) | Value::Number(_) => true,
        })
    }

    /// A path that is not empty, and where it was written.
    pub fn path(&self, key: &str) -> Option<(Origin, PathBuf)> {
        match self.said(key)? {
            Entry {
                value: Value::Path(path),
                origin,
                ..
            } => Some((origin.clone(), path.clone())),
            _ => None,
        }
    }

    /// All of these; what stands there too stands over what is here.
    pub fn beneath(&self, over: &Self) -> Self {
        let mut all = self.0.clone();
        all.extend(over.0.iter().map(|(key, entry)| (*key, entry.clone())));
        Self(all)
    }

    /// The defaults, with what was given.
    pub fn fill<T: Table>(&self) -> T {
        let mut table = T::default();
        for (index, row) in T::ROWS.iter().enumerate() {
            if let Some(entry) = self.get(row.name()) {
                table.set(index, entry.value.clone());
            }
        }
        table
    }
}

/// What the command line and the environment say; everything they leave out comes from the file or
/// the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(Vec<(String, OsString, String)>);

impl Flags {
    /// The flag of a key; one that takes several values may be repeated.
    pub fn with(self, key: &str, value: impl Into<OsString>) -> Self {
        let origin = format!("--{}", key.replace('_', "-"));
        self.said_by(origin, key, value)
    }

    /// The same, from a source of another name.
    pub fn said_by(mut self, origin: String, key: &str, value: impl Into<OsString>) -> Self {
        self.0.push((key.to_owned(), value.into(), origin));
        self
    }

    /// The values over those of a file.
    pub(super) fn over(self, file: &Given) -> Result<Given, ConfigError> {
        let mut given = Given::default();
        for (key, text, origin) in self.0 {
            let Some(row) = rows().find(|row| row.key == key && row.has_flag) else {
                unreachable!("only keys with a flag are asked for");
            };
            let before = given.0.remove(row.name());
            let written = match text.to_str().map(str::parse::<i64>) {
                Some(Ok(number)) => number.to_string(),
                _ => raw_quoted(&text),
            };
            given.read(row, Written::Raw(text), Origin::Flag(origin), written)?;
            if let (
                Some(Value::Addresses(before)),
                Some(Entry {
                    value: Value::Addresses(all),
                    ..
                }),
            ) = (before.map(|entry| entry.value), given.0.get_mut(row.name()))
            {
                all.splice(0..0, before);
            }
        }
        Ok(file.beneath(&given))
    }
}
