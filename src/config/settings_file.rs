//! The settings file as written, before its values are checked, and the places in it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::error::{ConfigError, Origin, Place};
use super::limits::RawLimits;
use super::log::{LogFormat, LogLevel};
use super::notification::NotificationWord;
use super::number::{Amount, quoted};
use super::policy::{Durability, EmptyFile, Io, Publish};

/// A settings file, read and parsed; its values are not checked yet.
#[derive(Debug, Default)]
pub struct SettingsFile {
    pub(super) text: SettingsText,
    pub(super) raw: RawFile,
}

impl SettingsFile {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or holds an unknown key or a wrong type.
    #[allow(clippy::disallowed_methods, reason = "before the server starts")]
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, text)
    }

    /// Parses the text of a file; `path` is for messages only.
    ///
    /// # Errors
    /// The text is not TOML, or holds an unknown key or a wrong type.
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let text = SettingsText {
            path: path.to_owned(),
            text,
        };
        match toml::from_str(&text.text) {
            Ok(raw) => Ok(Self { text, raw }),
            Err(source) => Err(ConfigError::Malformed {
                place: Box::new(text.place(source.span().map_or(0, |span| span.start))),
                source: Box::new(source),
            }),
        }
    }
}

/// Makes the tables as written: some keys stand only at the top, some only in a location, and the listed ones in both.
macro_rules! tables {
    ($($key:ident: $type:ty,)+) => {
        /// The settings file as written.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct RawFile {
            pub listen: Option<Spanned<Listen>>,
            pub root: Option<Spanned<PathBuf>>,
            pub work_dir: Option<Spanned<PathBuf>>,
            pub cores: Option<Spanned<Amount>>,
            pub log_format: Option<LogFormat>,
            pub log_level: Option<LogLevel>,
            pub io: Option<Io>,
            pub cleanup_interval: Option<Spanned<Amount>>,
            $(pub $key: Option<$type>,)+
            pub limits: RawLimits,
            pub location: Locations,
        }

        /// A `[[location]]` as written.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, expecting = "a table")]
        pub(super) struct RawLocation {
            pub prefix: Option<Spanned<String>>,
            pub root: Option<Spanned<PathBuf>>,
            $(pub $key: Option<$type>,)+
        }

        /// The keys that may stand in both.
        #[derive(Debug, Default)]
        pub(super) struct RawShared {
            $(pub $key: Option<$type>,)+
        }

        impl RawFile {
            pub fn take_shared(&mut self) -> RawShared {
                RawShared { $($key: self.$key.take(),)+ }
            }
        }

        impl RawLocation {
            pub fn take_shared(&mut self) -> RawShared {
                RawShared { $($key: self.$key.take(),)+ }
            }
        }

        impl RawShared {
            /// What is not set here is as there.
            pub fn or(self, global: &Self) -> Self {
                Self { $($key: self.$key.or_else(|| global.$key.clone()),)+ }
            }
        }
    };
}

tables! {
    enabled: bool,
    durability: Durability,
    publish: Publish,
    allow_overwrite: bool,
    create_dirs: bool,
    empty_file: EmptyFile,
    strict: bool,
    upload_bytes_max: Spanned<Amount>,
    fragment_bytes_max: Spanned<Amount>,
    session_timeout: Spanned<Amount>,
    sessions_per_client_max: Spanned<Amount>,
    public_url: Spanned<String>,
    host_id: Spanned<String>,
    host_id_fallback: Spanned<Amount>,
    notification_type: Spanned<NotificationWord>,
    notification_url: Spanned<String>,
    notification_timeout: Spanned<Amount>,
    notification_retries: Spanned<Amount>,
    notification_secret_file: Spanned<PathBuf>,
    notifications_in_flight_max: Spanned<Amount>,
    reply_bytes_max: Spanned<Amount>,
}

/// The `[[location]]`s in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Locations(pub Vec<Spanned<RawLocation>>);

