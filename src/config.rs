//! Flags and settings file in, one resolved `Config` out; every limit and its default.
//!
//! The settings file is TOML, every key is optional, and flags win over it. What is wrong is refused before anything
//! starts, with file, line and column: an unknown key, a wrong type, a value out of its bounds. Relative paths, in flags
//! and in the file, are relative to the directory `bitsd` is started in. Numbers stand in one table each ([`Limits`],
//! and the `Number`s below), from which parsing, `bitsd check` and [`settings_reference`] are made.

pub mod quantity;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use quantity::{BadQuantity, GIB, KIB, MIB, TIB};

/// What must be on stable storage before an Ack (the contract stands in `server/store.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Nothing is ever synced: the process may die, the power may not.
    None,
    /// The whole file before its final fragment is acked.
    Upload,
    /// Each fragment before it is acked.
    Fragment,
}

impl Durability {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::None, Self::Upload, Self::Fragment];

    /// Its word in settings and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Upload => "upload",
            Self::Fragment => "fragment",
        }
    }
}

/// When a file appears at its destination (P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// At Close-Session.
    Close,
    /// With its last fragment.
    LastFragment,
}

impl Publish {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 2] = [Self::Close, Self::LastFragment];

    /// Its word in settings and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::LastFragment => "last-fragment",
        }
    }
}

/// What Close-Session right after Create-Session means (P4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyFile {
    /// The upload was given up.
    Discard,
    /// The file is empty.
    Create,
}

impl EmptyFile {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 2] = [Self::Discard, Self::Create];

    /// Its word in settings and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Create => "create",
        }
    }
}

/// How a block of a body reaches its file (what is chosen when, and why, stands in `ring/disk.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Io {
    /// Chosen for each file by its size, its file system and `durability`.
    Auto,
    /// Big files past the page cache by fixed writes of whole pages (O_DIRECT), the rest as by `inline`.
    Direct,
    /// Fixed writes into the page cache.
    Ring,
    /// Plain writes into the page cache, on the shard's own thread.
    Inline,
}

impl Io {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Direct, Self::Ring, Self::Inline];

    /// Its word in settings and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Ring => "ring",
            Self::Inline => "inline",
        }
    }
}

/// Settings of the uploads beneath one URL prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Sync discipline.
    pub durability: Durability,
    /// When files appear.
    pub publish: Publish,
    /// Whether an existing destination is replaced.
    pub allow_overwrite: bool,
    /// Whether missing folders are made.
    pub create_dirs: bool,
    /// Meaning of a session closed without any fragment.
    pub empty_file: EmptyFile,
    /// Refuse what RFC and specification refuse and real clients do (missing lengths, chunked fragments).
    pub strict: bool,
    /// Bytes of one file; `None` is unlimited.
    pub upload_bytes_max: Option<u64>,
    /// Bytes of one fragment.
    pub fragment_bytes_max: u64,
    /// Sessions without progress for this long are discarded.
    pub session_timeout: Duration,
}

/// Makes [`Limits`], its defaults, its reader and its writer from one table.
macro_rules! limits {
    ($(#[doc = $doc:literal] $key:ident: $type:ty = $default:expr, in $bounds:expr, $kind:ident;)+) => {
        /// Bounds of the server (design H).
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $doc] pub $key: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: narrow($default),)+ }
            }
        }

        /// `[limits]` as written.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, expecting = "a table")]
        struct RawLimits {
            $($key: Option<Spanned<Amount>>,)+
        }

        /// The rows of the table with their meanings.
        const LIMITS: &[(Number, &str)] = &[$((
            Number {
                key: concat!("limits.", stringify!($key)),
                default: $default,
                bounds: $bounds,
                kind: Kind::$kind,
            },
            $doc,
        ),)+];

        impl Limits {
            fn resolve(raw: RawLimits, file: &SettingsText) -> Result<Self, ConfigError> {
                let mut rows = LIMITS.iter();
                let mut next = |amount: Option<Spanned<Amount>>| {
                    let (number, _) = rows.next().expect("one row for each field");
                    number.resolve(amount.map(|amount| file.locate(amount)))
                };
                Ok(Self { $($key: narrow(next(raw.$key)?),)+ })
            }

            /// The values in the order of the table.
            fn values(&self) -> Vec<u64> {
                vec![$(widen(self.$key),)+]
            }
        }
    };
}

