//! The configuration as a settings file: what `bitsd check` prints.

use std::fmt::Write;
use std::time::Duration;

use super::limits::LIMITS;
use super::location::{Host, Location};
use super::notification::{Notification, NotificationWord};
use super::number::{
    CLEANUP_INTERVAL, CORES, FRAGMENT_BYTES_MAX, HOST_ID_FALLBACK, NOTIFICATION_RETRIES,
    NOTIFICATION_TIMEOUT, NOTIFICATIONS_IN_FLIGHT_MAX, REPLY_BYTES_MAX, SESSION_TIMEOUT,
    SESSIONS_PER_CLIENT_MAX, UPLOAD_BYTES_MAX, quoted,
};
use super::secret::Secret;
use super::{Config, quantity};

/// Keys with their values as TOML.
type Entries = Vec<(&'static str, String)>;

impl Config {
    /// The configuration as a settings file that names every key, for each location too; it parses back to the same
    /// configuration. Of a secret it names the file. What nobody uses, such as the time-out of notifications where none
    /// are sent, has its default.
    ///
    /// A path that is not UTF-8 cannot be written in TOML and is shown with replacement characters.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        write_table(&mut text, self.entries());
        text.push_str("\n[limits]\n");
        write_table(&mut text, self.limit_entries());
        let (_, locations) = self.locations.split_last().expect("never empty");
        for location in locations {
            text.push_str("\n[[location]]\n");
            let mut entries = vec![("prefix", quoted(&encode(&location.prefix)))];
            if location.has_own_root {
                let root = self.roots[location.root].to_string_lossy();
                entries.push(("root", quoted(&root)));
            }
            write_table(&mut text, entries);
            write_table(&mut text, location.entries());
        }
        text
    }

    /// The keys at the top.
    pub(super) fn entries(&self) -> Entries {
        let addresses: Vec<String> = self.listen.iter().map(|a| quoted(&a.to_string())).collect();
        let mut entries = vec![
            ("listen", format!("[{}]", addresses.join(", "))),
            ("root", quoted(&self.roots[0].to_string_lossy())),
            ("work_dir", quoted(&self.work_dir.to_string_lossy())),
            (CORES.key, self.cores.to_string()),
            ("log_format", quoted(self.log_format.name())),
            ("log_level", quoted(self.log_level.name())),
            ("io", quoted(self.io.name())),
            (CLEANUP_INTERVAL.key, duration(self.cleanup_interval)),
        ];
        entries.extend(self.global().entries());
        entries
    }

    /// The keys of `[limits]`.
    pub(super) fn limit_entries(&self) -> Entries {
        let rows = LIMITS.iter().zip(self.limits.values());
        rows.map(|((number, _), value)| {
            let key = number.key.strip_prefix("limits.").unwrap_or(number.key);
            (key, number.kind.to_toml(value))
        })
        .collect()
    }
}

impl Location {
    /// The keys that a location has in common with the top.
    pub(super) fn entries(&self) -> Entries {
        let policy = &self.policy;
        let none = || quoted("");
        let unused = Notification::unused();
        let word = NotificationWord::of(self.notification.as_ref());
        let notification = self.notification.as_ref().unwrap_or(&unused);
        let secret_file = notification.secret.as_ref().map(Secret::file);
        let per_client_max = self.sessions_per_client_max.map(u64::from);
        vec![
            ("enabled", self.is_enabled.to_string()),
            ("durability", quoted(policy.durability.name())),
            ("publish", quoted(policy.publish.name())),
            ("allow_overwrite", policy.allow_overwrite.to_string()),
            ("create_dirs", policy.create_dirs.to_string()),
            ("empty_file", quoted(policy.empty_file.name())),
            ("strict", policy.strict.to_string()),
            (
                UPLOAD_BYTES_MAX.key,
                UPLOAD_BYTES_MAX.limit_to_toml(policy.upload_bytes_max),
            ),
            (
                FRAGMENT_BYTES_MAX.key,
                FRAGMENT_BYTES_MAX.kind.to_toml(policy.fragment_bytes_max),
            ),
            (SESSION_TIMEOUT.key, duration(policy.session_timeout)),
            (
                SESSIONS_PER_CLIENT_MAX.key,
                SESSIONS_PER_CLIENT_MAX.limit_to_toml(per_client_max),
            ),
            (
                "public_url",
                self.public_url.as_deref().map_or_else(none, quoted),
            ),
            (
                "host_id",
                self.host
                    .as_ref()
                    .map_or_else(none, |host| quoted(&host.id)),
            ),
            (HOST_ID_FALLBACK.key, self.host_id_fallback()),
            ("notification_type", quoted(word.name())),
            ("notification_url", quoted(&notification.url)),
            (NOTIFICATION_TIMEOUT.key, duration(notification.timeout)),
            (NOTIFICATION_RETRIES.key, notification.retries.to_string()),
            (
                "notification_secret_file",
                secret_file.map_or_else(none, |file| quoted(&file.to_string_lossy())),
            ),
            (
                NOTIFICATIONS_IN_FLIGHT_MAX.key,
                notification.in_flight_max.to_string(),
            ),
            (
                REPLY_BYTES_MAX.key,
                REPLY_BYTES_MAX.kind.to_toml(notification.reply_bytes_max),
            ),
        ]
    }

