//! The settings file: every value with its place. A mistake is told with what to write instead.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Cause, ConfigError, Origin, Place, Where};
use super::foreign;
use super::form::Written;
use super::given::Given;
use super::keys::rows;
use super::meant::LIKENESS_MIN;
use super::section::{SECTIONS, Scope, Section};
use super::table::Row;
use super::utf8;
use crate::named_file;

/// More than any settings file has.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// How long whoever writes the settings into a pipe (`--config <(..)`) may take: a server that
/// reads its settings again hears nothing else meanwhile.
const PIPE_PATIENCE: Duration = Duration::from_secs(5);

/// A settings file: read, and each of its values known to be one that its key takes.
#[derive(Debug, Default)]
pub struct SettingsFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What stands at the top.
    pub(super) top: Given,
    /// The tables in the order of the file, and where each begins.
    pub(super) tables: Vec<(Scope, Origin, Given)>,
}

impl SettingsFile {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or holds an unknown key or a value that its key does
    /// not take.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::of_bytes(path, Self::bytes(path)?)
    }

    /// What stands in a file, whatever it is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
        let bytes = named_file::read_or_pipe(path, FILE_BYTES_MAX, PIPE_PATIENCE)
            .map_err(|error| Cause::Unreadable(path.to_owned(), error))?;
        if bytes.is_empty() && named_file::is_pipe(path) {
            return Err(Cause::RanDry(path.to_owned()).into());
        }
        Ok(bytes.to_vec())
    }

    /// Parses what was read of a file; `path` is for messages only.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let text = utf8::text(bytes);
        let text = text.map_err(|why| Cause::NotText(path.to_owned(), why))?;
        Self::parse(path, text)
    }

    /// Whether any key stands in it.
    pub fn has_any(&self) -> bool {
        !self.tables.is_empty() || !self.top.is_empty()
    }

    /// Parses the text of a file; `path` is for messages only.
    ///
    /// # Errors
    /// The text is not TOML, or holds an unknown key or a value that its key does not take.
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let text = Text::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(&text.text);
        match errors.into_iter().next() {
            Some(error) => Err(text.not_toml(error, table.get_ref()).into()),
            None => text.read(table.get_ref()),
        }
    }
}

type Key<'t> = Spanned<std::borrow::Cow<'t, str>>;

/// The text of a file, for places in it.
struct Text {
    path: PathBuf,
    text: String,
    /// Where each line begins: every value is told with its line, and there may be many.
    lines: Vec<usize>,
}

impl Text {
    fn new(path: &Path, text: String) -> Self {
        let ends = text.match_indices('\n');
        let lines = [0].into_iter().chain(ends.map(|(at, _)| at + 1));
        Self {
            path: path.to_owned(),
            lines: lines.collect(),
            text,
        }
    }

    fn read(&self, table: &DeTable<'_>) -> Result<SettingsFile, ConfigError> {
        let mut file = SettingsFile {
            path: self.path.clone(),
            ..SettingsFile::default()
        };
        for (key, value) in in_order(table) {
            match Section::named(key.get_ref()) {
                Some(section) => self.read_section(&mut file, section, value)?,
                None => self.read_value(&mut file.top, key, value, Scope::Server)?,
            }
        }
        Ok(file)
    }

    /// The tables of one kind.
    fn read_section(
        &self,
        file: &mut SettingsFile,
        section: &'static Section,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let not_a_table = |at| Cause::NotATable(self.place(at), section);
        let tables: Vec<_> = match value.get_ref() {
            DeValue::Array(tables) if section.is_list() => tables.iter().collect(),
            _ if section.is_list() => return Err(not_a_table(value.span().start).into()),
            _ => vec![value],
        };
        for table in tables {
            let start = table.span().start;
            let keys = table.get_ref().as_table();
            let mut given = Given::default();
            for (key, value) in in_order(keys.ok_or_else(|| not_a_table(start))?) {
                self.read_value(&mut given, key, value, section.scope)?;
            }
            let origin = Origin::File(Box::new(self.place(start)));
            if let Some(key) = section.needs.iter().find(|key| given.said(key).is_none()) {
                let row = rows().find(|row| row.scope == section.scope && row.name() == *key);
                let takes = row.map(Row::takes).unwrap_or_default();
                return Err(Cause::Incomplete(origin, section.name, key, takes).into());
            }
            file.tables.push((section.scope, origin, given));
        }
        Ok(())
    }