limits! {
    /// Bytes of a request head.
    head_bytes_max: usize = 16 * KIB, in KIB..=64 * KIB, Bytes;
    /// Fields of a request head.
    headers_max: usize = 64, in 8..=256, Count;
    /// Bytes of one field value.
    value_bytes_max: usize = 4 * KIB, in 256..=64 * KIB, Bytes;
    /// Connections of one shard.
    connections_per_shard_max: usize = 16_384, in 1..=1_048_576, Count;
    /// Large body blocks of one shard.
    body_blocks_per_shard: usize = 32, in 1..=512, Count;
    /// Bytes of one body block; a multiple of the page size.
    block_bytes: usize = 512 * KIB, in 64 * KIB..=8 * MIB, PowerOfTwoBytes;
    /// Sessions of one shard.
    sessions_per_shard_max: usize = 262_144, in 1..=16_777_216, Count;
    /// Connections waiting to be taken over by a shard.
    mailbox_max: usize = 256, in 1..=65_536, Count;
    /// Time for a head to arrive, in milliseconds.
    head_ms_max: u64 = 10_000, in 100..=600_000, Milliseconds;
    /// Time between requests, in milliseconds.
    idle_ms_max: u64 = 120_000, in 100..=3_600_000, Milliseconds;
    /// Time without a byte of a body (or without progress of an answer), in milliseconds.
    body_stall_ms_max: u64 = 60_000, in 100..=3_600_000, Milliseconds;
    /// Bytes of a refused body that are read to keep the connection.
    drain_bytes_max: u64 = 16 * MIB, in 0..=GIB, Bytes;
    /// Time for running requests to finish when the server stops, in milliseconds.
    shutdown_ms_max: u64 = 30_000, in 0..=3_600_000, Milliseconds;
    /// How long a closed or cancelled session is remembered, in milliseconds.
    tombstone_ms_max: u64 = 600_000, in 0..=86_400_000, Milliseconds;
    /// How many closed or cancelled sessions one shard remembers.
    tombstones_per_shard_max: usize = 4096, in 0..=1_048_576, Count;
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON objects, one a line.
    Json,
}

impl LogFormat {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// Its word in settings and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Only what needs attention.
    Warn,
    /// And one line per session.
    Info,
    /// And one line per packet.
    Debug,
}

impl LogLevel {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Warn, Self::Info, Self::Debug];

    /// Its word in settings and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Everything resolved; what `bitsd check` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; never empty.
    pub listen: Vec<SocketAddr>,
    /// Where files go.
    pub root: PathBuf,
    /// Where unfinished sessions live; on the same file system as `root`. Default `ROOT/.bitsd`.
    pub work_dir: PathBuf,
    /// Number of shards.
    pub cores: usize,
    /// Log form.
    pub log_format: LogFormat,
    /// Log level.
    pub log_level: LogLevel,
    /// How bytes reach their files.
    pub io: Io,
    /// Upload settings.
    pub policy: Policy,
    /// Bounds.
    pub limits: Limits,
}

/// What the command line says; everything it leaves out comes from the file or the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, once for each address.
    pub listen: Vec<SocketAddr>,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--work-dir`.
    pub work_dir: Option<PathBuf>,
    /// `--cores`; 0 is all that are available.
    pub cores: Option<u32>,
    /// `--io`.
    pub io: Option<Io>,
    /// `--durability`.
    pub durability: Option<Durability>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--log-level`.
    pub log_level: Option<LogLevel>,
}

