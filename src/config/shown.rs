//! What a setting says, as it may be shown. A person may have put a password into a URL of it, and
//! what is wrong is printed and logged: whatever is quoted of a value goes through here.

use toml::{Table, Value};

use super::url::without_secrets;
use crate::unseen::is_unseen;

/// A value as it was written, alone or in a list, but for what its URLs must not show.
pub(super) fn value(written: &str) -> String {
    let Some(read) = read(written) else {
        return without_secrets(written);
    };
    let masked = masked(&read);
    match masked == read {
        // With its own quotes, and its own numbers.
        true => written.to_owned(),
        false => masked.to_string(),
    }
}

/// One text of a value, in quotes.
pub(super) fn text(text: &str) -> String {
    quoted(&without_secrets(text))
}

/// A TOML string, in which nothing turns or hides what stands beside it.
pub(super) fn quoted(text: &str) -> String {
    if !text.chars().any(is_unseen) {
        return Value::from(text).to_string();
    }
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if is_unseen(char) => quoted += &format!("\\U{:08X}", u32::from(char)),
            char => quoted.push(char),
        }
    }
    quoted + "\""
}

/// What is wrong with a URL that names a user.
pub(super) fn of_user(written: &str) -> &'static str {
    let names_user = match read(written) {
        Some(read) => any_text(&read, &|text| without_secrets(text).contains("\u{2026}@")),
        None => without_secrets(written).contains("\u{2026}@"),
    };
    match names_user {
        true => "; no user and no password may stand in a URL: it is printed and logged",
        false => "",
    }
}

fn read(written: &str) -> Option<Value> {
    let table: Table = format!("a = {written}").parse().ok()?;
    table.into_iter().next().map(|(_, value)| value)
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_secrets(text)),
        Value::Array(values) => Value::Array(values.iter().map(masked).collect()),
        Value::Table(table) => {
            let each = |(key, value): (&String, &Value)| (without_secrets(key), masked(value));
            Value::Table(table.iter().map(each).collect())
        }
        plain => plain.clone(),
    }
}

fn any_text(value: &Value, is_it: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_it(text),
        Value::Array(values) => values.iter().any(|value| any_text(value, is_it)),
        Value::Table(table) => table.values().any(|value| any_text(value, is_it)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Origin;
    use crate::config::form::Written;
    use crate::config::given::Given;
    use crate::config::rows;

    #[test]
    fn a_quoted_text_shows_all_that_is_in_it_and_reads_back() {
        for text in [
            "/srv/up",
            "a\"b\\c",
            "a\nb",
            "/srv/\u{202e}gpj.\u{9b}31m\u{1b}\"\\",
        ] {
            let quoted = quoted(text);
            assert!(!quoted.chars().any(is_unseen), "{quoted:?}");
            let table: toml::Table = format!("a = {quoted}").parse().unwrap();
            assert_eq!(table["a"].as_str(), Some(text), "{quoted}");
        }
    }

    #[test]
    fn a_value_is_shown_without_its_secrets_in_lists_and_tables_too() {
        for (written, shown) in [
            ("\"http://anna:pw@h/x\"", "\"http://\u{2026}@h/x\""),
            (
                "'http://anna:pw@h/x?a=b'",
                "\"http://\u{2026}@h/x?\u{2026}\"",
            ),
            (
                "[\"a\", \"http://anna:p\\\"w@h/x\"]",
                "[\"a\", \"http://\u{2026}@h/x\"]",
            ),
            ("[['//anna:pw@h']]", "[[\"//\u{2026}@h\"]]"),
            (
                "{ a = \"http://anna:pw@h\" }",
                "{ a = \"http://\u{2026}@h\" }",
            ),
            ("['a', 'http://h/x@y']", "['a', 'http://h/x@y']"),
            ("0x10", "0x10"),
            ("http://anna:pw@h", "http://\u{2026}@h"),
        ] {
            assert_eq!(value(written), shown);
            let names_user = shown.contains("\u{2026}@");
            assert_eq!(!of_user(written).is_empty(), names_user, "{written}");
        }
    }
    /// Whatever a key makes of it; a realm and a few more take any text, and show it to everybody.
    #[test]
    fn no_key_says_a_password_where_it_does_not_take_its_url() {
        let urls = [
            "http://anna:sesame@proxy/",
            "http://anna:sesame@127.0.0.1:8080/",
            "http://anna:p,sesame@h/x",
            "http://anna:p/sesame@h/x",
            "http://anna:p?sesame@h/x",
            "nats://anna:p\"sesame@h",
            "//anna:sesame@h",
            "http:/anna:sesame@h",
            "https://h/x?sesame=1",
            "@http://anna:sesame@h/",
        ];
        let mut refused = 0;
        for (row, url) in rows().flat_map(|row| urls.map(|url| (row, url))) {
            let (text, others) = (url.to_owned(), vec!["x".to_owned(), url.to_owned()]);
            for (written, is) in [
                (quoted(url), Written::Text(text.clone())),
                (format!("[{}]", quoted(url)), Written::Texts(vec![text])),
                (format!("['x', {}]", quoted(url)), Written::Texts(others)),
                (quoted(url), Written::Raw(url.into())),
            ] {
                let origin = Origin::Flag("f".to_owned());
                let read = Given::default().read(row, is, origin, written);
                if let Err(why) = read {
                    let why = why.to_string();
                    assert!(!why.contains("sesame"), "{why}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 1_000, "{refused}");
    }

    #[test]
    fn events_call_the_server_by_no_url_with_a_user_in_it() {
        for (source, is_taken) in [
            ("http://anna:sesame@h/", false),
            ("//anna@h", false),
            ("http://h:80/a@b", true),
            ("mailto:anna@h", true),
            ("/here", true),
        ] {
            let row = rows().find(|row| row.name() == "source").unwrap();
            let origin = Origin::Flag("f".to_owned());
            let read =
                Given::default().read(row, Written::Text(source.into()), origin, quoted(source));
            let why = read.map_err(|why| why.to_string());
            assert_eq!(why.is_ok(), is_taken, "{source}");
            let says_why = |why: &String| why.contains("no user and no password");
            assert!(why.as_ref().err().is_none_or(says_why), "{why:?}");
        }
    }
}
