//! Request target in, confined upload path out.
//!
//! An [`UploadPath`] cannot leave the root: it is a list of plain names. A target may spell it in
//! more than one way, as with IIS: several slashes are one, `.` is nothing and `..` goes up, as
//! long as it stays in the site. Two kinds are refused and never repaired: what a Windows client
//! cannot have meant, and what would mean something else to a Windows machine that reads the same
//! folder later (device names, trailing dots). docs/paths.md has each case with its reason.

use std::sync::Arc;

use super::host::{self, BadHost};

/// Bytes of a decoded path: the limit of IIS for URLs (protocol.md 11.1).
const PATH_BYTES_MAX: usize = 2_200;
/// Bytes of one name, as in every Linux file system.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a query; it goes into notifications, whose URLs have the same limit.
const QUERY_BYTES_MAX: usize = 2_200;
/// The default work directory's name; no URL reaches it.
const RESERVED: &str = ".bitsd";
/// Names that open devices on Windows, alone or with any ending.
const DEVICES: &[&str] = &["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];

/// A destination beneath the root: relative, clean names joined by `/`, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadPath {
    /// Shared by all that name it: a session, its record, and what is done for them.
    text: Arc<str>,
}

impl UploadPath {
    /// The path without a leading slash, e.g. `in/report.bin`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last name.
    pub fn file_name(&self) -> &str {
        self.text
            .rsplit_once('/')
            .map_or(&self.text, |(_, name)| name)
    }

    /// Everything before the last name; `None` for a file in the root itself.
    pub fn parent(&self) -> Option<&str> {
        self.text.rsplit_once('/').map(|(parent, _)| parent)
    }

    /// How many folders it has.
    pub fn depth(&self) -> usize {
        self.text.bytes().filter(|byte| *byte == b'/').count()
    }

    /// The folder that a user has for himself. What separates a domain from a name becomes `_`;
    /// `None` for a name that no folder can have.
    pub fn own_folder(user: &str) -> Option<Self> {
        let name = user.replace(['\\', '@'], "_");
        let folder = Self::from_text(&name).ok()?;
        (folder.depth() == 0).then_some(folder)
    }

    /// With the folder put before its last `bytes`, which begin with a name.
    ///
    /// # Errors
    /// [`BadTarget::TooLong`]
    ///
    /// # Panics
    /// As [`UploadPath::tail`].
    pub fn within(&self, folder: &Self, bytes: usize) -> Result<Self, BadTarget> {
        let tail = self.tail(bytes);
        let before = &self.text[..self.text.len() - bytes];
        Self::from_text(&format!(
            "{before}{folder}/{tail}",
            folder = folder.text,
            tail = tail.text
        ))
    }

    /// The last `bytes` of it, which begin with a name.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn tail(&self, bytes: usize) -> Self {
        let (before, tail) = self.text.split_at(self.text.len() - bytes);
        assert!(
            !tail.is_empty() && (before.is_empty() || before.ends_with('/')),
            "a part of a name is no path"
        );
        Self { text: tail.into() }
    }

    /// Reads back what [`UploadPath::as_str`] gave (e.g. from a session record), under the same
    /// rules.
    ///
    /// # Errors
    /// [`BadTarget`] if it is not such a text.
    pub fn from_text(text: &str) -> Result<Self, BadTarget> {
        if text.len() > PATH_BYTES_MAX {
            return Err(BadTarget::TooLong);
        }
        for (index, name) in text.split('/').enumerate() {
            check_name(name)?;
            if index == 0 && name.eq_ignore_ascii_case(RESERVED) {
                return Err(BadTarget::Reserved);
            }
        }
        Ok(Self { text: text.into() })
    }
}

/// A parsed request target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the upload goes. Targets that differ only in their spelling have the same.
    pub path: UploadPath,
    /// How the client spelt it.
    pub sent: SentUrl,
}

/// A URL as a client sent it, as far as it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentUrl {
    /// Path and query, from the first slash on.
    pub target: Box<str>,
    /// Host and port by which the client calls this server (see
    /// [`Head::host`](super::head::Head::host)).
    pub host: Option<Box<str>>,
}

