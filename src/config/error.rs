//! Why there is no configuration, and where in flags or file the cause stands.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::form::{Complaint, PREFIX_TAKES, quoted};
use super::url::NOTIFICATION_URL_TAKES;

/// Why there is no configuration; its words say where, what, and what to write instead.
#[derive(Debug)]
pub struct ConfigError(Box<Cause>);

#[derive(Debug)]
pub(super) enum Cause {
    /// The settings file cannot be read.
    Unreadable {
        path: PathBuf,
        source: io::Error,
    },
    /// The settings file is not UTF-8.
    NotText {
        path: PathBuf,
    },
    /// It is not TOML.
    Syntax {
        place: Place,
        source: toml::de::Error,
    },
    /// The same, because of a backslash in double quotes.
    Escape {
        place: Place,
    },
    /// A key or a table stands twice.
    Repeated {
        place: Place,
        key: String,
        first: Place,
    },
    /// No such key; perhaps one of this name, and where that stands.
    UnknownKey {
        place: Place,
        key: String,
        near: Option<(&'static str, Where)>,
    },
    /// A property of IIS.
    OfIis {
        place: Place,
        key: String,
        ours: &'static str,
        takes: String,
    },
    /// A key that exists, but not in this table.
    Elsewhere {
        place: Place,
        key: &'static str,
        belongs: Where,
    },
    /// `[location]` for `[[location]]`, or something else that is no table where one must be.
    NotTables {
        place: Place,
    },
    NotATable {
        place: Place,
    },
    /// A key does not take what was written.
    Refused {
        origin: Origin,
        key: &'static str,
        written: String,
        why: Complaint,
        takes: String,
    },
    /// The work directory is a root or holds one, so that uploads could overwrite the server's own files.
    WorkDirHoldsRoot {
        origin: Origin,
        root: PathBuf,
        work_dir: PathBuf,
    },
    NoPrefix {
        origin: Origin,
    },
    RepeatedPrefix {
        origin: Origin,
        written: String,
        first: Origin,
    },
    /// A server application is to be notified, and nothing says where it is.
    NoNotificationUrl {
        origin: Origin,
        written: String,
    },
    /// Nothing but what a client says would complete it, and a client must not say who is asked.
    NoPublicUrl {
        origin: Origin,
        written: String,
    },
    /// An application is named and never asked.
    UrlWithoutType {
        origin: Origin,
        written: String,
    },
    UnreadableSecret {
        origin: Origin,
        file: PathBuf,
        source: io::Error,
    },
    SecretLength {
        origin: Origin,
        file: PathBuf,
        is_too_long: bool,
    },
}

/// Where a key stands that stands not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// In this very table.
    Here,
    /// Above the first table header, which is in this line; it holds for the whole server.
    Top(Option<usize>),
    /// The same, but a location may have it too.
    TopOrLocation(Option<usize>),
    Limits,
    Location,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => Ok(()),
            Self::Top(None) => f.write_str("holds for the whole server: it stands at the top"),
            Self::Top(Some(line)) => write!(
                f,
                "holds for the whole server: put it above the first table header (line {line})"
            ),
            Self::TopOrLocation(None) => f.write_str("stands at the top or in a [[location]]"),
            Self::TopOrLocation(Some(line)) => write!(
                f,
                "stands in a [[location]], or above the first table header (line {line})"
            ),
            Self::Limits => f.write_str("stands in [limits]"),
            Self::Location => f.write_str("stands in a [[location]]"),
        }
    }
}

