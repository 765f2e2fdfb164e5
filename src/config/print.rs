//! The configuration as a settings file: what `bitsd check` prints.

use super::limits::LIMITS;
use super::number::{CORES, FRAGMENT_BYTES_MAX, SESSION_TIMEOUT, UPLOAD_BYTES_MAX, quoted};
use super::{Config, UNLIMITED, quantity};

impl Config {
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
    pub(super) fn entries(&self) -> Vec<(&'static str, String)> {
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

pub(super) fn render_upload_bytes_max(bytes_max: Option<u64>) -> String {
    bytes_max.map_or_else(
        || quoted(UNLIMITED),
        |bytes| UPLOAD_BYTES_MAX.kind.to_toml(bytes),
    )
}

#[cfg(test)]
mod tests {
    use crate::config::tests::from_file;
    use crate::config::{Durability, EmptyFile, Io, LogFormat, LogLevel, Publish};

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
}