    fn host_id_fallback(&self) -> String {
        let default = Duration::from_millis(HOST_ID_FALLBACK.default);
        let set = self.host.as_ref().map(|host: &Host| host.fallback_timeout);
        duration(set.unwrap_or(default))
    }
}

fn write_table(text: &mut String, entries: Entries) {
    for (key, value) in entries {
        writeln!(text, "{key} = {value}").expect("writing to a String cannot fail");
    }
}

fn duration(duration: Duration) -> String {
    quoted(&quantity::render_duration(duration))
}

/// A decoded path as in a URL (RFC 3986 2.1): everything but unreserved characters and the slashes between names.
fn encode(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use crate::config::tests::from_file;
    use crate::config::{Durability, EmptyFile, Io, LogFormat, LogLevel, Publish};

    #[test]
    fn what_check_prints_parses_back_to_the_same_configuration() {
        let odd = "root = \"/a \\\"b\\\"\\\\c\\n\"\nupload_bytes_max = 12345\nsession_timeout = \"1500ms\"\n\
                   listen = [\"[::1]:1\", \"127.0.0.1:2\"]\n[limits]\nhead_bytes_max = 1025\ndrain_bytes_max = 0";
        let located = "durability = \"none\"\nhost_id = \"::1\"\npublic_url = \"http://a/\"\n\
                       [[location]]\nprefix = \"/in/%C3%A4%20100%25/\"\nroot = \"/a b\"\nenabled = false\n\
                       [[location]]\nprefix = \"out\"\nhost_id = \"\"\npublic_url = \"\"\nsessions_per_client_max = 3\n\
                       notification_type = \"by-value\"\nnotification_url = \"x?y\"\nnotification_timeout = \"2500ms\"\n\
                       [[location]]\nprefix = \"two\"\nroot = \"./uploads\"";
        for text in ["", "cores = 5", odd, located] {
            let config = from_file(text).unwrap();
            let printed = config.to_toml();
            assert_eq!(from_file(&printed).unwrap(), config, "{printed}");
        }
    }

    #[test]
    fn a_secret_is_printed_as_its_file_and_nowhere_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "never-to-be-seen-anywhere\n").unwrap();
        let config = from_file(&format!(
            "notification_type = \"by-reference\"\nnotification_url = \"/done\"\nnotification_secret_file = {file:?}\n\
             [[location]]\nprefix = \"in\"\n"
        ))
        .unwrap();
        let secret = |at: usize| config.locations[at].notification.clone().unwrap().secret;
        assert_eq!(secret(0).unwrap().expose(), b"never-to-be-seen-anywhere");
        assert_eq!(secret(0), secret(1));
        let printed = config.to_toml();
        let line = format!("notification_secret_file = {file:?}\n");
        assert_eq!(printed.matches(&line).count(), 2, "{printed}");
        assert_eq!(from_file(&printed).unwrap(), config);
        for shown in [printed, format!("{config:?}"), format!("{config:#?}")] {
            assert!(!shown.contains("never-to"), "{shown}");
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
            (
                "notification_type",
                vec!["none", "by-reference", "by-value"],
            ),
        ] {
            for name in names {
                let text = format!("{key} = \"{name}\"\n");
                let with_url = format!("notification_url = \"x\"\n{text}");
                assert!(from_file(&with_url).unwrap().to_toml().contains(&text));
            }
        }
    }
}