impl From<Cause> for ConfigError {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Cause::Unreadable { path, source } => {
                write!(
                    f,
                    "cannot read the settings file {}: {source}",
                    path.display()
                )
            }
            Cause::NotText { path } => {
                write!(
                    f,
                    "the settings file {} is not text (UTF-8)",
                    path.display()
                )
            }
            Cause::Syntax { place, source } => {
                let message = source.message().replace('\n', ", ");
                write!(f, "{place}: {message}, in: {}", place.text.trim())
            }
            Cause::Escape { place } => write!(
                f,
                "{place}: a backslash in double quotes begins an escape: write \
                 / in a prefix or a path, or put the text in 'single quotes', in: {}",
                place.text.trim()
            ),
            Cause::Repeated { place, key, first } => {
                write!(f, "{place}: {key} stands already at {first}")
            }
            Cause::UnknownKey { place, key, near } => {
                write!(f, "{place}: there is no key {key}")?;
                match near {
                    Some((near, Where::Here)) => write!(f, "; did you mean {near}?"),
                    Some((near, belongs)) => write!(f, "; did you mean {near}? It {belongs}"),
                    None => f.write_str(" (`bitsd check --help` lists all)"),
                }
            }
            Cause::OfIis {
                place,
                key,
                ours,
                takes,
            } => {
                write!(
                    f,
                    "{place}: {key} is a property of IIS; here it is {ours}, which takes {takes}"
                )
            }
            Cause::Elsewhere {
                place,
                key,
                belongs,
            } => write!(f, "{place}: {key} {belongs}"),
            Cause::NotTables { place } => {
                write!(
                    f,
                    "{place}: locations are tables that begin with [[location]], in two brackets"
                )
            }
            Cause::NotATable { place } => {
                write!(f, "{place}: limits is a table that begins with [limits]")
            }
            Cause::Refused {
                origin,
                key,
                written,
                why,
                takes,
            } => {
                write!(f, "{origin}: {key} = {written} ")?;
                why_refused(f, why, takes)
            }
            Cause::WorkDirHoldsRoot {
                origin,
                root,
                work_dir,
            } => write!(
                f,
                "{origin}: work_dir ({}) must not be a root ({}) or hold it: uploads could overwrite the server's own files",
                work_dir.display(),
                root.display()
            ),
            Cause::NoPrefix { origin } => {
                write!(
                    f,
                    "{origin}: a location needs a prefix: it takes {PREFIX_TAKES}"
                )
            }
            Cause::RepeatedPrefix {
                origin,
                written,
                first,
            } => {
                write!(f, "{origin}: prefix = {written} stands already at {first}")
            }
            Cause::NoNotificationUrl { origin, written } => write!(
                f,
                "{origin}: notification_type = {written} needs notification_url, which takes {NOTIFICATION_URL_TAKES}"
            ),
            Cause::NoPublicUrl { origin, written } => write!(
                f,
                "{origin}: notification_url = {written} needs public_url, to whose host it belongs: what a client \
                 calls this server must not decide who is asked. Or write it whole, such as {}",
                quoted("http://127.0.0.1:8000/app")
            ),
            Cause::UrlWithoutType { origin, written } => write!(
                f,
                "{origin}: notification_url = {written} does nothing without notification_type, which takes \
                 \"by-reference\" or \"by-value\" (or \"none\", to keep the URL for later)"
            ),
            Cause::UnreadableSecret {
                origin,
                file,
                source,
            } => {
                write!(
                    f,
                    "{origin}: notification_secret_file: cannot read {}: {source}",
                    file.display()
                )
            }
            Cause::SecretLength {
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

/// What is wrong with a value, after `key = value `.
fn why_refused(f: &mut fmt::Formatter<'_>, why: &Complaint, takes: &str) -> fmt::Result {
    match why {
        Complaint::Unusable => write!(f, "cannot be used: it takes {takes}"),
        Complaint::InQuotes => write!(f, "is a string: it takes {takes}, without quotes"),
        Complaint::OutOfBounds => write!(f, "is out of bounds: it takes {takes}"),
        Complaint::Quantity(why) => write!(f, "cannot be read: {why}"),
        Complaint::NotAnAddress(why) => write!(f, "cannot be used: {why}"),
        Complaint::NothingToListenOn => f.write_str("is empty: name at least one ADDR:PORT"),
        Complaint::EmptyPath => f.write_str("is empty: name a directory, `.` for this one"),
        Complaint::WindowsPath => write!(
            f,
            "is a path of Windows, which Linux would take for a folder of that name: it takes {takes}, such as /srv/uploads"
        ),
        Complaint::Prefix(why) => write!(f, "cannot be used: {why}; it takes {takes}"),
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Cause::Unreadable { source, .. } | Cause::UnreadableSecret { source, .. } => {
                Some(source)
            }
            Cause::Syntax { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A place in a settings file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub path: PathBuf,
    pub line: usize,
    /// In characters.
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
pub(super) enum Origin {
    /// A flag or a variable of the environment.
    Flag(String),
    /// The settings file.
    File(Box<Place>),
}

impl Origin {
    /// Without the column.
    pub fn line(&self) -> String {
        match self {
            Self::Flag(flag) => flag.clone(),
            Self::File(place) => format!("{}:{}", place.path.display(), place.line),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::File(place) => place.fmt(f),
        }
    }
}