impl SentUrl {
    /// The query, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

impl Target {
    /// With the host of its request.
    #[must_use]
    pub fn called(mut self, host: Option<&str>) -> Self {
        self.sent.host = host.map(Box::from);
        self
    }
}

/// Why a request target was refused; one variant per exact cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTarget {
    /// Neither origin-form nor absolute-form.
    Form,
    /// An absolute-form with a host that is none.
    Host(BadHost),
    /// An absolute-form without a path.
    PathMissing,
    /// A byte that may not stand in a target, such as `#` or one beyond ASCII.
    Character,
    /// `%` without two hexadecimal digits.
    PercentEscape,
    /// Not UTF-8 after percent-decoding.
    NotUtf8,
    /// An encoded slash: it would split a name in two.
    EncodedSlash,
    /// A backslash: it would split a name in two on Windows.
    Backslash,
    /// NUL or another control character.
    Control,
    /// The root, or a slash at the end, which means a folder.
    Folder,
    /// `..` where there is nothing above.
    AboveRoot,
    /// An empty name, `.` or `..` in what should be a plain path.
    NotPlain,
    /// A character that no Windows file name has.
    NotAWindowsName,
    /// A name that opens a device on Windows.
    Device,
    /// A name ending in a dot or a blank, which Windows drops.
    TrailingDotOrBlank,
    NameTooLong,
    /// A path over 2,200 bytes.
    TooLong,
    /// It makes a key that no object store takes.
    KeyTooLong,
    /// More folders than the settings allow.
    TooDeep,
    /// A query over 2,200 bytes.
    QueryTooLong,
    /// With it and its query the notification URL is over 2,200 bytes.
    NotificationTooLong,
    /// The server's own work directory.
    Reserved,
    /// The name of a digest file, where the server makes them.
    DigestFile,
    /// No room for the ending of its digest file: in the name, in the path, or in the key.
    NoRoomForDigest,
}

impl BadTarget {
    /// The words, which are the same each time: of a host only what is wrong with it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Form => "the target is neither a path nor an http URL",
            Self::Host(bad) => bad.words(),
            Self::PathMissing => "the URL has no path",
            Self::Character => "the target has a character that must be percent-encoded",
            Self::PercentEscape => "the target has a % without two hexadecimal digits",
            Self::NotUtf8 => "the path is not UTF-8",
            Self::EncodedSlash => "the path has an encoded slash",
            Self::Backslash => "the path has a backslash",
            Self::Control => "the path has a control character",
            Self::Folder => "the path names a folder",
            Self::AboveRoot => "the path leads out of the site by ..",
            Self::NotPlain => "the path has an empty name, or . or .. in it",
            Self::NotAWindowsName => "the path has one of : * ? \" < > |",
            Self::Device => "the path has a name that is a device on Windows",
            Self::TrailingDotOrBlank => "the path has a name that ends in a dot or a blank",
            Self::NameTooLong => "the path has a name over 255 bytes",
            Self::TooLong => "the path is over 2,200 bytes",
            Self::KeyTooLong => {
                "the path makes a key over 1,024 bytes, which no object store takes"
            }
            Self::TooDeep => "the path has more folders than limits.path_depth_max",
            Self::QueryTooLong => "the query is over 2,200 bytes",
            Self::NotificationTooLong => {
                "with the path and the query of the upload, its notification URL is over 2,200 bytes"
            }
            Self::Reserved => "the path is the server's own",
            Self::DigestFile => {
                "names that end in .sha256 are those of digest files here (digest_file)"
            }
            Self::NoRoomForDigest => {
                "with .sha256 behind it, for its digest file (digest_file), the path has a name over \
                 255 bytes, or is too long"
            }
        }
    }
}

impl std::fmt::Display for BadTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(bad) => write!(f, "the URL {bad}"),
            plain => f.write_str(plain.words()),
        }
    }
}

/// Parses an origin-form or absolute-form request target (RFC 9112 3.2) as clients spell it.
///
/// # Errors
/// [`BadTarget`] if it names nothing that may be uploaded to.
pub fn resolve_target(target: &str) -> Result<Target, BadTarget> {
    parse(target, |decoded| match needs_resolving(decoded) {
        true => UploadPath::from_text(&resolve(decoded)?),
        false => UploadPath::from_text(decoded),
    })
}

/// As [`resolve_target`], but each path has one spelling only: for what a person writes into
/// settings, where a second slash or a dot is a slip.
///
/// # Errors
/// [`BadTarget`] if it names nothing that may be uploaded to.
pub fn parse_target(target: &str) -> Result<Target, BadTarget> {
    parse(target, UploadPath::from_text)
}