impl<'de> Deserialize<'de> for Locations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LocationsVisitor;
        impl<'de> Visitor<'de> for LocationsVisitor {
            type Value = Locations;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tables that begin with [[location]], in two brackets")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Locations, A::Error> {
                let mut locations = Vec::new();
                while let Some(location) = seq.next_element()? {
                    locations.push(location);
                }
                Ok(Locations(locations))
            }
        }
        deserializer.deserialize_any(LocationsVisitor)
    }
}

/// One address or several.
#[derive(Debug)]
pub(super) struct Listen(pub Vec<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Clone, Copy)]
        struct ListenVisitor;
        impl<'de> Visitor<'de> for ListenVisitor {
            type Value = Listen;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"ADDR:PORT\" or an array of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                let address = text.parse().map_err(|_| {
                    E::custom(format_args!(
                        "{text:?} is not an address such as 127.0.0.1:8080 or [::]:8080"
                    ))
                })?;
                Ok(Listen(vec![address]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Listen, A::Error> {
                let mut addresses = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    addresses.append(&mut self.visit_str::<A::Error>(&text)?.0);
                }
                Ok(Listen(addresses))
            }
        }
        deserializer.deserialize_any(ListenVisitor)
    }
}

/// A settings file's text, for places in it.
#[derive(Debug, Default)]
pub(super) struct SettingsText {
    path: PathBuf,
    text: String,
}

impl SettingsText {
    /// The place of a byte of the text.
    pub fn place(&self, at: usize) -> Place {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            path: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text: self.text[line_start..]
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// A value with its place.
    pub fn locate<T>(&self, value: Spanned<T>) -> (Origin, T) {
        (
            Origin::File(Box::new(self.place(value.span().start))),
            value.into_inner(),
        )
    }

    /// A value with its place, if it is set.
    pub fn located<T: Clone>(&self, value: &Option<Spanned<T>>) -> Option<(Origin, T)> {
        value.clone().map(|value| self.locate(value))
    }

    /// A text as the key takes it; the empty one is none.
    pub fn parse(
        &self,
        key: &'static str,
        written: &Option<Spanned<String>>,
        parse: fn(&str) -> Option<String>,
        takes: &'static str,
    ) -> Result<Option<String>, ConfigError> {
        match self.located(written) {
            Some((origin, text)) if !text.is_empty() => match parse(&text) {
                Some(parsed) => Ok(Some(parsed)),
                None => Err(ConfigError::Unusable {
                    origin,
                    key,
                    value: quoted(&text),
                    takes,
                }),
            },
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::words;

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let message = words("root = \"/r\"\n  rooot = \"/r\"\n");
        assert!(
            message.starts_with("bitsd.toml:2:3: unknown field `rooot`"),
            "{message}"
        );
        let message = words("[limits]\nheader_max = 9\n");
        assert!(
            message.starts_with("bitsd.toml:2:1: unknown field `header_max`"),
            "{message}"
        );
        assert!(message.ends_with("in: header_max = 9"), "{message}");
    }

    #[test]
    fn wrong_types_are_refused_with_their_place() {
        for (text, place, cause) in [
            ("strict = 1", "1:10", "expected a boolean"),
            ("\nroot = true", "2:8", "expected"),
            ("cores = 1.5", "1:9", "expected a whole number"),
            ("listen = 80", "1:10", "\"ADDR:PORT\" or an array of them"),
            (
                "listen = \"localhost\"",
                "1:10",
                "is not an address such as",
            ),
            (
                "listen = [\"1.2.3.4:5\", \"x\"]",
                "1:",
                "\"x\" is not an address such as",
            ),
            (
                "durability = \"always\"",
                "1:14",
                "expected one of `none`, `upload`, `fragment`",
            ),
            ("limits = 3", "1:10", "expected a table"),
            ("root = \"a\"\nroot = \"b\"", "2:1", "duplicate key"),
            ("root = ", "1:", "string"),
        ] {
            let message = words(text);
            assert!(
                message.starts_with(&format!("bitsd.toml:{place}")),
                "{message}"
            );
            assert!(message.contains(cause), "{message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let missing = Path::new("/nonexistent/bitsd.toml");
        let message = SettingsFile::read(missing).unwrap_err().to_string();
        assert!(
            message.starts_with("cannot read the settings file /nonexistent/bitsd.toml: "),
            "{message}"
        );
    }
}