/// A settings file, read and parsed; its values are not checked yet.
#[derive(Debug, Default)]
pub struct SettingsFile {
    text: SettingsText,
    raw: RawFile,
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

impl Config {
    /// Settles every value: flags, then the file, then the defaults.
    ///
    /// # Errors
    /// A value is out of its bounds, or two values contradict each other.
    pub fn resolve(flags: Flags, file: Option<SettingsFile>) -> Result<Self, ConfigError> {
        let SettingsFile { text, raw } = file.unwrap_or_default();
        let root = flags
            .root
            .or(raw.root)
            .unwrap_or_else(|| PathBuf::from(ROOT_DEFAULT));
        let work_dir = flags
            .work_dir
            .or(raw.work_dir)
            .unwrap_or_else(|| root.join(WORK_DIR_NAME));
        check_directories(&root, &work_dir)?;
        let cores = match flags.cores {
            Some(cores) => Some((Origin::Flag("--cores"), Amount::Integer(cores.into()))),
            None => raw.cores.map(|cores| text.locate(cores)),
        };
        let default = Policy::default();
        let policy = Policy {
            durability: flags
                .durability
                .or(raw.durability)
                .unwrap_or(default.durability),
            publish: raw.publish.unwrap_or(default.publish),
            allow_overwrite: raw.allow_overwrite.unwrap_or(default.allow_overwrite),
            create_dirs: raw.create_dirs.unwrap_or(default.create_dirs),
            empty_file: raw.empty_file.unwrap_or(default.empty_file),
            strict: raw.strict.unwrap_or(default.strict),
            upload_bytes_max: resolve_upload_bytes_max(
                raw.upload_bytes_max.map(|max| text.locate(max)),
            )?,
            fragment_bytes_max: FRAGMENT_BYTES_MAX
                .resolve(raw.fragment_bytes_max.map(|max| text.locate(max)))?,
            session_timeout: Duration::from_millis(
                SESSION_TIMEOUT.resolve(raw.session_timeout.map(|timeout| text.locate(timeout)))?,
            ),
        };
        Ok(Self {
            listen: resolve_listen(flags.listen, raw.listen, &text)?,
            root,
            work_dir,
            cores: resolve_cores(cores)?,
            log_format: flags
                .log_format
                .or(raw.log_format)
                .unwrap_or(LOG_FORMAT_DEFAULT),
            log_level: flags
                .log_level
                .or(raw.log_level)
                .unwrap_or(LOG_LEVEL_DEFAULT),
            io: flags.io.or(raw.io).unwrap_or(IO_DEFAULT),
            policy,
            limits: Limits::resolve(raw.limits, &text)?,
        })
    }

    /// The configuration as a settings file that names every key; it parses back to the same configuration.
    ///
    /// A path that is not UTF-8 cannot be written in TOML and is shown with replacement characters.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut in_limits = false;
        for (key, value) in self.entries() {
            let key = match key.strip_prefix("limits.") {
                Some(key) => {
                    if !in_limits {
                        text.push_str("\n[limits]\n");
                    }
                    in_limits = true;
                    key
                }
                None => key,
            };
            text.push_str(key);
            text.push_str(" = ");
            text.push_str(&value);
            text.push('\n');
        }
        text
    }

    /// Every key with its value as TOML, in the order of [`settings_reference`].
    fn entries(&self) -> Vec<(&'static str, String)> {
        let addresses: Vec<String> = self.listen.iter().map(|a| quoted(&a.to_string())).collect();
        let policy = &self.policy;
        let mut entries = vec![
            ("listen", format!("[{}]", addresses.join(", "))),
            ("root", quoted(&self.root.to_string_lossy())),
            ("work_dir", quoted(&self.work_dir.to_string_lossy())),
            (CORES.key, self.cores.to_string()),
            ("log_format", quoted(self.log_format.name())),
            ("log_level", quoted(self.log_level.name())),
            ("io", quoted(self.io.name())),
            ("durability", quoted(policy.durability.name())),
            ("publish", quoted(policy.publish.name())),
            ("allow_overwrite", policy.allow_overwrite.to_string()),
            ("create_dirs", policy.create_dirs.to_string()),
            ("empty_file", quoted(policy.empty_file.name())),
            ("strict", policy.strict.to_string()),
            (
                UPLOAD_BYTES_MAX.key,
                render_upload_bytes_max(policy.upload_bytes_max),
            ),
            (
                FRAGMENT_BYTES_MAX.key,
                FRAGMENT_BYTES_MAX.kind.to_toml(policy.fragment_bytes_max),
            ),
            (
                SESSION_TIMEOUT.key,
                quoted(&quantity::render_duration(policy.session_timeout)),
            ),
        ];
        for ((number, _), value) in LIMITS.iter().zip(self.limits.values()) {
            entries.push((number.key, number.kind.to_toml(value)));
        }
        entries
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            durability: Durability::Upload,
            publish: Publish::Close,
            allow_overwrite: false,
            create_dirs: false,
            empty_file: EmptyFile::Discard,
            strict: false,
            upload_bytes_max: None,
            fragment_bytes_max: FRAGMENT_BYTES_MAX.default,
            session_timeout: Duration::from_millis(SESSION_TIMEOUT.default),
        }
    }
}

/// Documentation of one key of the settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingDoc {
    /// The key; those of the table `[limits]` begin with `limits.`.
    pub key: &'static str,
    /// Its default, as it would be written in the file.
    pub default: String,
    /// The values it takes, in words.
    pub bounds: String,
    /// What it means.
    pub meaning: &'static str,
}

