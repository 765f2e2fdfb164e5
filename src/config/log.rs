//! Form and amount of the log.

use serde::Deserialize;

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
