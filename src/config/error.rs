//! Why there is no configuration, and where in flags or file the cause stands.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::auth::accounts::BadAccount;
use crate::auth::keytab::BadKeytab;

use super::complaint::Complaint;
use super::section::{SECTIONS, Section};
use super::shown;
use super::url::without_secrets;
use super::utf8::NotUtf8;
use crate::named_file;

/// Why there is no configuration; its words say where, what, and what to write instead.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ConfigError(Box<Cause>);

impl ConfigError {
    /// It lies in a file that the settings name, which may be there, or right, at the next try; and
    /// not in the settings.
    pub fn is_of_named_file(&self) -> bool {
        matches!(
            *self.0,
            Cause::UnreadableFile(..)
                | Cause::SecretLength(..)
                | Cause::BadAccount(..)
                | Cause::BadKeytab(..)
                | Cause::NobodyLeft(..)
        )
    }

    /// There is nothing in this file of accounts any more, which a key names.
    pub fn nobody_left(key: &'static str, path: PathBuf) -> Self {
        Cause::NobodyLeft(key, path).into()
    }

    /// There is no key in this file any more.
    pub fn emptied(path: PathBuf) -> Self {
        Cause::Emptied(path).into()
    }
}

impl From<Cause> for ConfigError {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}

/// Where a value or a key stands comes first; then the value as it was written.
#[derive(Debug, Error)]
pub(super) enum Cause {
    #[error("cannot read the settings file {0}: {1}{remedy}", remedy = named_file::remedy(.0, .1))]
    Unreadable(PathBuf, #[source] io::Error),
    /// What came through it came once.
    #[error(
        "{path} is a pipe, and nothing comes out of it: what has come through a pipe cannot be read again, so keep the \
         settings of a server in a file", path = .0.display()
    )]
    RanDry(PathBuf),
    #[error(
        "{path} has no setting in it any more, and had some when it was read last: is it being written, or its disk \
         full? A server without settings asks nobody who he is, so start it anew if that is meant", path = .0.display()
    )]
    Emptied(PathBuf),
    #[error(
        "{0}: there is nothing in {path} any more, and there was when it was read last: is it being written, or its \
         disk full? If nobody is meant, leave a comment in it (`# nobody`)",
        path = .1.display()
    )]
    NobodyLeft(&'static str, PathBuf),
    #[error("{path}:{line}:{column}: {1}", path = .0.display(), line = .1.line, column = .1.column)]
    NotText(PathBuf, NotUtf8),
    /// A character looks like one of TOML's.
    #[error("{0}: the character U+{code:04X} is {2}", code = u32::from(*.1))]
    Lookalike(Place, char, &'static str),
    #[error("{0}: {message}{hint}, in: {line}", message = .1.message().replace('\n', ", "), hint = hint(.2), line = .0.line_text())]
    Syntax(Place, #[source] toml::de::Error, Option<Cow<'static, str>>),
    #[error("{0}: a backslash in double quotes begins an escape: write / in a prefix or a path, or put the text in \
             'single quotes', in: {line}", line = .0.line_text())]
    Escape(Place),
    #[error("{0}: {1} stands already at {2}")]
    Repeated(Place, String, Place),
    #[error("{0}: there is no key {1} (`bitsd check --help` lists all)")]
    UnknownKey(Place, String),
    #[error("{0}: there is no key {1}: {2}")]
    SaidOtherwise(Place, String, &'static str),
    #[error("{0}: there is no key {1}; did you mean {2}?")]
    Misspelt(Place, String, &'static str),
    #[error("{0}: there is no key {1}; did you mean {2}? It {3}")]
    MisspeltElsewhere(Place, String, &'static str, Where),
    #[error("{0}: {1} is a property of IIS; here it is {2}, which takes {3}")]
    OfIis(Place, String, &'static str, String),
    #[error("{0}: {1} is a property of IIS; here it is {2}, which takes {3}, and {4}")]
    OfIisElsewhere(Place, String, &'static str, String, Where),
    #[error(
        "{0}: {1} is a property of IIS, which has no place here: mount the share, and let root lead there"
    )]
    OfIisAlone(Place, String),
    #[error("{0}: {1} {2}")]
    Elsewhere(Place, &'static str, Where),
    #[error(
        "{0}: {name} is a table that begins with {header}{brackets}",
        name = .1.name, header = .1.header,
        brackets = if .1.is_list() { ", in two brackets" } else { "" }
    )]
    NotATable(Place, &'static Section),
    #[error(
        "{0}: there is no table {1}: there are {tables}; all other keys stand above them",
        tables = SECTIONS.each_ref().map(|section| section.header).join(", ")
    )]
    UnknownTable(Place, String),
    #[error(
        "{0}: {name} cannot stand in another table: it begins with {header}, and holds for the whole server",
        name = .1.name, header = .1.header
    )]
    NoTableWithin(Place, &'static Section),
    #[error(
        "{0}: {1} = {shown} {why}{user}",
        shown = shown::value(.2), why = .3.in_words(.4), user = shown::of_user(.2)
    )]
    Refused(Origin, &'static str, String, Complaint, String),
    /// Uploads could overwrite the server's own files.
    #[error(
        "{0}: work_dir ({2}) must not be a root ({1}) or hold it: uploads could overwrite the server's own files"
    )]
    WorkDirHoldsRoot(Origin, PathBuf, PathBuf),
    #[error("{0}: a {1} needs {2}, which takes {3}")]
    Incomplete(Origin, &'static str, &'static str, String),
    #[error("{0}: {1}: cannot read {2}: {3}{remedy}", remedy = named_file::remedy(.2, .3))]
    UnreadableFile(Origin, &'static str, PathBuf, #[source] io::Error),
    #[error(
        "{0}: {1}: {2} holds {3} bytes: it takes {4} to 4096 bytes, white space at the ends aside"
    )]
    SecretLength(Origin, &'static str, PathBuf, &'static str, &'static str),
    #[error("{path}:{1}: {2}", path = .0.display())]
    BadAccount(PathBuf, usize, BadAccount),
    #[error("{0}: keytab: {1} cannot be used: {2}")]
    BadKeytab(Origin, PathBuf, BadKeytab),
}

