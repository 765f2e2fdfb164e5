//! Every key with default, bounds and meaning: `bitsd check --help` and the README's table.

use super::limits::LIMITS;
use super::log::LogFormat;
use super::log::LogLevel;
use super::number::{CORES, FRAGMENT_BYTES_MAX, Number, SESSION_TIMEOUT, UPLOAD_BYTES_MAX, quoted};
use super::policy::{Durability, EmptyFile, Io, Policy, Publish};
use super::print::render_upload_bytes_max;
use super::{IO_DEFAULT, LISTEN_DEFAULT, LOG_FORMAT_DEFAULT, LOG_LEVEL_DEFAULT, ROOT_DEFAULT};

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

fn alternatives<const N: usize>(names: [&str; N]) -> String {
    names.map(quoted).join(", ")
}

const BOOLEAN: &str = "true, false";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flags};

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
}