/// Every key of the settings file with default, bounds and meaning; the README is checked against it.
pub fn settings_reference() -> Vec<SettingDoc> {
    let policy = Policy::default();
    let doc = |key, default: String, bounds: &str, meaning| SettingDoc {
        key,
        default,
        bounds: bounds.to_owned(),
        meaning,
    };
    let number = |number: &Number, default: String, bounds: String, meaning| SettingDoc {
        key: number.key,
        default,
        bounds,
        meaning,
    };
    let mut docs = vec![
        doc(
            "listen",
            quoted(LISTEN_DEFAULT),
            "`ADDR:PORT`, or an array of them",
            "Addresses to listen on.",
        ),
        doc(
            "root",
            quoted(ROOT_DEFAULT),
            "a directory",
            "Where uploaded files go.",
        ),
        doc(
            "work_dir",
            "ROOT/.bitsd".to_owned(),
            "a directory on the file system of `root`",
            "Where unfinished uploads live.",
        ),
        number(
            &CORES,
            CORES.default.to_string(),
            format!("{}; 0 is all that are available", CORES.bounds_in_words()),
            "Shards, one thread each.",
        ),
        doc(
            "log_format",
            quoted(LOG_FORMAT_DEFAULT.name()),
            &alternatives(LogFormat::ALL.map(LogFormat::name)),
            "Log lines for people, or JSON objects.",
        ),
        doc(
            "log_level",
            quoted(LOG_LEVEL_DEFAULT.name()),
            &alternatives(LogLevel::ALL.map(LogLevel::name)),
            "What needs attention; and one line per session; and one line per packet.",
        ),
        doc(
            "io",
            quoted(IO_DEFAULT.name()),
            &alternatives(Io::ALL.map(Io::name)),
            "How bytes reach their file: chosen for each file; past the page cache; into it by the ring; into it by plain writes.",
        ),
        doc(
            "durability",
            quoted(policy.durability.name()),
            &alternatives(Durability::ALL.map(Durability::name)),
            "What is synced to disk before it is acknowledged: nothing, the whole upload, each fragment.",
        ),
        doc(
            "publish",
            quoted(policy.publish.name()),
            &alternatives(Publish::ALL.map(Publish::name)),
            "When a file appears at its destination: when the client closes the session, or with its last fragment.",
        ),
        doc(
            "allow_overwrite",
            policy.allow_overwrite.to_string(),
            BOOLEAN,
            "Whether an upload may replace an existing file.",
        ),
        doc(
            "create_dirs",
            policy.create_dirs.to_string(),
            BOOLEAN,
            "Whether missing folders of a destination are made.",
        ),
        doc(
            "empty_file",
            quoted(policy.empty_file.name()),
            &alternatives(EmptyFile::ALL.map(EmptyFile::name)),
            "What a session closed before any fragment means: a given-up upload, or an empty file.",
        ),
        doc(
            "strict",
            policy.strict.to_string(),
            BOOLEAN,
            "Refuse requests without Content-Length and chunked fragments, which some real clients send.",
        ),
        number(
            &UPLOAD_BYTES_MAX,
            render_upload_bytes_max(policy.upload_bytes_max),
            format!("{}, or \"unlimited\"", UPLOAD_BYTES_MAX.bounds_in_words()),
            "Bytes of one uploaded file.",
        ),
        number(
            &FRAGMENT_BYTES_MAX,
            FRAGMENT_BYTES_MAX.kind.to_toml(FRAGMENT_BYTES_MAX.default),
            FRAGMENT_BYTES_MAX.bounds_in_words(),
            "Bytes of one fragment; a client asked to stay below sends smaller ones.",
        ),
        number(
            &SESSION_TIMEOUT,
            SESSION_TIMEOUT.kind.to_toml(SESSION_TIMEOUT.default),
            SESSION_TIMEOUT.bounds_in_words(),
            "An upload without progress for this long is discarded.",
        ),
    ];
    docs.extend(LIMITS.iter().map(|(row, meaning)| {
        number(
            row,
            row.kind.to_toml(row.default),
            row.bounds_in_words(),
            meaning.trim(),
        )
    }));
    docs
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

// -- the file as written

/// The settings file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    listen: Option<Spanned<Listen>>,
    root: Option<PathBuf>,
    work_dir: Option<PathBuf>,
    cores: Option<Spanned<Amount>>,
    log_format: Option<LogFormat>,
    log_level: Option<LogLevel>,
    io: Option<Io>,
    durability: Option<Durability>,
    publish: Option<Publish>,
    allow_overwrite: Option<bool>,
    create_dirs: Option<bool>,
    empty_file: Option<EmptyFile>,
    strict: Option<bool>,
    upload_bytes_max: Option<Spanned<Amount>>,
    fragment_bytes_max: Option<Spanned<Amount>>,
    session_timeout: Option<Spanned<Amount>>,
    limits: RawLimits,
}

