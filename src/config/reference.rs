//! Every key with default, bounds and meaning: `bitsd check --help`, the table of
//! docs/settings.md, and a schema for editors.

use serde_json::{Value as Json, json};

use super::file::{OF_IIS_ALONE, likeness};
use super::form::{Form, Unit};
use super::keys::{default_of, rows};
use super::meant::{LIKENESS_MIN, UNLIMITED};
use super::quantity::{duration_pattern, in_any_case, size_pattern};
use super::section::{SECTIONS, Scope};
use super::table::Row;
use super::text::Text;
use crate::auth::certificate::Rule as CertificateRule;
use crate::http::digest::Algorithms;

/// The key that was most likely meant by a name that none has.
pub fn setting_like(name: &str) -> Option<&'static str> {
    let alike = rows().map(|row| {
        let (key, short) = (row.key, row.name());
        (likeness(name, key).max(likeness(name, short)), key)
    });
    let alike = alike.filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    let best = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, key)| key)
}

/// What takes the place of a property of IIS that no key takes the place of.
pub fn instead_of_iis(name: &str) -> Option<&'static str> {
    let mut alone = OF_IIS_ALONE.iter();
    let is_one = alone.any(|iis| iis.eq_ignore_ascii_case(name));
    is_one.then_some(MOUNT_THE_SHARE)
}

const MOUNT_THE_SHARE: &str =
    "a property of IIS, which has no place here: mount the share, and let root lead there";

/// A JSON Schema (draft 2020-12) of the settings file, for editors that check and complete TOML by
/// one.
///
/// Made from the rows and not derived from types (`schemars`): what a key takes, "64 KiB" or 65536
/// within bounds, stands in its row and not in its type.
pub fn settings_schema() -> Json {
    let table = |here: Scope| {
        let keys = rows().filter(|row| row.scope.takes_in(here));
        let properties: serde_json::Map<_, _> = keys
            .map(|row| (row.name().to_owned(), schema_of(row)))
            .collect();
        json!({ "type": "object", "additionalProperties": false, "properties": properties })
    };
    let mut schema = table(Scope::Server);
    for section in &SECTIONS {
        let mut keys = table(section.scope);
        if section.is_list() {
            keys["required"] = json!(section.needs);
            keys = json!({ "type": "array", "items": keys });
        }
        schema["properties"][section.name] = keys;
    }
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Settings of bitsd");
    schema
}

fn schema_of(row: &'static Row) -> Json {
    let mut schema = match &row.form {
        Form::Truth => json!({ "type": "boolean" }),
        Form::Word(words) => word(words),
        Form::Number(number) => {
            let divisor = if number.unit == Unit::Duration {
                1000
            } else {
                1
            };
            let (min, max) = (number.bounds.start(), number.bounds.end());
            let (min, max) = (min.div_ceil(divisor), max / divisor);
            let mut any = vec![json!({ "type": "integer", "minimum": min, "maximum": max })];
            any.extend(match number.unit {
                Unit::One | Unit::Percent | Unit::Milliseconds => None,
                Unit::Bytes | Unit::PowerOfTwoBytes => Some(text(&size_pattern())),
                Unit::Duration => Some(text(&duration_pattern())),
            });
            if number.may_be_unlimited {
                any.push(word(&[UNLIMITED]));
            }
            json!({ "anyOf": any })
        }
        Form::Addresses if is_needed(row) => one_or_more(&text(ADDRESS)),
        Form::Addresses => one_or_several(&text(ADDRESS)),
        Form::Words(Algorithms::WORDS) => digests(),
        Form::Words(CertificateRule::WORDS) => one_or_more(&word(CertificateRule::WORDS)),
        Form::Words(words) => one_or_several(&word(words)),
        Form::Texts(Text { pattern, .. }) => one_or_several(&text(pattern)),
        Form::Text(Text { pattern, .. }) => text(pattern),
        Form::TextOrNone(Text { pattern, .. }) => or_none(pattern),
        Form::Directory(_) => text(DIRECTORY),
        Form::File(_) if is_needed(row) => text(PATH),
        Form::File(_) => or_none(PATH),
        Form::Place(_) => or_none(PLACE),
        Form::Prefix => text(PREFIX),
    };
    let (meaning, takes, default) = (row.meaning(), row.takes(), default_of(row));
    schema["description"] = json!(format!("{meaning} Takes {takes}. Default: {default}."));
    schema
}

/// Whether its table means nothing without the key.
fn is_needed(row: &Row) -> bool {
    let mut sections = SECTIONS.iter();
    sections.any(|section| section.scope == row.scope && section.needs.contains(&row.name()))
}

