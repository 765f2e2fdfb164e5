//! The settings file: every value with its place. A mistake is told with what to write instead.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Cause, ConfigError, Origin, Place, Where};
use super::form::Written;
use super::given::Given;
use super::keys::rows;
use super::table::{Row, Scope};

/// More than any settings file has; a device such as `/dev/zero` has no end.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// How long whoever writes the settings into a pipe may take.
const PIPE_PATIENCE: Duration = Duration::from_secs(5);

/// A settings file: read, and each of its values known to be one that its key takes.
#[derive(Debug, Default)]
pub struct SettingsFile {
    /// What stands at the top.
    pub(super) global: Given,
    pub(super) limits: Given,
    /// The locations in the order of the file, and where each begins.
    pub(super) locations: Vec<(Origin, Given)>,
    pub(super) listeners: Vec<(Origin, Given)>,
    pub(super) certificates: Vec<(Origin, Given)>,
}

impl SettingsFile {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or holds an unknown key or a value that its key does
    /// not take.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read_bytes(path).map_err(|error| Cause::Unreadable(path.to_owned(), error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let error = io::Error::other("it is larger than 4 MiB");
            return Err(Cause::Unreadable(path.to_owned(), error).into());
        }
        let text = String::from_utf8(bytes).map_err(|_| Cause::NotText(path.to_owned()))?;
        Self::parse(path, text)
    }

    /// Parses the text of a file; `path` is for messages only.
    ///
    /// # Errors
    /// The text is not TOML, or holds an unknown key or a value that its key does not take.
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let text = Text {
            path: path.to_owned(),
            text,
        };
        let (table, errors) = DeTable::parse_recoverable(&text.text);
        match errors.into_iter().next() {
            Some(error) => Err(text.not_toml(error, table.get_ref()).into()),
            None => text.read(table.get_ref()),
        }
    }
}

/// All of a file. A pipe is read too (`--config <(..)`), but it is not waited for without end:
/// nobody may ever write into it, and a server that reads its settings again hears nothing else
/// meanwhile.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let deadline = Instant::now() + PIPE_PATIENCE;
    let mut bytes = Vec::new();
    // Each read that finds nothing yet is one turn.
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut waiting = [PollFd::new(&file, PollFlags::IN)];
        if rustix::event::poll(&mut waiting, Some(&left))? == 0 {
            return Err(io::Error::other("it is a pipe, and nobody writes into it"));
        }
        let room = FILE_BYTES_MAX + 1 - bytes.len() as u64;
        match (&file).take(room).read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A table of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Here {
    Top,
    Limits,
    Location,
    Listener,
    Certificate,
}

impl Here {
    fn takes(self, row: &Row) -> bool {
        match self {
            Self::Top => matches!(row.scope, Scope::Server | Scope::Both),
            Self::Limits => row.scope == Scope::Limits,
            Self::Location => matches!(row.scope, Scope::Location | Scope::Both),
            Self::Listener => row.scope == Scope::Listener,
            Self::Certificate => row.scope == Scope::Certificate,
        }
    }
}

type Key<'t> = Spanned<std::borrow::Cow<'t, str>>;