/// An integer or a string; what it must be is known by its [`Number`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Amount {
    Integer(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountVisitor;
        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or for sizes and durations a string such as \"64 KiB\" or \"14d\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Amount, E> {
                Ok(Amount::Integer(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Amount, E> {
                i64::try_from(value)
                    .map(Amount::Integer)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Amount, E> {
                Ok(Amount::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(AmountVisitor)
    }
}

/// The value as it would be written in the file.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Text(text) => f.write_str(&quoted(text)),
        }
    }
}

/// One address or several.
#[derive(Debug)]
struct Listen(Vec<SocketAddr>);

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
struct SettingsText {
    path: PathBuf,
    text: String,
}

impl SettingsText {
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

    /// A value with its place.
    fn locate<T>(&self, value: Spanned<T>) -> (Origin, T) {
        (
            Origin::File(Box::new(self.place(value.span().start))),
            value.into_inner(),
        )
    }
}

// -- numbers

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A plain number.
    Count,
    /// Bytes, or a string with a unit.
    Bytes,
    /// Bytes, a power of two.
    PowerOfTwoBytes,
    /// A plain number of milliseconds, as the key's name says.
    Milliseconds,
    /// Held in milliseconds; written as seconds, or as a string with a unit.
    Duration,
}

impl Kind {
    /// The value in words.
    fn in_words(self, value: u64) -> String {
        match self {
            Self::Count | Self::Milliseconds => value.to_string(),
            Self::Bytes | Self::PowerOfTwoBytes => quantity::render_size(value),
            Self::Duration => quantity::render_duration(Duration::from_millis(value)),
        }
    }

    /// The value as TOML.
    fn to_toml(self, value: u64) -> String {
        match self {
            Self::Count | Self::Milliseconds => self.in_words(value),
            Self::Bytes | Self::PowerOfTwoBytes | Self::Duration => quoted(&self.in_words(value)),
        }
    }
}

/// A number among the settings: its key, default, bounds and form.
#[derive(Debug)]
struct Number {
    key: &'static str,
    default: u64,
    bounds: RangeInclusive<u64>,
    kind: Kind,
}

impl Number {
    /// The value as written, or the default.
    fn resolve(&self, written: Option<(Origin, Amount)>) -> Result<u64, ConfigError> {
        match written {
            Some((origin, amount)) => self.read(origin, &amount),
            None => Ok(self.default),
        }
    }

    /// The value, if it may be written so and lies within the bounds.
    fn read(&self, origin: Origin, amount: &Amount) -> Result<u64, ConfigError> {
        let key = self.key;
        let number = match (amount, self.kind) {
            (Amount::Text(text), Kind::Bytes | Kind::PowerOfTwoBytes) => {
                quantity::parse_size(text).map(Some)
            }
            (Amount::Text(text), Kind::Duration) => quantity::parse_duration(text)
                .map(|duration| u64::try_from(duration.as_millis()).ok()),
            (Amount::Text(_), Kind::Count | Kind::Milliseconds) => {
                let (value, bounds) = (amount.to_string(), self.bounds_in_words());
                return Err(ConfigError::NotANumber {
                    origin,
                    key,
                    value,
                    bounds,
                });
            }
            (Amount::Integer(seconds), Kind::Duration) => Ok(u64::try_from(*seconds)
                .ok()
                .and_then(|seconds| seconds.checked_mul(1000))),
            (Amount::Integer(number), _) => Ok(u64::try_from(*number).ok()),
        };
        match number {
            Ok(Some(number)) if self.takes(number) => Ok(number),
            Ok(_) => {
                let (value, bounds) = (amount.to_string(), self.bounds_in_words());
                Err(ConfigError::OutOfBounds {
                    origin,
                    key,
                    value,
                    bounds,
                })
            }
            Err(source) => Err(ConfigError::BadQuantity {
                origin,
                key,
                value: amount.to_string(),
                source,
            }),
        }
    }

    fn takes(&self, number: u64) -> bool {
        self.bounds.contains(&number)
            && (self.kind != Kind::PowerOfTwoBytes || number.is_power_of_two())
    }