/// What [`Algorithms::from_words`] takes: words that make sense together, each of them as often as
/// you like.
fn digests() -> Json {
    let [none, sha256, both] =
        [Algorithms::None, Algorithms::Sha256, Algorithms::Both].map(|one| word(one.words()));
    json!({ "anyOf": [
        none, sha256,
        { "type": "array", "items": none, "minItems": 1 },
        { "type": "array", "items": both, "contains": sha256 },
    ] })
}

/// One of these, in any case. Editors offer what stands in `enum`.
fn word(words: &[&str]) -> Json {
    let patterns: Vec<_> = words.iter().map(|word| in_any_case(word)).collect();
    let pattern = format!("^({})$", patterns.join("|"));
    json!({ "anyOf": [{ "enum": words }, text(&pattern)] })
}

/// A text by a regular expression, in what ECMA-262 and all others have in common.
fn text(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": pattern })
}

fn or_none(pattern: &str) -> Json {
    json!({ "anyOf": [{ "const": "" }, text(pattern)] })
}

/// An address with its port.
const ADDRESS: &str = r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]+$";
/// A path, and none of Windows or for a shell.
const PATH: &str = r"^([^~$\\A-Za-z]|[A-Za-z]([^:]|$)|[A-Za-z]:([^\\/]|$)|\\([^\\]|$))";
/// The same, and not with a blank before it or a control character in it.
const DIRECTORY: &str = concat!(
    r"^([^~$\\A-Za-z\s\x00-\x1f\x7f]|[A-Za-z]$|[A-Za-z][^:\x00-\x1f\x7f]|[A-Za-z]:[^\\/\x00-\x1f\x7f]|[A-Za-z]:$",
    r"|\\$|\\[^\\\x00-\x1f\x7f])[^\x00-\x1f\x7f]*$"
);
/// A path that means the same wherever the server is started.
const PLACE: &str = "^/";
/// Something between slashes, and what no path of an upload has.
const PREFIX: &str = r"^[^?#\s:*<>]*[^?#\s:*<>/][^?#\s:*<>]*$";

fn one_or_several(one: &Json) -> Json {
    json!({ "anyOf": [one, { "type": "array", "items": one }] })
}