fn parse(
    target: &str,
    read: impl FnOnce(&str) -> Result<UploadPath, BadTarget>,
) -> Result<Target, BadTarget> {
    let origin = origin_form(target)?;
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    let encoded = path.strip_prefix('/').ok_or(BadTarget::Form)?;
    let path = read(&decode(encoded)?)?;
    // On any level: the root of another server may lie beneath this one.
    if (path.as_str().split('/')).any(|name| name.eq_ignore_ascii_case(RESERVED)) {
        return Err(BadTarget::Reserved);
    }
    if let Some(query) = query {
        if !query.bytes().all(is_target_byte) {
            return Err(BadTarget::Character);
        }
        if query.len() > QUERY_BYTES_MAX {
            return Err(BadTarget::QueryTooLong);
        }
    }
    Ok(Target {
        path,
        sent: SentUrl {
            target: origin.into(),
            host: None,
        },
    })
}

/// The target without scheme and authority: which name we are called by does not matter for where a
/// file goes.
fn origin_form(target: &str) -> Result<&str, BadTarget> {
    if target.starts_with('/') {
        return Ok(target);
    }
    let authority = host::of_absolute(target).ok_or(BadTarget::Form)?;
    host::parse(authority.as_bytes()).map_err(BadTarget::Host)?;
    let (_, rest) = target.split_once("://").ok_or(BadTarget::Form)?;
    match &rest[authority.len()..] {
        origin if origin.starts_with('/') => Ok(origin),
        origin if origin.starts_with('#') => Err(BadTarget::Character),
        _ => Err(BadTarget::PathMissing),
    }
}

/// Whether a decoded path is not spelt plainly.
fn needs_resolving(decoded: &str) -> bool {
    (decoded.split('/')).any(|name| matches!(name, "" | "." | ".."))
}

/// A decoded path spelt plainly: one slash between names, no `.` and no `..` (as RFC 3986 5.2.4,
/// but that above the top is nothing). What goes up again must be a name that could stand, too.
fn resolve(decoded: &str) -> Result<String, BadTarget> {
    let mut names = Vec::new();
    let mut is_folder = true;
    for name in decoded.split('/') {
        is_folder = matches!(name, "" | "." | "..");
        match name {
            "" | "." => {}
            ".." => {
                names.pop().ok_or(BadTarget::AboveRoot)?;
            }
            name => {
                check_name(name)?;
                names.push(name);
            }
        }
    }
    match is_folder {
        true => Err(BadTarget::Folder),
        false => Ok(names.join("/")),
    }
}

/// Percent-decodes exactly once (RFC 3986 2.1).
fn decode(encoded: &str) -> Result<String, BadTarget> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !is_target_byte(byte) {
                return Err(BadTarget::Character);
            }
            decoded.push(byte);
            continue;
        }
        let (high, low) = (bytes.next().and_then(hex), bytes.next().and_then(hex));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(BadTarget::PercentEscape);
        };
        match high << 4 | low {
            b'/' => return Err(BadTarget::EncodedSlash),
            byte => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| BadTarget::NotUtf8)?;
    // Those of Latin-1 too (U+0080 to U+009F): some move the cursor of a terminal.
    match !decoded.is_ascii() && decoded.contains(char::is_control) {
        true => Err(BadTarget::Control),
        false => Ok(decoded),
    }
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Visible ASCII but `#`, which begins what is never sent. Clients send some of the rest unencoded.
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

fn check_name(name: &str) -> Result<(), BadTarget> {
    if matches!(name, "" | "." | "..") {
        return Err(BadTarget::NotPlain);
    }
    for byte in name.bytes() {
        match byte {
            b'\\' => return Err(BadTarget::Backslash),
            0..=0x1f | 0x7f => return Err(BadTarget::Control),
            b':' | b'*' | b'?' | b'"' | b'<' | b'>' | b'|' => {
                return Err(BadTarget::NotAWindowsName);
            }
            _ => {}
        }
    }
    if name.ends_with(['.', ' ']) {
        return Err(BadTarget::TrailingDotOrBlank);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(BadTarget::NameTooLong);
    }
    if is_device(name) {
        return Err(BadTarget::Device);
    }
    Ok(())
}

/// `CON`, `nul.txt`, `COM1` ..: Windows looks only at what stands before the first dot, blanks
/// dropped.
fn is_device(name: &str) -> bool {
    let stem = name
        .split_once('.')
        .map_or(name, |(stem, _)| stem)
        .trim_end();
    if DEVICES
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let mut chars = stem.chars();
    let letters: String = chars.by_ref().take(3).collect();
    let is_port = letters.eq_ignore_ascii_case("COM") || letters.eq_ignore_ascii_case("LPT");
    let number = chars.next();
    is_port
        && chars.next().is_none()
        && matches!(number, Some('0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}'))
}

#[cfg(test)]
mod tests;