/// The text of a file, for places in it.
struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    fn read(&self, table: &DeTable<'_>) -> Result<SettingsFile, ConfigError> {
        let mut file = SettingsFile::default();
        for (key, value) in in_order(table) {
            let place = || self.place(value.span().start);
            match (&**key.get_ref(), value.get_ref()) {
                ("limits", DeValue::Table(table)) => {
                    file.limits = self.read_table(table, Here::Limits)?;
                }
                ("limits", _) => return Err(Cause::NotATable(place()).into()),
                ("location", value) => {
                    file.locations = self.read_tables(value, "location", Here::Location, &place)?;
                }
                ("listener", value) => {
                    file.listeners = self.read_tables(value, "listener", Here::Listener, &place)?;
                }
                ("certificate", value) => {
                    let here = Here::Certificate;
                    file.certificates = self.read_tables(value, "certificate", here, &place)?;
                }
                _ => self.read_value(&mut file.global, key, value, Here::Top)?,
            }
        }
        Ok(file)
    }

    /// Tables of one kind, and where each begins.
    fn read_tables(
        &self,
        value: &DeValue<'_>,
        name: &'static str,
        here: Here,
        place: &dyn Fn() -> Place,
    ) -> Result<Vec<(Origin, Given)>, ConfigError> {
        let not_tables = |place| Cause::NotTables(place, name);
        let tables = value.as_array().ok_or_else(|| not_tables(place()))?;
        let read = |table: &Spanned<DeValue<'_>>| {
            let place = self.place(table.span().start);
            let Some(table) = table.get_ref().as_table() else {
                return Err(not_tables(place).into());
            };
            Ok((Origin::File(Box::new(place)), self.read_table(table, here)?))
        };
        tables.iter().map(read).collect()
    }

    fn read_table(&self, table: &DeTable<'_>, here: Here) -> Result<Given, ConfigError> {
        let mut given = Given::default();
        for (key, value) in in_order(table) {
            self.read_value(&mut given, key, value, here)?;
        }
        Ok(given)
    }

    fn read_value(
        &self,
        given: &mut Given,
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
        here: Here,
    ) -> Result<(), ConfigError> {
        let Some(row) = rows().find(|row| here.takes(row) && row.name() == key.get_ref()) else {
            return Err(match value.get_ref() {
                DeValue::Table(_) => self.stray_table(key, here),
                _ => self.stray(key, here),
            }
            .into());
        };
        let written = self.text.get(value.span()).unwrap_or_default();
        let written = written.lines().next().unwrap_or_default().to_owned();
        let origin = Origin::File(Box::new(self.place(value.span().start)));
        given.read(row, read(value.get_ref()), origin, written)
    }

    /// Why there is no such table here.
    fn stray_table(&self, key: &Key<'_>, here: Here) -> Cause {
        let (place, name) = (self.place(key.span().start), key.get_ref().to_string());
        match (&*name, here) {
            ("limits" | "location" | "listener" | "certificate", _) => {
                Cause::NoTableWithin(place, name)
            }
            // A slip in the name of a table that there is, or a key in brackets.
            _ => match self.stray(key, here) {
                Cause::UnknownKey(place, name) => Cause::UnknownTable(place, name),
                cause => cause,
            },
        }
    }

    /// Why this key cannot stand in this table.
    fn stray(&self, key: &Key<'_>, here: Here) -> Cause {
        let (place, name) = (self.place(key.span().start), &**key.get_ref());
        let is_header = |line: &str| line.trim_start().starts_with('[');
        let header = self
            .text
            .lines()
            .position(is_header)
            .map_or(1, |line| line + 1);
        let belongs = |row: &Row| match row.scope {
            _ if here.takes(row) => Where::Here,
            Scope::Server => Where::Top(header),
            Scope::Both => Where::TopOrLocation(header),
            Scope::Limits => Where::Limits,
            Scope::Location => Where::Location,
            Scope::Listener => Where::Listener,
            Scope::Certificate => Where::Certificate,
        };
        if let Some(row) = rows().find(|row| row.name() == name) {
            return Cause::Elsewhere(place, row.name(), belongs(row));
        }
        let key = name.to_owned();
        let is_called = |row: &&Row| row.iis.iter().any(|iis| iis.eq_ignore_ascii_case(name));
        if let Some(row) = rows().find(is_called) {
            return Cause::OfIis(place, key, row.key, row.takes());
        }
        let tables = [
            ("location", "[[location]]"),
            ("listener", "[[listener]]"),
            ("certificate", "[[certificate]]"),
            ("limits", "[limits]"),
        ];
        let tables = tables.into_iter().filter(|_| here == Here::Top);
        let known = rows().map(|row| (row.name(), row.name(), belongs(row)));
        let known = known.chain(tables.map(|(table, shown)| (table, shown, Where::Here)));
        let alike = known.map(|(known, shown, belongs)| (likeness(name, known), shown, belongs));
        let alike = alike.filter(|(likeness, ..)| *likeness >= LIKENESS_MIN);
        // Of two that are as near, the one that may stand here.
        let is_here = |belongs: &Where| *belongs == Where::Here;
        match alike.max_by(|(one, _, here), (other, _, there)| {
            one.total_cmp(other)
                .then(is_here(here).cmp(&is_here(there)))
        }) {
            Some((_, near, Where::Here)) => Cause::Misspelt(place, key, near),
            Some((_, near, belongs)) => Cause::MisspeltElsewhere(place, key, near, belongs),
            None => Cause::UnknownKey(place, key),
        }
    }

    /// What the parser of TOML complains about, and what a person should know of it.
    fn not_toml(&self, error: toml::de::Error, table: &DeTable<'_>) -> Cause {
        let at = error.span().map_or(0, |span| span.start);
        let place = self.place(at);
        let (before, after) = self.text.split_at_checked(at).unwrap_or_default();
        let key = after
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default();
        if error.message().contains("duplicate key") {
            // A table that stands twice has only its last place in the tree.
            let as_header = || before.find(place.text.trim()).map(|bracket| bracket + 1);
            if let Some(first) = last_before(table, key, at).or_else(as_header) {
                return Cause::Repeated(place, key.to_owned(), self.place(first));
            }
        }
        let is_escape = before.ends_with('\\') || after.starts_with('\\');
        if is_escape || error.message().contains("unicode") {
            return Cause::Escape(place);
        }
        Cause::Syntax(place, error)
    }

    /// The place of a byte of the text.
    fn place(&self, at: usize) -> Place {
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
}

/// The keys of a table as they stand in the file, so that the first mistake is told first.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Spanned<DeValue<'i>>)> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    keys
}

/// Where the key stands for the last time before this place.
fn last_before(table: &DeTable<'_>, name: &str, end: usize) -> Option<usize> {
    let places = table.iter().flat_map(|(key, value)| {
        let here = (key.get_ref() == name && key.span().start < end).then_some(key.span().start);
        let below = match value.get_ref() {
            DeValue::Table(table) => last_before(table, name, end),
            DeValue::Array(items) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                tables
                    .filter_map(|table| last_before(table, name, end))
                    .max()
            }
            _ => None,
        };
        [here, below]
    });
    places.flatten().max()
}

fn read(value: &DeValue<'_>) -> Written {
    match value {
        DeValue::String(text) => Written::Text(text.to_string()),
        DeValue::Boolean(truth) => Written::Truth(*truth),
        DeValue::Integer(integer) => {
            Written::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect();
            texts.map_or(Written::Other, Written::Texts)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Written::Other,
    }
}

/// From 0 to 1; case and kind of dash do not count.
pub(super) fn likeness(name: &str, known: &str) -> f64 {
    let name = name.to_ascii_lowercase().replace('-', "_");
    strsim::normalized_damerau_levenshtein(&name, known)
}

/// Two slips in a short name; more would be guessing.
pub(super) const LIKENESS_MIN: f64 = 0.6;