    fn read_value(
        &self,
        given: &mut Given,
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
        here: Scope,
    ) -> Result<(), ConfigError> {
        let Some(row) = rows().find(|row| row.scope.takes_in(here) && row.name() == key.get_ref())
        else {
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
    fn stray_table(&self, key: &Key<'_>, here: Scope) -> Cause {
        let place = self.place(key.span().start);
        if let Some(section) = Section::named(key.get_ref()) {
            return Cause::NoTableWithin(place, section);
        }
        // A slip in the name of a table that there is, or a key in brackets.
        match self.stray(key, here) {
            Cause::UnknownKey(place, name) => Cause::UnknownTable(place, name),
            cause => cause,
        }
    }

    /// Why this key cannot stand in this table.
    fn stray(&self, key: &Key<'_>, here: Scope) -> Cause {
        let (place, name) = (self.place(key.span().start), &**key.get_ref());
        let is_header = |line: &str| line.trim_start().starts_with('[');
        let header = self
            .text
            .lines()
            .position(is_header)
            .map_or(1, |line| line + 1);
        let belongs = |row: &Row| match row.scope {
            scope if scope.takes_in(here) => Where::Here,
            Scope::Server => Where::Top(header),
            Scope::Both => Where::TopOrLocation(header),
            scope => {
                let section = SECTIONS.iter().find(|section| section.scope == scope);
                Where::In(section.expect("every other scope has its table"))
            }
        };
        if let Some(how) = foreign::meant_at_the_top(name) {
            return Cause::SaidOtherwise(place, name.to_owned(), how);
        }
        if let Some(row) = rows().find(|row| row.name() == name) {
            return Cause::Elsewhere(place, row.name(), belongs(row));
        }
        let key = name.to_owned();
        let is_called = |row: &&Row| row.iis.iter().any(|iis| iis.eq_ignore_ascii_case(name));
        if let Some(row) = rows().find(is_called) {
            return match belongs(row) {
                Where::Here => Cause::OfIis(place, key, row.key, row.takes()),
                belongs => Cause::OfIisElsewhere(place, key, row.key, row.takes(), belongs),
            };
        }
        if OF_IIS_ALONE
            .iter()
            .any(|iis| iis.eq_ignore_ascii_case(name))
        {
            return Cause::OfIisAlone(place, key);
        }
        if let Some(how) = foreign::said_otherwise(name) {
            return Cause::SaidOtherwise(place, key, how);
        }
        let tables = SECTIONS.iter().filter(|_| here == Scope::Server);
        let known = rows().map(|row| (row.name(), row.name(), belongs(row)));
        let known = known.chain(tables.map(|section| (section.name, section.header, Where::Here)));
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
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        if let Some((column, found, what)) = utf8::lookalike(&place.text) {
            return Cause::Lookalike(self.place(line_start + column), found, what);
        }
        let is_escape = before.ends_with('\\') || after.starts_with('\\');
        if is_escape || error.message().contains("unicode") {
            return Cause::Escape(place);
        }
        let hint = foreign::not_toml(&self.text, &place.text);
        Cause::Syntax(place, error, hint)
    }

    /// The place of a byte of the text.
    fn place(&self, at: usize) -> Place {
        let end = self.text.len();
        let at = if self.text.is_char_boundary(at) {
            at
        } else {
            end
        };
        // The first one begins at 0.
        let line = self.lines.partition_point(|start| *start <= at);
        let line_start = self.lines[line - 1];
        Place {
            path: self.path.clone(),
            line,
            column: self.text[line_start..at].chars().count() + 1,
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

/// Properties by which IIS is told who may write to a share.
pub(super) const OF_IIS_ALONE: [&str; 2] = ["UNCUserName", "UNCPassword"];