    fn bounds_in_words(&self) -> String {
        let (min, max) = (
            self.kind.in_words(*self.bounds.start()),
            self.kind.in_words(*self.bounds.end()),
        );
        match self.kind {
            Kind::PowerOfTwoBytes => format!("powers of two from {min} to {max}"),
            Kind::Milliseconds => format!("{min} to {max} (milliseconds)"),
            Kind::Count | Kind::Bytes | Kind::Duration => format!("{min} to {max}"),
        }
    }
}

/// 0 stands for all cores. 256: a session id names its shard in one byte.
const CORES: Number = Number {
    key: "cores",
    default: 0,
    bounds: 0..=256,
    kind: Kind::Count,
};
/// Off by default, which the default of this row does not say. 8 EiB is where file offsets end.
const UPLOAD_BYTES_MAX: Number = Number {
    key: "upload_bytes_max",
    default: 0,
    bounds: 1..=8_388_607 * TIB,
    kind: Kind::Bytes,
};
/// A Windows client never sends less than 5 KiB for as long as there is more; 16 TiB is the largest ext4 file.
const FRAGMENT_BYTES_MAX: Number = Number {
    key: "fragment_bytes_max",
    default: 64 * MIB,
    bounds: 5 * KIB..=16 * TIB,
    kind: Kind::Bytes,
};
/// 14 days as in IIS.
const SESSION_TIMEOUT: Number = Number {
    key: "session_timeout",
    default: 14 * DAY_MS,
    bounds: 1000..=3650 * DAY_MS,
    kind: Kind::Duration,
};

/// The number in a field's type; the bounds of every row lie within it.
fn narrow<T: TryFrom<u64>>(number: u64) -> T {
    let Ok(number) = T::try_from(number) else {
        unreachable!("every bound fits into usize")
    };
    number
}

/// A field's number as it stands in the table.
fn widen<T>(number: T) -> u64
where
    u64: TryFrom<T>,
{
    let Ok(number) = u64::try_from(number) else {
        unreachable!("usize is at most 64 bits")
    };
    number
}

// -- single settings

fn resolve_listen(
    flags: Vec<SocketAddr>,
    file: Option<Spanned<Listen>>,
    text: &SettingsText,
) -> Result<Vec<SocketAddr>, ConfigError> {
    if !flags.is_empty() {
        return Ok(flags);
    }
    match file.map(|listen| text.locate(listen)) {
        Some((origin, Listen(addresses))) if addresses.is_empty() => {
            Err(ConfigError::NothingToListenOn { origin })
        }
        Some((_, Listen(addresses))) => Ok(addresses),
        None => Ok(vec![
            LISTEN_DEFAULT.parse().expect("a constant with a test"),
        ]),
    }
}

fn resolve_cores(written: Option<(Origin, Amount)>) -> Result<usize, ConfigError> {
    match CORES.resolve(written)? {
        0 => {
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(available.min(narrow(*CORES.bounds.end())))
        }
        cores => Ok(narrow(cores)),
    }
}

fn resolve_upload_bytes_max(written: Option<(Origin, Amount)>) -> Result<Option<u64>, ConfigError> {
    match written {
        None => Ok(None),
        Some((_, Amount::Text(text))) if text == UNLIMITED => Ok(None),
        Some((origin, amount)) => UPLOAD_BYTES_MAX.read(origin, &amount).map(Some),
    }
}

/// By the look of the paths only; that both lie on one file system is checked when the server starts.
fn check_directories(root: &Path, work_dir: &Path) -> Result<(), ConfigError> {
    for (key, path) in [("root", root), ("work_dir", work_dir)] {
        if path.as_os_str().is_empty() {
            return Err(ConfigError::EmptyPath { key });
        }
    }
    if root.starts_with(work_dir) {
        return Err(ConfigError::WorkDirHoldsRoot {
            root: root.to_owned(),
            work_dir: work_dir.to_owned(),
        });
    }
    Ok(())
}

