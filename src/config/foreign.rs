//! What people write who know other programs: their names of keys, and their forms of files.

use std::borrow::Cow;

use super::permissions::{DIR_MODE, FILE_MODE};
use super::text::no_hint;

/// What other programs have keys for; in lower case.
pub(super) fn said_otherwise(key: &str) -> Option<&'static str> {
    let begins =
        |start: &str| (key.get(..start.len())).is_some_and(|it| it.eq_ignore_ascii_case(start));
    if begins("listen_") || begins("listen-") {
        return Some(LISTEN);
    }
    let mut known = SAID_OTHERWISE.iter();
    let is_it = |names: &[&str]| names.iter().any(|name| key.eq_ignore_ascii_case(name));
    let found = known.find(|(names, _)| is_it(names));
    found.map(|(_, how)| *how)
}

/// The same of a name that is a key in one table, and means something else outside of it.
pub(super) fn meant_at_the_top(key: &str) -> Option<&'static str> {
    (key == "timeout").then_some(TIMEOUT)
}

const SAID_OTHERWISE: [(&[&str], &str); 12] = [
    (
        &["port", "bind"],
        "an address has its port, as in listen = \"0.0.0.0:8080\"",
    ),
    (
        &["log", "log_file", "logfile"],
        "the log goes to stderr, and whoever starts the server says where that leads (systemd: StandardError=)",
    ),
    (
        &["user", "group"],
        "the server is who starts it (systemd: User= and Group=)",
    ),
    (
        &["pid_file", "daemon"],
        "the server stays in the foreground, and a service manager looks after it",
    ),
    (
        &["umask"],
        "whoever starts the server says it (systemd: UMask=); file_mode and dir_mode hold whatever it is",
    ),
    (
        &["workers", "threads", "worker_processes"],
        "here it is cores",
    ),
    (
        &[
            "max_upload_size",
            "max_file_size",
            "client_max_body_size",
            "upload_max_filesize",
            "max_body_size",
        ],
        "here it is upload_bytes_max, such as \"20 GiB\"",
    ),
    (
        &["directory", "dir", "upload_dir", "document_root"],
        "here it is root",
    ),
    (
        &["path"],
        "the folder is root, and the beginning of URLs is prefix, in a [[location]]",
    ),
    (
        &["virtual_directory", "virtual_directories", "vhost"],
        "here it is [[location]], with prefix and root",
    ),
    (
        &["include", "includes"],
        "there is one settings file, and nothing is read into it",
    ),
    (
        &[
            "ssl_certificate",
            "ssl_certificate_key",
            "tls_cert",
            "tls_key",
        ],
        "a [[certificate]] has chain and key, and a [[listener]] has tls = true",
    ),
];

const LISTEN: &str =
    "addresses stand in listen; those with TLS in a [[listener]], with address and tls = true";

const TIMEOUT: &str = "session_timeout is how long an unfinished upload is kept; limits.idle_ms_max bounds how long a \
                       connection may be silent, and [events] has a timeout of its own";

/// What else is to be known of a line that is no TOML, of a file that is none perhaps.
pub(super) fn not_toml(file: &str, line: &str) -> Option<Cow<'static, str>> {
    let (file, line) = (file.trim_start(), line.trim());
    zero_before(line).or_else(|| in_other_words(file, line).map(Cow::Borrowed))
}

/// `0640`: TOML has no number that begins with 0.
fn zero_before(line: &str) -> Option<Cow<'static, str>> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next().unwrap_or_default().trim();
    let is_digits = value.bytes().all(|byte| byte.is_ascii_digit());
    if value.len() < 2 || !value.starts_with('0') || !is_digits {
        return None;
    }
    let mode = match key.trim() {
        "file_mode" => FILE_MODE.hint,
        "dir_mode" => DIR_MODE.hint,
        _ => no_hint,
    };
    Some(match mode(value) {
        Some(hint) => hint.trim_start_matches("; ").to_owned().into(),
        None => "no number begins with 0".into(),
    })
}

fn in_other_words(file: &str, line: &str) -> Option<&'static str> {
    let value = line.split_once('=').map(|(_, value)| value.trim());
    let bare = value.map(|value| value.trim_end_matches(';').trim_end());
    let is_truth = |word: &&str| bare.is_some_and(|bare| bare.eq_ignore_ascii_case(word));
    if file.starts_with('{') {
        Some(
            "the settings are TOML, and this looks like JSON: write lines such as root = \"/srv/uploads\"",
        )
    } else if file.starts_with('<') {
        Some(
            "the settings are TOML, and this looks like XML: write lines such as root = \"/srv/uploads\"",
        )
    } else if line.starts_with(';') || line.starts_with("//") {
        Some("a comment begins with #")
    } else if value.is_some_and(|value| value.ends_with(';')) {
        Some("no line ends with a semicolon")
    } else if ["yes", "no", "on", "off", "true", "false"]
        .iter()
        .any(is_truth)
    {
        Some("a truth value is true or false, in small letters")
    } else if is_of_yaml(line) {
        Some(
            "the settings are TOML, and this looks like YAML: write lines such as root = \"/srv/uploads\"",
        )
    } else if value.is_some_and(has_comment) {
        Some("a comment begins with #")
    } else if value.is_some_and(|value| value.starts_with(|c: char| c == '/' || c.is_alphabetic()))
    {
        Some("a text stands in quotes, as in root = \"/srv/uploads\"")
    } else if value.is_none() && line.contains(' ') && !line.starts_with('[') {
        Some("between a key and its value stands =, as in root = \"/srv/uploads\"")
    } else {
        None
    }
}

/// `key: value`, an item of a list, or the mark before a document.
fn is_of_yaml(line: &str) -> bool {
    let is_name = |name: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        !name.is_empty() && name.chars().all(is_plain)
    };
    let has_key =
        |(key, rest): (&str, &str)| is_name(key) && (rest.is_empty() || rest.starts_with(' '));
    line == "---" || line.starts_with("- ") || line.split_once(':').is_some_and(has_key)
}

/// Whether behind a value that has ended a comment of another language begins.
fn has_comment(value: &str) -> bool {
    let end = match value.strip_prefix('"') {
        Some(text) => text.find('"').map(|end| &text[end + 1..]),
        None => value.find(' ').map(|end| &value[end..]),
    };
    let rest = end.unwrap_or_default().trim_start();
    rest.starts_with("//") || rest.starts_with(';')
}
