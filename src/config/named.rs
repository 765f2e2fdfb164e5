//! The files that the settings name, by the rows of their keys: none can be forgotten.

use std::path::PathBuf;

use super::form::Value;
use super::keys::Config;
use super::table::{Row, Table};

impl Config {
    /// Each file that a key names, with its key.
    pub fn named_files(&self) -> Vec<(&'static Row, PathBuf)> {
        let mut named = files_of(self);
        named.extend(files_of(&self.accounts));
        named.extend(files_of(&self.events));
        named.extend(self.listeners.iter().flat_map(files_of));
        named.extend(self.certificates.iter().flat_map(files_of));
        for location in &self.locations {
            named.extend(location.notification.iter().flat_map(files_of));
            named.extend(location.objects.iter().flat_map(|store| files_of(&**store)));
        }
        named
    }
}

impl Config {
    /// What differs in accounts and secrets from before, in words, where the files have the same
    /// names: the names are settings.
    pub fn changes_in_files(&self, before: &Self) -> Vec<String> {
        let (now, then) = (&self.accounts, &before.accounts);
        let mut found = now.accounts.changes(&then.accounts);
        if now.keys != then.keys {
            found.push("keytab: other keys".to_owned());
        }
        let secret = |config: &Self, prefix: &str| {
            let all = config.locations.iter();
            let location = all.into_iter().find(|location| location.prefix == prefix)?;
            location.notification.as_ref()?.secret.clone()
        };
        for location in &self.locations {
            let (now, then) = (
                secret(self, &location.prefix),
                secret(before, &location.prefix),
            );
            if let (Some(now), Some(then)) = (now, then)
                && now != then
                && now.file() == then.file()
            {
                let text = format!(
                    "notification_secret_file: another one in {}",
                    now.file().display()
                );
                if !found.contains(&text) {
                    found.push(text);
                }
            }
        }
        found
    }
}

fn files_of<T: Table>(table: &T) -> Vec<(&'static Row, PathBuf)> {
    let rows = T::ROWS.iter().enumerate();
    rows.filter(|(_, row)| row.names_a_file())
        .filter_map(|(index, row)| match table.value(index) {
            Value::Path(path) if !path.as_os_str().is_empty() => Some((row, path)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::keys::rows;
    use crate::config::tests::from_file;

    #[test]
    fn a_file_of_each_table_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "0123456789abcdef").unwrap();
        let text = format!(
            "notification_type = \"by-reference\"\nnotification_url = \"http://h/\"\n\
             notification_secret_file = {secret:?}\nusers_file = {secret:?}\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntls = true\nclient_ca = \"ca\"\nclient_crl = \"crl\"\n\
             [[certificate]]\nchain = \"chain\"\nkey = \"key\"\n\
             [events]\nwebhook = \"http://h/\"\nwebhook_ca = \"ca2\"\nwebhook_secret_file = {secret:?}\n"
        );
        let text = text.replace(&format!("users_file = {secret:?}\n"), "");
        let config = from_file(&text).unwrap();
        let mut keys: Vec<_> = config
            .named_files()
            .iter()
            .map(|(row, _)| row.key)
            .collect();
        keys.sort_unstable();
        let expected = [
            "certificate.chain",
            "certificate.key",
            "events.webhook_ca",
            "events.webhook_secret_file",
            "listener.client_ca",
            "listener.client_crl",
            "notification_secret_file",
        ];
        assert_eq!(keys, expected);
        assert!(
            config
                .named_files()
                .iter()
                .any(|(row, path)| row.is_secret && *path == secret)
        );
    }

    #[test]
    fn what_a_secret_is_is_declared() {
        let named = rows().filter(|row| row.names_a_file());
        for row in named {
            let is_called_so = ["secret", "credentials", "users", "tokens", "keytab"]
                .iter()
                .any(|word| row.key.contains(word));
            assert_eq!(row.is_secret, is_called_so, "{}", row.key);
        }
    }
}
