//! Values that somebody gave and nobody uses: what turns them on is missing.
//!
//! They are no fault, since a location may be yet to come that uses them. But where the key that
//! turns them on was forgotten, a server does something else than what is meant: files stay on its
//! own disk that should go into a store.

use super::form::Value;
use super::given::Given;
use super::keys::{Host, Location, Notification, ObjectStore};
use super::table::{Row, Table};

/// Keys that only do something where another one says so.
struct Group {
    /// That other one.
    switch: &'static str,
    /// The others, with their defaults.
    keys: Vec<(&'static Row, Value)>,
    is_used: fn(&Location) -> bool,
    /// What is so where they do nothing.
    instead: &'static str,
}

fn groups() -> [Group; 3] {
    [
        Group {
            switch: "host_id",
            keys: Host::default().entries().collect(),
            is_used: |location| location.host.is_some(),
            instead: "there is no host_id",
        },
        Group {
            switch: "notification_type",
            keys: Notification::default().entries().collect(),
            is_used: |location| location.notification.is_some(),
            instead: "there is no notification_type, and no application hears of uploads",
        },
        Group {
            switch: "store",
            keys: ObjectStore::default().entries().collect(),
            is_used: |location| location.objects.is_some(),
            instead: "store is not \"s3\", and files go beneath root",
        },
    ]
}

/// In words, what was given and does nothing. The last of the locations is everything, with what
/// was given at the top. A switch that is off in so many words is meant, and so is a default.
pub(super) fn find(locations: &[(Location, Given)]) -> Vec<String> {
    let Some((top, own)) = locations.split_last() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for group in groups() {
        let is_used = |(location, _): &(Location, Given)| (group.is_used)(location);
        if !locations.iter().any(is_used) {
            found.extend(group.told(&top.1, "anywhere"));
        }
        for one in own.iter().filter(|one| !is_used(one)) {
            found.extend(group.told(&one.1, &format!("for /{}", one.0.prefix)));
        }
    }
    found
}

/// Whether a key says nothing at a location, since what turns it on is missing there.
pub(super) fn is_idle(location: &Location, row: &Row) -> bool {
    let mut groups = groups().into_iter();
    groups.any(|group| {
        let mut keys = group.keys.iter();
        row.name() != group.switch
            && keys.any(|(one, _)| one.name() == row.name())
            && !(group.is_used)(location)
    })
}

impl Group {
    fn told(&self, given: &Given, place: &str) -> Option<String> {
        if given.get(self.switch).is_some() {
            return None;
        }
        let is_idle = |(row, default): &&(&'static Row, Value)| {
            let entry = given.get(row.name());
            entry.is_some_and(|entry| entry.value != *default)
        };
        let names: Vec<_> = (self.keys.iter().filter(is_idle))
            .map(|(row, _)| row.name())
            .collect();
        let does = match names.len() {
            0 => return None,
            1 => "does",
            _ => "do",
        };
        let (names, instead) = (names.join(", "), self.instead);
        Some(format!("{names} {does} nothing {place}: {instead}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::from_file;

    #[test]
    fn what_nobody_uses_is_told_unless_it_is_off_in_so_many_words() {
        let notified =
            "notification_type = \"by-value\"\nnotification_url = \"http://a.example/\"\n";
        let stored = "store = \"s3\"\nstore_bucket = \"abc\"\n";
        for (lines, expected) in [
            (
                "host_id_fallback = \"2d\"",
                "host_id_fallback does nothing anywhere: there is no",
            ),
            ("host_id_fallback = \"1d\"", ""),
            (
                "host_id_fallback = \"2d\"\n[[location]]\nprefix = \"a\"\nhost_id = \"n1\"",
                "",
            ),
            (
                "notification_timeout = \"1m\"\nnotification_retries = 1",
                "notification_timeout, notification_retries do nothing anywhere: there is no notification_type",
            ),
            (
                "notification_type = \"none\"\nnotification_timeout = \"1m\"",
                "",
            ),
            (
                &format!("notification_timeout = \"1m\"\n[[location]]\nprefix = \"a\"\n{notified}"),
                "",
            ),
            (
                "[[location]]\nprefix = \"/evidence\"\nstore_bucket = \"abc\"\nstore_endpoint = \"http://127.0.0.1:1/\"",
                "store_bucket, store_endpoint do nothing for /evidence: store is not \"s3\", and files go beneath root",
            ),
            (
                &format!(
                    "[[location]]\nprefix = \"a\"\n{stored}[[location]]\nprefix = \"b\"\nstore_prefix = \"b/\""
                ),
                "store_prefix does nothing for /b",
            ),
            (
                &format!("store_prefix = \"b/\"\n[[location]]\nprefix = \"a\"\n{stored}"),
                "",
            ),
            ("store = \"none\"\nstore_bucket = \"abc\"", ""),
        ] {
            let told = from_file(lines).unwrap().doubts();
            match expected {
                "" => assert_eq!(told, [""; 0], "{lines}"),
                words => assert!(
                    told.len() == 1 && told[0].starts_with(words),
                    "{lines}: {told:?}"
                ),
            }
        }
    }
}