fn render_upload_bytes_max(bytes_max: Option<u64>) -> String {
    bytes_max.map_or_else(
        || quoted(UNLIMITED),
        |bytes| UPLOAD_BYTES_MAX.kind.to_toml(bytes),
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn alternatives<const N: usize>(names: [&str; N]) -> String {
    names.map(quoted).join(", ")
}

const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
const ROOT_DEFAULT: &str = "./uploads";
const WORK_DIR_NAME: &str = ".bitsd";
const LOG_FORMAT_DEFAULT: LogFormat = LogFormat::Text;
const LOG_LEVEL_DEFAULT: LogLevel = LogLevel::Info;
const IO_DEFAULT: Io = Io::Auto;
const UNLIMITED: &str = "unlimited";
const BOOLEAN: &str = "true, false";
const DAY_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = SettingsFile::parse(Path::new("bitsd.toml"), text.to_owned())?;
        Config::resolve(Flags::default(), Some(file))
    }

    fn words(text: &str) -> String {
        from_file(text).expect_err("it must be refused").to_string()
    }

    #[test]
    fn without_flags_and_file_the_defaults_stand() {
        let config = Config::resolve(Flags::default(), None).unwrap();
        assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(config.root, Path::new("./uploads"));
        assert_eq!(config.work_dir, Path::new("./uploads/.bitsd"));
        assert!((1..=256).contains(&config.cores));
        assert_eq!(config.policy, Policy::default());
        assert_eq!(config.policy.fragment_bytes_max, 64 * 1024 * 1024);
        assert_eq!(
            config.policy.session_timeout,
            Duration::from_secs(14 * 86_400)
        );
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.limits.block_bytes, 512 * 1024);
        assert_eq!(config.limits.drain_bytes_max, 16 * 1024 * 1024);
    }

    #[test]
    fn every_default_lies_within_its_bounds() {
        let rows = LIMITS.iter().map(|(row, _)| row);
        for row in rows.chain([&CORES, &FRAGMENT_BYTES_MAX, &SESSION_TIMEOUT]) {
            assert!(row.takes(row.default), "{}", row.key);
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let text = "root = \"/file\"\ncores = 3\ndurability = \"none\"\nlisten = \"[::1]:1\"\nstrict = true";
        let file = SettingsFile::parse(Path::new("f"), text.to_owned()).unwrap();
        let flags = Flags {
            root: Some("/flag".into()),
            cores: Some(7),
            listen: vec![
                "127.0.0.1:2".parse().unwrap(),
                "127.0.0.1:3".parse().unwrap(),
            ],
            log_level: Some(LogLevel::Debug),
            ..Flags::default()
        };
        let config = Config::resolve(flags, Some(file)).unwrap();
        assert_eq!(config.root, Path::new("/flag"));
        assert_eq!(config.work_dir, Path::new("/flag/.bitsd"));
        assert_eq!(config.cores, 7);
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.policy.durability, Durability::None);
        assert_eq!(config.log_level, LogLevel::Debug);
        assert!(config.policy.strict);
    }

    #[test]
    fn every_key_can_be_set_in_the_file() {
        let text = r#"
            listen = ["127.0.0.1:80", "[::]:81"]
            root = "/r"
            work_dir = "/w"
            cores = 2
            log_format = "json"
            log_level = "warn"
            io = "ring"
            durability = "fragment"
            publish = "last-fragment"
            allow_overwrite = true
            create_dirs = true
            empty_file = "create"
            strict = true
            upload_bytes_max = "20 GiB"
            fragment_bytes_max = 5120
            session_timeout = 90
            [limits]
            head_bytes_max = "8 KiB"
            headers_max = 8
            block_bytes = 65536
            tombstones_per_shard_max = 0
        "#;
        let config = from_file(text).unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.work_dir, Path::new("/w"));
        assert_eq!(config.log_format, LogFormat::Json);
        assert_eq!(config.io, Io::Ring);
        assert_eq!(config.policy.publish, Publish::LastFragment);
        assert_eq!(config.policy.empty_file, EmptyFile::Create);
        assert_eq!(config.policy.upload_bytes_max, Some(20 * GIB));
        assert_eq!(config.policy.fragment_bytes_max, 5120);
        assert_eq!(config.policy.session_timeout, Duration::from_secs(90));
        assert_eq!(config.limits.head_bytes_max, 8192);
        assert_eq!(config.limits.headers_max, 8);
        assert_eq!(config.limits.tombstones_per_shard_max, 0);
        assert_eq!(config.limits.mailbox_max, Limits::default().mailbox_max);
    }

    #[test]
    fn what_check_prints_parses_back_to_the_same_configuration() {
        let odd = "root = \"/a \\\"b\\\"\\\\c\\n\"\nupload_bytes_max = 12345\nsession_timeout = \"1500ms\"\n\
                   listen = [\"[::1]:1\", \"127.0.0.1:2\"]\n[limits]\nhead_bytes_max = 1025\ndrain_bytes_max = 0";
        for text in ["", "cores = 5", odd] {
            let config = from_file(text).unwrap();
            assert_eq!(
                from_file(&config.to_toml()).unwrap(),
                config,
                "{}",
                config.to_toml()
            );
        }
    }

    #[test]
    fn the_reference_names_every_key_with_the_default_that_stands() {
        let config = Config::resolve(Flags::default(), None).unwrap();
        let reference = settings_reference();
        let entries = config.entries();
        assert_eq!(reference.len(), entries.len());
        for (doc, (key, value)) in reference.iter().zip(entries) {
            assert_eq!(doc.key, key);
            if !["listen", "work_dir", "cores"].contains(&key) {
                assert_eq!(doc.default, value, "{key}");
            }
            assert!(!doc.meaning.is_empty() && !doc.bounds.is_empty());
        }
    }

    #[test]
    fn every_word_of_an_enum_parses_to_its_value() {
        for (key, names) in [
            ("log_format", LogFormat::ALL.map(LogFormat::name).to_vec()),
            ("log_level", LogLevel::ALL.map(LogLevel::name).to_vec()),
            ("io", Io::ALL.map(Io::name).to_vec()),
            ("durability", Durability::ALL.map(Durability::name).to_vec()),
            ("publish", Publish::ALL.map(Publish::name).to_vec()),
            ("empty_file", EmptyFile::ALL.map(EmptyFile::name).to_vec()),
        ] {
            for name in names {
                let text = format!("{key} = \"{name}\"\n");
                assert!(from_file(&text).unwrap().to_toml().contains(&text));
            }
        }
    }

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
    fn values_out_of_bounds_are_refused_in_words_naming_the_bounds() {
        for (text, expected) in [
            (
                "cores = 257",
                "bitsd.toml:1:9: cores = 257 is out of bounds: it takes 0 to 256",
            ),
            ("cores = -1", "cores = -1 is out of bounds"),
            (
                "fragment_bytes_max = \"5119 B\"",
                "= \"5119 B\" is out of bounds: it takes 5 KiB to 16 TiB",
            ),
            (
                "session_timeout = \"999ms\"",
                "is out of bounds: it takes 1s to 3650d",
            ),
            ("session_timeout = -1", "is out of bounds"),
            ("upload_bytes_max = 0", "is out of bounds: it takes 1 B to"),
            (
                "[limits]\nheaders_max = 7",
                "bitsd.toml:2:15: limits.headers_max = 7 is out of bounds: it takes 8 to 256",
            ),
            (
                "[limits]\nblock_bytes = 65537",
                "it takes powers of two from 64 KiB to 8 MiB",
            ),
            (
                "[limits]\nhead_bytes_max = \"65 KiB\"",
                "it takes 1 KiB to 64 KiB",
            ),
            ("[limits]\nbody_blocks_per_shard = 0", "it takes 1 to 512"),
            (
                "[limits]\nidle_ms_max = \"1s\"",
                "is a string: it takes 100 to 3600000 (milliseconds), without quotes",
            ),
            (
                "session_timeout = \"2w\"",
                "the unit \"w\" does not exist; known are ms, s, m, h and d",
            ),
            (
                "upload_bytes_max = \"many\"",
                "cannot be read: it does not begin with a whole number",
            ),
            ("listen = []", "bitsd.toml:1:10: listen is empty"),
        ] {
            let message = words(text);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_flag_out_of_bounds_is_refused_with_its_name() {
        let flags = Flags {
            cores: Some(300),
            ..Flags::default()
        };
        let message = Config::resolve(flags, None).unwrap_err().to_string();
        assert_eq!(
            message,
            "--cores: cores = 300 is out of bounds: it takes 0 to 256"
        );
    }

    #[test]
    fn zero_cores_are_all_that_are_available() {
        assert_eq!(
            from_file("cores = 0").unwrap().cores,
            Config::resolve(Flags::default(), None).unwrap().cores
        );
    }

    #[test]
    fn the_work_directory_may_lie_inside_the_root_but_not_hold_it() {
        assert!(from_file("root = \"/a\"\nwork_dir = \"/a/b/c\"").is_ok());
        assert!(from_file("root = \"/a\"\nwork_dir = \"/b\"").is_ok());
        for text in [
            "root = \"/a\"\nwork_dir = \"/a/\"",
            "root = \"/a/b\"\nwork_dir = \"/a\"",
        ] {
            assert!(words(text).contains("must not be the root"));
        }
        assert!(words("root = \"\"").starts_with("root is empty"));
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