fn one_or_more(one: &Json) -> Json {
    json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::form::Written;
    use crate::config::tests::from_file;

    #[test]
    fn the_reference_names_every_key_that_is_printed() {
        let text = "[[location]]\nprefix = \"x\"\nroot = \"/x\"\n[[listener]]\naddress = \"[::]:1\"\n\
                    [[certificate]]\nchain = \"c\"\nkey = \"k\"\n";
        let config = from_file(text).unwrap();
        let mut table = "";
        let mut printed = Vec::new();
        let text = config.to_toml();
        for line in text.lines() {
            match line.split_once(" = ") {
                Some((key, _)) => printed.push(format!("{table}{key}")),
                None if line == "[limits]" => table = "limits.",
                None if line == "[events]" => table = "events.",
                None if line == "[[location]]" => table = "location.",
                None if line == "[[listener]]" => table = "listener.",
                None if line == "[[certificate]]" => table = "certificate.",
                None => assert_eq!(line, ""),
            }
        }
        let mut documented = Vec::new();
        for doc in rows() {
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
        for (key, default) in [
            ("listen", "\"127.0.0.1:8080\""),
            ("root", "\"./uploads\""),
            ("work_dir", "ROOT/.bitsd"),
            ("cores", "0"),
            ("cleanup_interval", "\"1s\""),
            ("enabled", "true"),
            ("session_timeout", "\"14d\""),
            ("sessions_per_client_max", "10000"),
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
            let row = rows().find(|row| row.key == key).unwrap();
            assert_eq!(default_of(row), default, "{key}");
        }
    }

    /// Every keyword of the schema by its meaning; one that is not known here is a mistake.
    fn fits(schema: &Json, value: &Json) -> bool {
        let all =
            |(keyword, says): (&String, &Json)| match (keyword.as_str(), says) {
                ("$schema" | "title" | "description" | "properties", _) => true,
                ("type", Json::String(name)) => match name.as_str() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    _ => panic!("the type {name}"),
                },
                ("enum", Json::Array(words)) => words.contains(value),
                ("const", word) => word == value,
                ("anyOf", Json::Array(any)) => any.iter().any(|schema| fits(schema, value)),
                ("minimum", min) => value.as_i64() >= min.as_i64(),
                ("maximum", max) => value.as_i64() <= max.as_i64(),
                ("minItems", min) => (value.as_array())
                    .is_none_or(|items| items.len() as u64 >= min.as_u64().unwrap()),
                ("contains", schema) => (value.as_array())
                    .is_none_or(|items| items.iter().any(|item| fits(schema, item))),
                ("pattern", Json::String(pattern)) => {
                    let pattern = regex::Regex::new(pattern).unwrap();
                    value.as_str().is_some_and(|text| pattern.is_match(text))
                }
                ("items", schema) => (value.as_array())
                    .is_none_or(|items| items.iter().all(|item| fits(schema, item))),
                ("required", Json::Array(keys)) => keys
                    .iter()
                    .all(|key| value.get(key.as_str().unwrap()).is_some()),
                ("additionalProperties", Json::Bool(false)) => (value.as_object().unwrap().iter())
                    .all(|(key, value)| {
                        schema["properties"]
                            .get(key)
                            .is_some_and(|schema| fits(schema, value))
                    }),
                _ => panic!("the keyword {keyword}: {says}"),
            };
        schema.as_object().unwrap().iter().all(all)
    }

    fn json_of(text: &str) -> Json {
        serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
    }

    #[test]
    fn the_schema_takes_what_we_take() {
        let schema = settings_schema();
        let all = "listen = [\"[::]:1\"]\nupload_bytes_max = 5\nsession_timeout = 90\n[[location]]\nprefix = \"a\"\nroot = \"/a\"\n";
        for text in ["", all] {
            let printed = from_file(text).unwrap().to_toml();
            assert!(fits(&schema, &json_of(text)), "{text}");
            assert!(fits(&schema, &json_of(&printed)), "{printed}");
        }
        for text in [
            "xyzzy = 1",
            "cores = 257",
            "cores = \"2\"",
            "strict = 1",
            "io = \"fast\"",
            "root = \"\"",
            "session_timeout = 0",
            "session_timeout = \"long\"",
            "upload_bytes_max = \"many\"",
            "head_bytes_max = 2048",
            "[limits]\ncores = 1",
            "[[location]]\nstrict = true",
            "[[location]]\nprefix = \"a\"\ncores = 1",
            "[[location]]\nprefix = \"a\"\nroot = \"/a\\u0007b\"",
            "[[location]]\nprefix = \"a\"\nallow = \"a\\u0007b\"",
            "digest = []",
            "digest = \"sha-1\"",
            "digest = [\"sha-1\"]",
            "digest = [\"none\", \"sha-256\"]",
            "digest = [\"sha-1\", \"sha-1\"]",
            "certificate_user = []",
            "[[listener]]\naddress = []",
            "[[certificate]]\nchain = \"\"\nkey = \"k\"",
            "[[certificate]]\nchain = \"c\"\nkey = \"\"",
        ] {
            assert!(!fits(&schema, &json_of(text)), "{text}");
            assert!(from_file(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_schema_takes_digests_that_make_sense_together() {
        let schema = settings_schema();
        for value in [
            "\"none\"",
            "[\"none\"]",
            "\"SHA-256\"",
            "[\"sha-256\"]",
            "[\"sha-256\", \"sha-256\"]",
            "[\"sha-1\", \"sha-256\"]",
        ] {
            let text = format!("digest = {value}\n");
            assert!(from_file(&text).is_ok(), "{text}");
            assert!(fits(&schema, &json_of(&text)), "{text}");
        }
    }

    /// What people write, rightly somewhere and wrongly elsewhere.
    const TEXTS: &[&str] = &[
        "",
        " ",
        "/",
        "//",
        "?",
        "*",
        "@",
        "@admins",
        "anna",
        "a b",
        " a",
        "a:b",
        "x",
        "X-Remote-User",
        "none",
        "NONE",
        "info",
        "INFO",
        "Warn",
        "unlimited",
        "Unlimited",
        "sha-256",
        "Sha-1",
        "true",
        "1",
        "90",
        "1.5h",
        "1h 30m",
        "90 s",
        " 14d ",
        "10 M",
        "2 weeks",
        "1h30",
        "h",
        "-1",
        "1_000",
        "64 KiB",
        "64kib",
        "10MB",
        "5 XiB",
        "9 TiB",
        "1.5 GiB",
        "KiB",
        "_1",
        "7 B",
        "1 d",
        "300ms",
        "0400",
        "0644",
        "644",
        "755",
        "0755",
        "00777",
        "0799",
        "64",
        "rw-r--r--",
        "1777",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::]:8080",
        "[fe80::1%2]:80",
        "::1",
        "[::1]",
        "*:8080",
        ":80",
        "localhost:80",
        "10.0.0.0/8",
        "10.0.0.1/8",
        "2001:db8::/32",
        "10.0.0.0/33",
        "10.0.0.0/8 ",
        "node-1.example",
        "NODE_1",
        "node.",
        "a..b",
        "-a",
        "256.1.1.1",
        "a/b",
        "a.b",
        "a b.c",
        "a.*",
        "http://a",
        "https://a:443/x",
        "HTTP://A/b?c",
        "http://u@a/",
        "ftp://a",
        "http:/a",
        "http://",
        "http://a/#x",
        "http://a b",
        "/path",
        "/path?q",
        "//host",
        "nats://a:4222",
        "tls://a/",
        "nats://a/b",
        "nats://u:p@a",
        "tls://a?b",
        "urn:a",
        "a#b",
        "a%b",
        "a%20b",
        "<a>",
        "ü",
        "uploads",
        "in/",
        "/in/",
        "in?x",
        "/a/b",
        "~/x",
        "$HOME",
        "C:\\x",
        "c:/x",
        "c:",
        "C",
        "\\x",
        "\\\\host\\x",
        "./x",
        "EXAMPLE.COM",
        "EXAMPLE COM",
        "a@b",
        "say \"a\"",
        "back\\slash",
        "eu-central-1",
        "eu central",
        "Bucket",
        "bu",
        "bucket.name",
        "%20",
        "/%2F",
        "/a%00",
        "a\nb",
    ];

    #[test]
    fn editors_take_each_text_that_we_take() {
        for row in rows() {
            let schema = schema_of(row);
            for text in TEXTS {
                let read = row.form.read(Written::Text((*text).to_owned()));
                let is_taken = fits(&schema, &json!(text));
                // What is needed, and what makes no sense alone, is refused when all is read.
                let is_refused = (is_needed(row) && text.is_empty())
                    || (row.key == "digest" && text.eq_ignore_ascii_case("sha-1"));
                assert!(
                    read.is_err() || is_refused || is_taken,
                    "{} = {text:?}",
                    row.key
                );
            }
        }
    }

    #[test]
    fn editors_refuse_most_texts_that_we_refuse() {
        let (mut refused, mut missed) = (0, Vec::new());
        for row in rows() {
            let schema = schema_of(row);
            for text in TEXTS {
                let read = row.form.read(Written::Text((*text).to_owned()));
                if read.is_err() {
                    refused += 1;
                    if fits(&schema, &json!(text)) {
                        missed.push(format!("{} = {text:?}", row.key));
                    }
                }
            }
        }
        assert!(
            missed.len() * 50 < refused,
            "{} of {refused}: {missed:#?}",
            missed.len()
        );
        for (key, slips) in [
            ("session_timeout", &["x", "1.5h", "10 M", "1h30"][..]),
            ("upload_bytes_max", &["1.5h", "5 XiB", "1.5 GiB"]),
            ("listen", &["x", "*:8080", "localhost:80"]),
            ("file_mode", &["x", "64", "rw-r--r--", "1777"]),
            ("trusted_proxies", &["x", "node.", "10.0.0.0/8 "]),
            ("admin_names", &["", "http://a", "a b"]),
            ("store_bucket", &["*", "bu", "Bucket"]),
            ("store_region", &["", "eu central"]),
            ("auth_realm", &["", "say \"a\""]),
            ("events.nats_subject", &["", "a.*", "a..b"]),
            ("root", &["", "~/x", "c:/x"]),
            ("tls_version_min", &["1x2", "1e3", "1.4"]),
            ("admin_socket", &["x", "./x", "~/x"]),
            ("custody", &["uploads", "./x", "$HOME"]),
        ] {
            let row = rows().find(|row| row.key == key).unwrap();
            for slip in slips {
                assert!(!fits(&schema_of(row), &json!(slip)), "{key} = {slip:?}");
            }
        }
    }

    #[test]
    fn the_schema_describes_every_key() {
        let schema = settings_schema();
        let top = &schema["properties"];
        for row in rows() {
            let section = SECTIONS.iter().find(|section| section.scope == row.scope);
            let table = section.map_or(&schema, |section| {
                let table = &top[section.name];
                table.get("items").unwrap_or(table)
            });
            let description = table["properties"][row.name()]["description"]
                .as_str()
                .unwrap();
            assert!(description.starts_with(row.meaning()), "{description}");
        }
    }
}
