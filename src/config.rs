//! Flags and settings file in, one resolved `Config` out; every limit and its default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What must be on stable storage before an Ack (the contract stands in `server/store.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is ever synced: the process may die, the power may not.
    None,
    /// The whole file before its final fragment is acked.
    Upload,
    /// Each fragment before it is acked.
    Fragment,
}

/// When a file appears at its destination (P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// At Close-Session.
    Close,
    /// With its last fragment.
    LastFragment,
}

/// What Close-Session right after Create-Session means (P4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyFile {
    /// The upload was given up.
    Discard,
    /// The file is empty.
    Create,
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

/// Bounds of the server (design H).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request head.
    pub head_bytes_max: usize,
    /// Fields of a request head.
    pub headers_max: usize,
    /// Bytes of one field value.
    pub value_bytes_max: usize,
    /// Connections of one shard.
    pub connections_per_shard_max: usize,
    /// Large body blocks of one shard.
    pub body_blocks_per_shard: usize,
    /// Bytes of one body block; a multiple of the page size.
    pub block_bytes: usize,
    /// Sessions of one shard.
    pub sessions_per_shard_max: usize,
    /// Connections waiting to be taken over by a shard.
    pub mailbox_max: usize,
    /// Time for a head to arrive, in milliseconds.
    pub head_ms_max: u64,
    /// Time between requests, in milliseconds.
    pub idle_ms_max: u64,
    /// Time without a byte of a body (or without progress of an answer), in milliseconds.
    pub body_stall_ms_max: u64,
    /// Bytes of a refused body that are read to keep the connection.
    pub drain_bytes_max: u64,
    /// Time for running requests to finish when the server stops, in milliseconds.
    pub shutdown_ms_max: u64,
    /// How long a closed or cancelled session is remembered, in milliseconds.
    pub tombstone_ms_max: u64,
    /// How many closed or cancelled sessions one shard remembers.
    pub tombstones_per_shard_max: usize,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON objects, one a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what needs attention.
    Warn,
    /// And one line per session.
    Info,
    /// And one line per packet.
    Debug,
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
    /// Upload settings.
    pub policy: Policy,
    /// Bounds.
    pub limits: Limits,
}
