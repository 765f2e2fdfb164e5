//! What holds for an upload: sync discipline, publication, bounds; and how bytes reach a disk.

use std::time::Duration;

use serde::Deserialize;

use super::error::ConfigError;
use super::number::{FRAGMENT_BYTES_MAX, SESSION_TIMEOUT, UPLOAD_BYTES_MAX};
use super::settings_file::{RawShared, SettingsText};

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

impl Policy {
    pub(super) fn resolve(raw: &RawShared, text: &SettingsText) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            durability: raw.durability.unwrap_or(default.durability),
            publish: raw.publish.unwrap_or(default.publish),
            allow_overwrite: raw.allow_overwrite.unwrap_or(default.allow_overwrite),
            create_dirs: raw.create_dirs.unwrap_or(default.create_dirs),
            empty_file: raw.empty_file.unwrap_or(default.empty_file),
            strict: raw.strict.unwrap_or(default.strict),
            upload_bytes_max: UPLOAD_BYTES_MAX
                .resolve_limit(text.located(&raw.upload_bytes_max))?,
            fragment_bytes_max: FRAGMENT_BYTES_MAX
                .resolve(text.located(&raw.fragment_bytes_max))?,
            session_timeout: SESSION_TIMEOUT
                .resolve_duration(text.located(&raw.session_timeout))?,
        })
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
