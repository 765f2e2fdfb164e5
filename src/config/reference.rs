//! Every key with default, bounds and meaning: `bitsd check --help` and the README's table.

use super::limits::LIMITS;
use super::location::PREFIX_TAKES;
use super::log::{LogFormat, LogLevel};
use super::notification::NotificationWord;
use super::number::{
    CLEANUP_INTERVAL, CORES, FRAGMENT_BYTES_MAX, HOST_ID_FALLBACK, NOTIFICATION_RETRIES,
    NOTIFICATION_TIMEOUT, NOTIFICATIONS_IN_FLIGHT_MAX, Number, REPLY_BYTES_MAX, SESSION_TIMEOUT,
    SESSIONS_PER_CLIENT_MAX, UPLOAD_BYTES_MAX, quoted,
};
use super::policy::{Durability, EmptyFile, Io, Publish};
use super::url::{HOST_TAKES, NOTIFICATION_URL_TAKES, PUBLIC_URL_TAKES};
use super::{Config, Flags, LISTEN_DEFAULT};

/// Documentation of one key of the settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingDoc {
    /// The key; those of the table `[limits]` begin with `limits.`, those only in a `[[location]]` with `location.`.
    pub key: &'static str,
    /// Its default, as it would be written in the file.
    pub default: String,
    /// The values it takes, in words.
    pub bounds: String,
    /// What it means.
    pub meaning: &'static str,
    /// Where it may stand.
    pub scope: Scope,
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only at the top, or in `[limits]`: it holds for the whole server.
    Server,
    /// At the top, and in every `[[location]]`.
    Both,
    /// Only in a `[[location]]`.
    Location,
}

/// Every key of the settings file with default, bounds and meaning; the README is checked against it.
pub fn settings_reference() -> Vec<SettingDoc> {
    let config = Config::resolve(Flags::default(), None).expect("the defaults are right");
    let shared = config.global().entries();
    let mut docs: Vec<SettingDoc> = config
        .entries()
        .into_iter()
        .map(|(key, value)| {
            let (bounds, meaning) = row(key);
            let default = match key {
                "listen" => quoted(LISTEN_DEFAULT),
                "work_dir" => "ROOT/.bitsd".to_owned(),
                "cores" => CORES.default.to_string(),
                _ => value,
            };
            let is_shared = shared.iter().any(|(shared, _)| *shared == key);
            SettingDoc {
                key,
                default,
                bounds,
                meaning,
                scope: if is_shared {
                    Scope::Both
                } else {
                    Scope::Server
                },
            }
        })
        .collect();
    docs.extend(
        [
            ("location.prefix", "required"),
            ("location.root", "ROOT/PREFIX"),
        ]
        .map(|(key, default)| {
            let (bounds, meaning) = row(key);
            SettingDoc {
                key,
                default: default.to_owned(),
                bounds,
                meaning,
                scope: Scope::Location,
            }
        }),
    );
    docs.extend(LIMITS.iter().map(|(number, meaning)| SettingDoc {
        key: number.key,
        default: number.kind.to_toml(number.default),
        bounds: number.bounds_in_words(),
        meaning: meaning.trim(),
        scope: Scope::Server,
    }));
    docs
}

