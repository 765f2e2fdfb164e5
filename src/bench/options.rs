//! What a run is to do, and how it fares.

use std::path::PathBuf;
use std::time::Duration;

use super::conversation::Script;
use crate::client::secure::Secure;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is said for each file.
    pub script: Script,
    /// How many connections upload at the same time.
    pub connections: usize,
    /// How many files are uploaded in all.
    pub files: u64,
    /// A new connection for each file.
    pub is_connection_per_session: bool,
    /// Connections that are opened first and held.
    pub idle: usize,
    /// Where the server stored the files, if they are to be read back.
    pub verify: Option<PathBuf>,
    /// Files that were read back stay where they are.
    pub keep: bool,
    /// Where connections are to be secure.
    pub secure: Option<Secure>,
    /// An upload fails when it does not move for this long.
    pub stall: Duration,
}

/// How a run fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub files: u64,
    pub failed: u64,
    pub bytes: u64,
}
