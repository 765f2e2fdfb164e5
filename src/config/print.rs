//! The configuration as a settings file: what `bitsd check` prints.

use std::fmt::Write;

use super::form::Value;
use super::given::Given;
use super::keys::{Config, Host, Location, NO_NOTIFICATION, NO_STORE, Notification, ObjectStore};
use super::passed_over::is_idle;
use super::resolve::Settled;
use super::section::{SECTIONS, Scope};
use super::shown::quoted;
use super::table::{Row, Table};

/// Rows with their values as TOML.
type Entries = Vec<(&'static Row, String)>;

impl Settled {
    /// As [`Config::to_toml`]; what was given, and is no default, says where.
    pub fn to_toml(&self) -> String {
        write(&self.config, &self.given)
    }
}

impl Config {
    /// The configuration as a settings file that names every key, for each location too; it parses
    /// back to the same configuration. Of a secret it names the file. What nobody uses, such as the
    /// time-out of notifications where none are sent, has its default.
    ///
    /// A path that is not UTF-8 cannot be written in TOML and is shown with replacement characters.
    pub fn to_toml(&self) -> String {
        write(self, &[])
    }

    /// The keys at the top.
    fn top(&self) -> Entries {
        let mut all = vec![(
            &super::keys::ROOT[0],
            quoted(&self.roots[0].to_string_lossy()),
        )];
        all.extend(entries(self));
        all.extend(entries(&self.accounts));
        all.extend(self.global().shared());
        all
    }
}

impl Location {
    /// The keys that a location has in common with the top.
    pub(super) fn shared(&self) -> Entries {
        let (no_host, no_notification) = (Host::default(), Notification::default());
        let mut all = entries(self);
        all.extend(entries(&self.access));
        all.extend(entries(&self.policy));
        all.extend(entries(self.host.as_ref().unwrap_or(&no_host)));
        all.extend(entries(
            self.notification.as_ref().unwrap_or(&no_notification),
        ));
        if self.notification.is_none() {
            let kind = all
                .iter_mut()
                .find(|(row, _)| row.key == "notification_type");
            kind.expect("it is a key").1 = quoted(NO_NOTIFICATION);
        }
        let no_store = ObjectStore::default();
        all.extend(entries(self.objects.as_deref().unwrap_or(&no_store)));
        if self.objects.is_none() {
            let kind = all.iter_mut().find(|(row, _)| row.key == "store");
            kind.expect("it is a key").1 = quoted(NO_STORE);
        }
        all
    }

    /// All of its keys, first those that only a location has.
    fn all(&self, config: &Config) -> Entries {
        let [prefix, root] = super::keys::OF_A_LOCATION else {
            unreachable!("these two");
        };
        let mut all = vec![(prefix, quoted(&format!("/{}", encode(&self.prefix))))];
        if self.has_own_root {
            all.push((root, quoted(&config.roots[self.root].to_string_lossy())));
        }
        all.extend(self.shared());
        all
    }
}

/// Every table; `given` are those of [`Settled`], or none.
fn write(config: &Config, given: &[Given]) -> String {
    let (_, locations) = config.locations.split_last().expect("never empty");
    let mut tables = vec![(Scope::Server, Some(config.global()), config.top())];
    tables.push((Scope::Limits, None, entries(&config.limits)));
    tables.push((Scope::Events, None, entries(&config.events)));
    let listeners = config.listeners.iter();
    tables.extend(listeners.map(|table| (Scope::Listener, None, entries(table))));
    let certificates = config.certificates.iter();
    tables.extend(certificates.map(|table| (Scope::Certificate, None, entries(table))));
    tables.extend((locations.iter()).map(|one| (Scope::Location, Some(one), one.all(config))));
    let mut text = String::new();
    for (at, (scope, location, entries)) in tables.into_iter().enumerate() {
        if let Some(section) = SECTIONS.iter().find(|section| section.scope == scope) {
            text.push_str(&format!("\n{}\n", section.header));
        }
        for (row, value) in entries {
            let origin = |given: Option<&Given>, how: &str| {
                let entry = given?.get(row.name())?;
                // What nobody uses is shown with its default.
                let is_shown = row.form.to_toml(&entry.value) == value;
                let is_idle = !is_shown && location.is_some_and(|location| is_idle(location, row));
                let idle = if is_idle {
                    "; it does nothing here"
                } else {
                    ""
                };
                Some(format!("  # {}{how}{idle}", entry.origin.line()))
            };
            let inherits = scope == Scope::Location && row.name() != "root";
            let inherited = || origin(given.first().filter(|_| inherits), ", inherited");
            let said = origin(given.get(at), "").or_else(inherited);
            text.push_str(&format!(
                "{} = {value}{}\n",
                row.name(),
                said.unwrap_or_default()
            ));
        }
    }
    text
}

fn entries<T: Table>(table: &T) -> Entries {
    let toml = |(row, value): (&'static Row, Value)| (row, row.form.to_toml(&value));
    table.entries().map(toml).collect()
}

/// A decoded path as in a URL (RFC 3986 2.1): everything but unreserved characters and the slashes
/// between names.
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
    use crate::config::{
        Durability, EmptyFile, Flags, Io, LogFormat, LogLevel, Publish, SettingsFile, Settled,
    };

    #[test]
    fn what_check_prints_parses_back_to_the_same_configuration() {
        let odd = "root = \"/a \\\"b\\\"\\\\c\"\nupload_bytes_max = 12345\nsession_timeout = \"1500ms\"\n\
                   listen = [\"[::1]:1\", \"127.0.0.1:2\"]\n[limits]\nhead_bytes_max = 1025\ndrain_bytes_max = 0";
        let located = "durability = \"none\"\nhost_id = \"::1\"\npublic_url = \"http://a/\"\n\
                       [[location]]\nprefix = \"/in/%C3%A4%20100%25/\"\nroot = \"/a b\"\nenabled = false\n\
                       [[location]]\nprefix = \"out\"\nhost_id = \"\"\npublic_url = \"\"\nsessions_per_client_max = 3\n\
                       notification_type = \"by-value\"\nnotification_url = \"http://x/?y\"\nnotification_timeout = \"2500ms\"\n\
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
            "notification_type = \"by-reference\"\nnotification_url = \"http://x/done\"\nnotification_secret_file = {file:?}\n\
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
            ("log_format", LogFormat::WORDS),
            ("log_level", LogLevel::WORDS),
            ("io", Io::WORDS),
            ("durability", Durability::WORDS),
            ("publish", Publish::WORDS),
            ("empty_file", EmptyFile::WORDS),
            ("notification_type", &["none", "by-reference", "by-value"]),
        ] {
            for name in names {
                let text = format!("{key} = \"{name}\"\n");
                let url = "notification_url = \"http://x\"\n";
                let url = if key == "notification_type" && *name != "none" {
                    url
                } else {
                    ""
                };
                let with_url = format!("{url}{text}");
                assert!(from_file(&with_url).unwrap().to_toml().contains(&text));
            }
        }
    }

    /// The lines that say where their values stand.
    fn marked(flags: Flags, text: &str) -> Vec<String> {
        let file = SettingsFile::parse(std::path::Path::new("f.toml"), text.to_owned()).unwrap();
        let printed = Settled::resolve(flags, Some(file)).unwrap().to_toml();
        let marked = printed.lines().filter(|line| line.contains('#'));
        marked.map(str::to_owned).collect()
    }

    #[test]
    fn what_was_given_says_where() {
        let text = "root = \"/r\"\nstrict = true\n[limits]\nheaders_max = 8\n[[location]]\nprefix = \"b\"\nenabled = false\n\
                    [[location]]\nprefix = \"long\"\nroot = \"/l\"\n";
        let expected = [
            "root = \"/r\"  # f.toml:1",
            "io = \"ring\"  # --io",
            "strict = true  # f.toml:2",
            "headers_max = 8  # f.toml:4",
            "prefix = \"/long\"  # f.toml:9",
            "root = \"/l\"  # f.toml:10",
            "strict = true  # f.toml:2, inherited",
            "prefix = \"/b\"  # f.toml:6",
            "enabled = false  # f.toml:7",
            "strict = true  # f.toml:2, inherited",
        ];
        assert_eq!(marked(Flags::default().with("io", "ring"), text), expected);
    }

    #[test]
    fn what_nobody_uses_says_so_beside_its_default() {
        let text = "host_id_fallback = \"2d\"\n[[location]]\nprefix = \"a\"\nhost_id = \"n1\"\n\
                    [[location]]\nprefix = \"b\"\nstore_wait = \"2m\"\n";
        let expected = [
            "host_id_fallback = \"1d\"  # f.toml:1; it does nothing here",
            "prefix = \"/a\"  # f.toml:3",
            "host_id = \"n1\"  # f.toml:4",
            "host_id_fallback = \"2d\"  # f.toml:1, inherited",
            "prefix = \"/b\"  # f.toml:6",
            "host_id_fallback = \"1d\"  # f.toml:1, inherited; it does nothing here",
            "store_wait = \"1m\"  # f.toml:7; it does nothing here",
        ];
        assert_eq!(marked(Flags::default(), text), expected);
    }
}
