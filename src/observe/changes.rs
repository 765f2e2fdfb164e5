//! What a reload changed, in words: found by comparing two configurations as they are printed.

use toml::{Table, Value};

/// The settings that differ, each with its value before and now; "nothing" if none does. What
/// cannot be compared is not told.
pub fn changes(before: &str, now: &str) -> String {
    let (Ok(before), Ok(now)) = (before.parse::<Table>(), now.parse::<Table>()) else {
        return "unknown".to_owned();
    };
    let mut found = Vec::new();
    let top = differing(&before, &now);
    found.extend(top.iter().map(|change| change.words("")));
    let limits = |table: &Table| table.get("limits").and_then(Value::as_table).cloned();
    if let (Some(before), Some(now)) = (limits(&before), limits(&now)) {
        let limits = differing(&before, &now);
        found.extend(limits.iter().map(|change| change.words("limits.")));
    }
    for (prefix, now) in locations(&now) {
        match locations(&before).find(|(known, _)| *known == prefix) {
            None => found.push(format!("location {prefix} is new")),
            Some((_, before)) => {
                let changes = differing(before, now);
                // What the location inherits was told above.
                let own = changes.iter().filter(|change| !top.contains(change));
                found.extend(own.map(|change| change.words(&format!("location {prefix}: "))));
            }
        }
    }
    for (prefix, _) in locations(&before) {
        if locations(&now).all(|(known, _)| known != prefix) {
            found.push(format!("location {prefix} is gone"));
        }
    }
    if found.is_empty() {
        return "nothing".to_owned();
    }
    found.join(", ")
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
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let (before, now) = (value(&self.before), value(&self.now));
        format!("{place}{} {before} -> {now}", self.key)
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

fn locations(table: &Table) -> impl Iterator<Item = (&str, &Table)> {
    let all = table.get("location").and_then(Value::as_array);
    (all.into_iter().flatten())
        .filter_map(Value::as_table)
        .filter_map(|location| Some((location.get("prefix")?.as_str()?, location)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cores = 1\nupload_bytes_max = \"1 GiB\"\n[limits]\nheaders_max = 8\n\
                          [[location]]\nprefix = \"/a\"\nupload_bytes_max = \"1 GiB\"\nstrict = false\n\
                          [[location]]\nprefix = \"/b\"\nupload_bytes_max = \"5 MiB\"\n";

    #[test]
    fn each_change_is_told_once_with_both_values() {
        assert_eq!(changes(BEFORE, BEFORE), "nothing");
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
}