/// What else is to be known of a mistake.
fn hint(words: &Option<Cow<'static, str>>) -> String {
    (words.as_ref()).map_or(String::new(), |words| format!(" ({words})"))
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
    #[error("stands in {article}{header}", article = if .0.is_list() { "a " } else { "" }, header = .0.header)]
    In(&'static Section),
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
    /// The line, without what its URLs must not show.
    fn line_text(&self) -> String {
        let line = without_users(self.text.trim());
        let pieces = line.split_inclusive(['"', '\'']);
        pieces.map(piece).collect()
    }
}

/// A quote in a password is perhaps what makes the line no TOML, so where a URL ends is not known:
/// nothing is shown of it up to the last `@` before the next one.
fn without_users(line: &str) -> String {
    let slashes = ['/', '\\'];
    let colon_of_url = |text: &str| {
        let mut colons = text.match_indices(':').map(|(at, _)| at);
        colons.find(|at| text[at + 1..].starts_with(slashes))
    };
    let (mut shown, mut rest) = (String::new(), line);
    while let Some(colon) = colon_of_url(rest) {
        let behind = rest[colon + 1..].trim_start_matches(slashes);
        shown.push_str(&rest[..rest.len() - behind.len()]);
        let (url, next) = behind.split_at(colon_of_url(behind).unwrap_or(behind.len()));
        match url.rfind('@') {
            Some(last) => shown.extend(["\u{2026}", &url[last..]]),
            None => shown.push_str(url),
        }
        rest = next;
    }
    shown + rest
}

/// What stands between quotes, or would if they were all there.
fn piece(piece: &str) -> String {
    let before = piece.find(":/").map_or("", |at| &piece[..at]);
    let before = before.trim_end_matches(|letter: char| letter.is_ascii_alphanumeric());
    format!("{before}{}", without_secrets(&piece[before.len()..]))
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
