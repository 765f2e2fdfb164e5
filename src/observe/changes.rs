//! What a reload changed, in words: found by comparing two configurations as they are printed.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::config::without_secrets;

/// The settings that differ, each with its value before and now. What cannot be compared is not
/// told.
pub fn changes(before: &str, now: &str) -> Vec<String> {
    let (Ok(before), Ok(now)) = (before.parse::<Table>(), now.parse::<Table>()) else {
        return vec!["unknown".to_owned()];
    };
    let mut found = Vec::new();
    let top = differing(&before, &now);
    found.extend(top.iter().map(|change| change.words("")));
    for name in ["limits", "events"] {
        let table = |all: &Table| all.get(name).and_then(Value::as_table).cloned();
        let [before, now] = [&before, &now].map(|all| table(all).unwrap_or_default());
        let changes = differing(&before, &now);
        found.extend(
            changes
                .iter()
                .map(|change| change.words(&format!("{name}."))),
        );
    }
    for (name, key) in SEVERAL {
        found.extend(changes_of_several(name, key, (&before, &now), &top));
    }
    found
}

/// Tables of which there are several, and the key by which one is known.
const SEVERAL: [(&str, &str); 3] = [
    ("listener", "address"),
    ("certificate", "chain"),
    ("location", "prefix"),
];

/// What a table inherits was told as one of `top`.
fn changes_of_several(
    name: &str,
    key: &str,
    (before, now): (&Table, &Table),
    top: &[Change],
) -> Vec<String> {
    // There may be very many, and the first of a name counts.
    let [before, now] = [before, now].map(|all| tables(all, name, key));
    let [known_before, known_now] = [&before, &now].map(|all| {
        let backwards = all.iter().rev().map(|(known, table)| (&**known, *table));
        backwards.collect::<BTreeMap<_, _>>()
    });
    let mut found = Vec::new();
    for (known, now) in &now {
        match known_before.get(&**known) {
            None => found.push(format!("{name} {known} is new")),
            Some(before) => {
                let changes = differing(before, now);
                let own = changes.iter().filter(|change| !top.contains(change));
                found.extend(own.map(|change| change.words(&format!("{name} {known}: "))));
            }
        }
    }
    for (known, _) in &before {
        if !known_now.contains_key(&**known) {
            found.push(format!("{name} {known} is gone"));
        }
    }
    found
}

/// One key with another value.
#[derive(PartialEq)]
struct Change {
    key: String,
    before: Option<Value>,
    now: Option<Value>,
}

impl Change {
    fn words(&self, place: &str) -> String {
        let value = |value: &Option<Value>| match value {
            None => "not set".to_owned(),
            Some(Value::String(text)) if text.is_empty() => "\"\"".to_owned(),
            Some(Value::String(text)) => without_secrets(text),
            Some(value) => value.to_string(),
        };
        let (before, now) = (value(&self.before), value(&self.now));
        let another = match before == now {
            true => " (what is not shown is another)",
            false => "",
        };
        format!("{place}{} {before} -> {now}{another}", self.key)
    }
}

/// The keys of two tables that differ; tables within them are left out.
fn differing(before: &Table, now: &Table) -> Vec<Change> {
    let is_nested = |value: Option<&Value>| match value {
        Some(Value::Table(_)) => true,
        Some(Value::Array(values)) => values.iter().any(Value::is_table),
        _ => false,
    };
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    (keys.into_iter())
        .filter(|key| before.get(*key) != now.get(*key))
        .filter(|key| !is_nested(before.get(*key)) && !is_nested(now.get(*key)))
        .map(|key| Change {
            key: key.clone(),
            before: before.get(key).cloned(),
            now: now.get(key).cloned(),
        })
        .collect()
}

fn tables<'t>(all: &'t Table, name: &str, key: &str) -> Vec<(String, &'t Table)> {
    let all = all.get(name).and_then(Value::as_array);
    (all.into_iter().flatten())
        .filter_map(Value::as_table)
        .filter_map(|table| Some((words(table.get(key)?), table)))
        .collect()
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(Value::is_str) && !values.is_empty() => {
            values.iter().map(words).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cores = 1\nupload_bytes_max = \"1 GiB\"\n[limits]\nheaders_max = 8\n\
                          [[location]]\nprefix = \"/a\"\nupload_bytes_max = \"1 GiB\"\nstrict = false\n\
                          [[location]]\nprefix = \"/b\"\nupload_bytes_max = \"5 MiB\"\n";

    #[test]
    fn each_change_is_told_once_with_both_values() {
        let changes = |before: &str, now: &str| changes(before, now).join(", ");
        assert_eq!(changes(BEFORE, BEFORE), "");
        let now = BEFORE.replace("1 GiB", "2 GiB");
        assert_eq!(changes(BEFORE, &now), "upload_bytes_max 1 GiB -> 2 GiB");
        let now = BEFORE.replace("strict = false", "strict = true");
        assert_eq!(changes(BEFORE, &now), "location /a: strict false -> true");
        let now = BEFORE.replace("max = 8", "max = 9");
        assert_eq!(changes(BEFORE, &now), "limits.headers_max 8 -> 9");
        let now = BEFORE.replace("\"/b\"", "\"/c\"");
        assert_eq!(
            changes(BEFORE, &now),
            "location /c is new, location /b is gone"
        );
        let now = BEFORE.replace("cores = 1\n", "");
        assert_eq!(changes(BEFORE, &now), "cores 1 -> not set");
    }

    #[test]
    fn what_stands_in_a_query_is_told_to_nobody() {
        let before = "notification_url = \"http://h/x?token=A\"\n[events]\nwebhook = \"http://h/?k=A\"\n\
                      [[location]]\nprefix = \"/a\"\nnotification_url = \"/done?token=A\"\n";
        let shown = |now: &str| changes(before, now).join(", ");
        let told = shown(&before.replace("=A", "=B"));
        assert!(!told.contains("=A") && !told.contains("=B"), "{told}");
        assert_eq!(
            told.matches("what is not shown is another").count(),
            3,
            "{told}"
        );
        let told = shown(&before.replacen("h/x", "h/y", 1));
        assert_eq!(
            told,
            "notification_url http://h/x?\u{2026} -> http://h/y?\u{2026}"
        );
    }

    #[test]
    fn tables_of_which_there_are_several_are_known_by_a_key() {
        let before = "[[listener]]\naddress = [\"127.0.0.1:1\"]\nclient_crl = \"\"\n\
                      [[certificate]]\nchain = \"a.pem\"\nkey = \"a.key\"\n[events]\ntimeout = \"5s\"\n";
        let now = before.replace("client_crl = \"\"", "client_crl = \"c\"");
        assert_eq!(
            changes(before, &now),
            ["listener 127.0.0.1:1: client_crl \"\" -> c"]
        );
        let now = before.replace("chain = \"a.pem\"", "chain = \"b.pem\"");
        let expected = ["certificate b.pem is new", "certificate a.pem is gone"];
        assert_eq!(changes(before, &now), expected);
        let now = before.replace("5s", "6s");
        assert_eq!(changes(before, &now), ["events.timeout 5s -> 6s"]);
    }
}