/// Bounds and meaning of a key that is not one of `[limits]`.
fn row(key: &str) -> (String, &'static str) {
    let text = |bounds: &str, meaning| (bounds.to_owned(), meaning);
    let number = |number: &Number, meaning| (number.bounds_in_words(), meaning);
    match key {
        "listen" => text(
            "`ADDR:PORT`, or an array of them",
            "Addresses to listen on.",
        ),
        "root" => text("a directory", "Where uploaded files go."),
        "work_dir" => text(
            "a directory on the file system of every `root`",
            "Where unfinished uploads live.",
        ),
        "cores" => (
            format!("{}; 0 is all that are available", CORES.bounds_in_words()),
            "Shards, one thread each.",
        ),
        "log_format" => (
            alternatives(LogFormat::ALL.map(LogFormat::name)),
            "Log lines for people, or JSON objects.",
        ),
        "log_level" => (
            alternatives(LogLevel::ALL.map(LogLevel::name)),
            "What needs attention; and one line per session; and one line per packet.",
        ),
        "io" => (
            alternatives(Io::ALL.map(Io::name)),
            "How bytes reach their file: chosen for each file; past the page cache; into it by the ring; into it by plain writes.",
        ),
        "cleanup_interval" => number(
            &CLEANUP_INTERVAL,
            "How often expired uploads are looked for.",
        ),
        "enabled" => text(BOOLEAN, "Whether uploads are taken at all."),
        "durability" => (
            alternatives(Durability::ALL.map(Durability::name)),
            "What is synced to disk before it is acknowledged: nothing, the whole upload, each fragment.",
        ),
        "publish" => (
            alternatives(Publish::ALL.map(Publish::name)),
            "When a file appears at its destination: when the client closes the session, or with its last fragment.",
        ),
        "allow_overwrite" => text(BOOLEAN, "Whether an upload may replace an existing file."),
        "create_dirs" => text(
            BOOLEAN,
            "Whether missing folders of a destination are made.",
        ),
        "empty_file" => (
            alternatives(EmptyFile::ALL.map(EmptyFile::name)),
            "What a session closed before any fragment means: a given-up upload, or an empty file.",
        ),
        "strict" => text(
            BOOLEAN,
            "Refuse requests without Content-Length and chunked fragments, which some real clients send.",
        ),
        "upload_bytes_max" => number(&UPLOAD_BYTES_MAX, "Bytes of one uploaded file."),
        "fragment_bytes_max" => number(
            &FRAGMENT_BYTES_MAX,
            "Bytes of one fragment; a client asked to stay below sends smaller ones.",
        ),
        "session_timeout" => number(
            &SESSION_TIMEOUT,
            "An upload without progress for this long is discarded.",
        ),
        "sessions_per_client_max" => number(
            &SESSIONS_PER_CLIENT_MAX,
            "Unfinished uploads of one client, which is known by its address.",
        ),
        "public_url" => text(
            PUBLIC_URL_TAKES,
            "How clients reach this server through a proxy: what absolute URLs begin with.",
        ),
        "host_id" => text(
            HOST_TAKES,
            "The name by which clients are to call this node of a farm once they have a session.",
        ),
        "host_id_fallback" => number(
            &HOST_ID_FALLBACK,
            "When a client that cannot reach the node by its `host_id` goes back to the name it knew.",
        ),
        "notification_type" => (
            alternatives(NotificationWord::ALL.map(NotificationWord::name)),
            "How a server application is notified of an upload: not at all, by the names of its files, with the file itself (types 0, 1 and 2 of IIS).",
        ),
        "notification_url" => text(
            NOTIFICATION_URL_TAKES,
            "Where the server application is; required if there is a `notification_type`.",
        ),
        "notification_timeout" => number(
            &NOTIFICATION_TIMEOUT,
            "How long the server application may take; clients give up after five minutes.",
        ),
        "notification_retries" => number(
            &NOTIFICATION_RETRIES,
            "Further attempts after a notification that failed, before the client hears of it.",
        ),
        "notification_secret_file" => text(
            "a file of 16 to 4096 bytes, white space at the ends aside, or \"\" for none",
            "The secret that notifications are signed with (HMAC).",
        ),
        "notifications_in_flight_max" => number(
            &NOTIFICATIONS_IN_FLIGHT_MAX,
            "Notifications on their way at the same time.",
        ),
        "reply_bytes_max" => number(
            &REPLY_BYTES_MAX,
            "Bytes of the server application's reply to an upload.",
        ),
        "location.prefix" => text(
            PREFIX_TAKES,
            "The location holds for this path and everything beneath it; the longest prefix wins.",
        ),
        "location.root" => text(
            "a directory on the file system of `work_dir`",
            "Where the files of the location go; its prefix is then not part of their path.",
        ),
        _ => unreachable!("a test asks for every key"),
    }
}

fn alternatives<const N: usize>(names: [&str; N]) -> String {
    names.map(quoted).join(", ")
}

const BOOLEAN: &str = "true, false";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::from_file;

    #[test]
    fn the_reference_names_every_key_that_is_printed() {
        let config = from_file("[[location]]\nprefix = \"x\"\nroot = \"/x\"").unwrap();
        let mut table = "";
        let mut printed = Vec::new();
        let text = config.to_toml();
        for line in text.lines() {
            match line.split_once(" = ") {
                Some((key, _)) => printed.push(format!("{table}{key}")),
                None if line == "[limits]" => table = "limits.",
                None if line == "[[location]]" => table = "location.",
                None => assert_eq!(line, ""),
            }
        }
        let mut documented = Vec::new();
        for doc in settings_reference() {
            assert!(!doc.meaning.is_empty() && !doc.bounds.is_empty());
            documented.push(doc.key.to_owned());
            if doc.scope == Scope::Both {
                documented.push(format!("location.{}", doc.key));
            }
        }
        printed.sort();
        documented.sort();
        assert_eq!(printed, documented);
    }

    #[test]
    fn the_defaults_are_those_that_stand() {
        let docs = settings_reference();
        for (key, default) in [
            ("listen", "\"127.0.0.1:8080\""),
            ("root", "\"./uploads\""),
            ("work_dir", "ROOT/.bitsd"),
            ("cores", "0"),
            ("cleanup_interval", "\"1s\""),
            ("enabled", "true"),
            ("session_timeout", "\"14d\""),
            ("sessions_per_client_max", "\"unlimited\""),
            ("public_url", "\"\""),
            ("host_id", "\"\""),
            ("host_id_fallback", "\"1d\""),
            ("notification_type", "\"none\""),
            ("notification_url", "\"\""),
            ("notification_timeout", "\"4m\""),
            ("notification_retries", "0"),
            ("notification_secret_file", "\"\""),
            ("notifications_in_flight_max", "64"),
            ("reply_bytes_max", "\"1 GiB\""),
            ("limits.block_bytes", "\"512 KiB\""),
        ] {
            let doc = docs.iter().find(|doc| doc.key == key).unwrap();
            assert_eq!(doc.default, default, "{key}");
        }
    }
}
