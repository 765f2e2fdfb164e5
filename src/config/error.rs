//! Why there is no configuration, and where in flags or file the cause stands.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::quantity::BadQuantity;

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
        /// The key.
        key: &'static str,
    },
    /// The work directory is the root or holds it, so that uploads could overwrite the server's own files.
    WorkDirHoldsRoot {
        /// The root.
        root: PathBuf,
        /// The work directory.
        work_dir: PathBuf,
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
            Self::EmptyPath { key } => {
                write!(f, "{key} is empty: name a directory, `.` for this one")
            }
            Self::WorkDirHoldsRoot { root, work_dir } => write!(
                f,
                "work_dir ({}) must not be the root ({}) or hold it: uploads could overwrite the server's own files",
                work_dir.display(),
                root.display()
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
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
