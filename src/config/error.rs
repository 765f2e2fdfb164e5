//! Why there is no configuration, and where in flags or file the cause stands.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::http::path::BadTarget;

use super::location::PREFIX_TAKES;
use super::number::quoted;
use super::quantity::BadQuantity;
use super::url::NOTIFICATION_URL_TAKES;

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The settings file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The settings file is not TOML, or holds an unknown key or a wrong type.
    Malformed {
        /// Where.
        place: Box<Place>,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A number lies outside its bounds.
    OutOfBounds {
        /// Where it was written.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// The bounds in words.
        bounds: String,
    },
    /// A string stands where a number must.
    NotANumber {
        /// Where it was written.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// The bounds in words.
        bounds: String,
    },
    /// A size or a duration cannot be read.
    BadQuantity {
        /// Where it was written.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// Why.
        source: BadQuantity,
    },
    /// The list of addresses is empty.
    NothingToListenOn {
        /// Where it was written.
        origin: Origin,
    },
    /// A path is the empty string.
    EmptyPath {
        /// Where it was written.
        origin: Origin,
        /// The key.
        key: &'static str,
    },
    /// The work directory is a root or holds one, so that uploads could overwrite the server's own files.
    WorkDirHoldsRoot {
        /// Where the later of the two was written.
        origin: Origin,
        /// The root.
        root: PathBuf,
        /// The work directory.
        work_dir: PathBuf,
    },
    /// A text is not what the key takes.
    Unusable {
        /// Where it was written.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What the key takes, in words.
        takes: &'static str,
    },
    /// A location has no prefix.
    NoPrefix {
        /// Where the location begins.
        origin: Origin,
    },
    /// A prefix is not the beginning of a path that can be uploaded to.
    BadPrefix {
        /// Where it was written.
        origin: Origin,
        /// The value as written.
        value: String,
        /// Why.
        source: BadTarget,
    },
    /// Two locations have the same prefix.
    RepeatedPrefix {
        /// Where the second one was written.
        origin: Origin,
        /// The prefix, decoded.
        prefix: String,
        /// Where the first one was written.
        first: Origin,
    },
    /// A server application is to be notified, and nothing says where it is.
    NoNotificationUrl {
        /// Where the type was written.
        origin: Origin,
        /// The type.
        value: &'static str,
    },
    /// The file of a secret cannot be read.
    UnreadableSecret {
        /// Where the file is named.
        origin: Origin,
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret is too short or too long.
    SecretLength {
        /// Where the file is named.
        origin: Origin,
        /// The file.
        file: PathBuf,
        /// Which of the two.
        is_too_long: bool,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => {
                write!(
                    f,
                    "cannot read the settings file {}: {source}",
                    path.display()
                )
            }
            Self::Malformed { place, source } => {
                let message = source.message().replace('\n', ", ");
                write!(f, "{place}: {message}, in: {}", place.text.trim())
            }
            Self::OutOfBounds {
                origin,
                key,
                value,
                bounds,
            } => {
                write!(
                    f,
                    "{origin}: {key} = {value} is out of bounds: it takes {bounds}"
                )
            }
            Self::NotANumber {
                origin,
                key,
                value,
                bounds,
            } => {
                write!(
                    f,
                    "{origin}: {key} = {value} is a string: it takes {bounds}, without quotes"
                )
            }
            Self::BadQuantity {
                origin,
                key,
                value,
                source,
            } => {
                write!(f, "{origin}: {key} = {value} cannot be read: {source}")
            }
            Self::NothingToListenOn { origin } => {
                write!(f, "{origin}: listen is empty: name at least one ADDR:PORT")
            }
            Self::EmptyPath { origin, key } => {
                write!(
                    f,
                    "{origin}: {key} is empty: name a directory, `.` for this one"
                )
            }
            Self::WorkDirHoldsRoot {
                origin,
                root,
                work_dir,
            } => write!(
                f,
                "{origin}: work_dir ({}) must not be a root ({}) or hold it: uploads could overwrite the server's own files",
                work_dir.display(),
                root.display()
            ),
            Self::Unusable {
                origin,
                key,
                value,
                takes,
            } => write!(
                f,
                "{origin}: {key} = {value} cannot be used: it takes {takes}"
            ),
            Self::NoPrefix { origin } => {
                write!(
                    f,
                    "{origin}: a location needs a prefix: it takes {PREFIX_TAKES}"
                )
            }
            Self::BadPrefix {
                origin,
                value,
                source,
            } => write!(
                f,
                "{origin}: prefix = {value} cannot be used: {source}; it takes {PREFIX_TAKES}"
            ),
            Self::RepeatedPrefix {
                origin,
                prefix,
                first,
            } => write!(
                f,
                "{origin}: prefix = {} stands already at {first}",
                quoted(prefix)
            ),
            Self::NoNotificationUrl { origin, value } => write!(
                f,
                "{origin}: notification_type = {} needs notification_url, which takes {NOTIFICATION_URL_TAKES}",
                quoted(value)
            ),
            Self::UnreadableSecret {
                origin,
                file,
                source,
            } => write!(
                f,
                "{origin}: notification_secret_file: cannot read {}: {source}",
                file.display()
            ),
            Self::SecretLength {
                origin,
                file,
                is_too_long,
            } => write!(
                f,
                "{origin}: notification_secret_file: {} holds {}: it takes 16 to 4096 bytes, white space at the ends aside",
                file.display(),
                if *is_too_long {
                    "more than 4096 bytes"
                } else {
                    "less than 16 bytes"
                }
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } | Self::UnreadableSecret { source, .. } => Some(source),
            Self::Malformed { source, .. } => Some(source),
            Self::BadQuantity { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A place in a settings file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// The text of the line.
    pub text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag(&'static str),
    /// The settings file.
    File(Box<Place>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::File(place) => place.fmt(f),
        }
    }
}
