//! Why there is no configuration, and where in flags or file the cause stands.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::auth::accounts::BadAccount;

use super::form::{Complaint, PREFIX_TAKES};
use super::url::NOTIFICATION_URL_TAKES;

/// Why there is no configuration; its words say where, what, and what to write instead.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ConfigError(Box<Cause>);

impl From<Cause> for ConfigError {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}

/// Where a value or a key stands comes first; then the value as it was written.
#[derive(Debug, Error)]
pub(super) enum Cause {
    #[error("cannot read the settings file {0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("the settings file {0} is not text (UTF-8)")]
    NotText(PathBuf),
    #[error("{0}: {message}, in: {line}", message = .1.message().replace('\n', ", "), line = .0.line_text())]
    Syntax(Place, #[source] toml::de::Error),
    #[error("{0}: a backslash in double quotes begins an escape: write / in a prefix or a path, or put the text in \
             'single quotes', in: {line}", line = .0.line_text())]
    Escape(Place),
    #[error("{0}: {1} stands already at {2}")]
    Repeated(Place, String, Place),
    #[error("{0}: there is no key {1} (`bitsd check --help` lists all)")]
    UnknownKey(Place, String),
    #[error("{0}: there is no key {1}; did you mean {2}?")]
    Misspelt(Place, String, &'static str),
    #[error("{0}: there is no key {1}; did you mean {2}? It {3}")]
    MisspeltElsewhere(Place, String, &'static str, Where),
    #[error("{0}: {1} is a property of IIS; here it is {2}, which takes {3}")]
    OfIis(Place, String, &'static str, String),
    #[error("{0}: {1} {2}")]
    Elsewhere(Place, &'static str, Where),
    #[error("{0}: a {1} is a table that begins with [[{1}]], in two brackets")]
    NotTables(Place, &'static str),
    #[error(
        "{0}: there is no table {1}: there are [limits], once, and [[location]], [[listener]] and [[certificate]]; all \
             other keys stand above them"
    )]
    UnknownTable(Place, String),
    #[error(
        "{0}: {1} cannot stand in another table: limits hold for the whole server, in [limits]; the others begin \
             with [[location]], [[listener]] or [[certificate]]"
    )]
    NoTableWithin(Place, String),
    #[error("{0}: limits is a table that begins with [limits]")]
    NotATable(Place),
    #[error("{0}: {1} = {2} {why}", why = .3.in_words(.4))]
    Refused(Origin, &'static str, String, Complaint, String),
    /// Uploads could overwrite the server's own files.
    #[error(
        "{0}: work_dir ({2}) must not be a root ({1}) or hold it: uploads could overwrite the server's own files"
    )]
    WorkDirHoldsRoot(Origin, PathBuf, PathBuf),
    #[error("{0}: a {1} needs {2}")]
    Incomplete(Origin, &'static str, &'static str),
    #[error("{0}: {1} does nothing without tls = true")]
    NeedsTls(Origin, &'static str),
    #[error("{0}: client_crl does nothing without client_ca")]
    CrlWithoutCa(Origin),
    #[error("{0}: a listener with tls = true needs a [[certificate]] with chain and key")]
    NoCertificate(Origin),
    #[error("{0}: a location needs a prefix: it takes {PREFIX_TAKES}")]
    NoPrefix(Origin),
    #[error("{0}: prefix = {1} stands already at {2}")]
    RepeatedPrefix(Origin, String, Origin),
    #[error(
        "{0}: notification_type = {1} needs notification_url, which takes {NOTIFICATION_URL_TAKES}"
    )]
    NoNotificationUrl(Origin, String),
    /// A client must not say who is asked, and nothing else would complete the URL.
    #[error(
        "{0}: notification_url = {1} needs public_url, to whose host it belongs: what a client calls this server \
             must not decide who is asked. Or write it whole, such as \"http://127.0.0.1:8000/app\""
    )]
    NoPublicUrl(Origin, String),
    #[error(
        "{0}: notification_url = {1} does nothing without notification_type, which takes \"by-reference\" or \
             \"by-value\" (or \"none\", to keep the URL for later)"
    )]
    UrlWithoutType(Origin, String),
    #[error("{0}: notification_secret_file: cannot read {1}: {2}")]
    UnreadableSecret(Origin, PathBuf, #[source] io::Error),
    #[error(
        "{0}: notification_secret_file: {1} holds {2} bytes: it takes 16 to 4096 bytes, white space at the ends aside"
    )]
    SecretLength(Origin, PathBuf, &'static str),
    #[error("{0}: {1}: cannot read {2}: {3}")]
    UnreadableAccounts(Origin, &'static str, PathBuf, #[source] io::Error),
    #[error("{path}:{1}: {2}", path = .0.display())]
    BadAccount(PathBuf, usize, BadAccount),
    #[error("{0}: auth = {1} needs `{2}`: the file in which they stand")]
    NoAccountFile(Origin, String, &'static str),
    #[error("{0}: allow = {1} has no effect without `auth`: nobody is asked who they are")]
    AllowWithoutAuth(Origin, String),
    #[error("{0}: allow = {1} names the group {2:?}, which does not stand in `groups_file`")]
    NoSuchGroup(Origin, String, String),
}

/// Where a key stands that stands not here; a number is the line of the first table header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Where {
    #[error("stands here")]
    Here,
    #[error("holds for the whole server: put it above the first table header (line {0})")]
    Top(usize),
    #[error("stands in a [[location]], or above the first table header (line {0})")]
    TopOrLocation(usize),
    #[error("stands in [limits]")]
    Limits,
    #[error("stands in a [[location]]")]
    Location,
    #[error("stands in a [[listener]]")]
    Listener,
    #[error("stands in a [[certificate]]")]
    Certificate,
}

/// A place in a settings file; lines and columns (in characters) count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub path: PathBuf,
    pub line: usize,
    pub column: usize,
    pub text: String,
}

impl Place {
    fn line_text(&self) -> &str {
        self.text.trim()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Where a value came from: a flag or a variable of the environment, or the settings file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Origin {
    #[error("{0}")]
    Flag(String),
    #[error("{0}")]
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
